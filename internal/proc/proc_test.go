package proc

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const line = "4242 (a b) c)) S 1 4242 4242 0 -1 4194560 1 0 0 0 7 8 0 0 20 0 3 0 123456 999424 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
	s, err := ParseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != 4242 || s.Comm != "a b) c)" || s.State != 'S' || s.PPID != 1 || s.NumThreads != 3 || s.StartTime != 123456 || s.VSize != 999424 || s.UTime != 7 || s.STime != 8 {
		t.Errorf("got %+v", s)
	}
	for _, bad := range []string{"", "1", "1 (x", "1 (x) S", "x (y) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21"} {
		if _, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a stat line", bad)
		}
	}
}

func TestParseSyscall(t *testing.T) {
	s, err := ParseSyscall([]byte("202 0x7f00 0x189 0x0 0x0 0x0 0xffffffff 0x7ffe 0x7fb7\n"))
	if err != nil || s.Nr != 202 || s.Args[0] != 0x7f00 || s.Args[1] != 0x189 || s.SP != 0x7ffe || s.PC != 0x7fb7 {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err = ParseSyscall([]byte("running\n")); err != nil || !s.Running {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err = ParseSyscall([]byte("-1 0x7ffe 0x7fb7\n")); err != nil || !s.Outside || s.PC != 0x7fb7 {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"", "202", "-1 0x1", "202 0x1 0x2 0x3", "x 0x1 0x2"} {
		if _, err := ParseSyscall([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a syscall line", bad)
		}
	}
}

func TestParseMaps(t *testing.T) {
	maps, err := ParseMaps([]byte("55d0-55d1 r-xp 00002000 fe:01 1234                       /usr/bin/a b (deleted)\n7f00-7f10 rw-p 00000000 00:00 0 \n7fff-8000 rw-s 00000000 00:01 77  /dev/shm/x\n"))
	if err != nil || len(maps) != 3 {
		t.Fatalf("got %+v, %v", maps, err)
	}
	a := maps[0]
	if a.Path != "/usr/bin/a b" || !a.Deleted || !a.Exec || a.Write || a.Offset != 0x2000 || a.Inode != 1234 || a.Name() != "a b" {
		t.Errorf("got %+v", a)
	}
	if m, ok := Find(maps, 0x7f0f); !ok || m.File() || !m.Write {
		t.Errorf("got %+v, %v", m, ok)
	}
	if _, ok := Find(maps, 0x7f10); ok {
		t.Error("an address behind a mapping was found in it")
	}
	if !maps[2].Shared {
		t.Error("a shared mapping was taken for a private one")
	}
}

// The running system is the reference for what the parsers must read.
func TestLive(t *testing.T) {
	fs := New("/proc")
	pid := os.Getpid()
	st, err := fs.Status(pid)
	if err != nil || st.PID != pid || st.State == 0 || len(st.NSPID) == 0 {
		t.Errorf("status: %+v, %v", st, err)
	}
	id, err := fs.Identity(pid)
	if err != nil || !fs.Same(id) {
		t.Errorf("identity: %+v, %v", id, err)
	}
	maps, err := fs.Maps(pid)
	if err != nil || len(maps) < 3 {
		t.Errorf("maps: %d, %v", len(maps), err)
	}
	for i := 1; i < len(maps); i++ {
		if maps[i].Start < maps[i-1].End {
			t.Errorf("mappings %d and %d overlap", i-1, i)
		}
	}
	if _, err := fs.Stat(1 << 30); !IsGone(err) {
		t.Errorf("a process that cannot exist: %v", err)
	}
	if same, err := SharesMemory(pid, pid); err != nil || !same {
		t.Errorf("a process shares memory with itself: %v, %v", same, err)
	}
	if same, err := SharesMemory(pid, os.Getppid()); err != nil || same {
		t.Errorf("we share memory with our parent: %v, %v", same, err)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("1 (x) S 1 2 3"))
	f.Add([]byte("4242 (a b) c)) S 1 4242 4242 0 -1 4194560 1 0 0 0 7 8 0 0 20 0 3 0 123456 999424 1"))
	f.Add([]byte("55d0-55d1 r-xp 00002000 fe:01 1234 /usr/bin/a\n"))
	f.Add([]byte("55d0-55d1 r-xp 00002000 fe:01 1234                       /usr/bin/a b (deleted)\n7f00-7f10 rw-p 00000000 00:00 0 \n7fff-8000 rw-s 00000000 00:01 77  /dev/shm/x\n"))
	f.Add([]byte("202 0x7f00 0x189 0x0 0x0 0x0 0xffffffff 0x7ffe 0x7fb7\n"))
	f.Add([]byte("-1 0x7ffe 0x7fb7\n"))
	f.Add([]byte("running\n"))
	f.Add([]byte("Name:\tx\nState:\tS (sleeping)\nPid:\t1\nNSpid:\t1\t2\n"))
	f.Add([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStat(b); err == nil && s.State == 0 {
			t.Errorf("a process in no state: %+v", s)
		}
		if s, err := ParseStatus(b); err == nil && (s.State == 0 || s.PID == 0) {
			t.Errorf("no process: %+v", s)
		}
		if s, err := ParseSyscall(b); err == nil && (s.Running && s.Outside || s.Running && s.PC != 0 || s.Outside != (s.Nr == -1)) {
			t.Errorf("in and out of a system call: %+v", s)
		}
		if maps, err := ParseMaps(b); err == nil {
			for _, m := range maps {
				if m.End < m.Start || m.Deleted && !m.File() {
					t.Errorf("mapping %+v", m)
				}
				_ = m.Name()
			}
			_, _ = Find(maps, 0x55d0)
		}
		var h [20]byte
		copy(h[:], b)
		if p, err := parseProgram(h); err == nil && p.Bits != 32 && p.Bits != 64 {
			t.Errorf("a program of %d bits", p.Bits)
		}
	})
}
