package procmem

const pageSize = 4096

// Sizes of the blocks that a Cache reads at once. One call costs as much as the
// copying of some ten pages: stacks are walked in order and short, objects lie
// anywhere in arenas of 256 KiB and more.
const (
	stackBlock  = 16 << 10
	objectBlock = 4 << 10
)

// maxCached bounds what a Cache keeps, in bytes. Little is better than much: to
// use a page of our own for the first time takes longer than to read one of the
// target again, and what a walk needs again it mostly needs soon.
const maxCached = 1 << 20

// maxPages bounds the single pages that a Cache keeps besides.
const maxPages = 64

// Cache reads blocks and keeps them for a while: for walking stacks and objects,
// which read many small pieces close together. It is not for looking twice at
// the same word, nor does it promise that two looks are one.
type Cache struct {
	r    Reader
	size int // of a block
	// blocks are by their first address. ring has them as they were read; hand is
	// the next to be given up, unless it was used again.
	blocks map[uint64]*block
	ring   []*block
	hand   int
	last   *block // the one that was used last
	// pages are single pages behind a gap in a block.
	pages map[uint64][]byte
}

// block is a piece of memory, shorter where it could be read in part only.
type block struct {
	at   uint64
	data []byte
	used bool
}

// Cached returns a cache for stacks over r, not safe for concurrent use.
func Cached(r Reader) *Cache { return newCache(r, stackBlock) }

// CachedObjects returns a cache over r for objects that lie far apart.
func CachedObjects(r Reader) *Cache { return newCache(r, objectBlock) }

func newCache(r Reader, size int) *Cache {
	return &Cache{r: r, size: size, blocks: make(map[uint64]*block), pages: make(map[uint64][]byte)}
}

// Drop forgets all that was read.
func (c *Cache) Drop() {
	clear(c.blocks)
	clear(c.pages)
	c.ring, c.hand, c.last = nil, 0, nil
}

// ReadAt implements Reader.
func (c *Cache) ReadAt(p []byte, addr uint64) (int, error) {
	done := 0
	for done < len(p) {
		at := addr + uint64(done)
		from, err := c.bytes(at)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], from)
	}
	return done, nil
}

// bytes returns what is known from at on: one byte or more, good until the next
// call.
func (c *Cache) bytes(at uint64) ([]byte, error) {
	base := at &^ uint64(c.size-1)
	b := c.last
	if b == nil || b.at != base {
		if b = c.blocks[base]; b == nil {
			b = c.take(base)
			b.data = c.read(b.data[:c.size], base)
		}
		b.used, c.last = true, b
	}
	if off := at - base; off < uint64(len(b.data)) {
		return b.data[off:], nil
	}
	base = at &^ (pageSize - 1)
	page, ok := c.pages[base]
	if !ok {
		if len(c.pages) >= maxPages {
			clear(c.pages)
		}
		page = c.read(make([]byte, pageSize), base)
		c.pages[base] = page
	}
	if len(page) == 0 {
		// Nothing can be read there: the reader knows why.
		var one [1]byte
		if _, err := c.r.ReadAt(one[:], at); err != nil {
			return nil, err
		}
		return nil, ErrUnmapped
	}
	return page[at-base:], nil
}

// take returns a block for base: a new one, or the next in the ring that was not
// used since the hand came by.
func (c *Cache) take(base uint64) *block {
	var b *block
	if len(c.ring) < maxCached/c.size {
		b = &block{data: make([]byte, c.size)}
		c.ring = append(c.ring, b)
	} else {
		for b = c.ring[c.hand]; b.used; b = c.ring[c.hand] {
			b.used = false
			c.hand = (c.hand + 1) % len(c.ring)
		}
		c.hand = (c.hand + 1) % len(c.ring)
		delete(c.blocks, b.at)
	}
	b.at = base
	c.blocks[base] = b
	return b
}

// read fills b from base on, and returns the whole pages of it that could be read.
func (c *Cache) read(b []byte, base uint64) []byte {
	got, _ := c.r.ReadAt(b, base)
	return b[:got&^(pageSize-1)]
}
