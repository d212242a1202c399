package cpython_test

import (
	"bufio"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/cpython"
)

// TestLineTables decodes every line table of the modules that an interpreter
// loads, at every instruction, and compares with the interpreter.
func TestLineTables(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "lines.py", "/srv/lines.py")
		in := bufio.NewReader(v.report)
		codes, instructions, wrong := 0, 0, 0
		for {
			s, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("victim ended early: %v", err)
			}
			f := strings.Fields(s)
			if f[0] == "end" {
				break
			}
			table, err := hex.DecodeString(strings.Trim(f[0], "-"))
			if err != nil {
				t.Fatal(err)
			}
			first, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			codes++
			for i, w := range strings.Split(f[2], ",") {
				want, err := strconv.Atoi(w)
				if err != nil {
					t.Fatal(err)
				}
				got, ok := cpython.LineAt(p.minor, table, first, 2*i)
				if !ok {
					got = -1
				}
				if instructions++; got != want {
					if wrong++; wrong < 10 {
						t.Errorf("table %.300s from line %d: instruction %d is in line %d, want %d", f[0], first, i, got, want)
					}
				}
			}
		}
		t.Logf("%d code objects, %d instructions, %d wrong", codes, instructions, wrong)
		switch {
		case codes == 0 && p.minor < 10:
			t.Skip("this Python has no ctypes, and no other way to ask for the line of each instruction")
		case codes < 100:
			t.Errorf("only %d code objects", codes)
		}
	})
}

func TestDamagedLineTables(t *testing.T) {
	for _, tt := range []struct {
		name  string
		minor int
		table string
		addr  int
		line  int
		ok    bool
	}{
		{"not begun", 11, "", -2, 7, true},
		{"empty lnotab", 9, "", 10, 7, true},
		{"empty pairs", 10, "", 0, 0, false},
		{"empty location", 11, "", 0, 0, false},
		{"half a pair", 9, "04", 10, 7, true},
		{"range without line", 10, "0480", 2, 7, false},
		{"after a range without line", 10, "04800402", 6, 9, true},
		{"lnotab back", 9, "04ff", 6, 6, true},
		{"does not begin at an entry", 12, "00", 0, 0, false},
		{"long entry cut off", 12, "f0", 0, 0, false},
		{"line step that never ends", 12, "f0" + strings.Repeat("7f", 40), 0, 0, false},
		{"line step of 33 bits", 12, "f0404040404008", 0, 0, false},
		{"line step of 600", 12, "f0701200", 0, 607, true},
		{"none", 12, "f8", 0, 7, false},
		{"one line 2", 12, "e00000", 0, 9, true},
		{"behind the end", 12, "e00000", 2, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.table)
			if err != nil {
				t.Fatal(err)
			}
			line, ok := cpython.LineAt(tt.minor, b, 7, tt.addr)
			if line != tt.line || ok != tt.ok {
				t.Errorf("got %d %v, want %d %v", line, ok, tt.line, tt.ok)
			}
		})
	}
}

func FuzzLineTables(f *testing.F) {
	f.Add(uint8(8), []byte{6, 1, 255, 127, 0, 255}, 1, 300)
	f.Add(uint8(10), []byte{2, 1, 4, 128, 6, 255}, 1, 8)
	f.Add(uint8(12), []byte{0x80, 0, 0xd9, 0x14, 0x83, 0xf2, 6, 7, 0xf8}, 1, 20)
	f.Fuzz(func(t *testing.T, minor uint8, table []byte, first, addr int) {
		m := 8 + int(minor%7)
		line, ok := cpython.LineAt(m, table, first, addr)
		again, same := cpython.LineAt(m, table, first, addr)
		if line != again || ok != same {
			t.Fatal("not the same twice")
		}
	})
}
