package image

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"testing"
)

// FuzzLayer reads foreign bytes as a layer: never a panic, and never a name
// outside of the root.
func FuzzLayer(f *testing.F) {
	f.Add(pack(f, entry{"usr/lib/libc.so", "x"}, entry{"lib -> usr/lib", ""}, entry{"lib/.wh.libc.so", ""}, entry{"liba.so => usr/lib/libc.so", ""}))
	f.Add(gz(f, pack(f, entry{"a/", ""}, entry{"a/.wh..wh..opq", ""})))
	f.Add(zst(f, pack(f, entry{"libc.so", "x"})))
	f.Fuzz(func(t *testing.T, b []byte) {
		fl := &flattening{ctx: context.Background(), tree: newTree(), keep: soFiles, want: map[string]Keep{}, missing: map[string]Keep{},
			limits: Limits{Entries: 1000, Nodes: 1000, Names: 1 << 20, Content: 1 << 20, Unpacked: 16 << 20}.usual()}
		for i := range 2 {
			if err := fl.apply(i, layer{name: "x", blob: io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))}); err != nil {
				break
			}
		}
		fl.dangling(fl.tree.root, "")
		count := 0
		var walk func(n *node)
		walk = func(n *node) {
			for name, c := range n.children {
				count++
				if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
					t.Errorf("a node is called %q", name)
				}
				walk(c)
			}
		}
		walk(fl.tree.root)
		if count != fl.tree.nodes {
			t.Errorf("%d nodes are counted as %d", count, fl.tree.nodes)
		}
		_ = fs.WalkDir(fl.tree, ".", func(string, fs.DirEntry, error) error { return nil })
	})
}

// FuzzWhiteouts compares the tree with the plainest model there is of layers
// without links: a set of paths, to which a layer's whiteouts are applied first
// and its files then.
func FuzzWhiteouts(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\x33\xff\x44\x05\x16"))
	f.Add([]byte("\x01\x02\x03\xff\x41\x81\xff\x01"))
	f.Fuzz(func(t *testing.T, script []byte) {
		names := []string{"liba.so", "b/libc.so", "b/d/libe.so", "b/d/libf.so", "g/libh.so", "b/g/liba.so", "g/b/libc.so", "b/libi.so"}
		dirs := []string{"b", "b/d", "g", "b/g", "g/b"}
		model := map[string]bool{}
		fl := &flattening{ctx: context.Background(), tree: newTree(), keep: soFiles, want: map[string]Keep{}, missing: map[string]Keep{}, limits: Limits{}.usual()}
		index := 0
		for _, l := range bytes.Split(script, []byte{0xff}) {
			var entries []entry
			added := map[string]bool{}
			for _, op := range l {
				switch i := int(op); op >> 6 {
				case 0, 1:
					n := names[i%len(names)]
					entries = append(entries, entry{n, n})
					added[n] = true
				case 2:
					n := append(names, dirs...)[i%(len(names)+len(dirs))]
					entries = append(entries, entry{path.Join(path.Dir(n), ".wh."+path.Base(n)), ""})
					maps.DeleteFunc(model, func(p string, _ bool) bool { return p == n || strings.HasPrefix(p, n+"/") })
				case 3:
					n := dirs[i%len(dirs)]
					entries = append(entries, entry{n + "/.wh..wh..opq", ""})
					maps.DeleteFunc(model, func(p string, _ bool) bool { return strings.HasPrefix(p, n+"/") })
				}
			}
			maps.Copy(model, added)
			b := pack(t, entries...)
			if err := fl.apply(index, layer{name: "x", blob: io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))}); err != nil {
				t.Fatal(err)
			}
			index++
		}
		got := files(t, fl.tree)
		for p := range model {
			if got[p] != p {
				t.Errorf("%s is %q", p, got[p])
			}
			delete(got, p)
		}
		if len(got) > 0 {
			t.Errorf("there should not be %v", got)
		}
	})
}

func FuzzResolve(f *testing.F) {
	f.Add("a/../../b", "a -> /b/c")
	f.Add("a", "a -> b\nb -> a")
	f.Fuzz(func(t *testing.T, name, links string) {
		m := map[string]string{}
		for l := range strings.Lines(links) {
			if k, v, ok := strings.Cut(strings.TrimSpace(l), " -> "); ok {
				m[k] = v
			}
		}
		got, err := resolve(name, true, func(s string) (string, bool) { v, ok := m[s]; return v, ok && v != "" })
		if err != nil {
			return
		}
		for part := range strings.SplitSeq(got, "/") {
			if part == ".." || part == "" || part == "." && got != "." {
				t.Errorf("%q resolves to %q", name, got)
			}
		}
	})
}
