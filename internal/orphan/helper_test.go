package orphan_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
)

// TestMain lets the test binary be the process that is searched: one with as
// much memory as a test wants, filled as it wants.
func TestMain(m *testing.M) {
	if what := os.Getenv("ORPHAN_TEST_TARGET"); what != "" {
		size, _ := strconv.Atoi(os.Getenv("ORPHAN_TEST_MIB"))
		hold(what, size<<20)
		return
	}
	if pid, err := strconv.Atoi(os.Getenv("ORPHAN_TEST_SEARCH")); err == nil {
		searcher(pid)
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
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && what != "mixed" {
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
		switch {
		case what == "sparse" && at%(4<<20) != 0, what == "every second" && at/4096%2 != 0:
			continue
		case what == "sparse" || what == "every second":
			kind = "pointers"
		}
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

// peak is the largest amount of memory that this process ever had, in bytes.
func peak() (n uint64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}

// searcher is the test binary as a process that does nothing but search.
func searcher(pid int) {
	target, err := orphan.Gather(system, pid, nil, libc.Identity{Family: "glibc"})
	if err == nil {
		target.Vanished = []orphan.Thread{{Inner: 1 << 20}}
		before := peak()
		var res orphan.Result
		if res, err = orphan.Scan(context.Background(), target); err == nil {
			fmt.Printf("read %d before %d after %d lookalikes %d\n", res.Coverage.Bytes, before, peak(), res.Lookalikes)
			return
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestMemory searches large targets and looks at how much memory that took.
func TestMemory(t *testing.T) {
	const most = 64 << 20
	for _, tt := range []struct {
		what      string
		mib       int
		read, max uint64 // in MiB
	}{
		{"mixed", 512, 512, 544},
		{"ints", 128, 128, 160},         // as many candidates as can be
		{"sparse", 8192, 0, 32},         // 8 GiB of which nearly nothing was touched
		{"every second", 256, 128, 160}, // as many ranges as can be
	} {
		t.Run(tt.what, func(t *testing.T) {
			pid := start(t, tt.what, tt.mib)
			self, err := filepath.Abs(os.Args[0])
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), "ORPHAN_TEST_SEARCH="+strconv.Itoa(pid))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var read, before, after, lookalikes uint64
			if _, err := fmt.Sscanf(string(out), "read %d before %d after %d lookalikes %d", &read, &before, &after, &lookalikes); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("read %d MiB with a peak of %d MiB, %d before; %d lookalikes", read>>20, after>>20, before>>20, lookalikes)
			if read < tt.read<<20 || read > tt.max<<20 {
				t.Errorf("read %d MiB, want %d to %d", read>>20, tt.read, tt.max)
			}
			if after > most {
				t.Errorf("a peak of %d MiB is more than %d", after>>20, most>>20)
			}
		})
	}
}
