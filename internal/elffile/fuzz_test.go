package elffile

import (
	"bytes"
	"os"
	"testing"
)

// flat is memory in which a file lies at base as it is in the file.
type flat struct {
	data []byte
	base uint64
}

func (m flat) ReadAt(p []byte, addr uint64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, int64(addr-m.base))
}

// everything asks a File for all there is; only a panic, or taking for ever, is
// wrong.
func everything(f *File) {
	_, _ = f.Sections()
	for _, name := range []string{".text", ".debug_frame", ".gnu_debugdata", ""} {
		if s, err := f.SectionNamed(name); err == nil {
			if d, err := f.SectionData(s); err == nil {
				_, _ = d.Bytes()
			}
		}
	}
	for n, err := range f.Notes() {
		_, _ = n, err
	}
	_, _ = f.ReadBuildID()
	_, _ = f.Interp()
	_, _ = f.Needed()
	_, _ = f.Soname()
	_, _, _ = f.IsPIE(), f.IsStatic(), f.InMemory()
	if e, err := f.EHFrame(); err == nil {
		_, _ = e.Frame.Bytes()
		_, _ = e.Hdr.Bytes()
	}
	_, _ = f.DebugFrame()
	_, _ = f.BiasOf([]Mapping{{0x1000, 0x2000, 0, true}, {0x2000, 0x9000, 0x1000, false}})
	_, _ = f.Bias(0x5000, 0x1000)
	for _, get := range []func() (*Symbols, error){f.StaticSymbols, f.DynamicSymbols} {
		s, err := get()
		if err != nil {
			continue
		}
		_, _ = s.Bytes()
		_, _, _, _ = s.Find("main")
		_, _, _, _ = s.Find("pthread_mutex_lock")
		if n, err := s.Count(); err == nil && n > 1 {
			if sym, err := s.At(n - 1); err == nil {
				_, _ = s.Name(sym.Name)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, path := range compileAll(f) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 64<<10 {
			f.Add(data)
		}
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Open(bytes.NewReader(data)); err == nil {
			everything(file)
		}
		const base = 0x7f1234560000
		if file, err := FromMemory(flat{data, base}, base); err == nil {
			everything(file)
		}
	})
}

// FuzzMutate changes one place of a real program: it gets past the header far
// more often than bytes at random do.
func FuzzMutate(f *testing.F) {
	var files [][]byte
	for _, path := range compileAll(f) {
		if data, err := os.ReadFile(path); err == nil && len(data) < 64<<10 {
			files = append(files, data)
		}
	}
	f.Add(uint8(0), uint16(0x20), uint64(0xffffffffffffffff))
	f.Add(uint8(1), uint16(0x28), uint64(1))
	f.Add(uint8(5), uint16(0x3a0), uint64(0x7fffffff00000001))
	f.Add(uint8(6), uint16(0x44), uint64(1<<63))
	f.Fuzz(func(t *testing.T, which uint8, at uint16, value uint64) {
		data := bytes.Clone(files[int(which)%len(files)])
		for i := range 8 {
			data[(int(at)+i)%len(data)] = byte(value >> (8 * i))
		}
		if file, err := Open(bytes.NewReader(data)); err == nil {
			everything(file)
		}
		const base = 0x7f1234560000
		if file, err := FromMemory(flat{data, base}, base); err == nil {
			everything(file)
		}
	})
}

// FuzzGNUHash looks a name up in a hash table of any bytes.
func FuzzGNUHash(f *testing.F) {
	libc := open(f, realFiles(f)[0])
	syms, err := libc.DynamicSymbols()
	if err != nil {
		f.Fatal(err)
	}
	h, err := syms.gnu()
	if err != nil {
		f.Fatal(err)
	}
	seed, err := h.data.Slice(0, h.chainAt)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, "pthread_mutex_lock")
	f.Add([]byte{1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0}, "a")
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		// The table is the whole file, mapped at 0.
		file := &File{
			file: bytes.NewReader(raw), size: uint64(len(raw)),
			Segments: []Segment{{Type: 1, FileSize: uint64(len(raw)), MemSize: uint64(len(raw))}},
		}
		file.prepare()
		s := &Symbols{f: file, dynamic: &Dynamic{f: file, Entries: []DynEntry{{0x6ffffef5, 0}}}}
		h, err := s.readGNUHash()
		if err != nil {
			return
		}
		_, _ = h.count()
		_ = h.find(name, func(int) (bool, error) { return false, nil })
	})
}
