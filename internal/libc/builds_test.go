package libc_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/libc"
	"forkproof/internal/testbed"
)

// TestKnownLocks looks up the locks of the libraries that the tests meet: all of
// them are known, by names that people understand, and lie in variables.
func TestKnownLocks(t *testing.T) {
	want := map[string][]string{
		"libc.so.6": {"time zone lock (tzset_lock)", "syslog lock (syslog_lock)", "environment lock (envlock)", "random lock (lock in random.c)",
			"locale lock (__libc_setlocale_lock)", "resolver configuration lock (lock in resolv_conf.c)", "lock of network interfaces (lock in check_pf.c)",
			"password database lock (lock in getpwuid.c)", "lock of exit handlers (__exit_funcs_lock)", "main malloc arena (main_arena)", "lock of stdout (_IO_stdfile_1_lock)",
			"popen lock (proc_file_chain_lock)", "character conversion lock (__gconv_lock)", "lock of fork handlers (atfork_lock)", "list of all streams (list_all_lock)"},
		"ld-linux-x86-64.so.2": {"lock of the dynamic loader (_dl_load_lock)", "list of loaded libraries (_dl_load_write_lock)"},
	}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for base, locks := range want {
			r, err := os.Open(filepath.Join(root.Dir, "lib/x86_64-linux-gnu", base))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			f, err := elffile.Open(r)
			if err != nil {
				t.Fatal(err)
			}
			found := make(map[string]bool)
			for _, s := range f.Segments {
				if s.Type != elf.PT_LOAD || s.Flags&elf.PF_W == 0 {
					continue
				}
				for a := s.VAddr; a < s.VAddr+s.MemSize; a += 4 {
					if k, ok := libc.KnownLock(f.BuildID(), a); ok {
						found[k.String()] = true
					}
				}
			}
			for _, l := range locks {
				if !found[l] {
					t.Errorf("%s does not have %q; it has %d locks", base, l, len(found))
				}
			}
			for l := range found {
				if strings.HasPrefix(l, "own lock") {
					t.Errorf("%s: nobody wrote down what %q is", base, l)
				}
			}
		}
	})
	if k, ok := libc.KnownLock("no such build", 4); ok {
		t.Errorf("an unknown build has %v", k)
	}
}
