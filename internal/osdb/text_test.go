package osdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"forkproof/internal/testbed"
)

func TestDpkg(t *testing.T) {
	const whole = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u14\nDescription: x\n a continued line\n Version: 9\n\n"
	for _, tt := range []struct {
		name, file string
		want       []Package
		damage     string
	}{
		{"empty", "", nil, ""},
		{"one", whole, []Package{{Deb, "libc6", "2.36-9+deb12u14", "glibc", "amd64", ""}}, ""},
		{"source is the name", "Package: a\nStatus: hold ok installed\nVersion: 1\n\n", []Package{{Deb, "a", "1", "a", "", ""}}, ""},
		{"half-configured", "Package: libc6\nStatus: install reinstreq half-configured\nVersion: 2\n\n", []Package{{Deb, "libc6", "2", "libc6", "", "half-configured"}}, ""},
		{"removed", "Package: a\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: b\nStatus: purge ok not-installed\n\n", nil, ""},
		{"cut in a line", whole + "Package: b\nSta", []Package{{Deb, "libc6", "2.36-9+deb12u14", "glibc", "amd64", ""}}, "cut short"},
		{"cut between lines", whole + "Package: b\nStatus: install ok installed\n", []Package{{Deb, "libc6", "2.36-9+deb12u14", "glibc", "amd64", ""}}, "without a name, state or version: 1"},
		{"zeros", strings.Repeat("\x00", 4096), nil, "bytes of zero"},
		{"no package at all", "hello\nworld\n", nil, "without a name, state or version: 1"},
		{"unknown state", "Package: a\nStatus: install ok fine\nVersion: 1\n\n", nil, "without a name"},
		{"hostile version", "Package: a\nStatus: install ok installed\nVersion: 1\x1b[2J\n\n", nil, "without a name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Read(fstest.MapFS{dpkgStatus: {Data: []byte(tt.file)}})
			check(t, got, err, tt.want, tt.damage)
		})
	}
}

// check compares packages, and the error with a part of it that is expected.
func check(t *testing.T, got *DB, err error, want []Package, damage string) {
	t.Helper()
	if !slices.Equal(got.Packages, want) {
		t.Errorf("packages are %+v, not %+v", got.Packages, want)
	}
	switch {
	case damage == "" && err != nil:
		t.Errorf("error: %v", err)
	case damage != "" && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), damage)):
		t.Errorf("error is %v, and should say %q", err, damage)
	}
}

func TestStatusD(t *testing.T) {
	got, err := Read(fstest.MapFS{
		dpkgDir + "/libc6":         {Data: []byte("Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nSource: glibc\n")},
		dpkgDir + "/libc6.md5sums": {Data: []byte("0123  usr/lib/libc.so.6\n")},
		dpkgDir + "/base":          {Data: []byte("Package: base-files\nVersion: 12.4\n\n")},
		dpkgDir + "/cut":           {Data: []byte("Package: x\nVersi")},
	})
	want := []Package{{Deb, "base-files", "12.4", "base-files", "", ""}, {Deb, "libc6", "2.36-9", "glibc", "amd64", ""}}
	check(t, got, err, want, dpkgDir+"/cut")
}

func TestAPK(t *testing.T) {
	const whole = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nT:the musl c library (libc) implementation\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\n\n"
	musl := Package{APK, "musl", "1.2.5-r0", "musl", "x86_64", ""}
	for _, tt := range []struct {
		name, file string
		want       []Package
		damage     string
	}{
		{"one", whole, []Package{musl}, ""},
		{"cut", whole + "P:zlib\nV:1", []Package{musl, {APK, "zlib", "1", "zlib", "", ""}}, "cut short"},
		{"no version", whole + "P:zlib\n\n", []Package{musl}, "without a name or version: 1"},
		{"empty", "", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range apkFiles {
				got, err := Read(fstest.MapFS{name: {Data: []byte(tt.file)}})
				check(t, got, err, tt.want, tt.damage)
			}
		})
	}
}

func TestRelease(t *testing.T) {
	got, err := ReadRelease(fstest.MapFS{"usr/lib/os-release": {Data: []byte(`# a comment
PRETTY_NAME="Rocky \"Linux\" 9"
ID='Rocky'
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
VERSION_CODENAME=
junk
`)}})
	if err != nil || got.Pretty != `Rocky "Linux" 9` || got.ID != "rocky" || got.Version != "9.4" || !slices.Equal(got.Like, []string{"rhel", "centos", "fedora"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ReadRelease(fstest.MapFS{}); err != nil || got.ID != "" {
		t.Errorf("none: %+v, %v", got, err)
	}
}

// TestDpkgQuery compares with what dpkg itself says of the root folders.
func TestDpkgQuery(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		out, err := exec.Command("dpkg-query", "--admindir="+root.Dir+"/var/lib/dpkg", "-W", "-f", "${Package} ${Version} ${source:Package} ${Architecture} ${db:Status-Status}\n").Output()
		if err != nil {
			t.Fatal(err)
		}
		d, err := Read(os.DirFS(root.Dir))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range d.Packages {
			state := p.State
			if state == "" {
				state = "installed"
			}
			got = append(got, strings.Join([]string{p.Name, p.Version, p.Source, p.Arch, state}, " "))
		}
		want := strings.Split(strings.TrimSpace(string(out)), "\n")
		want = slices.DeleteFunc(want, func(s string) bool { return strings.HasSuffix(s, " config-files") })
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || len(got) < 50 {
			t.Errorf("%d packages here, %d by dpkg-query; the first differ so: %v, %v", len(got), len(want), got[:min(2, len(got))], want[:min(2, len(want))])
		}
		r, err := ReadRelease(os.DirFS(root.Dir))
		if err != nil || r.ID != "debian" || r.Codename != root.Name && r.Version != "" {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add("Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\n")
	f.Add("P:musl\nV:1.2.5-r0\n\n")
	f.Add("ID=\"debian\"\nVERSION_ID='12\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, listed := range []bool{true, false} {
			packages, _ := parseDpkg("status", s, listed)
			for _, p := range packages {
				if !word(p.Name) || !word(p.Version) {
					t.Errorf("dpkg: %+v", p)
				}
			}
		}
		packages, _ := parseAPK("installed", s)
		for _, p := range packages {
			if !word(p.Name) || !word(p.Version) {
				t.Errorf("apk: %+v", p)
			}
		}
		parseRelease(s)
	})
}

// TestStatusDBound: many files of status.d, each with one package, are read up to
// the bound of a database and do not stay in memory whole.
func TestStatusDBound(t *testing.T) {
	long := "Description: " + strings.Repeat("x", 1<<20) + "\n"
	fsys := fstest.MapFS{}
	for i := range 200 {
		fsys[fmt.Sprintf("var/lib/dpkg/status.d/p%03d", i)] = &fstest.MapFile{Data: []byte(fmt.Sprintf("Package: p%d\nVersion: 1\n", i) + long)}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	d, err := Read(fsys)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "status.d") || len(d.Packages) < 100 || len(d.Packages) > 130 {
		t.Errorf("%d packages, %v", len(d.Packages), err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d bytes are kept for %d packages", grown, len(d.Packages))
	}
	runtime.KeepAlive(d)
	runtime.KeepAlive(fsys)
}
