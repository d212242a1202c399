package procmem

const pageSize = 4096

// Sizes of the blocks that a Cache reads at once. One call costs as much as the
// copying of some ten pages: stacks are walked in order and short, objects lie
// anywhere in arenas of 256 KiB and more.
const (
	stackBlock  = 16 << 10
	objectBlock = 8 << 10
)

// maxCached bounds what a Cache keeps, in bytes.
const maxCached = 24 << 20

// Cache reads blocks and keeps them: for walking stacks and objects, which read
// many small pieces close together. It is not for looking twice at the same
// word.
type Cache struct {
	r     Reader
	block uint64
	// blocks are by their first address; one that could be read in part only is
	// shorter. pages are single pages behind such a gap.
	blocks, pages map[uint64][]byte
	size          int
	// The block that was used last.
	at   uint64
	last []byte
}

// Cached returns a cache for stacks over r, not safe for concurrent use.
func Cached(r Reader) *Cache { return newCache(r, stackBlock) }

// CachedObjects returns a cache over r for objects that lie far apart.
func CachedObjects(r Reader) *Cache { return newCache(r, objectBlock) }

func newCache(r Reader, block uint64) *Cache {
	return &Cache{r: r, block: block, blocks: make(map[uint64][]byte), pages: make(map[uint64][]byte)}
}

// Drop forgets all that was read.
func (c *Cache) Drop() {
	clear(c.blocks)
	clear(c.pages)
	c.size, c.last = 0, nil
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

// bytes returns what is known from at on: one byte or more.
func (c *Cache) bytes(at uint64) ([]byte, error) {
	base := at &^ (c.block - 1)
	b := c.last
	if base != c.at || b == nil {
		var ok bool
		if b, ok = c.blocks[base]; !ok {
			b = c.read(base, int(c.block))
			c.blocks[base] = b
		}
		c.at, c.last = base, b
	}
	if off := at - base; off < uint64(len(b)) {
		return b[off:], nil
	}
	base = at &^ (pageSize - 1)
	b, ok := c.pages[base]
	if !ok {
		b = c.read(base, pageSize)
		c.pages[base] = b
	}
	if len(b) == 0 {
		// Nothing can be read there: the reader knows why.
		var one [1]byte
		if _, err := c.r.ReadAt(one[:], at); err != nil {
			return nil, err
		}
		return nil, ErrUnmapped
	}
	return b[at-base:], nil
}

// read returns the whole pages that can be read from base on, at most n bytes.
func (c *Cache) read(base uint64, n int) []byte {
	if c.size += n; c.size > maxCached {
		c.Drop()
		c.size = n
	}
	b := make([]byte, n)
	got, _ := c.r.ReadAt(b, base)
	return b[: got&^(pageSize-1) : got&^(pageSize-1)]
}
