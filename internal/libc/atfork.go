package libc

import (
	"encoding/binary"

	"forkproof/internal/disasm"
	"forkproof/internal/procmem"
)

// Handler is one registration by pthread_atfork: addresses of functions, 0 for
// none, and of a word in the library that registered them (glibc).
type Handler struct {
	Prepare, Parent, Child uint64
	DSO                    uint64
}

// maxHandlers bounds a list that is read.
const maxHandlers = 4096

// Registrar is the function that adds to the list of fork handlers, by family:
// its code names the list, which has no symbol in a stripped library.
func Registrar(family string) string {
	switch family {
	case "glibc":
		return "__register_atfork"
	case "musl":
		return "pthread_atfork"
	}
	return ""
}

// HandlerLists returns where the list of fork handlers may be: the addresses of
// data that the registrar's code, which lies at pc, refers to.
func HandlerLists(arch string, code []byte, pc uint64) []uint64 {
	if arch == "arm64" {
		return refersArm64(code, pc)
	}
	return refersAMD64(code, pc)
}

func refersAMD64(code []byte, pc uint64) (out []uint64) {
	for off := 0; off < len(code); {
		in := disasm.Decode(disasm.AMD64, code[off:], pc+uint64(off))
		off += in.Len
		if in.Ref != 0 {
			out = append(out, in.Ref)
		}
	}
	return out
}

// refersArm64 follows adrp and what adds to it, or loads and stores behind it.
func refersArm64(code []byte, pc uint64) (out []uint64) {
	page := make(map[uint32]uint64)
	for off := 0; off+4 <= len(code); off += 4 {
		in := binary.LittleEndian.Uint32(code[off:])
		base, imm := in>>5&31, uint64(in>>10&0xfff)
		p, known := page[base]
		switch {
		case in&0x9f000000 == 0x90000000: // adrp
			d := int64(int32(in<<8)>>13<<2|int32(in>>29&3)) << 12
			page[in&31] = (pc+uint64(off))&^0xfff + uint64(d)
		case known && in&0xffc00000 == 0x91000000: // add x, base, #imm
			out = append(out, p+imm)
		case known && in&0x3b000000 == 0x39000000: // ldr, str with an unsigned offset
			out = append(out, p+imm<<(in>>30))
		}
	}
	return out
}

// ForkHandlers reads the list of fork handlers at addr, in the order in which
// they were registered; ok is false where there is none. Code says whether an
// address is one of code.
func ForkHandlers(family string, mem procmem.Reader, addr uint64, code func(uint64) bool) (list []Handler, ok bool) {
	switch family {
	case "glibc":
		return dynarray(mem, addr, code)
	case "musl":
		return chain(mem, addr, code)
	}
	return nil, false
}

// inline is how many handlers glibc's list has room for before it is allocated
// (DYNARRAY_INITIAL_SIZE in nptl/register-atfork.c, posix/register-atfork.c).
const inline = 48

// dynarray reads glibc's list since 2.28 (malloc/dynarray-skeleton.c): used,
// allocated, array, then room for the first. A handler has four words, and since
// 2.36 (and in branches before) a number.
func dynarray(mem procmem.Reader, addr uint64, code func(uint64) bool) ([]Handler, bool) {
	var head [24]byte
	if _, err := mem.ReadAt(head[:], addr); err != nil {
		return nil, false
	}
	used, room, at := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:]), binary.LittleEndian.Uint64(head[16:])
	own := at == addr+24
	switch {
	case used > room || room > maxHandlers || room < inline || own && room != inline || at == 0 || at%8 != 0:
		return nil, false
	case used == 0:
		return nil, own
	}
	for _, words := range []int{5, 4} {
		b, err := procmem.Bytes(mem, at, int(used)*words*8, maxHandlers*40)
		if err != nil {
			continue
		}
		if list, ok := handlers(b, words, code); ok {
			return list, true
		}
	}
	return nil, false
}

// handlers decodes entries of so many words each.
func handlers(b []byte, words int, code func(uint64) bool) (list []Handler, ok bool) {
	last := uint64(0)
	for i := 0; i < len(b); i += words * 8 {
		w := func(k int) uint64 { return binary.LittleEndian.Uint64(b[i+8*k:]) }
		h := Handler{w(0), w(1), w(2), w(3)}
		// An entry may have no function at all: some libraries register what a
		// variable holds, which may be NULL.
		if h.Prepare|h.Parent|h.Child|h.DSO == 0 {
			return nil, false
		}
		for _, f := range []uint64{h.Prepare, h.Parent, h.Child} {
			if f != 0 && !code(f) {
				return nil, false
			}
		}
		if words == 5 {
			if id := w(4); i > 0 && id <= last || id > 1<<32 {
				return nil, false
			}
			last = w(4)
		}
		list = append(list, h)
	}
	return list, true
}

// chain reads musl's list (src/thread/pthread_atfork.c): the newest first, each
// with its three functions and pointers to the one before and behind.
func chain(mem procmem.Reader, addr uint64, code func(uint64) bool) ([]Handler, bool) {
	at, err := procmem.Uint64(mem, addr)
	if err != nil || at == 0 || at%8 != 0 {
		return nil, false
	}
	var list []Handler
	for before := uint64(0); at != 0; {
		b, err := procmem.Bytes(mem, at, 40, 40)
		if err != nil || len(list) == maxHandlers {
			return nil, false
		}
		w := func(k int) uint64 { return binary.LittleEndian.Uint64(b[8*k:]) }
		if w(3) != before {
			return nil, false
		}
		for k := range 3 {
			if w(k) != 0 && !code(w(k)) {
				return nil, false
			}
		}
		if w(0)|w(1)|w(2)|w(3)|w(4) == 0 {
			return nil, false
		}
		list = append(list, Handler{Prepare: w(0), Parent: w(1), Child: w(2)})
		before, at = at, w(4)
	}
	for i, k := 0, len(list)-1; i < k; i, k = i+1, k-1 {
		list[i], list[k] = list[k], list[i]
	}
	return list, true
}
