package orphan_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the process that is searched: one with as
// much memory as a test wants, filled as it wants.
func TestMain(m *testing.M) {
	if what := os.Getenv("ORPHAN_TEST_TARGET"); what != "" {
		size, _ := strconv.Atoi(os.Getenv("ORPHAN_TEST_MIB"))
		hold(what, size<<20)
		return
	}
	os.Exit(m.Run())
}

// hold maps memory, fills it and waits for the end of its input.
func hold(what string, size int) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fill(what, mem)
	fmt.Printf("ready %d\n", len(mem))
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// fill writes what memory of programs is made of, or one kind of it alone.
func fill(what string, mem []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	u := binary.LittleEndian
	kinds := []string{"pointers", "zeros", "random", "text", "ints", "doubles"}
	for at := 0; at+4096 <= len(mem); at += 4096 {
		page := mem[at : at+4096]
		kind := what
		if what == "mixed" {
			kind = kinds[rng.IntN(len(kinds))]
		}
		for i := 0; i < 4096; i += 8 {
			switch w := page[i:]; kind {
			case "pointers": // objects of an interpreter: counts, pointers, flags
				switch i / 8 % 4 {
				case 0:
					u.PutUint64(w, uint64(rng.IntN(50)))
				case 3:
					u.PutUint64(w, 0)
				default:
					u.PutUint64(w, 0x7f0000000000+uint64(rng.Uint32())&^7)
				}
			case "zeros":
				page[0] = 1
			case "random":
				u.PutUint64(w, rng.Uint64())
			case "text":
				copy(w, "abc def ")
			case "ints": // two small numbers in each word: the worst for the search
				u.PutUint64(w, uint64(rng.IntN(1000))|uint64(rng.IntN(1000))<<32)
			case "doubles":
				u.PutUint64(w, 0x3ff0000000000000|rng.Uint64()>>12)
			}
		}
		if kind == "untouched" {
			return
		}
	}
}

// start runs the test binary as a target of so many MiB.
func start(t testing.TB, what string, mib int) int {
	t.Helper()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "ORPHAN_TEST_TARGET="+what, "ORPHAN_TEST_MIB="+strconv.Itoa(mib))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != fmt.Sprintf("ready %d\n", mib<<20) {
		t.Fatalf("the target said %q: %v", line, err)
	}
	return cmd.Process.Pid
}
