package cpython_test

import (
	"encoding/binary"
	"testing"

	"forkproof/internal/cpython"
	"forkproof/internal/procmem"
	"forkproof/internal/testbed"
)

// most is how much may be read of a process that lies: ten times what the worst
// honest one takes, which has 900 frames in each of two threads.
const most = 512 << 20

// everything does what a caller can do with a runtime.
func everything(t *testing.T, mem procmem.Reader, objects []cpython.Object) {
	t.Helper()
	rt, err := cpython.Find(mem, objects)
	if err != nil {
		return
	}
	all, err := rt.Threads()
	if err == nil {
		frames := 0
		for _, th := range all {
			frames += len(th.Frames)
			for _, f := range th.Frames {
				if f.Line < 0 || len(f.Function) > 5*4096 || len(f.File) > 5*4096 {
					t.Errorf("frame %+v", f)
				}
			}
		}
		if frames > 200_000 {
			t.Errorf("%d frames", frames)
		}
	}
	gils, err := rt.GILs()
	if err == nil && len(gils) == 0 {
		t.Error("neither a GIL nor an error")
	}
	_, _ = rt.GIL()
	_, _ = rt.Finalizing()
	_ = rt.ModulesDict()
	if in, err := rt.Main(); err == nil {
		_, _ = rt.TypeName(in.Modules)
		_, _ = rt.String(in.Modules)
	}
}

type recording struct {
	mem     *testbed.Recorded
	objects []cpython.Object
	rt      *cpython.Runtime
}

// recordings are what was read of real interpreters with many threads.
func recordings(f *testing.F) []recording {
	f.Helper()
	var all []recording
	seen := make(map[int]bool)
	for _, p := range interpreters(f) {
		if seen[p.minor] {
			continue
		}
		seen[p.minor] = true
		v := start(f, p, "few.py", "/srv/few.py")
		if s := v.line(f); s != "ready" {
			f.Fatalf("%s says %q", p.name, s)
		}
		settle(f, v.pid)
		mem := testbed.Record(procmem.Open(v.pid))
		r := recording{mem: mem, objects: objects(f, v.pid)}
		var err error
		if r.rt, err = cpython.Find(mem, r.objects); err != nil {
			f.Fatal(err)
		}
		threads, err := r.rt.Threads()
		if err != nil || len(threads) != 2 || len(threads[0].Frames) < 4 {
			f.Fatalf("%s: %d threads, %v", p.name, len(threads), err)
		}
		if _, err := r.rt.GIL(); err != nil {
			f.Fatal(err)
		}
		mem.Stop()
		// It is not needed any more, and must not outlive a fuzzing worker.
		_ = v.cmd.Process.Kill()
		all = append(all, r)
	}
	return all
}

// FuzzDamaged reads real interpreters in whose memory some words are wrong.
func FuzzDamaged(f *testing.F) {
	all := recordings(f)
	for i, r := range all {
		f.Add([]byte{byte(i)})
		threads, err := r.rt.Threads()
		if err != nil {
			f.Fatal(err)
		}
		for _, th := range threads {
			for _, at := range []uint64{th.Addr, th.Addr + 8, th.Addr + 16, th.Frames[0].Addr + 8, th.Frames[0].Code + 8, th.Frames[0].Code + 136} {
				f.Add(append([]byte{byte(i)}, r.mem.Edit(at, 1<<5)...))
				f.Add(append([]byte{byte(i)}, r.mem.Edit(at, ^uint64(0))...))
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 1<<12 {
			return
		}
		r := all[int(b[0])%len(all)]
		mem := r.mem.Patch(b[1:])
		everything(t, mem, r.objects)
		if mem.Read > most {
			t.Errorf("%d bytes were read", mem.Read)
		}
	})
}

// table is an image that has whatever it is asked for.
type table struct{ runtime, version uint64 }

func (i table) Symbol(name string) (addr, size uint64, ok bool) {
	if name == "Py_Version" {
		return i.version, 8, true
	}
	return i.runtime, 1 << 20, true
}

func (i table) Section(string) (addr, size uint64, ok bool) { return i.runtime, 1 << 16, true }

// FuzzMirrors reads memory that goes on for ever: whatever is a pointer leads
// somewhere, and every list is a ring or has no end.
func FuzzMirrors(f *testing.F) {
	for minor := byte(8); minor <= 14; minor++ {
		image := make([]byte, 4096)
		for i := 0; i < len(image); i += 8 {
			binary.LittleEndian.PutUint64(image[i:], uint64(0x10000+i*8))
		}
		f.Add(minor, uint16(0), uint16(8), image)
		f.Add(minor, uint16(16), uint16(8), make([]byte, 64))
		f.Add(minor, uint16(0), uint16(8), []byte("xdebugpy\xf0\x00\x0d\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		f.Add(minor, uint16(0), uint16(8), []byte("xdebugpy\xf0\x00\x0e\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, minor byte, runtime, version uint16, image []byte) {
		if len(image) > 1<<16 {
			return
		}
		mem := &testbed.Mirrors{Image: image}
		// The release is told by the memory or, where that does not, by the name.
		path := "/usr/bin/python3." + string([]byte{'0' + minor/10%10, '0' + minor%10})
		everything(t, mem, []cpython.Object{{Path: path, Image: table{uint64(runtime), uint64(version)}}})
		if mem.Read > most {
			t.Errorf("%d bytes were read", mem.Read)
		}
	})
}
