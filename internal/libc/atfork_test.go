package libc

import (
	"encoding/binary"
	"slices"
	"testing"

	"forkproof/internal/procmem"
)

func TestHandlerLists(t *testing.T) {
	// endbr64; mov rax,[rip+0x10]; lea rdi,[rip-0x8]; mov rax,[rsp+8]; ret
	amd64 := []byte{0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x8d, 0x3d, 0xf8, 0xff, 0xff, 0xff, 0x48, 0x8b, 0x44, 0x24, 0x08, 0xc3}
	if got, want := HandlerLists("amd64", amd64, 0x1000), []uint64{0x1000 + 11 + 0x10, 0x1000 + 18 - 8}; !slices.Equal(got, want) {
		t.Errorf("amd64: %x, want %x", got, want)
	}
	// adrp x0, +2 pages; add x1, x0, #0x18; ldr x2, [x0, #0x40]; adrp x3, -1 page; ldr w4, [x3, #8]; add x5, x6, #1
	var arm []byte
	for _, in := range []uint32{0xd0000000, 0x91006001, 0xf9402002, 0xf0ffffe3, 0xb9400864, 0x910004c5} {
		arm = binary.LittleEndian.AppendUint32(arm, in)
	}
	if got, want := HandlerLists("arm64", arm, 0x10010), []uint64{0x12018, 0x12040, 0xf008}; !slices.Equal(got, want) {
		t.Errorf("arm64: %x, want %x", got, want)
	}
}

func TestForkHandlers(t *testing.T) {
	code := func(a uint64) bool { return a >= 0x1000 && a < 0x2000 }
	words := func(w ...uint64) (b []byte) {
		for _, v := range w {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	const at = 0x8000
	for _, tc := range []struct {
		name, family string
		mem          []byte
		want         []Handler
		ok           bool
	}{
		{"two of 2.31", "glibc", words(2, 48, at+24, 0x1000, 0x1010, 0x1020, 0x9000, 0, 0, 0x1030, 0x9008), []Handler{{0x1000, 0x1010, 0x1020, 0x9000}, {0, 0, 0x1030, 0x9008}}, true},
		{"two of 2.36, with numbers", "glibc", words(2, 48, at+24, 0x1000, 0, 0, 0x9000, 1, 0, 0x1010, 0, 0x9000, 2), []Handler{{0x1000, 0, 0, 0x9000}, {0, 0x1010, 0, 0x9000}}, true},
		{"none", "glibc", words(0, 48, at+24), nil, true},
		{"none, as zeros look", "glibc", words(0, 0, 0), nil, false},
		{"more than there is room for", "glibc", words(49, 48, at+24), nil, false},
		{"far too many", "glibc", words(1<<40, 1<<41, at+24), nil, false},
		{"functions that are none", "glibc", words(1, 48, at+24, 0x5000, 0, 0, 0, 1), nil, false},
		{"a list that cannot be read", "glibc", words(1, 64, 0x700000), nil, false},
		{"two of musl", "musl", words(at+8, 0x1000, 0, 0, 0, at+48, 0x1010, 0x1020, 0, at+8, 0), []Handler{{0x1010, 0x1020, 0, 0}, {0x1000, 0, 0, 0}}, true},
		{"a ring", "musl", words(at+8, 0x1000, 0, 0, 0, at+8), nil, false},
		{"none of musl", "musl", words(0), nil, false},
		{"another library", "bionic", words(1, 48, at+24, 0x1000, 0, 0, 0, 1), nil, false},
	} {
		mem := procmem.Over(nothing{}, at, append(tc.mem, make([]byte, 64)...))
		got, ok := ForkHandlers(tc.family, mem, at, code)
		if ok != tc.ok || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %x, %v; want %x, %v", tc.name, got, ok, tc.want, tc.ok)
		}
	}
}

// nothing is memory of which nothing can be read.
type nothing struct{}

func (nothing) ReadAt([]byte, uint64) (int, error) { return 0, procmem.ErrUnmapped }

func TestForked(t *testing.T) {
	for _, tc := range []struct {
		symbol, file string
		minor        int
		want         AtFork
	}{
		{"tzset_lock", "tzset.c", 36, LeftAlone},
		{"envlock", "setenv.c", 43, LeftAlone},
		{"lock", "random.c", 31, LeftAlone},
		{"lock", "getpwnam.c", 36, LeftAlone},
		{"main_arena", "malloc.c", 36, Taken},
		{"list_all_lock", "genops.c", 31, Taken},
		{"_IO_stdfile_1_lock", "stdfiles.c", 36, MadeAnew},
		{"lock", "unwind-link.c", 36, MadeAnew},
		{"lock", "abort.c", 36, Unclear},
		{"lock", "abort.c", 41, Taken},
		{"proc_file_chain_lock", "iopopen.c", 36, Unclear},
		{"proc_file_chain_lock", "iopopen.c", 41, Taken},
		{"nss_actions_lock", "nss_action.c", 36, Unclear},
		{"__gconv_lock", "", 36, Unclear},
		{"lock", "system.c", 36, Unclear},
	} {
		id := Identity{Family: "glibc", Major: 2, Minor: tc.minor}
		if got := id.Forked(LockNamed(tc.symbol, tc.file)); got != tc.want {
			t.Errorf("%s in %s of 2.%d: %d, want %d", tc.symbol, tc.file, tc.minor, got, tc.want)
		}
		if got := (Identity{Family: "musl", Major: 1, Minor: 2}).Forked(LockNamed(tc.symbol, tc.file)); got != Unclear {
			t.Errorf("musl has %s: %d", tc.symbol, got)
		}
	}
}

func FuzzForkHandlers(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0x18, 0x80, 0, 0, 0, 0, 0, 0}, []byte{0x48, 0x8b, 0x05, 0x10, 0, 0, 0})
	f.Fuzz(func(t *testing.T, mem, code []byte) {
		for _, family := range []string{"glibc", "musl"} {
			list, ok := ForkHandlers(family, procmem.Over(nothing{}, 0x8000, mem), 0x8000, func(uint64) bool { return true })
			if !ok && list != nil || len(list) > maxHandlers {
				t.Errorf("%s: %d handlers, %v", family, len(list), ok)
			}
		}
		HandlerLists("amd64", code, 0x1000)
		HandlerLists("arm64", code, 0x1000)
	})
}
