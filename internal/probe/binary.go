package probe

import (
	"embed"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The programs, made by `make probes`.
//
//go:embed bin
var binaries embed.FS

// machines are the processors that there are programs for, with the dynamic
// loader that each kind of libc has by its ABI (System V ABI supplements; musl
// dynlink.c names its own).
var machines = map[string]struct {
	elf     uint16 // e_machine
	loaders map[string]string
}{
	"amd64": {62, map[string]string{"glibc": "/lib64/ld-linux-x86-64.so.2", "musl": "/lib/ld-musl-x86_64.so.1"}},
	"arm64": {183, map[string]string{"glibc": "/lib/ld-linux-aarch64.so.1", "musl": "/lib/ld-musl-aarch64.so.1"}},
}

// embedded returns the program for a kind of libc and a processor.
func embedded(family, arch string) ([]byte, error) {
	b, err := binaries.ReadFile("bin/probe-" + family + "-" + arch)
	if err != nil {
		return nil, fmt.Errorf("there is no program for %s on %s: forkproof measures glibc and musl on amd64 and arm64", family, arch)
	}
	return b, nil
}

// inMemory puts a program into a file that exists in memory alone: no folder must be
// writable, or allow programs to run.
func inMemory(name string, program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 there is no MFD_EXEC
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory for the program %s (memfd_create): %w; the sysctl vm.memfd_noexec or a seccomp profile may forbid it", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, fmt.Errorf("write the program %s into memory: %w", name, err)
	}
	return f, nil
}
