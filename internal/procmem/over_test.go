package procmem

import (
	"bytes"
	"testing"
)

// low has the bytes at addresses below its length.
type low []byte

func (l low) ReadAt(p []byte, addr uint64) (int, error) {
	if addr >= uint64(len(l)) {
		return 0, ErrUnmapped
	}
	n := copy(p, l[addr:])
	if n < len(p) {
		return n, ErrUnmapped
	}
	return n, nil
}

func TestOver(t *testing.T) {
	under := low("abcdefghij")
	for _, tc := range []struct {
		base       uint64
		b          string
		addr, size uint64
		want       string
		fails      bool
	}{
		{3, "XYZ", 0, 10, "abcXYZghij", false},
		{3, "XYZ", 4, 2, "YZ", false},
		{3, "XYZ", 6, 2, "gh", false},
		{3, "", 0, 10, "abcdefghij", false},
		{0, "XYZ", 0, 4, "XYZd", false},
		{8, "XYZ", 5, 6, "fghXYZ", false},
		{8, "XYZ", 5, 7, "fghXYZ", true},
		{20, "XYZ", 20, 3, "XYZ", false},
		{20, "XYZ", 8, 15, "ij", true},
	} {
		p := make([]byte, tc.size)
		n, err := Over(under, tc.base, []byte(tc.b)).ReadAt(p, tc.addr)
		if !bytes.Equal(p[:n], []byte(tc.want)) || (err != nil) != tc.fails {
			t.Errorf("%d bytes at %d over %q at %d: %q, %v; want %q", tc.size, tc.addr, tc.b, tc.base, p[:n], err, tc.want)
		}
	}
}
