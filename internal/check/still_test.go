package check

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/testbed"
)

// TestRoots checks the root folders without running anything in them.
func TestRoots(t *testing.T) {
	versions := map[string]string{"bullseye": "2.31", "bookworm": "2.36", "trixie": "2.41", "forky": "2.43"}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		doc := run(t, Request{Root: root.Dir})
		l := doc.Targets[0].Libc
		if want := installedPackage(t, root, "libc6"); l == nil || l.Version != versions[root.Name] || l.Package != want {
			t.Errorf("the C library is %+v, its package %s", l, want)
		}
		for id, in := range map[string]bool{"BZ-24595": root.Name == "bullseye", "glibc-joinstate": root.Name == "forky", "glibc-popen-list": root.Name == "bullseye" || root.Name == "bookworm", "BZ-19431": false} {
			if f := fact(doc, id); (f != nil) != in {
				t.Errorf("%s: %+v", id, f)
			}
		}
		// What is only installed is information.
		seen := false
		for _, f := range doc.Findings {
			if f.Rule == finding.LibraryHazard {
				seen = true
				if f.Severity != finding.Info || f.Confidence != finding.Inferred {
					t.Errorf("%s is %s, %s", f.Title, f.Severity, f.Confidence)
				}
			}
		}
		// A hook mends nothing of a C library, and that is not said as if all were well.
		a := doc.Targets[0].Answers[3]
		if hazards := doc.Targets[0].Verdict == "hazards"; a.Short != "nothing" || hazards != strings.Contains(a.Says[0], "no hook mends what the C library lacks") {
			t.Errorf("%s, and %+v", doc.Targets[0].Verdict, a)
		}
		if !seen || fact(doc, "libgomp") == nil || fact(doc, "libgomp").Confidence != finding.Inferred {
			t.Errorf("libgomp is not found")
		}
	})
}

// plant makes a root folder of files; a name with " -> " is a link.
func plant(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name, target, link := strings.Cut(name, " -> ")
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if link {
			err = errors.Join(err, os.Symlink(target, p))
		} else {
			err = errors.Join(err, os.WriteFile(p, []byte(text), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func libcOf(t testing.TB, release string) string {
	return read(t, testbed.Open(t, release).Dir+"/lib/x86_64-linux-gnu/libc.so.6")
}

// TestOtherSystems checks roots put together by hand: Alpine, Red Hat's layout,
// distroless, and what is wrong with roots.
func TestOtherSystems(t *testing.T) {
	glibc := libcOf(t, "bookworm")
	musl := read(t, "/lib/ld-musl-x86_64.so.1")
	const debian = "ID=debian\nVERSION_ID=\"12\"\n"
	status := func(state string) string {
		return "Package: libc6\nStatus: install ok " + state + "\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9+deb12u14\n\n"
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		// family, version and pkg are of the C library.
		family, version, pkg string
		note                 string
	}{
		{"alpine", map[string]string{
			"etc/os-release": "ID=alpine\nVERSION_ID=3.17.3\n", "lib/ld-musl-x86_64.so.1": musl, "lib/libc.musl-x86_64.so.1 -> ld-musl-x86_64.so.1": "",
			"lib/apk/db/installed": "P:musl\nV:1.2.3-r4\nA:x86_64\no:musl\n\nP:libgomp\nV:12.2.1-r4\n\n",
		}, "musl", "1.2.3", "1.2.3-r4", ""},
		{"red hat's folders", map[string]string{
			"etc/os-release": "ID=\"rhel\"\nVERSION_ID=\"9.4\"\n", "usr/lib64/libc.so.6": glibc, "lib64 -> usr/lib64": "", "lib -> usr/lib": "", "usr/lib/x": "",
		}, "glibc", "2.36", "2.36-9+deb12u14", ""},
		{"distroless", map[string]string{
			"etc/os-release -> ../usr/lib/os-release": "", "usr/lib/os-release": debian, "lib/x86_64-linux-gnu/libc.so.6": glibc,
			"var/lib/dpkg/status.d/libc6": "Package: libc6\nVersion: 2.36-9+deb12u14\nArchitecture: amd64\nSource: glibc\n",
		}, "glibc", "2.36", "2.36-9+deb12u14", ""},
		{"half-configured", map[string]string{"etc/os-release": debian, "lib/x86_64-linux-gnu/libc.so.6": glibc, "var/lib/dpkg/status": status("half-configured")},
			"glibc", "2.36", "2.36-9+deb12u14", "is half-configured"},
		{"database cut short", map[string]string{"etc/os-release": debian, "lib/x86_64-linux-gnu/libc.so.6": glibc, "var/lib/dpkg/status": status("installed") + "Package: x\nSta"},
			"glibc", "2.36", "2.36-9+deb12u14", "damaged package database"},
		{"two, and a program tells", map[string]string{
			"etc/os-release": debian, "usr/lib/x86_64-linux-gnu/libc.so.6": glibc, "lib -> usr/lib": "", "lib64 -> usr/lib64": "", "usr/lib/ld-musl-x86_64.so.1": musl,
			"usr/lib64/ld-linux-x86-64.so.2 -> ../lib/x86_64-linux-gnu/ld": "", "usr/lib/x86_64-linux-gnu/ld": "x", "bin/sh": read(t, "/bin/sh"),
		}, "glibc", "2.36", "2.36-9+deb12u14", "other C libraries here, which were not judged: musl 1.2.3"},
		{"32 bits beside it", map[string]string{"etc/os-release": debian, "lib/x86_64-linux-gnu/libc.so.6": glibc, "lib/i386-linux-gnu/libc.so.6": "\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 100)},
			"glibc", "2.36", "2.36-9+deb12u14", "for 32-bit programs"},
		{"a library garbled", map[string]string{"etc/os-release": debian, "lib64/libc.so.6": "garbage", "lib/x86_64-linux-gnu/libc.so.6": glibc}, "glibc", "2.36", "2.36-9+deb12u14", "lib64/libc.so.6 could not be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := run(t, Request{Root: plant(t, tt.files)})
			l := doc.Targets[0].Libc
			if l == nil || l.Family != tt.family || l.Version != tt.version || l.Package != tt.pkg {
				t.Errorf("the C library is %+v", l)
			}
			notes := strings.Join(doc.Targets[0].Notes, "\n")
			if !strings.Contains(notes, tt.note) || tt.note == "" && notes != "" && tt.name != "red hat's folders" {
				t.Errorf("the notes should say %q: %s", tt.note, notes)
			}
			if tt.name == "alpine" && fact(doc, "libgomp") == nil {
				t.Error("libgomp of Alpine is not found")
			}
		})
	}
}

// TestRPMRoot takes the version of the package from a database that rpm wrote.
func TestRPMRoot(t *testing.T) {
	// A library of 2.34, for all that is read of it.
	glibc := strings.ReplaceAll(libcOf(t, "bookworm"), "GLIBC 2.36-9+deb12u14) stable release version 2.36", "GLIBC 2.34-9+deb12u14) stable release version 2.34")
	dir := plant(t, map[string]string{"etc/os-release": "ID=\"rhel\"\nVERSION_ID=\"9.4\"\n", "lib64 -> usr/lib64": "", "usr/lib64/libc.so.6": glibc})
	work := plant(t, map[string]string{"glibc.spec": "Name: glibc\nVersion: 2.34\nRelease: 100.el9\nBuildArch: noarch\nSummary: x\nLicense: x\n%description\nx\n%files\n"})
	for _, args := range [][]string{
		{"rpmbuild", "-bb", "--define", "_topdir " + work, "--define", "_rpmdir " + work, filepath.Join(work, "glibc.spec")},
		{"rpm", "--root", dir, "--dbpath", "/var/lib/rpm", "--define", "_db_backend sqlite", "-i", "--justdb", "--nodeps", "--nosignature", "--ignorearch", filepath.Join(work, "noarch/glibc-2.34-100.el9.noarch.rpm")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q (make setup installs rpm): %v\n%s", args, err, out)
		}
	}
	doc := run(t, Request{Root: dir})
	if l := doc.Targets[0].Libc; l == nil || l.Version != "2.34" || l.Package != "2.34-100.el9" {
		t.Errorf("the C library is %+v, notes %q", l, doc.Targets[0].Notes)
	}
	if f := fact(doc, "BZ-24595"); f != nil {
		t.Errorf("a backported fix does not count: %+v", f)
	}
}

// otherMachine is a library for the processor that this one is not.
func otherMachine(elf string) string {
	b := []byte(elf)
	const machine = 18 // e_machine of an ELF header, of two bytes
	if runtime.GOARCH == "arm64" {
		b[machine], b[machine+1] = 62, 0
	} else {
		b[machine], b[machine+1] = 183, 0
	}
	return string(b)
}

// TestUnreadable: what may not be read is said to be so, and not to be absent.
func TestUnreadable(t *testing.T) {
	for name, locked := range map[string]string{"a folder": "lib/x86_64-linux-gnu", "the library": "lib/x86_64-linux-gnu/libc.so.6", "the root": ""} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, map[string]string{"etc/os-release": "ID=debian\n", "lib/x86_64-linux-gnu/libc.so.6": libcOf(t, "bookworm")})
			for d := dir; d != filepath.Clean(os.TempDir()); d = filepath.Dir(d) {
				if st, err := os.Stat(d); err != nil || os.Chmod(d, st.Mode()|0o055) != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(dir, locked), 0); err != nil {
				t.Fatal(err)
			}
			err := asNobody(t, func() error { _, err := Run(context.Background(), Request{Root: dir}); return err })
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// asNobody runs f in a thread without root's rights over files.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Setfsuid(65534); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func TestBadRoots(t *testing.T) {
	glibc, older := libcOf(t, "bookworm"), libcOf(t, "bullseye")
	for _, tt := range []struct {
		name string
		req  Request
		is   error
		says string
	}{
		{"not there", Request{Root: "/nonexistent"}, fs.ErrNotExist, "/nonexistent"},
		{"a file", Request{Root: "/etc/passwd"}, nil, "not a directory"},
		{"empty", Request{Root: t.TempDir()}, ErrNothing, "does not look like a root"},
		{"two C libraries", Request{Root: plant(t, map[string]string{"lib/x86_64-linux-gnu/libc.so.6": glibc, "lib64/libc.so.6": older})}, ErrNothing, "nothing tells which"},
		{"two processors", Request{Root: plant(t, map[string]string{"lib/x86_64-linux-gnu/libc.so.6": glibc, "lib/aarch64-linux-gnu/libc.so.6": otherMachine(glibc)})}, ErrNothing, "/lib/aarch64-linux-gnu/libc.so.6, for "},
		{"no program", Request{Exe: "/etc/passwd"}, nil, "not an ELF file"},
		{"program not in the root", Request{Root: plant(t, map[string]string{"lib/x": ""}), Exe: "/bin/sh"}, fs.ErrNotExist, "/bin/sh"},
		{"a folder as a program", Request{Exe: "/usr"}, nil, "folder"},
		{"a 32-bit program", Request{Root: plant(t, map[string]string{"x": "\x7fELF\x01\x01\x01" + strings.Repeat("\x00", 100)}), Exe: "x"}, nil, "32-bit"},
		{"two requests", Request{Root: "/", PIDs: []int{1}}, ErrUsage, "say one of"},
		{"platform without an image", Request{Platform: "linux/arm64"}, ErrUsage, "--image"},
		{"platform", Request{Image: "x.tar", Platform: "a/b/c/d"}, ErrUsage, "linux/arm64"},
		{"image not there", Request{Image: "/nonexistent.tar"}, fs.ErrNotExist, "/nonexistent.tar"},
		{"configuration not there", Request{Config: "/nonexistent.py"}, fs.ErrNotExist, "/nonexistent.py"},
		{"configuration is a folder", Request{Config: "/etc"}, ErrNothing, "no regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Run(context.Background(), tt.req)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the error is %v and should say %q; document %+v", err, tt.says, doc)
			}
		})
	}
}

// TestOutside: nothing of the machine is taken for the root's own, whatever links
// there are. What lies outside would show: a package of version 6.6.6, an
// os-release of a distribution that there is not, a C library of another version, a
// package of Python, a configuration.
func TestOutside(t *testing.T) {
	outside := plant(t, map[string]string{
		"status": "Package: libc6\nStatus: install ok installed\nVersion: 6.6.6\n\n", "os-release": "ID=debian\nVERSION_ID=outside\n",
		"lib/libc.so.6": libcOf(t, "bullseye"), "lib/libgomp.so.1": "x", "packages/grpcio-1.78.1.dist-info/METADATA": "x", "libc6": "Package: libc6\nVersion: 6.6.6\n",
	})
	up := strings.Repeat("../", 30)
	for name, to := range map[string]string{"absolute": outside, "relative": up + outside[1:], "proc": "/proc/self/root" + outside, "relative proc": up + "proc/self/root" + outside, "cwd": "/proc/self/cwd/" + up + outside[1:]} {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, map[string]string{
				"etc/os-release -> " + to + "/os-release": "", "usr/lib/os-release -> " + to + "/os-release": "",
				"var/lib/dpkg/status -> " + to + "/status": "", "var/lib/dpkg/status.d/libc6 -> " + to + "/libc6": "",
				"lib/x86_64-linux-gnu -> " + to + "/lib": "", "lib64/libc.so.6 -> " + to + "/lib/libc.so.6": "", "usr/local/lib/libgomp.so.1 -> " + to + "/lib/libgomp.so.1": "",
				"usr/lib/python3/dist-packages -> " + to + "/packages": "", "lib/apk -> ../lib/apk": "", "bin/sh -> " + to + "/lib/libc.so.6": "",
				"usr/lib64/libc.so.6": libcOf(t, "bookworm"),
			})
			for _, req := range []Request{{Root: dir}, {Root: dir, Exe: "/usr/lib64/libc.so.6"}} {
				doc := run(t, req)
				text, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				if l := doc.Targets[0].Libc; l == nil || l.Version != "2.36" {
					t.Errorf("the C library is %+v", l)
				}
				for _, never := range []string{"6.6.6", "debian outside", `"version":"2.31"`, "grpc", "libgomp", "BZ-24595"} {
					if bytes.Contains(text, []byte(never)) {
						t.Errorf("%q comes from outside: %s", never, text)
					}
				}
			}
			if doc, err := Run(context.Background(), Request{Root: dir, Exe: "/bin/sh"}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a program outside of the root was read: %+v, %v", doc, err)
			}
		})
	}
}

// saved writes an image as docker save does, of layers of files.
func saved(t testing.TB, config string, layers ...map[string]string) string {
	t.Helper()
	pack := func(files map[string]string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, text := range files {
			name, target, link := strings.Cut(name, " -> ")
			h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}
			if link {
				h.Typeflag, h.Linkname = tar.TypeSymlink, target
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	image := map[string]string{"c.json": config}
	var names []string
	for i, l := range layers {
		name := fmt.Sprintf("l%d/layer.tar", i)
		image[name] = string(pack(l))
		names = append(names, `"`+name+`"`)
	}
	image["manifest.json"] = `[{"Config":"c.json","RepoTags":["app:1"],"Layers":[` + strings.Join(names, ",") + `]}]`
	p := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(p, pack(image), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestImages: a layer above upgrades the C library, and one takes a library away.
func TestImages(t *testing.T) {
	status := func(v string) string {
		return "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: " + v + "\n\n"
	}
	const config = `{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/usr/bin/gunicorn","--preload"],"WorkingDir":"/app","Env":["PATH=/usr/bin"]}}`
	base := map[string]string{
		"usr/lib/os-release": "ID=debian\nVERSION_ID=\"11\"\n", "etc/os-release -> ../usr/lib/os-release": "",
		"lib/x86_64-linux-gnu/libc.so.6": libcOf(t, "bullseye"), "var/lib/dpkg/status": status("2.31-13+deb11u11"),
		"usr/lib/x86_64-linux-gnu/libgomp.so.1": "x", "usr/lib/python3/dist-packages/grpcio-1.60.0.dist-info/METADATA": "x",
		"usr/bin/gunicorn": "#!/usr/bin/python3\n", "app/gunicorn.conf.py": "timeout = 0\n",
	}
	doc := run(t, Request{Image: saved(t, config, base)})
	target := doc.Targets[0]
	if target.Libc == nil || target.Libc.Version != "2.31" || target.Libc.Package != "2.31-13+deb11u11" || fact(doc, "BZ-24595") == nil {
		t.Errorf("the C library is %+v", target.Libc)
	}
	if fact(doc, "libgomp") == nil || fact(doc, "grpc") == nil {
		t.Errorf("libgomp %v, grpc %v", fact(doc, "libgomp"), fact(doc, "grpc"))
	}
	if target.Name != "image app:1 (linux/amd64)" || !strings.Contains(strings.Join(target.Answers[1].Says, "\n"), "loaded before the fork here") {
		t.Errorf("%s: %+v", target.Name, target.Answers[1])
	}
	if !strings.Contains(fmt.Sprint(doc.Findings), "never killed") {
		t.Error("the image's gunicorn.conf.py was not read")
	}
	upgrade := map[string]string{
		"usr/lib/os-release": "ID=debian\nVERSION_ID=\"12\"\n", "lib/x86_64-linux-gnu/libc.so.6": libcOf(t, "bookworm"), "var/lib/dpkg/status": status("2.36-9+deb12u14"),
		"usr/lib/x86_64-linux-gnu/.wh.libgomp.so.1": "", "app/.wh.gunicorn.conf.py": "",
	}
	doc = run(t, Request{Image: saved(t, config, base, upgrade)})
	if l := doc.Targets[0].Libc; l == nil || l.Version != "2.36" || l.Package != "2.36-9+deb12u14" || fact(doc, "BZ-24595") != nil || fact(doc, "libgomp") != nil {
		t.Errorf("after the upgrade: %+v, libgomp %v", l, fact(doc, "libgomp"))
	}
	if strings.Contains(fmt.Sprint(doc.Findings), "never killed") {
		t.Error("a file that was taken away was read")
	}
	// Put together for another processor.
	other := strings.Replace(config, "amd64", "arm64", 1)
	doc = run(t, Request{Image: saved(t, other, base), Platform: "linux/arm64"})
	if !strings.Contains(strings.Join(doc.Targets[0].Notes, "\n"), "put together wrongly") {
		t.Errorf("notes: %q", doc.Targets[0].Notes)
	}
}

// TestStaticImage has nothing but a program, as images from scratch do.
func TestStaticImage(t *testing.T) {
	const config = `{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/app"]}}`
	exe := read(t, testbed.BuildHost(t, "healthy.c", "-static"))
	doc := run(t, Request{Image: saved(t, config, map[string]string{"app": exe})})
	if l := doc.Targets[0].Libc; l == nil || l.Family != "glibc" {
		t.Errorf("the C library is %+v", l)
	}
}

// TestOutdated: an upgrade under a running process changes nothing of what it has
// loaded.
func TestOutdated(t *testing.T) {
	s := &subject{sys: &system{}}
	s.sys.release.ID = "debian"
	b := &build{Identity: libc.Identity{Family: "glibc", Version: "2.36", Package: "2.36-9+deb12u13"}, Package: facts.Package{Version: "2.36-9+deb12u14"}}
	s.outdated(b, true)
	if b.Package.Version != "2.36-9+deb12u13" || len(s.notes) != 1 {
		t.Errorf("%s, %q", b.Package.Version, s.notes)
	}
	s.sys.release.ID = "rhel"
	b.Package.Version = "2.34-60.el9"
	if s.outdated(b, true); b.Package.Version != "" || len(s.notes) != 2 {
		t.Errorf("%s, %q", b.Package.Version, s.notes)
	}
}
