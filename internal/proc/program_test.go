package proc

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestOwn(t *testing.T) {
	if err := New("/proc").Own(); err != nil {
		t.Error(err)
	}
	if err := New(t.TempDir()).Own(); err == nil || errors.Is(err, ErrOtherView) {
		t.Errorf("an empty folder as /proc: %v", err)
	}
	if os.Getenv("FORKPROOF_TEST_VIEW") != "" {
		return // we are the process of TestOtherView
	}
	// The same test in a PID namespace of its own, under the old /proc.
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--kill-child", os.Args[0], "-test.run=^TestOtherView$", "-test.v")
	cmd.Env = append(os.Environ(), "FORKPROOF_TEST_VIEW=other")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestOtherView(t *testing.T) {
	if os.Getenv("FORKPROOF_TEST_VIEW") == "" {
		t.Skip("started by TestOwn, in another PID namespace")
	}
	if err := New("/proc").Own(); !errors.Is(err, ErrOtherView) {
		t.Errorf("the /proc of another PID namespace: %v", err)
	}
}

func TestProgram(t *testing.T) {
	p, err := New("/proc").Program(os.Getpid())
	if err != nil || p.Bits != 64 {
		t.Errorf("this very program: %+v, %v", p, err)
	}
	if _, err := New("/proc").Program(1 << 30); !IsGone(err) {
		t.Errorf("a process that cannot exist: %v", err)
	}
	header := func(class elf.Class, data elf.Data, lo, hi byte) (h [20]byte) {
		copy(h[:], elf.ELFMAG)
		h[elf.EI_CLASS], h[elf.EI_DATA], h[18], h[19] = byte(class), byte(data), lo, hi
		return h
	}
	for _, tt := range []struct {
		h    [20]byte
		want string // empty: an error
	}{
		{header(elf.ELFCLASS64, elf.ELFDATA2LSB, 62, 0), "64-bit x86-64"},
		{header(elf.ELFCLASS32, elf.ELFDATA2LSB, 62, 0), "32-bit x32"},
		{header(elf.ELFCLASS32, elf.ELFDATA2LSB, 3, 0), "32-bit i386"},
		{header(elf.ELFCLASS64, elf.ELFDATA2LSB, 183, 0), "64-bit arm64"},
		{header(elf.ELFCLASS32, elf.ELFDATA2LSB, 40, 0), "32-bit arm"},
		{header(elf.ELFCLASS64, elf.ELFDATA2MSB, 0, 22), "64-bit EM_S390"},
		{header(elf.ELFCLASSNONE, elf.ELFDATA2LSB, 62, 0), ""},
		{[20]byte{'#', '!', '/', 'b'}, ""},
	} {
		p, err := parseProgram(tt.h)
		if (err != nil) != (tt.want == "") || err == nil && p.String() != tt.want {
			t.Errorf("%q: %v, %v; want %q", tt.h, p, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrParse) {
			t.Errorf("%q: %v", tt.h, err)
		}
	}
}
