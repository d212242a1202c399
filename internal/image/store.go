package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// store is where the parts of an image lie: a layout folder or a tar file.
type store interface {
	// open returns a part, by its path in the folder or archive; it stays
	// readable until the store is closed. fs.ErrNotExist: there is none.
	open(name string) (*io.SectionReader, error)
	io.Closer
}

// dirStore is a layout folder. Its links lead out of it no more than those of a
// root do.
type dirStore struct {
	*Dir
	files []*os.File
}

func (s *dirStore) open(name string) (*io.SectionReader, error) {
	f, err := s.Dir.open(name)
	if err != nil {
		return nil, s.wrap("open", name, err)
	}
	s.files = append(s.files, f)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s/%s is no regular file: %w", s.path, name, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, st.Size()), nil
}

func (s *dirStore) Close() error {
	for _, f := range s.files {
		_ = f.Close() // only read
	}
	return s.Dir.Close()
}

// tarStore is an archive, of which only the headers were read: its parts are read
// where they lie.
type tarStore struct {
	file  *os.File
	parts map[string]part
}

type part struct {
	off, size int64
	link      string // path of the part that it stands for, empty for its own
}

// maxParts bounds the entries of an image's own archive: 127 layers are the most
// that engines allow, each with three entries in old archives.
const maxParts = 100_000

func openTar(f *os.File) (*tarStore, error) {
	s := &tarStore{file: f, parts: make(map[string]part)}
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			if len(s.parts) == 0 {
				return nil, fmt.Errorf("it is no tar archive: %w", ErrFormat)
			}
			return nil, fmt.Errorf("it is cut short or garbled after %d parts (%w): %w", len(s.parts), err, ErrDamaged)
		}
		name, err := clean(h.Name)
		if err != nil {
			return nil, err
		}
		var p part
		switch h.Typeflag {
		case tar.TypeReg:
			if sparse(h) {
				return nil, fmt.Errorf("its part %s is stored with holes: %w", name, ErrFormat)
			}
			if p.off, err = f.Seek(0, io.SeekCurrent); err != nil {
				return nil, err
			}
			p.size = h.Size
		case tar.TypeSymlink:
			// Old archives of docker name a layer that two images share so.
			p.link = path.Join(path.Dir("/"+name), h.Linkname)[1:]
		case tar.TypeLink:
			if p.link, err = clean(h.Linkname); err != nil {
				return nil, err
			}
		default:
			continue
		}
		if _, twice := s.parts[name]; twice {
			return nil, fmt.Errorf("it has the part %s twice: %w", name, ErrHostile)
		}
		if len(s.parts) >= maxParts {
			return nil, fmt.Errorf("it has more than %d parts; an image has some hundred: %w", maxParts, ErrFormat)
		}
		s.parts[name] = p
	}
}

func (s *tarStore) open(name string) (*io.SectionReader, error) {
	p, ok := s.parts[name]
	for range maxLinks {
		if !ok || p.link == "" {
			break
		}
		p, ok = s.parts[p.link]
	}
	if !ok || p.link != "" {
		return nil, &fs.PathError{Op: "open", Path: s.file.Name() + ":" + name, Err: fs.ErrNotExist}
	}
	return io.NewSectionReader(s.file, p.off, p.size), nil
}

func (s *tarStore) Close() error { return s.file.Close() }

// openStore opens a layout folder or an archive.
func openStore(name string) (store, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		d, err := OpenDir(name)
		if err != nil {
			return nil, err
		}
		return &dirStore{Dir: d}, nil
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a file nor a folder; an image cannot be read from a pipe, save it to a file first: %w", name, ErrFormat)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	var magic [6]byte
	n, _ := f.ReadAt(magic[:], 0) // a short file fails below
	head := string(magic[:n])
	hint := ""
	switch {
	case n == 0:
		err = fmt.Errorf("%s is empty: %w", name, ErrFormat)
	case strings.HasPrefix(head, "\x1f\x8b"):
		hint = "gzip -dk"
	case strings.HasPrefix(head, "\x28\xb5\x2f\xfd"):
		hint = "zstd -dk"
	case strings.HasPrefix(head, "\xfd7zXZ"):
		hint = "xz -dk"
	}
	if hint != "" {
		err = fmt.Errorf("%s is compressed as a whole, and an image is read at many places: unpack it first (%s %s): %w", name, hint, path.Base(name), ErrFormat)
	}
	if err == nil {
		var s *tarStore
		if s, err = openTar(f); err == nil {
			return s, nil
		}
		err = fmt.Errorf("%s: %w", name, err)
	}
	_ = f.Close() // the first error counts
	return nil, err
}
