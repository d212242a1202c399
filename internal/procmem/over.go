package procmem

// Over returns a Reader that answers from b for the addresses from base on that
// b covers, and from r for all others.
func Over(r Reader, base uint64, b []byte) Reader { return over{r, base, b} }

type over struct {
	r    Reader
	base uint64
	b    []byte
}

// ReadAt implements Reader.
func (o over) ReadAt(p []byte, addr uint64) (int, error) {
	done := 0
	for done < len(p) {
		at := addr + uint64(done)
		if off := at - o.base; off < uint64(len(o.b)) {
			done += copy(p[done:], o.b[off:])
			continue
		}
		n := len(p) - done
		if ahead := o.base - at; len(o.b) > 0 && ahead < uint64(n) {
			n = int(ahead)
		}
		got, err := o.r.ReadAt(p[done:done+n], at)
		done += got
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
