package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestLayers flattens layers; each case in every form that an image comes in.
func TestLayers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers [][]entry
		want   map[string]string
	}{
		{"later wins", [][]entry{{{"libc.so", "old"}}, {{"./libc.so", "new"}}}, map[string]string{"libc.so": "new"}},
		{"absolute name", [][]entry{{{"/usr/libc.so", "x"}}}, map[string]string{"usr/libc.so": "x"}},
		{"whiteout", [][]entry{{{"usr/libc.so", "x"}, {"usr/liba.so", "y"}}, {{"usr/.wh.libc.so", ""}}}, map[string]string{"usr/liba.so": "y"}},
		{"whiteout of a folder", [][]entry{{{"usr/lib/libc.so", "x"}}, {{".wh.usr", ""}}}, map[string]string{}},
		{"whiteout says nothing of its own layer", [][]entry{{{"a/libc.so", "old"}}, {{"a/libc.so", "new"}, {"a/.wh.libc.so", ""}}}, map[string]string{"a/libc.so": "new"}},
		{"opaque", [][]entry{{{"a/libc.so", "x"}, {"a/b/libd.so", "x"}}, {{"a/libe.so", "y"}, {"a/.wh..wh..opq", ""}}}, map[string]string{"a/libe.so": "y"}},
		{"aufs metadata", [][]entry{{{"libc.so", "x"}}, {{".wh..wh.plnk", ""}, {".wh..wh.aufs", ""}}}, map[string]string{"libc.so": "x"}},
		{"whited out and back", [][]entry{{{"libc.so", "1"}}, {{".wh.libc.so", ""}}, {{"libc.so", "3"}}}, map[string]string{"libc.so": "3"}},
		{"a file in place of a folder", [][]entry{{{"a/libc.so", "x"}}, {{"a", "text"}}}, map[string]string{}},
		{"a folder in place of a link", [][]entry{{{"usr/libx.so", "x"}, {"lib -> usr", ""}}, {{"lib/", ""}, {"lib/libc.so", "y"}}}, map[string]string{"usr/libx.so": "x", "lib/libc.so": "y"}},
		{"through a link of a lower layer", [][]entry{{{"usr/", ""}, {"lib -> /usr", ""}}, {{"lib/libc.so", "x"}}}, map[string]string{"lib": "-> /usr", "usr/libc.so": "x"}},
		{"whiteout through a link", [][]entry{{{"usr/libc.so", "x"}, {"lib -> usr", ""}}, {{"lib/.wh.libc.so", ""}}}, map[string]string{"lib": "-> usr"}},
		{"a file of no interest in place of one", [][]entry{{{"libc.so -> x", ""}, {"x -> libc.so", ""}}, {{"x", "text"}, {".wh.libc.so", ""}}}, map[string]string{}},
		{"hard link", [][]entry{{{"libc.so.6", "x"}, {"libd.so => libc.so.6", ""}}}, map[string]string{"libc.so.6": "x", "libd.so": "x"}},
		{"hard link to a file of no interest", [][]entry{{{"store/abc", "x"}, {"libd.so => store/abc", ""}}}, map[string]string{"libd.so": "x", "store/abc": "x"}},
		{"hard link to a lower layer", [][]entry{{{"libc.so", "x"}}, {{"liba.so => /libc.so", ""}, {".wh.libc.so", ""}}}, map[string]string{"liba.so": "x"}},
		{"link to a file of no interest", [][]entry{{{"libc.so -> /store/abc", ""}, {"store/abc", "x"}}}, map[string]string{"libc.so": "-> /store/abc", "store/abc": "x"}},
		{"link to nothing", [][]entry{{{"libc.so -> ../../../etc/passwd", ""}}}, map[string]string{"libc.so": "-> ../../../etc/passwd"}},
		{"name only", [][]entry{{{"libfoo.a", "large"}}}, map[string]string{"libfoo.a": "(name)"}},
		{"twice", [][]entry{{{"libc.so", "1"}, {"libc.so", "2"}}}, map[string]string{"libc.so": "2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var plain, packed, mixed [][]byte
			for i, l := range tt.layers {
				b := pack(t, l...)
				plain, packed = append(plain, b), append(packed, gz(t, b))
				mixed = append(mixed, [][]byte{zst(t, b), b}[i%2])
			}
			oci := func(layers [][]byte) layout { l := layout{}; return l.index(t, l.image(t, "amd64", layers...)) }
			for form, p := range map[string]string{
				"docker":     docker(plain...).tar(t),
				"docker gz":  docker(packed...).tar(t),
				"folder":     oci(packed).folder(t),
				"folder zst": oci(mixed).folder(t),
				"oci tar":    oci(packed).tar(t),
				"unpacked":   docker(plain...).folder(t),
			} {
				m := mustOpen(t, request(p))
				if got := files(t, m.Tree); !maps.Equal(got, tt.want) {
					t.Errorf("%s: %v, not %v", form, got, tt.want)
				}
				if twice := tt.name == "twice"; twice != (len(m.Notes) == 1) {
					t.Errorf("%s: notes %q", form, m.Notes)
				}
			}
		})
	}
}

// TestHostile opens images that no honest tool makes: an error of the right sort
// which says what is wrong, and no byte from outside of the image.
func TestHostile(t *testing.T) {
	fine := pack(t, entry{"libc.so", "x"})
	oci := func(layers ...[]byte) layout { l := layout{}; return l.index(t, l.image(t, "amd64", layers...)) }
	layer := func(e ...entry) string { return docker(pack(t, e...)).tar(t) }
	file := func(b []byte) string {
		p := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	read := func(p string) []byte {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	change := func(l layout, f func(layout)) layout { f(l); return l }
	deep := layout{}
	top := deep.image(t, "amd64", fine)
	for range 6 {
		top = deep.json(t, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{top}})
		top.MediaType = "application/vnd.oci.image.index.v1+json"
	}
	var many []entry
	for i := range 300 {
		many = append(many, entry{name: strings.Repeat("l/", i%7) + "lib" + strings.Repeat("x", i) + ".so"})
	}
	bomb := gz(t, pack(t, entry{"zeros", string(make([]byte, 300<<20))}))
	small := func(l Limits) func(*Request) { return func(r *Request) { r.Limits = l } }
	for _, tt := range []struct {
		name string
		path string
		with func(*Request)
		is   error
		says string
	}{
		{"climbing name", layer(entry{"../../etc/libc.so", "x"}), nil, ErrHostile, "leads upwards"},
		{"climbing hard link", layer(entry{"libc.so => ../../../../etc/passwd", ""}), nil, ErrHostile, "leads upwards"},
		{"hard link to a folder", layer(entry{"a/libx.so", ""}, entry{"libc.so => a", ""}), nil, ErrHostile, "leads to a folder"},
		{"whiteout upwards", layer(entry{"a/.wh...", ""}), nil, ErrHostile, "whiteout"},
		{"links in a ring", layer(entry{"a -> b", ""}, entry{"b -> a", ""}, entry{"a/libc.so", "x"}), nil, ErrHostile, "ring"},
		{"deep", layer(entry{strings.Repeat("a/", 600) + "libc.so", "x"}), nil, ErrHostile, "folders deep"},
		{"deep through links", layer(entry{strings.Repeat("a/", 300) + "l -> " + strings.Repeat("a/", 300), ""}, entry{strings.Repeat("a/", 300) + "l/libc.so", "x"}), nil, ErrHostile, "folders deep"},
		{"long name", layer(entry{strings.Repeat("a/", 3000) + "libc.so", "x"}), nil, ErrHostile, "name of"},
		{"too many files", layer(many...), small(Limits{Entries: 100}), ErrHostile, "more than 100 files"},
		{"too much of interest", layer(many...), small(Limits{Nodes: 100}), ErrHostile, "of interest"},
		{"long names", layer(many...), small(Limits{Names: 1000}), ErrHostile, "of interest"},
		{"large libraries", docker(gz(t, pack(t, entry{"libc.so", strings.Repeat("x", 5000)}))).tar(t), small(Limits{Content: 4096}), ErrHostile, "more than 4096 bytes"},
		{"bomb", docker(bomb).tar(t), nil, ErrHostile, "grows more than 200 times"},
		{"much to unpack", docker(gz(t, fine)).tar(t), small(Limits{Unpacked: 100}), ErrHostile, "unpack to more than 100"},
		{"nested indexes", deep.index(t, top).tar(t), nil, ErrHostile, "nested"},
		{"part twice", file(pack(t, entry{"manifest.json", "[]"}, entry{"manifest.json", "[]"})), nil, ErrHostile, "manifest.json twice"},
		{"part in a ring", file(pack(t, entry{"manifest.json -> index.json", ""}, entry{"index.json -> manifest.json", ""})), nil, ErrFormat, "neither index.json"},
		{"config climbs", change(docker(fine), func(l layout) { l["manifest.json"] = []byte(`[{"Config":"../c.json","Layers":[]}]`) }).folder(t), nil, ErrHostile, "leads upwards"},
		{"digest climbs", change(oci(fine), func(l layout) {
			l["index.json"] = []byte(`{"manifests":[{"digest":"sha256:../../../../../../../../../../../../../../../../../../../../../../etc/pass"}]}`)
		}).folder(t), nil, ErrDamaged, "not what it should be"},
		{"layer cut", docker(pack(t, entry{"libc.so", strings.Repeat("x", 2000)})[:1024]).tar(t), nil, ErrDamaged, "layer 0/layer.tar"},
		{"compressed layer cut", docker(gz(t, fine)[:60]).tar(t), nil, ErrDamaged, "layer 0/layer.tar"},
		{"layer garbled", docker([]byte(strings.Repeat("garbage", 500))).tar(t), nil, ErrDamaged, "invalid tar header"},
		{"layer changed", change(oci(gz(t, fine)), func(l layout) {
			for name, b := range l {
				if len(b) > 2 && b[0] == 0x1f {
					l[name] = gz(t, pack(t, entry{"libc.so", "evil"}))
				}
			}
		}).tar(t), nil, ErrDamaged, "sha256"},
		{"layer missing", change(docker(fine), func(l layout) { delete(l, "0/layer.tar") }).tar(t), nil, ErrDamaged, "0/layer.tar is not in it"},
		{"config missing", change(docker(fine), func(l layout) { delete(l, "c.json") }).tar(t), nil, ErrDamaged, "c.json is not in it"},
		{"manifest garbled", change(docker(fine), func(l layout) { l["manifest.json"] = []byte(`{"a":`) }).tar(t), nil, ErrDamaged, "manifest.json"},
		{"manifest of nothing", change(docker(fine), func(l layout) { l["manifest.json"] = []byte(`[]`) }).tar(t), nil, ErrDamaged, "lists no image"},
		{"manifest changed", change(oci(fine), func(l layout) {
			for name, b := range l {
				if strings.Contains(string(b), `"layers"`) {
					l[name] = []byte(strings.Replace(string(b), `"schemaVersion":2`, `"schemaVersion":1`, 1))
				}
			}
		}).folder(t), nil, ErrDamaged, "checksum"},
		{"archive cut", file(read(docker(fine, fine).tar(t))[:1100]), nil, nil, ""},
		{"no image", file(pack(t, entry{"hello.txt", "x"})), nil, ErrFormat, "neither index.json"},
		{"an exported container", file(pack(t, entry{"etc/os-release", "ID=x"})), nil, ErrFormat, "--root"},
		{"no archive", file([]byte(strings.Repeat("hello", 500))), nil, ErrFormat, "no tar archive"},
		{"empty", file(nil), nil, ErrFormat, "is empty"},
		{"compressed whole", file(gz(t, fine)), nil, ErrFormat, "gzip -dk"},
		{"a device", "/dev/zero", nil, ErrFormat, "neither a file nor a folder"},
		{"nothing there", "/nonexistent/image.tar", nil, fs.ErrNotExist, "/nonexistent/image.tar"},
		{"other platform", oci(fine).tar(t), func(r *Request) { r.Platform.Architecture = "arm64" }, ErrChoice, "it is for linux/amd64 and not for linux/arm64; say --platform"},
		{"other name", docker(fine).tar(t), func(r *Request) { r.Tag = "web" }, ErrChoice, "app:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := request(tt.path)
			if tt.with != nil {
				tt.with(&req)
			}
			m, err := Open(context.Background(), req)
			if err == nil {
				t.Fatalf("opened, with %v", files(t, m.Tree))
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the error is %v; it should be %v and say %q", err, tt.is, tt.says)
			}
		})
	}
}

// TestMemory: what is kept of compressed layers stays within the limit, as does
// what is needed to read it; and sizes that add up to less than nothing do not
// get round it.
func TestMemory(t *testing.T) {
	const limit = 8 << 20
	var many []entry
	random := make([]byte, 3<<20)
	for i := range random {
		random[i] = byte(i * i >> 7)
	}
	for i := range 8 {
		many = append(many, entry{fmt.Sprintf("lib%d/libc.so", i), string(random)})
	}
	p := docker(gz(t, pack(t, many...))).tar(t)
	req := request(p)
	req.Limits = Limits{Content: limit}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Open(context.Background(), req)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrHostile) {
		t.Fatalf("%d bytes are kept: %v", len(many)*len(random), err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > limit+4<<20 {
		t.Errorf("%d bytes were allocated where %d may be kept", used, limit)
	}
	f := &flattening{limits: Limits{Content: limit}, content: 1}
	if _, err := f.contentOf(&tar.Header{Size: math.MaxInt64}, nil, nil); !errors.Is(err, ErrHostile) {
		t.Errorf("a size beyond all measure: %v", err)
	}
}

func TestPlatforms(t *testing.T) {
	l := layout{}
	a, b := l.image(t, "amd64", pack(t, entry{"libc.so", "a"})), l.image(t, "arm64", pack(t, entry{"libc.so", "b"}))
	b.Platform.Variant = "v8"
	attest := l.image(t, "amd64", pack(t))
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	inner := l.json(t, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{a, b, attest}})
	inner.MediaType = "application/vnd.oci.image.index.v1+json"
	inner.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/app:1"}
	p := l.index(t, inner).tar(t)
	for arch, want := range map[string]string{"amd64": "a", "arm64": "b"} {
		req := request(p)
		req.Platform.Architecture, req.Tag = arch, "app:1"
		m := mustOpen(t, req)
		if got := files(t, m.Tree)["libc.so"]; got != want || m.Config.Architecture != arch {
			t.Errorf("%s: libc.so is %q of an image for %s", arch, got, m.Config.Architecture)
		}
	}
	// docker save writes the whole index and the blobs of one platform.
	delete(l, "blobs/sha256/"+b.Digest.Hex)
	m := mustOpen(t, request(l.folder(t)))
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "linux/arm64/v8") {
		t.Errorf("notes: %q", m.Notes)
	}
	// Two images for one platform: only a name tells.
	l = layout{}
	a, b = l.image(t, "amd64", pack(t, entry{"libc.so", "a"})), l.image(t, "amd64", pack(t, entry{"libc.so", "b"}))
	a.Annotations = map[string]string{"org.opencontainers.image.ref.name": "app:1"}
	b.Annotations = map[string]string{"org.opencontainers.image.ref.name": "app:2"}
	p = l.index(t, a, b).tar(t)
	if _, err := Open(context.Background(), request(p)); !errors.Is(err, ErrChoice) || !strings.Contains(err.Error(), "app:1, app:2") {
		t.Errorf("two images: %v", err)
	}
	req := request(p)
	req.Tag = "app:2"
	if got := files(t, mustOpen(t, req).Tree)["libc.so"]; got != "b" {
		t.Errorf("app:2 has libc.so %q", got)
	}
}

// TestLayoutOutside: links of a layout folder do not lead out of it.
func TestLayoutOutside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(secret, []byte(`[{"Config":"c.json"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	up := strings.Repeat("../", 20)
	for name, target := range map[string]string{"manifest.json": secret, "index.json": up + secret} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(context.Background(), request(dir)); !errors.Is(err, ErrFormat) {
		t.Errorf("error %v", err)
	}
}

func TestFS(t *testing.T) {
	m := mustOpen(t, request(docker(pack(t, entry{"usr/lib/libc.so", "x"}, entry{"usr/lib/libd.so", "y"}, entry{"usr/libe.so", ""})).tar(t)))
	if err := fstest.TestFS(m.Tree, "usr/lib/libc.so", "usr/lib/libd.so", "usr/libe.so"); err != nil {
		t.Error(err)
	}
	if _, err := m.Open("usr/lib/absent.so"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, request(docker(pack(t, entry{"libc.so", "x"})).tar(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
