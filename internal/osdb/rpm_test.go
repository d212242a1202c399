package osdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

// packages that the databases of the test are made of: one with an epoch, and
// one with enough text to need overflow pages in every format.
var specs = []string{
	"Name: glibc\nVersion: 2.17\nRelease: 260.el7\nBuildArch: noarch",
	"Name: openssl-libs\nEpoch: 1\nVersion: 3.0.7\nRelease: 27.el9\nBuildArch: noarch",
	"Name: long\nVersion: 1\nRelease: 1\nBuildArch: noarch",
}

var rpmPackages = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "forkproof-rpm")
	if err != nil {
		return "", err
	}
	for i, s := range specs {
		text := "text"
		if i == 2 {
			text = strings.Repeat("a long description that no page holds\n", 20_000)
		}
		spec := filepath.Join(dir, fmt.Sprint(i, ".spec"))
		if err := os.WriteFile(spec, []byte(s+"\nSummary: x\nLicense: x\n%description\n"+text+"\n%files\n"), 0o644); err != nil {
			return dir, err
		}
		cmd := exec.Command("rpmbuild", "-bb", "--define", "_topdir "+dir, "--define", "_rpmdir "+dir, spec)
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := rpmPackages(); err == nil {
		_ = os.RemoveAll(dir) // a folder of this test
	}
	os.Exit(code)
}

// database lets rpm itself make a database of SQLite, and returns it.
func database(t testing.TB) []byte {
	t.Helper()
	dir, err := rpmPackages()
	if err != nil {
		t.Fatalf("make packages (make setup installs rpm): %v", err)
	}
	root := t.TempDir()
	files, err := filepath.Glob(filepath.Join(dir, "noarch", "*.rpm"))
	if err != nil || len(files) != len(specs) {
		t.Fatalf("packages: %v, %v", files, err)
	}
	cmd := exec.Command("rpm", append([]string{"--root", root, "--dbpath", "/var/lib/rpm", "--define", "_db_backend sqlite",
		"-i", "--justdb", "--nodeps", "--nosignature", "--ignorearch"}, files...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	b, err := os.ReadFile(filepath.Join(root, "var/lib/rpm/rpmdb.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// headers are those of the packages, as rpm wrote them.
func headers(t testing.TB) [][]byte {
	t.Helper()
	b := database(t)
	var all [][]byte
	if err := readSQLite(bytes.NewReader(b), int64(len(b)), func(h []byte) error {
		all = append(all, slices.Clone(h))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// berkeley puts headers into a hash of Berkeley DB with the tool of Berkeley DB:
// rpm itself writes that format no longer.
func berkeley(t testing.TB, all [][]byte) []byte {
	t.Helper()
	var dump strings.Builder
	dump.WriteString("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n 00000000\n 09000000\n")
	for i, h := range all {
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], uint32(i+1))
		fmt.Fprintf(&dump, " %x\n %x\n", key, h)
	}
	dump.WriteString("DATA=END\n")
	file := filepath.Join(t.TempDir(), "Packages")
	cmd := exec.Command("db5.3_load", file)
	cmd.Stdin = strings.NewReader(dump.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v (make setup installs db5.3-util): %v\n%s", cmd, err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// slotted puts headers into a database of NDB by its layout: Debian's rpm is
// built without that back end.
func slotted(all [][]byte) []byte {
	b := make([]byte, 4096)
	u32 := binary.LittleEndian.PutUint32
	copy(b, "RpmP")
	u32(b[8:], 1)  // generation
	u32(b[12:], 1) // pages of slots
	u32(b[16:], uint32(len(all)+1))
	for i := 32; i < len(b); i += 16 {
		copy(b[i:], "Slot")
	}
	for i, h := range all {
		slot, at := b[32+16*i:], len(b)
		blob := make([]byte, (16+len(h)+12+15)/16*16)
		copy(blob, "BlbS")
		u32(blob[4:], uint32(i+1))
		u32(blob[12:], uint32(len(h)))
		copy(blob[16:], h)
		copy(blob[len(blob)-4:], "BlbE")
		u32(slot[4:], uint32(i+1))
		u32(slot[8:], uint32(at/16))
		u32(slot[12:], uint32(len(blob)/16))
		b = append(b, blob...)
	}
	return b
}

func formats(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"var/lib/rpm/rpmdb.sqlite":          database(t),
		"usr/lib/sysimage/rpm/rpmdb.sqlite": database(t),
		"usr/lib/sysimage/rpm/Packages.db":  slotted(headers(t)),
		"var/lib/rpm/Packages":              berkeley(t, headers(t)),
	}
}

// TestRPM reads what rpm and Berkeley DB wrote.
func TestRPM(t *testing.T) {
	want := []Package{
		{RPM, "glibc", "2.17-260.el7", "glibc", "noarch", ""},
		{RPM, "long", "1-1", "long", "noarch", ""},
		{RPM, "openssl-libs", "1:3.0.7-27.el9", "openssl-libs", "noarch", ""},
	}
	for name, b := range formats(t) {
		t.Run(name, func(t *testing.T) {
			got, err := Read(fstest.MapFS{name: {Data: b}})
			slices.SortFunc(got.Packages, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
			check(t, got, err, want, "")
		})
	}
}

// TestRPMDamaged cuts and garbles databases at many places: an error that says
// so or all three packages, never a panic or an endless loop.
func TestRPMDamaged(t *testing.T) {
	for name, b := range formats(t) {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 20, 100, 4095, len(b) / 4, len(b) / 2, len(b) - 4097} {
				got, err := Read(fstest.MapFS{name: {Data: b[:n]}})
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
					t.Errorf("cut to %d of %d bytes: %d packages, error %v", n, len(b), len(got.Packages), err)
				}
			}
			for i := 0; i < len(b); i += len(b)/199 + 1 {
				c := slices.Clone(b)
				for j := i; j < min(i+8, len(c)); j++ {
					c[j] = 0xff
				}
				if _, err := Read(fstest.MapFS{name: {Data: c}}); err != nil && !errors.Is(err, ErrDamaged) {
					t.Errorf("garbled at %d: %v", i, err)
				}
			}
		})
	}
}

func FuzzRPM(f *testing.F) {
	// Small seeds: a fuzzer changes short inputs best.
	page := make([]byte, 1024)
	copy(page, "SQLite format 3\x00\x02\x00\x01\x01\x00\x40\x20\x20")
	page[100] = 13
	f.Add(page)
	ndb := make([]byte, 8192)
	copy(ndb, "RpmP\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00")
	for i := 32; i < 4096; i += 16 {
		copy(ndb[i:], "Slot")
	}
	copy(ndb[36:], "\x01\x00\x00\x00\x00\x01\x00\x00\x01")
	copy(ndb[4096:], "BlbS\x01\x00\x00\x00\x00\x00\x00\x00\x10")
	f.Add(ndb)
	hash := make([]byte, 1536)
	copy(hash[12:], "\x61\x15\x06\x00\x09\x00\x00\x00\x00\x02\x00\x00\x00\x08")
	hash[32] = 2
	hash[512+25], hash[512+20], hash[512+28] = 13, 2, 40
	hash[512+40], hash[512+44], hash[512+48] = 3, 2, 9
	hash[1024+25], hash[1024+22] = 7, 9
	f.Add(hash)
	header := make([]byte, 8+16+8)
	copy(header, "\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x03\xe8\x00\x00\x00\x06")
	copy(header[24:], "glibc")
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, file := range rpmFiles {
			total := 0
			_ = file.read(bytes.NewReader(b), int64(len(b)), func(h []byte) error {
				// Nothing may come out of a file that is not in it.
				if total += len(h); total > 64*len(b)+64 {
					t.Fatalf("%s: %d bytes out of %d", file.name, total, len(b))
				}
				_, _, _ = parseHeader(h)
				return nil
			})
		}
		if p, ok, err := parseHeader(b); err == nil && ok && !word(p.Name) {
			t.Errorf("%+v", p)
		}
	})
}
