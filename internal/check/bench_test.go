package check

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"forkproof/internal/finding"
)

// BenchmarkMachine checks the whole of this machine: it should take less than
// 100 ms.
func BenchmarkMachine(b *testing.B) {
	for b.Loop() {
		if _, err := Run(context.Background(), Request{Root: "/"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServers is what forkproof check does without arguments: with servers
// running, or on the machine where none is.
func BenchmarkServers(b *testing.B) {
	var doc *finding.Document
	for b.Loop() {
		var err error
		if doc, err = Run(context.Background(), Request{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(doc.Targets)), "targets")
}

// BenchmarkImage checks an image of 1 GiB in eight layers of 20000 files, against
// what tar -tf of the file and a plain read of it take together, one right after
// the other: the ratio should be below 1.5. Layers that are compressed have to be
// unpacked, and are measured against tar and gzip doing that.
func BenchmarkImage(b *testing.B) {
	for _, bb := range []struct {
		name string
		size int64
		gzip bool
	}{{"1GiB", 1 << 30, false}, {"1GiB-gzip", 1 << 30, true}} {
		b.Run(bb.name, func(b *testing.B) {
			p := large(b, bb.size, bb.gzip)
			var own, peer time.Duration
			for b.Loop() {
				start := time.Now()
				if bb.gzip {
					unpack(b, p)
				} else {
					listAndRead(b, p)
				}
				peer += time.Since(start)
				start = time.Now()
				doc, err := Run(context.Background(), Request{Image: p})
				if err != nil || doc.Targets[0].Libc == nil {
					b.Fatal(doc, err)
				}
				own += time.Since(start)
			}
			b.ReportMetric(float64(own)/float64(peer), "x-peer")
			b.ReportMetric(peer.Seconds()/float64(b.N)*1000, "peer-ms")
		})
	}
}

func listAndRead(b *testing.B, p string) {
	b.Helper()
	out, err := exec.Command("tar", "-tf", p).Output()
	if err != nil || len(out) == 0 {
		b.Fatal(err)
	}
	f, err := os.Open(p)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Read(buf)
	}
	_ = f.Close()
	if err != io.EOF {
		b.Fatal(err)
	}
}

// unpack lists the layers of an image one by one.
func unpack(b *testing.B, p string) {
	b.Helper()
	script := `for i in 0 1 2 3 4 5 6 7; do tar -xOf "$1" $i/layer.tar | gzip -dc | tar -t; done`
	if out, err := exec.Command("sh", "-ec", script, "sh", p).Output(); err != nil || len(out) == 0 {
		b.Fatal(err)
	}
}

// large writes an image whose layers have size bytes together when unpacked.
func large(b *testing.B, size int64, packed bool) string {
	b.Helper()
	p := filepath.Join(b.TempDir(), "image.tar")
	f, err := os.Create(p)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }() // flushed below
	fail := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	out := tar.NewWriter(f)
	const layers, files = 8, 2500
	manifest := ""
	random := rand.New(rand.NewPCG(1, 2))
	block := make([]byte, size/layers/files-1024)
	libc := libcOf(b, "bookworm")
	for i := range layers {
		name := filepath.Join(b.TempDir(), "layer.tar")
		l, err := os.Create(name)
		fail(err)
		var w io.Writer = l
		z := gzip.NewWriter(l)
		if packed {
			w = z
		}
		in := tar.NewWriter(w)
		for j := range files {
			// Half of each file is noise: about what layers compress to.
			for k := 0; k < len(block)/2; k += 8 {
				v := random.Uint64()
				for m := range 8 {
					block[k+m] = byte(v >> (8 * m))
				}
			}
			file := fmt.Sprintf("usr/share/%d/%d/file%d", i, j%50, j)
			if j%100 == 0 {
				file = fmt.Sprintf("usr/lib/x86_64-linux-gnu/lib%d-%d.so.1", i, j)
			}
			fail(in.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(block)), Typeflag: tar.TypeReg}))
			_, err := in.Write(block)
			fail(err)
		}
		if i == 0 {
			fail(in.WriteHeader(&tar.Header{Name: "lib/x86_64-linux-gnu/libc.so.6", Mode: 0o755, Size: int64(len(libc)), Typeflag: tar.TypeReg}))
			_, err := in.Write([]byte(libc))
			fail(err)
		}
		fail(in.Close())
		if packed {
			fail(z.Close())
		}
		fail(l.Close())
		l, err = os.Open(name)
		fail(err)
		st, err := l.Stat()
		fail(err)
		layer := fmt.Sprintf("%d/layer.tar", i)
		fail(out.WriteHeader(&tar.Header{Name: layer, Mode: 0o644, Size: st.Size(), Typeflag: tar.TypeReg}))
		_, err = io.Copy(out, l)
		fail(err)
		fail(l.Close())
		fail(os.Remove(name))
		if i > 0 {
			manifest += ","
		}
		manifest += `"` + layer + `"`
	}
	for name, text := range map[string]string{"c.json": `{"os":"linux","architecture":"amd64"}`, "manifest.json": `[{"Config":"c.json","Layers":[` + manifest + `]}]`} {
		fail(out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := out.Write([]byte(text))
		fail(err)
	}
	fail(out.Close())
	return p
}
