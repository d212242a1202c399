package osdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// rpmFolders are where rpm keeps its database: the usual place, that of Fedora
// 36 and SUSE, and that of ostree systems.
var rpmFolders = []string{"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"}

// rpmFiles are the databases of rpm's back ends: SQLite since 4.16, NDB (SUSE),
// Berkeley DB hash before.
var rpmFiles = []struct {
	name string
	read func(io.ReaderAt, int64, func(header []byte) error) error
}{
	{"rpmdb.sqlite", readSQLite}, {"Packages.db", readNDB}, {"Packages", readBDB},
}

// The three database formats are read by code of this package rather than by a
// library: go-rpmdb 0.2.2 wants a path (which follows links out of a root, and an
// image has none), takes a lock on the file, reads in goroutines whose panics on
// damaged pages nobody can catch, and needs all of SQLite for one column.

func readRPM(fsys fs.FS, d *DB) error {
	for _, dir := range rpmFolders {
		for _, f := range rpmFiles {
			name := dir + "/" + f.name
			r, size, close, err := binaryFile(fsys, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			d.Files = append(d.Files, name)
			err = f.read(r, size, func(header []byte) error {
				p, ok, err := parseHeader(header)
				if err != nil {
					return err
				}
				if len(d.Packages) > maxPackages {
					return fmt.Errorf("more than %d packages", maxPackages)
				}
				if ok {
					d.Packages = append(d.Packages, p)
				}
				return nil
			})
			close()
			if err != nil {
				return damaged(name, "%v", err)
			}
			// A system that changed its back end keeps the old file; the newest
			// format comes first, and the folders lead to one another.
			return nil
		}
	}
	return nil
}

// binaryFile opens a database for reading at any offset.
func binaryFile(fsys fs.FS, name string) (r io.ReaderAt, size int64, close func(), err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil && st.Size() > maxBinary {
		err = fmt.Errorf("%d bytes: %w", st.Size(), ErrTooLarge)
	}
	r, ok := f.(io.ReaderAt)
	if err == nil && !ok {
		err = errors.New("it cannot be read at an offset")
	}
	if err != nil {
		_ = f.Close() // the first error counts
		return nil, 0, nil, err
	}
	return r, st.Size(), func() { _ = f.Close() }, nil
}

// span reads n bytes at off of a file of the given size. What a foreign length
// claims is checked against the file before memory is taken for it.
func span(r io.ReaderAt, size, off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > size || n > size-off {
		return nil, fmt.Errorf("bytes %d to %d are beyond its end at %d", off, off+n, size)
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, off); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, err
	}
	return b, nil
}

// maxHeader bounds one package's header: that of the largest packages, with
// some hundred thousand files, is below 100 MB.
const maxHeader = 256 << 20

// Tags and types of a header (rpm, include/rpm/rpmtag.h).
const (
	tagName, tagVersion, tagRelease, tagEpoch = 1000, 1001, 1002, 1003
	tagArch, tagSourceRPM                     = 1022, 1044
	typeInt32, typeString, typeI18N           = 4, 6, 9
)

// parseHeader parses the header of one package as the databases hold it: the
// number of index entries and of data bytes, the entries of 16 bytes each, the
// data; all big-endian (rpm, docs/manual/hregions.md, lib/header.c). ok is false
// for what is no software: the keys of signatures are entries too.
func parseHeader(b []byte) (p Package, ok bool, err error) {
	if len(b) < 8 {
		return p, false, fmt.Errorf("a header of %d bytes", len(b))
	}
	count, length := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if count*16+length > int64(len(b)-8) {
		return p, false, fmt.Errorf("a header of %d bytes claims %d entries and %d bytes of data", len(b), count, length)
	}
	data := b[8+count*16:][:length]
	var version, release, source string
	epoch := int64(-1)
	for i := range count {
		e := b[8+i*16:]
		tag, kind, off := binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:]), int64(int32(binary.BigEndian.Uint32(e[8:])))
		var into *string
		switch tag {
		case tagName:
			into = &p.Name
		case tagVersion:
			into = &version
		case tagRelease:
			into = &release
		case tagArch:
			into = &p.Arch
		case tagSourceRPM:
			into = &source
		case tagEpoch:
			if kind != typeInt32 || off < 0 || off+4 > length {
				return p, false, fmt.Errorf("the epoch of a package lies outside of its header")
			}
			epoch = int64(binary.BigEndian.Uint32(data[off:]))
			continue
		default:
			continue
		}
		if kind != typeString && kind != typeI18N || off < 0 || off >= length {
			return p, false, fmt.Errorf("tag %d of a package lies outside of its header", tag)
		}
		s, _, closed := strings.Cut(string(data[off:min(length, off+1024)]), "\x00")
		if !closed {
			return p, false, fmt.Errorf("tag %d of a package has no end", tag)
		}
		*into = s
	}
	if p.Name == "gpg-pubkey" {
		return p, false, nil
	}
	if !word(p.Name) || !word(version) || !word(release) {
		return p, false, fmt.Errorf("a package without a name, version or release")
	}
	p.Format, p.Version = RPM, version+"-"+release
	if epoch > 0 {
		p.Version = strconv.FormatInt(epoch, 10) + ":" + p.Version
	}
	p.Source = sourceName(source, p.Name)
	return p, true, nil
}

// sourceName takes the name out of "glibc-2.34-60.el9.src.rpm".
func sourceName(file, name string) string {
	s := file
	for range 2 {
		i := strings.LastIndexByte(s, '-')
		if i <= 0 {
			return name
		}
		s = s[:i]
	}
	return s
}
