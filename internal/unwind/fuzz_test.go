package unwind_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"forkproof/internal/cfi"
	"forkproof/internal/elffile"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
	"forkproof/internal/testbed"
	"forkproof/internal/unwind"
)

// limit is how many frames are asked for, and most how much may be read for
// them: a search for one frame looks at 1 MiB.
const (
	limit = 256
	most  = 2 * limit << 20
)

// sound checks what holds of every stack, however wrong.
func sound(t *testing.T, frames []unwind.Frame, err error) {
	t.Helper()
	if len(frames) > limit || len(frames) == 0 {
		t.Errorf("%d frames: %v", len(frames), err)
	}
	for i, f := range frames {
		if f.Guessed && !f.Searched {
			t.Errorf("frame %d is guessed and was not searched for", i)
		}
		_, _ = f.Module.Symbol(f.Addr())
	}
}

// FuzzDamaged walks the stacks of a real process of which some words are wrong,
// in its memory and in the file of its program.
func FuzzDamaged(f *testing.F) {
	victim := compile(f, "gcc", "-O2", "-fomit-frame-pointer", "victim.c", "foreign.c", "-lpthread")
	pid := start(f, victim, "read", "poll", "cond", "alloca", "signal")
	file, err := os.ReadFile(victim)
	if err != nil {
		f.Fatal(err)
	}
	fs := proc.New("/proc")
	maps, err := fs.Maps(pid)
	if err != nil {
		f.Fatal(err)
	}
	files := unwind.NewFiles()
	f.Cleanup(func() { _ = files.Close() })
	open := opener(fs, pid)
	mem := testbed.Record(procmem.Open(pid))
	tids, err := fs.Threads(pid)
	if err != nil {
		f.Fatal(err)
	}
	var threads []unwind.Regs
	sp := unwind.NewSpace(maps, files, open)
	for _, tid := range tids {
		s, err := fs.Syscall(pid, tid)
		if err != nil {
			f.Fatal(err)
		}
		threads = append(threads, unwind.FromSyscall(s.SP, s.PC))
		frames, err := unwind.Stack(mem, sp, threads[len(threads)-1], 0)
		if err != nil || len(frames) < 3 {
			f.Fatalf("thread %d: %d frames, %v", tid, len(frames), err)
		}
	}
	mem.Stop()
	// Where the tables lie in the file.
	e, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		f.Fatal(err)
	}
	for i := range threads {
		f.Add(byte(i), []byte{}, []byte{})
		f.Add(byte(i), mem.Edit(threads[i].SP()+16, 1<<3), []byte{})
		for _, name := range []string{".eh_frame", ".eh_frame_hdr", ".symtab", ".dynamic"} {
			if s := e.Section(name); s != nil {
				f.Add(byte(i), []byte{}, edit(s.Offset+8, ^uint64(0)))
				f.Add(byte(i), []byte{}, edit(s.Offset+s.Size/2, 0x4040404040404040))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, words, bytesOfFile []byte) {
		if len(words)+len(bytesOfFile) > 1<<11 {
			return
		}
		bad := patch(file, bytesOfFile)
		sp := unwind.NewSpace(maps, files, func(m proc.Mapping) (unwind.Opened, error) {
			if m.Name() != filepath.Base(victim) {
				return open(m)
			}
			e, err := elffile.Open(bytes.NewReader(bad))
			return unwind.Opened{File: e, Symbols: symbol.Options{NoDebugFiles: true}, Private: true}, err
		})
		defer sp.Close()
		p := mem.Patch(words)
		frames, err := unwind.Stack(p, sp, threads[int(which)%len(threads)], limit)
		sound(t, frames, err)
		if p.Read > most {
			t.Errorf("%d bytes were read", p.Read)
		}
	})
}

// edit is one step of patch.
func edit(at, bits uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, uint32(at)), bits)
}

// patch turns bits of words of a file: where (4 bytes) and which (8).
func patch(file, edits []byte) []byte {
	file = slices.Clone(file)
	for ; len(edits) >= 12; edits = edits[12:] {
		at := int(binary.LittleEndian.Uint32(edits)) % (len(file) - 8)
		binary.LittleEndian.PutUint64(file[at:], binary.LittleEndian.Uint64(file[at:])^binary.LittleEndian.Uint64(edits[4:]))
	}
	return file
}

// everywhere is code at all addresses, with one table.
type everywhere struct {
	m *unwind.Module
	// asked is how often.
	asked int
}

func (e *everywhere) Find(uint64) (*unwind.Module, bool) {
	e.asked++
	return e.m, true
}

// FuzzMirrors walks a stack that has no end, by tables of the fuzzer's own.
func FuzzMirrors(f *testing.F) {
	image := make([]byte, 256)
	for i := 0; i < len(image); i += 8 {
		binary.LittleEndian.PutUint64(image[i:], uint64(0x1000+16*i))
	}
	// A CIE and an FDE for [0x1000, 0x11000): the frame address is rsp+16, the
	// return address lies 8 below it.
	tables := []byte{
		20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x00, 12, 7, 16, 0x90, 1, 0, 0,
		28, 0, 0, 0, 28, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0,
	}
	f.Add(uint64(0x1000), uint64(0x1000), image, tables)
	f.Add(uint64(0x1000), uint64(0x1000), image, []byte{})
	f.Add(uint64(0), ^uint64(0), []byte{0xe8, 0xff, 0xd0, 0xe8, 1, 2, 3, 0, 0xff, 0x10}, tables)
	f.Fuzz(func(t *testing.T, spAt, pc uint64, image, tables []byte) {
		if len(image) > 1<<14 || len(tables) > 1<<14 {
			return
		}
		m := &unwind.Module{Object: &unwind.Object{}, Name: "/srv/everywhere", End: ^uint64(0)}
		if frames, err := cfi.New(cfi.Source{Arch: cfi.AMD64, EHFrame: cfi.Section{R: bytes.NewReader(tables), Addr: 0x400000, Size: uint64(len(tables))}}); err == nil {
			m.Frames = frames
		}
		mem := &testbed.Mirrors{Image: image}
		code := &everywhere{m: m}
		frames, err := unwind.Stack(mem, code, unwind.FromSyscall(spAt, pc), limit)
		sound(t, frames, err)
		if mem.Read > most || code.asked > 1<<17 {
			t.Errorf("%d bytes were read, and code asked for %d times", mem.Read, code.asked)
		}
	})
}
