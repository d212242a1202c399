package cfi

import (
	"bufio"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/elffile"
	"os"
)

const libcPath = "/lib/x86_64-linux-gnu/libc.so.6"

// Every row that readelf prints for the C library of this machine must come out
// the same here: where the frame begins and where the return address lies.
func TestAgainstReadelf(t *testing.T) {
	file, err := os.Open(libcPath)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f, err := elffile.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	hdr, size, ok := f.EHFrameHdr()
	if !ok {
		t.Fatal("the C library has no .eh_frame_hdr")
	}
	frames, err := Open(f, hdr, size)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("readelf", "--debug-dump=frames-interp", libcPath)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("readelf (package binutils) is needed: %v", err)
	}
	names := map[string]uint64{"rsp": 7, "rbp": 6, "rbx": 3, "rdi": 5, "rcx": 2, "r10": 10, "r11": 11}
	rows := 0
	inFDE := false
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		if len(w) > 3 && strings.Contains(sc.Text(), " FDE ") {
			inFDE = true
			continue
		}
		if len(w) > 3 && strings.Contains(sc.Text(), " CIE ") {
			inFDE = false
			continue
		}
		if !inFDE || len(w) < 3 {
			continue
		}
		loc, err := strconv.ParseUint(w[0], 16, 64)
		if err != nil || len(w[0]) != 16 {
			continue
		}
		reg, off, plus := strings.Cut(w[1], "+")
		if !plus {
			continue // an expression
		}
		n, err := strconv.ParseInt(off, 10, 64)
		want, known := names[reg]
		if err != nil || !known {
			continue
		}
		fde, err := frames.FDEFor(loc)
		if err != nil {
			continue // readelf prints the end of a function as a row of none
		}
		row, err := fde.RowAt(loc)
		if err != nil {
			t.Fatalf("row at %x: %v", loc, err)
		}
		rows++
		if row.CFA.Kind != InRegister || row.CFA.Reg != want || row.CFA.N != n {
			t.Errorf("at %x: CFA %+v, readelf says %s", loc, row.CFA, w[1])
		}
		if ra := w[len(w)-1]; ra == "c-8" && (row.Rule[16].Kind != Offset || row.Rule[16].N != -8) {
			t.Errorf("at %x: return address %+v, readelf says %s", loc, row.Rule[16], ra)
		}
		if t.Failed() && rows > 100 {
			break
		}
	}
	_ = cmd.Wait()
	if rows < 5000 {
		t.Errorf("only %d rows were compared", rows)
	}
	t.Log(fmt.Sprint(rows, " rows compared"))
}

type flat []byte

func (b flat) ReadVAddr(p []byte, at uint64) (int, error) {
	if at >= uint64(len(b)) {
		return 0, ErrDamaged
	}
	n := copy(p, b[at:])
	if n < len(p) {
		return n, ErrDamaged
	}
	return n, nil
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0}, uint64(0))
	f.Fuzz(func(_ *testing.T, b []byte, pc uint64) {
		fr, err := Open(flat(b), 0, uint64(len(b)))
		if err != nil {
			return
		}
		if d, err := fr.FDEFor(pc); err == nil {
			_, _ = d.RowAt(pc)
		}
	})
}

func FuzzEval(f *testing.F) {
	f.Add([]byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22})
	f.Fuzz(func(_ *testing.T, expr []byte) {
		_, _ = Eval(expr, []uint64{1}, func(uint64) (uint64, bool) { return 1, true }, func(uint64) (uint64, error) { return 1, nil })
	})
}
