package atfork_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"forkproof/internal/atfork"
	"forkproof/internal/elffile"
	"forkproof/internal/testbed"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// patch writes a number of size bytes into a copy of data.
func patch(data []byte, at int, size int, v uint64) []byte {
	out := bytes.Clone(data)
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	copy(out[at:at+size], b[:])
	return out
}

// TestDamaged has files that lie about themselves. Each must give an error with
// the place, or a report of what is left, and neither fails nor takes long.
func TestDamaged(t *testing.T) {
	good := read(t, testbed.Build(t, "libhandlers.c"))
	phoff := int(binary.LittleEndian.Uint64(good[32:]))
	dynamic, load := -1, -1
	for i := range int(binary.LittleEndian.Uint16(good[56:])) {
		p := phoff + 56*i
		switch {
		case binary.LittleEndian.Uint32(good[p:]) == 2:
			dynamic = p
		case binary.LittleEndian.Uint32(good[p:]) == 1 && good[p+4]&1 == 1:
			load = p
		}
	}
	if dynamic < 0 || load < 0 {
		t.Fatal("the library has no dynamic section or no code")
	}
	// entry is the place of a tag of the dynamic section.
	entry := func(tag uint64) int {
		at := int(binary.LittleEndian.Uint64(good[dynamic+8:]))
		for ; ; at += 16 {
			if got := binary.LittleEndian.Uint64(good[at:]); got == tag {
				return at + 8
			} else if got == 0 {
				t.Fatalf("no dynamic entry %d", tag)
			}
		}
	}
	for _, tt := range []struct {
		name string
		data []byte
		err  error
	}{
		{"empty", nil, elffile.ErrNotELF},
		{"text", []byte("#!/bin/sh\nexit 1\n"), elffile.ErrNotELF},
		{"cut in the header", good[:40], elffile.ErrDamaged},
		{"cut in the code", good[:binary.LittleEndian.Uint64(good[load+8:])+100], elffile.ErrDamaged},
		{"section headers beyond the end", patch(good, 40, 8, 1<<60), nil},
		{"no section headers", patch(good, 60, 2, 0), nil},
		{"65535 section headers", patch(good, 60, 2, 0xffff), nil},
		{"code of all memory", patch(patch(good, load+32, 8, 1<<63), load+40, 8, 1<<63), elffile.ErrDamaged},
		{"code at the end of memory", patch(good, load+16, 8, ^uint64(0)-100), nil},
		{"segments that overlap", patch(good, load+16, 8, 0), nil},
		{"dynamic section of all memory", patch(good, dynamic+32, 8, 1<<62), elffile.ErrDamaged},
		{"symbols that are none", patch(good, entry(6), 8, 1<<40), elffile.ErrAbsent},
		{"strings that are none", patch(good, entry(5), 8, 1<<40), elffile.ErrAbsent},
		{"2^58 relocations", patch(good, entry(8), 8, 24<<58), elffile.ErrDamaged},
		{"relocations beyond the end", patch(good, entry(8), 8, 24<<20), elffile.ErrDamaged},
		{"relocations elsewhere", patch(good, entry(7), 8, 1<<40), elffile.ErrAbsent},
	} {
		_, err := atfork.Analyse(bytes.NewReader(tt.data), atfork.Options{Path: tt.name})
		if tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
		if tt.err == nil && err != nil {
			t.Logf("%s: %v", tt.name, err)
		}
	}
}

// TestGarbled changes bytes all over the file, code, tables and relocations, and
// sees that all comes back in bounded memory.
func TestGarbled(t *testing.T) {
	for _, file := range []string{testbed.Build(t, "libhandlers.c"), testbed.BuildARM64(t, "libhandlers.c")} {
		good := read(t, file)
		for seed := range uint64(150) {
			r := rand.New(rand.NewPCG(seed, 1))
			data := bytes.Clone(good)
			for range 1 + r.IntN(200) {
				data[64+r.IntN(len(data)-64)] = byte(r.Uint32())
			}
			var m0, m1 runtime.MemStats
			runtime.ReadMemStats(&m0)
			_, _ = atfork.Analyse(bytes.NewReader(data), atfork.Options{Path: "garbled"})
			runtime.ReadMemStats(&m1)
			if got := m1.TotalAlloc - m0.TotalAlloc; got > 512<<20 {
				t.Errorf("seed %d: %d MiB were allocated for a file of %d KiB", seed, got>>20, len(data)>>10)
			}
		}
	}
}

func FuzzAnalyse(f *testing.F) {
	for _, file := range []string{testbed.Build(f, "libhandlers.c", "-Os"), testbed.Build(f, "libthreads.c", "-Os"), testbed.BuildARM64(f, "libhandlers.c", "-Os")} {
		f.Add(read(f, file))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := atfork.Analyse(bytes.NewReader(data), atfork.Options{Path: "fuzz"})
		if (r == nil) == (err == nil) {
			t.Fatalf("report %v with error %v", r, err)
		}
	})
}
