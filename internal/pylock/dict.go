package pylock

// The tables of dict and of instance attributes: Objects/dictobject.c,
// Include/internal/pycore_dict.h and pycore_object.h.

// keysTable is a _dictkeysobject.
type keysTable struct {
	entries uint64 // address of the first entry
	n       int    // entries in use, deleted ones among them
	size    int    // bytes per entry: 24 with the hash, 16 without
}

func (h *Heap) keysAt(addr uint64) (keysTable, bool) {
	head := h.buf[:40]
	if !aligned(addr) || !h.read(head, addr) {
		return keysTable{}, false
	}
	n := u64(head, h.lay.dkEntries)
	var index, slots uint64
	t := keysTable{size: 24}
	if h.lay.keysLog2 {
		if head[8] > maxTableLog2 || head[9] > maxTableLog2+3 {
			return keysTable{}, false
		}
		slots, index = 1<<head[8], 1<<head[9]
		if head[10] != 0 {
			t.size = 16
		}
	} else {
		slots = u64(head, 8)
		switch {
		case slots > 1<<maxTableLog2:
			return keysTable{}, false
		case slots <= 0xff:
			index = slots
		case slots <= 0xffff:
			index = 2 * slots
		case slots <= 0xffffffff:
			index = 4 * slots
		default:
			index = 8 * slots
		}
	}
	if n > slots {
		return keysTable{}, false
	}
	t.entries = addr + uint64(h.lay.dkIndices) + index
	t.n = int(min(n, maxEntries))
	return t, true
}

// table reads the entries of t as pairs of key and value, values instead of
// those in the table where values is not 0. fn returns false to stop.
func (h *Heap) table(t keysTable, values uint64, fn func(key, value uint64) bool) {
	if t.n == 0 {
		return
	}
	raw := make([]byte, t.n*t.size)
	if !h.read(raw, t.entries) {
		return
	}
	var vals []byte
	if values != 0 {
		// SHARED_KEYS_MAX_SIZE is 30; until 3.10 it was not bounded.
		vals = make([]byte, 8*t.n)
		if !h.read(vals, values) {
			return
		}
	}
	for i := range t.n {
		e := raw[i*t.size:]
		key, value := u64(e, t.size-16), u64(e, t.size-8)
		if vals != nil {
			value = u64(vals, 8*i)
		}
		if key != 0 && value != 0 && !fn(key, value) {
			return
		}
	}
}

// dict walks the items of the dict at addr.
func (h *Heap) dict(addr uint64, fn func(key, value uint64) bool) {
	var head [48]byte
	if !aligned(addr) || !h.read(head[:], addr) {
		return
	}
	if u64(head[:], dictUsed) == 0 {
		return
	}
	t, ok := h.keysAt(u64(head[:], dictKeys))
	if !ok {
		return
	}
	values := u64(head[:], dictValues)
	if values != 0 {
		values += uint64(h.lay.valuesSkip)
	}
	h.table(t, values, fn)
}

// attributes walks the attributes of an instance.
func (h *Heap) attributes(addr uint64, ti *typeInfo, fn func(key, value uint64) bool) {
	if h.lay.managed == managedNone || ti.flags&flagManaged == 0 {
		if ti.dictOffset > 0 && uint64(ti.dictOffset) <= ti.basicSize {
			if d, ok := h.word(addr + uint64(ti.dictOffset)); ok {
				h.dict(d, fn)
			}
		}
		return
	}
	d, ok := h.word(addr - 24)
	if !ok {
		return
	}
	var values uint64
	switch h.lay.managed {
	case managedTwo:
		if d == 0 {
			values, _ = h.word(addr - 32)
		}
	case managedTagged:
		if d&1 != 0 {
			values, d = d+1, 0
		}
	case managedInline:
		if d == 0 && ti.flags&flagInline != 0 {
			head, ok := h.word(addr + ti.basicSize)
			if valid := head >> 24 & 0xff; ok && valid != 0 {
				values = addr + ti.basicSize + uint64(h.lay.valuesSkip)
			}
		}
	}
	if d != 0 {
		h.dict(d, fn)
		return
	}
	if values == 0 {
		return
	}
	if t, ok := h.keysAt(ti.keys); ok {
		t.n = min(t.n, maxShared)
		h.table(t, values, fn)
	}
}

// maxShared is SHARED_KEYS_MAX_SIZE, the most attributes that are kept in values.
const maxShared = 30

// lookup finds the value of a str key in a dict.
func (h *Heap) lookup(dict uint64, name string) (uint64, bool) {
	var found uint64
	h.dict(dict, func(key, value uint64) bool {
		if s, ok := h.str(key); ok && s == name {
			found = value
		}
		return found == 0
	})
	return found, found != 0
}

// attribute finds an attribute of an instance.
func (h *Heap) attribute(addr uint64, name string) (uint64, bool) {
	ti := h.objectType(addr)
	if ti == nil {
		return 0, false
	}
	var found uint64
	h.attributes(addr, ti, func(key, value uint64) bool {
		if s, ok := h.str(key); ok && s == name {
			found = value
		}
		return found == 0
	})
	return found, found != 0
}

// items walks the elements of a list or tuple.
func (h *Heap) items(addr uint64, c class, fn func(i int, value uint64) bool) {
	n, ok := h.word(addr + obSize)
	if !ok || n == 0 || n > 1<<40 {
		return
	}
	at := addr + uint64(h.lay.tupleItems)
	if c == classList {
		if at, ok = h.word(addr + listItems); !ok {
			return
		}
	}
	raw := make([]byte, 8*min(n, maxEntries))
	if !h.read(raw, at) {
		return
	}
	for i := range len(raw) / 8 {
		if v := u64(raw, 8*i); v != 0 && !fn(i, v) {
			return
		}
	}
}
