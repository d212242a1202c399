// Package image reads root file systems that are not the machine's own: a folder,
// or a container image as an OCI layout folder or a saved tar. Both are an fs.FS
// whose links, absolute ones too, never lead out of the root; nothing is extracted
// or executed, and no container engine is needed.
//
// An image is taken layer by layer, with whiteouts. Of its files only those are
// kept that the caller has a use for, and there are bounds for everything that an
// image of ill will could make large.
package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

var (
	// ErrHostile: the image or folder does what no honest tool does: names
	// outside of the root, links in a ring, sizes beyond all measure.
	ErrHostile = errors.New("not an honest root file system")
	// ErrDamaged: a part is missing, cut short, or does not match its checksum.
	ErrDamaged = errors.New("damaged image")
	// ErrChoice: there are several images, and nothing says which is meant; or
	// none is for the platform.
	ErrChoice = errors.New("which image is meant is not clear")
	// ErrFormat: the file or folder is no image.
	ErrFormat = errors.New("not a container image")
)

// maxDepth bounds how deep folders lie within each other once links are followed:
// honest trees stay below 100.
const maxDepth = 512

// maxLinks is how many symbolic links one path may lead through: the kernel's own
// bound (MAXSYMLINKS).
const maxLinks = 40

// resolve follows the symbolic links of a slash-separated path, absolute or not,
// within a root. link tells the target of a path that is a symbolic link, and
// false of any other, also one that does not exist. With last unset a link at the
// end is not followed. The result has no leading slash; the root is ".".
func resolve(name string, last bool, link func(name string) (target string, is bool)) (string, error) {
	todo := strings.Split(name, "/")
	done, depth := ".", 0
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			// Above the root is the root.
			done, depth = path.Dir(done), max(depth-1, 0)
			continue
		}
		next := path.Join(done, part)
		if len(todo) > 0 || last {
			if target, is := link(next); is {
				if links++; links > maxLinks {
					return "", &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("more than %d symbolic links, as in a ring: %w", maxLinks, ErrHostile)}
				}
				if strings.HasPrefix(target, "/") {
					done, depth = ".", 0
				}
				todo = append(strings.Split(target, "/"), todo...)
				continue
			}
		}
		if depth++; depth > maxDepth {
			return "", &fs.PathError{Op: "open", Path: name[:min(len(name), 80)], Err: fmt.Errorf("more than %d folders deep: %w", maxDepth, ErrHostile)}
		}
		done = next
	}
	return done, nil
}
