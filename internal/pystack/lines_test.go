package pystack

import "testing"

func FuzzLines(f *testing.F) {
	f.Add([]byte{0x80, 0x00, 0xf0, 0x02, 0x01, 0x02}, 10, 4)
	f.Fuzz(func(_ *testing.T, table []byte, first, lasti int) {
		for _, k := range []lineTable{lnotab, pep626, location} {
			_ = lineAt(k, table, first, lasti)
		}
	})
}

func TestLnotab(t *testing.T) {
	// Two lines: 6 bytes of line 5, then 4 bytes of line 8, then back to 7.
	table := []byte{6, 3, 4, 0xff}
	for lasti, want := range map[int]int{0: 5, 5: 5, 6: 8, 9: 8, 10: 7, 50: 7} {
		if got := lnotabLine(table, 5, lasti); got != want {
			t.Errorf("lasti %d: line %d, want %d", lasti, got, want)
		}
	}
}
