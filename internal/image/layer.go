package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Keep says how much of a file is kept.
type Keep uint8

// What is kept: nothing, the name, or the content too.
const (
	Nothing Keep = iota
	Name
	Content
)

// Limits bound what an image may cost. The zero value of a field means the usual
// bound.
type Limits struct {
	// Entries of all layers together, usually 20 million.
	Entries int
	// Nodes is how many files, folders and links are kept, usually 300 thousand.
	Nodes int
	// Names is how many bytes their names and targets have, usually 64 MiB.
	Names int
	// Content is how many bytes of files of compressed layers are kept in memory,
	// usually 512 MiB; those of uncompressed layers are read where they lie.
	Content int64
	// Unpacked is how many bytes all compressed layers may have together when they
	// are unpacked, usually 256 GiB.
	Unpacked int64
	// Ratio is how many times larger than the file a layer may grow when unpacked,
	// beyond its first 256 MiB; usually 200. Deflate cannot do more than 1032.
	Ratio int64
}

func (l Limits) usual() Limits {
	or := func(v *int64, usual int64) {
		if *v == 0 {
			*v = usual
		}
	}
	orInt := func(v *int, usual int) {
		if *v == 0 {
			*v = usual
		}
	}
	orInt(&l.Entries, 20_000_000)
	orInt(&l.Nodes, 300_000)
	orInt(&l.Names, 64<<20)
	or(&l.Content, 512<<20)
	or(&l.Unpacked, 256<<30)
	or(&l.Ratio, 200)
	return l
}

// free is how much a layer may unpack before its ratio is looked at: a small file
// of zeros is no bomb.
const free = 256 << 20

// flattening applies layers to a tree.
type flattening struct {
	ctx    context.Context
	tree   *Tree
	keep   func(name string, size int64) Keep
	limits Limits
	// want are paths that must be kept because links with a name of interest lead
	// there; missing are those that were found to be needed too late.
	want, missing map[string]Keep
	entries       int
	content       int64
	unpacked      int64
	notes         []string
}

// layer is one layer as it lies in the image.
type layer struct {
	// name is for messages: its digest or path.
	name string
	blob *io.SectionReader
	// digest is sha256 in hexadecimal of blob, empty where it is not known.
	digest string
}

// apply reads one layer. A compressed one is checked against its digest; one that
// lies there uncompressed is not read as a whole, only its headers and what is
// kept.
func (f *flattening) apply(index int, l layer) error {
	if err := f.applyBlob(index, l); err != nil {
		if errors.Is(err, ErrHostile) || errors.Is(err, ErrDamaged) || f.ctx.Err() != nil {
			return fmt.Errorf("layer %s: %w", l.name, err)
		}
		return fmt.Errorf("layer %s: %w: %w", l.name, ErrDamaged, err)
	}
	return nil
}

func (f *flattening) applyBlob(index int, l layer) error {
	magic := make([]byte, 4)
	if n, err := l.blob.ReadAt(magic, 0); err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
		return err
	}
	var sum hash.Hash
	packed := &counting{r: l.blob}
	if l.digest != "" {
		sum = sha256.New()
		packed.also = sum
	}
	var stream io.Reader
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(bufio.NewReaderSize(packed, 1<<20))
		if err != nil {
			return fmt.Errorf("unpack it with gzip: %w", err)
		}
		stream = z
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return fmt.Errorf("unpack it with zstd: %w", err)
		}
		defer z.Close()
		stream = z
	default:
		return f.entriesOf(index, l.blob, l.blob)
	}
	out := &bounded{f: f, in: packed, r: stream}
	if err := f.entriesOf(index, bufio.NewReaderSize(out, 1<<20), nil); err != nil {
		return err
	}
	// What stands behind the archive belongs to the blob and its checksum.
	if _, err := io.Copy(io.Discard, out); err != nil {
		return err
	}
	if sum != nil {
		if _, err := io.Copy(io.Discard, packed); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != l.digest {
			return fmt.Errorf("%w: its sha256 is %s", ErrDamaged, got)
		}
	}
	return nil
}

// counting counts, and hashes, what is read.
type counting struct {
	r    io.Reader
	n    int64
	also hash.Hash
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.also != nil {
		c.also.Write(p[:n])
	}
	return n, err
}

// bounded stops a layer that grows beyond all measure.
type bounded struct {
	f  *flattening
	in *counting
	r  io.Reader
	n  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	b.f.unpacked += int64(n)
	switch {
	case b.n > free && b.n/b.f.limits.Ratio > b.in.n:
		return n, fmt.Errorf("it grows more than %d times when unpacked, %d bytes from %d so far: %w", b.f.limits.Ratio, b.n, b.in.n, ErrHostile)
	case b.f.unpacked > b.f.limits.Unpacked:
		return n, fmt.Errorf("the layers unpack to more than %d bytes: %w", b.f.limits.Unpacked, ErrHostile)
	}
	return n, err
}

// Names of whiteouts (OCI image-spec, layer.md). Other names that begin so are
// aufs's own and mean nothing.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh."
)

// entriesOf reads the archive of a layer. at is where its bytes lie still, nil for
// a stream.
func (f *flattening) entriesOf(index int, r io.Reader, at *io.SectionReader) error {
	a := tar.NewReader(r)
	for {
		if f.entries&0xff == 0 {
			if err := f.ctx.Err(); err != nil {
				return err
			}
		}
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if f.entries++; f.entries > f.limits.Entries {
			return fmt.Errorf("more than %d files in all layers: %w", f.limits.Entries, ErrHostile)
		}
		if err := f.entry(index, h, a, at); err != nil {
			return err
		}
		if f.tree.nodes > f.limits.Nodes || f.tree.names > f.limits.Names {
			return fmt.Errorf("it has more links, and files of interest, than %d: %w", f.limits.Nodes, ErrHostile)
		}
	}
}

func (f *flattening) entry(index int, h *tar.Header, a *tar.Reader, at *io.SectionReader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return f.whiteout(index, name, base)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		dir, base, err := f.tree.parent(name, index)
		if err != nil {
			return err
		}
		if n := dir.children[base]; n == nil || n.kind != folder {
			f.tree.add(dir, base, &node{kind: folder, layer: index, children: make(map[string]*node)})
		} else {
			n.layer = index
		}
		return nil
	case tar.TypeSymlink:
		if len(h.Linkname) > 4096 {
			return fmt.Errorf("a link to a name of %d bytes: %w", len(h.Linkname), ErrHostile)
		}
		return f.put(index, name, &node{kind: symlink, target: h.Linkname})
	case tar.TypeLink:
		return f.hardlink(index, name, h.Linkname)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
	default:
		// Devices and pipes replace what was there and hold nothing.
		return f.put(index, name, nil)
	}
	n := &node{kind: file, size: h.Size}
	switch f.keeps(name, h.Size) {
	case Nothing:
		return f.put(index, name, nil)
	case Content:
		if n.content, err = f.contentOf(h, a, at); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return f.put(index, name, n)
}

func (f *flattening) keeps(name string, size int64) Keep {
	return max(f.want[name], f.keep(name, size))
}

// contentOf keeps the content of an entry: by its place where it lies in a file,
// else in memory.
func (f *flattening) contentOf(h *tar.Header, a *tar.Reader, at *io.SectionReader) (io.ReaderAt, error) {
	if at != nil && !sparse(h) {
		off, err := at.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		return io.NewSectionReader(at, off, h.Size), nil
	}
	if f.content += min(h.Size, f.limits.Content+1); f.content > f.limits.Content {
		return nil, fmt.Errorf("the files of interest have more than %d bytes: %w", f.limits.Content, ErrHostile)
	}
	// The header's size may be a lie, but it was counted, and the pages of what is
	// not filled are never touched.
	b := make([]byte, h.Size)
	if _, err := io.ReadFull(a, b); err != nil {
		return nil, err
	}
	return kept(b), nil
}

// sparse reports whether an entry is stored with holes, so that its bytes are not
// as they are read.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// put places a node, or nothing, in place of whatever was at its path.
func (f *flattening) put(index int, name string, n *node) error {
	if n == nil {
		// Nothing of interest: no folder is made for it.
		dir, err := resolve(path.Dir(name), true, f.tree.link)
		if err != nil {
			return err
		}
		if d := f.tree.at(dir); d != nil && d.kind == folder {
			f.tree.remove(d, path.Base(name))
		}
		return nil
	}
	dir, base, err := f.tree.parent(name, index)
	if err != nil {
		return err
	}
	if old := dir.children[base]; old != nil && old.layer == index && old.kind == file && n.kind == file && len(f.notes) < 16 {
		f.notes = append(f.notes, fmt.Sprintf("a layer has %s twice; the later one counts, as when it is extracted", name))
	}
	n.layer = index
	f.tree.add(dir, base, n)
	return nil
}

func (f *flattening) hardlink(index int, name, to string) error {
	target, err := clean(to)
	if err != nil {
		return fmt.Errorf("hard link %s: %w", name, err)
	}
	real, err := resolve(target, false, f.tree.link)
	if err != nil {
		return fmt.Errorf("hard link %s: %w", name, err)
	}
	want := f.keeps(name, 0)
	n := f.tree.at(real)
	switch {
	case n != nil && n.kind == folder:
		return fmt.Errorf("hard link %s leads to a folder: %w", name, ErrHostile)
	case n != nil && n.kind == symlink:
		c := *n
		return f.put(index, name, &c)
	case want == Nothing:
		return f.put(index, name, nil)
	case n != nil && (want == Name || n.content != nil):
		c := *n
		return f.put(index, name, &c)
	case want == Name:
		return f.put(index, name, &node{kind: file})
	}
	f.needs(target, want)
	return f.put(index, name, &node{kind: file})
}

// needs asks for a path to be kept when the layers are read once more.
func (f *flattening) needs(name string, k Keep) {
	if f.want[name] < k {
		f.missing[name] = max(f.missing[name], k)
	}
}

func (f *flattening) whiteout(index int, name, base string) error {
	gone := strings.TrimPrefix(base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return fmt.Errorf("whiteout of %q: %w", gone, ErrHostile)
	}
	dir, err := resolve(path.Dir(name), true, f.tree.link)
	if err != nil {
		return err
	}
	d := f.tree.at(dir)
	switch {
	case d == nil || d.kind != folder:
	case base == whiteoutOpaque:
		f.tree.opaque(d, index)
	case strings.HasPrefix(base, whiteoutMeta):
	default:
		f.tree.whiteout(d, gone, index)
	}
	return nil
}
