package symbol

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/elffile"
)

func TestDemangle(t *testing.T) {
	for _, c := range []struct{ name, full, short string }{
		{"pthread_mutex_lock", "pthread_mutex_lock", "pthread_mutex_lock"},
		{"", "", ""},
		{"_Z", "_Z", "_Z"},
		{"_Rubbish", "_Rubbish", "_Rubbish"},
		{"_ZN4absl5Mutex4LockEv", "absl::Mutex::Lock()", "absl::Mutex::Lock"},
		{"_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector::push_back"},
		{"_ZN3foo3barEv.cold", "foo::bar() [clone .cold]", "foo::bar"},
		{"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt", "core::fmt::Write::write_fmt"},
		{"_RNvCs1234_7mycrate3foo", "mycrate::foo", "mycrate::foo"},
	} {
		if got := Demangle(c.name); got != c.full {
			t.Errorf("Demangle(%q) = %q, want %q", c.name, got, c.full)
		}
		if got := Short(c.name); got != c.short && !strings.HasPrefix(got, c.short+" [clone") {
			t.Errorf("Short(%q) = %q, want %q", c.name, got, c.short)
		}
	}
	long := "_Z" + strings.Repeat("1a", maxMangled)
	if got := Demangle(long); got != long {
		t.Error("a name beyond the limit was changed")
	}
}

// TestDemangleAgainstFilt compares with c++filt on the names of libstdc++.
func TestDemangleAgainstFilt(t *testing.T) {
	paths, _ := filepath.Glob("/usr/lib/*-linux-gnu/libstdc++.so.6")
	if len(paths) == 0 {
		t.Fatal("libstdc++ is needed for its names: install gcc's C++ library")
	}
	var names []string
	for _, s := range oracle(t, paths[0]) {
		if mangled(s.Name) && len(names) < 500 && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	if len(names) < 100 {
		t.Fatalf("only %d mangled names", len(names))
	}
	cmd := exec.Command("c++filt", "-i") // -i: std::string rather than all it stands for
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("c++filt of binutils: %v", err)
	}
	differ := 0
	for i, want := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		if got := Demangle(names[i]); got != want {
			differ++
			t.Logf("%s: %q, c++filt says %q", names[i], got, want)
		}
	}
	// The two differ in small matters of style, such as "unsigned long" casts.
	if differ > len(names)/50 {
		t.Errorf("%d of %d names differ", differ, len(names))
	}
}

func TestChoiceOfNames(t *testing.T) {
	fn := func(name string) Sym { return Sym{Name: name, Kind: Func} }
	local := func(name string) Sym { return Sym{Name: name, Kind: Func, Local: true} }
	for _, c := range []struct{ better, worse Sym }{
		{fn("pthread_mutex_lock"), fn("__pthread_mutex_lock")},
		{fn("__pthread_mutex_lock"), fn("___pthread_mutex_lock")},
		{fn("open"), fn("open64")},
		{fn("aaa"), fn("aab")},
		{fn("__exported"), local("private")},
		{fn("anything_long"), Sym{Name: "lbl"}},
		{fn("_ZN1a1bEv"), fn("__other")},
	} {
		if !c.better.betterThan(c.worse) || c.worse.betterThan(c.better) {
			t.Errorf("%q must be chosen before %q", c.better.Name, c.worse.Name)
		}
		if c.better.betterThan(c.better) {
			t.Errorf("%q is better than itself", c.better.Name)
		}
	}
}

func TestSortByValue(t *testing.T) {
	for _, values := range [][]uint64{
		nil, {1}, {2, 1}, {5, 5, 5}, {1 << 63, 0, 1<<63 | 1, 1}, {0x1000, 0xfff, 0x7ff, 0x800, 0x100000, 0x1000},
		{^uint64(0), 0, ^uint64(0), 1 << 44, 1 << 33, 1 << 22, 1 << 11},
	} {
		var a, want []entry
		for i, v := range values {
			a = append(a, entry{v, v, uint32(i)})
		}
		want = slices.Clone(a)
		slices.SortStableFunc(want, func(x, y entry) int {
			switch {
			case x.value < y.value:
				return -1
			case x.value > y.value:
				return 1
			}
			return 0
		})
		if got := sortByValue(a); !slices.Equal(got, want) {
			t.Errorf("%#x sorted to %v, want %v", values, got, want)
		}
	}
}

func FuzzDemangle(f *testing.F) {
	for _, s := range []string{"_ZN4absl5Mutex4LockEv", "_RNvCs1234_7mycrate3foo", "_ZSt4cout", "_Z1fIiEvT_", "_GLOBAL__sub_I_main", "_ZN1aIS_IS_IS_EEE", "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		full, short := Demangle(name), Short(name)
		if limit := max(len(name), 4<<maxDemangled); len(full) > limit || len(short) > limit {
			t.Errorf("%d bytes became %d and %d", len(name), len(full), len(short))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	l := build(f)
	addMini(f, l, false)
	seed, err := os.ReadFile(filepath.Join(l.dir, "mini.xz"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := unpack(bytes.NewReader(data)); err == nil {
			ask(plain)
		}
	})
}

// FuzzTable changes one place of a library with all kinds of symbols.
func FuzzTable(f *testing.F) {
	l := build(f)
	plain, err := os.ReadFile(l.full)
	if err != nil {
		f.Fatal(err)
	}
	addMini(f, l, false)
	mini, err := os.ReadFile(l.full)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(false, uint16(0x20), uint64(0xffffffffffffffff))
	f.Add(false, uint16(0x28), uint64(0x1000))
	f.Add(true, uint16(0x3000), uint64(0xffff))
	f.Fuzz(func(t *testing.T, small bool, at uint16, value uint64) {
		data := bytes.Clone(plain)
		if small {
			data = bytes.Clone(mini)
		}
		for i := range 8 {
			data[(int(at)+i)%len(data)] = byte(value >> (8 * i))
		}
		ask(data)
	})
}

// ask puts all questions to the symbols of a file of any bytes.
func ask(data []byte) {
	file, err := elffile.Open(bytes.NewReader(data))
	if err != nil {
		return
	}
	tab := New(file, Options{NoDebugFiles: true})
	for _, name := range []string{"hidden", "api", "versioned", "lock", "no_such_name"} {
		_, _ = tab.ByName(name)
		for _, s := range tab.AllByName(name) {
			_, _ = tab.Lookup(s.Value)
		}
	}
	for addr := uint64(0); addr < 0x5000; addr += 0x40 {
		_, _ = tab.Lookup(addr)
	}
	_, _ = tab.Lookup(^uint64(0))
	_ = tab.Err()
}
