package pystack

import (
	"encoding/binary"
	"fmt"
	"slices"

	"forkproof/internal/procmem"
)

// maxObjects bounds how many objects one search for a name looks at.
const maxObjects = 200_000

// maxEntries bounds one dictionary.
const maxEntries = 1 << 16

// LockName finds the Python object that a futex word belongs to among the
// globals of the loaded modules, and what they are called there: for Python 3.8
// to 3.13 a lock points to a semaphore on the heap, whose first word is the
// futex (Python/thread_pthread.h). Modules of the application come before those
// that are built in.
func (r *Runtime) LockName(futex uint64) (name, typ string, err error) {
	in, err := r.interp()
	if err != nil {
		return "", "", err
	}
	mods, err := r.ptr(in + r.l.modules)
	if err != nil {
		return "", "", err
	}
	budget := maxObjects
	err = r.dict(mods, &budget, func(key string, value uint64) bool {
		// md_dict follows the object header of a module.
		globals, e := r.ptr(value + 16)
		if e != nil {
			return true
		}
		_ = r.dict(globals, &budget, func(global string, obj uint64) bool {
			t, ok := r.lockAt(obj, futex)
			if ok {
				name, typ = key+"."+global, t
			}
			return !ok
		})
		return name == ""
	})
	if name == "" && err == nil {
		err = fmt.Errorf("no module has a global lock with the futex word 0x%x", futex)
	}
	return name, typ, err
}

var lockTypes = []string{"_thread.lock", "_thread.RLock"}

// lockAt reports whether obj is a lock whose futex word is at futex.
func (r *Runtime) lockAt(obj, futex uint64) (string, bool) {
	var b [24]byte
	if obj&7 != 0 {
		return "", false
	}
	if _, err := r.mem.ReadAt(b[:], obj); err != nil || binary.LittleEndian.Uint64(b[16:]) != futex {
		return "", false
	}
	// tp_name follows the variable-size header of a type.
	tp, err := r.ptr(binary.LittleEndian.Uint64(b[8:]) + 24)
	if err != nil {
		return "", false
	}
	s := make([]byte, 16)
	n, _ := r.mem.ReadAt(s, tp)
	for _, t := range lockTypes {
		if n > len(t) && string(s[:len(t)]) == t && s[len(t)] == 0 {
			return t, true
		}
	}
	return "", false
}

// dict calls fn for each entry of a dictionary whose key is a string, until fn
// returns false.
func (r *Runtime) dict(addr uint64, budget *int, fn func(key string, value uint64) bool) error {
	d, err := procmem.Bytes(r.mem, addr, 48, 48)
	if err != nil {
		return err
	}
	keys := binary.LittleEndian.Uint64(d[32:])
	if binary.LittleEndian.Uint64(d[40:]) != 0 {
		return fmt.Errorf("dictionary at 0x%x has split keys: %w", addr, ErrTorn)
	}
	k, err := procmem.Bytes(r.mem, keys, 40, 40)
	if err != nil {
		return err
	}
	var entries, start, size uint64
	unicode := false
	if r.l.dictLog2 {
		// dk_log2_size, dk_log2_index_bytes, dk_kind: 3.11 and later.
		if k[8] > 24 || k[9] > 30 {
			return fmt.Errorf("dictionary at 0x%x: %w", addr, ErrTorn)
		}
		entries, start = binary.LittleEndian.Uint64(k[24:]), keys+32+1<<k[9]
		unicode = k[10] != 0
	} else {
		n := binary.LittleEndian.Uint64(k[8:])
		entries = binary.LittleEndian.Uint64(k[32:])
		width := uint64(1)
		switch {
		case n > 0xffffffff:
			return fmt.Errorf("dictionary at 0x%x: %w", addr, ErrTorn)
		case n > 0xffff:
			width = 4
		case n > 0xff:
			width = 2
		}
		start = keys + 40 + n*width
	}
	size = 24
	if unicode {
		size = 16
	}
	if entries > maxEntries {
		return fmt.Errorf("dictionary at 0x%x with %d entries: %w", addr, entries, ErrTorn)
	}
	b, err := procmem.Bytes(r.mem, start, int(entries*size), maxEntries*24)
	if err != nil {
		return err
	}
	for e := range slices.Chunk(b, int(size)) {
		if *budget--; *budget < 0 {
			return fmt.Errorf("more than %d objects", maxObjects)
		}
		key, value := binary.LittleEndian.Uint64(e[size-16:]), binary.LittleEndian.Uint64(e[size-8:])
		if key == 0 || value == 0 {
			continue
		}
		s, err := r.String(key)
		if err != nil {
			continue
		}
		if !fn(s, value) {
			return nil
		}
	}
	return nil
}
