package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// entry is one entry of a layer: a file with text, a folder (name ends with a
// slash), a symbolic link ("name -> target") or a hard link ("name => target").
type entry struct{ name, text string }

// pack makes the archive of a layer.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.text)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if n, target, ok := strings.Cut(e.name, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = n, target, tar.TypeSymlink
		} else if n, target, ok := strings.Cut(e.name, " => "); ok {
			h.Name, h.Linkname, h.Typeflag = n, target, tar.TypeLink
		} else if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// layout is an OCI layout in the making: files by path.
type layout map[string][]byte

func (l layout) blob(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	h := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
	l["blobs/sha256/"+h.Hex] = b
	return h
}

func (l layout) json(t testing.TB, v any) v1.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{Digest: l.blob(b), Size: int64(len(b))}
}

// image adds an image and returns its descriptor.
func (l layout) image(t testing.TB, arch string, layers ...[]byte) v1.Descriptor {
	t.Helper()
	config := l.json(t, v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{Entrypoint: []string{"gunicorn"}, Env: []string{"PATH=/usr/bin"}}})
	m := v1.Manifest{SchemaVersion: 2, Config: config}
	for _, b := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{Digest: l.blob(b), Size: int64(len(b))})
	}
	d := l.json(t, m)
	d.MediaType = "application/vnd.oci.image.manifest.v1+json"
	d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
	return d
}

// index writes the index of the layout.
func (l layout) index(t testing.TB, images ...v1.Descriptor) layout {
	t.Helper()
	b, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: images})
	if err != nil {
		t.Fatal(err)
	}
	l["index.json"] = b
	l["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	return l
}

// docker makes what `docker save` wrote before it wrote layouts.
func docker(layers ...[]byte) layout {
	l := layout{"c.json": []byte(`{"os":"linux","architecture":"amd64"}`)}
	var names []string
	for i, b := range layers {
		name := fmt.Sprintf("%d/layer.tar", i)
		l[name] = b
		names = append(names, fmt.Sprintf("%q", name))
	}
	l["manifest.json"] = []byte(`[{"Config":"c.json","RepoTags":["app:1"],"Layers":[` + strings.Join(names, ",") + `]}]`)
	return l
}

// folder writes a layout as a folder.
func (l layout) folder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range l {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tar writes a layout as an archive.
func (l layout) tar(t testing.TB) string {
	t.Helper()
	var entries []entry
	for name, b := range l {
		entries = append(entries, entry{name, string(b)})
	}
	p := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(p, pack(t, entries...), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

var amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}

// request keeps files whose names begin with lib, and whole those of .so.
func request(p string) Request {
	return Request{Path: p, Platform: amd64, Keep: func(*v1.ConfigFile) func(string, int64) Keep { return soFiles }}
}

func soFiles(name string, _ int64) Keep {
	base := filepath.Base(name)
	switch {
	case strings.HasPrefix(base, "lib") && strings.Contains(base, ".so"):
		return Content
	case strings.HasPrefix(base, "lib"):
		return Name
	}
	return Nothing
}

func mustOpen(t testing.TB, req Request) *Image {
	t.Helper()
	m, err := Open(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// files lists what was kept, with contents and link targets.
func files(t testing.TB, m *Tree) map[string]string {
	t.Helper()
	out := make(map[string]string)
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		for name, c := range n.children {
			p := strings.TrimPrefix(at+"/"+name, "/")
			switch {
			case c.kind == folder:
				walk(c, p)
			case c.kind == symlink:
				out[p] = "-> " + c.target
			case c.content == nil:
				out[p] = "(name)"
			default:
				b, err := fs.ReadFile(m, p)
				if err != nil {
					t.Errorf("read %s: %v", p, err)
				}
				out[p] = string(b)
			}
		}
	}
	walk(m.root, "")
	return out
}
