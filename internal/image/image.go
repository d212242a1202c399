package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Request says which image to open, and what of it to keep.
type Request struct {
	// Path is an OCI layout folder, or a tar file as `docker save`, `podman save`
	// or `skopeo copy ... oci-archive:` write it.
	Path string
	// Platform is what the image is to run on, for example linux/amd64.
	Platform v1.Platform
	// Tag chooses among several images by a name that they were saved under; empty
	// where there is one alone.
	Tag string
	// Keep is called with what the image says of itself and returns what decides,
	// by path and size in bytes, what is kept. Symbolic links are kept always.
	Keep   func(*v1.ConfigFile) func(name string, size int64) Keep
	Limits Limits
}

// Image is an open image.
type Image struct {
	*Tree
	// Config is what the image says of itself: platform, entry point, environment.
	Config *v1.ConfigFile
	// Tags are the names that it was saved under.
	Tags []string
	// Notes say what is odd and was not an error.
	Notes []string
	store store
}

// Close ends it; nothing of the tree can be read any more.
func (m *Image) Close() error { return m.store.Close() }

// candidate is one image of a store.
type candidate struct {
	// platform is nil where the index does not say; the configuration does.
	platform *v1.Platform
	tags     []string
	config   string // path in the store
	layers   []layer
	// id tells one image from another.
	id string
}

// Open opens an image and applies its layers. It takes the context's end between
// two reads. The error wraps ErrFormat, ErrChoice, ErrDamaged or ErrHostile, or
// what the file system said.
func Open(ctx context.Context, req Request) (*Image, error) {
	s, err := openStore(req.Path)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	m, err := open(ctx, s, req)
	if err != nil {
		_ = s.Close() // the first error counts
		return nil, fmt.Errorf("open the image %s: %w", req.Path, err)
	}
	return m, nil
}

func open(ctx context.Context, s store, req Request) (*Image, error) {
	all, notes, err := candidates(s)
	if err != nil {
		return nil, err
	}
	c, err := choose(s, all, req)
	if err != nil {
		return nil, err
	}
	m := &Image{store: s, Tags: c.tags, Notes: notes}
	if m.Config, err = configOf(s, c); err != nil {
		return nil, err
	}
	for i := range c.layers {
		l := &c.layers[i]
		if l.blob, err = s.open(l.name); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("its layer %s is not in it: %w", l.name, ErrDamaged)
		} else if err != nil {
			return nil, err
		}
	}
	keep := req.Keep(m.Config)
	f := &flattening{ctx: ctx, keep: keep, limits: req.Limits.usual(), want: make(map[string]Keep)}
	// Links with a name of interest may lead to files whose names are of none:
	// then those are kept when the layers are read once more.
	const passes = 3
	for range passes {
		f.tree, f.missing, f.content, f.notes = newTree(), make(map[string]Keep), 0, nil
		for i, l := range c.layers {
			if _, err := l.blob.Seek(0, io.SeekStart); err != nil {
				return nil, err
			}
			if err := f.apply(i, l); err != nil {
				return nil, err
			}
		}
		f.dangling(f.tree.root, "")
		if len(f.missing) == 0 {
			break
		}
		maps.Copy(f.want, f.missing)
	}
	m.Tree = f.tree
	m.Notes = append(m.Notes, f.notes...)
	return m, nil
}

// dangling finds links with a name of interest that lead to nothing that was kept.
func (f *flattening) dangling(n *node, at string) {
	for name, c := range n.children {
		p := path.Join(at, name)
		switch c.kind {
		case folder:
			f.dangling(c, p)
		case symlink:
			k := f.keeps(p, 0)
			if k != Content {
				continue
			}
			real, err := f.tree.Resolve(p)
			if err != nil {
				continue // a ring is nobody's library
			}
			if t := f.tree.at(real); t == nil || t.kind == file && t.content == nil {
				f.needs(real, k)
			}
		}
	}
}

// Bounds of an image's own documents.
const (
	maxDocument = 8 << 20
	maxImages   = 1000
	maxNesting  = 4
	maxLayers   = 1000
)

// document reads a part that is a document, checks its digest where that is
// known, and decodes it.
func document(s store, name, digest string, into any) error {
	r, err := s.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its part %s is not in it: %w: %w", name, ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	if r.Size() > maxDocument {
		return fmt.Errorf("its part %s has %d bytes: %w", name, r.Size(), ErrHostile)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read its part %s: %w", name, err)
	}
	if int64(len(b)) != r.Size() {
		return fmt.Errorf("its part %s is cut short: %w", name, ErrDamaged)
	}
	if sum := sha256.Sum256(b); digest != "" && hex.EncodeToString(sum[:]) != digest {
		return fmt.Errorf("its part %s does not match its checksum: %w", name, ErrDamaged)
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(into); err != nil {
		return fmt.Errorf("its part %s is not what it should be: %w: %w", name, ErrDamaged, err)
	}
	return nil
}

// blobPath is where a layout has a blob.
func blobPath(h v1.Hash) (name, digest string, err error) {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 || strings.Trim(h.Hex, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("a part with the digest %.80q, which is no sha256: %w", h.String(), ErrDamaged)
	}
	return "blobs/sha256/" + h.Hex, h.Hex, nil
}

// candidates lists the images of a store: by index.json where it is an OCI
// layout, which tells platforms, else by docker's manifest.json.
func candidates(s store) (all []candidate, notes []string, err error) {
	var index v1.IndexManifest
	if _, err := s.open("index.json"); err == nil {
		if err := document(s, "index.json", "", &index); err != nil {
			return nil, nil, err
		}
		w := walk{s: s}
		if err := w.index(&index, nil, 0); err != nil {
			return nil, nil, err
		}
		if len(w.all) == 0 {
			if len(w.absent) > 0 {
				return nil, nil, fmt.Errorf("none of the images that its index lists is in it (%s): %w", strings.Join(w.absent, ", "), ErrDamaged)
			}
			return nil, nil, fmt.Errorf("its index lists no image: %w", ErrDamaged)
		}
		if len(w.absent) > 0 {
			notes = append(notes, fmt.Sprintf("the index of the image lists more platforms than are in it: %s", strings.Join(w.absent, ", ")))
		}
		return w.all, notes, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if _, err := s.open("manifest.json"); errors.Is(err, fs.ErrNotExist) {
		for _, name := range []string{"etc/os-release", "usr/lib/os-release", "etc/passwd", "bin/sh"} {
			if _, err := s.open(name); err == nil {
				return nil, nil, fmt.Errorf("it has neither index.json nor manifest.json and looks like a root file system (docker export?): unpack it where needed and say --root FOLDER: %w", ErrFormat)
			}
		}
		return nil, nil, fmt.Errorf("it has neither index.json (OCI layout) nor manifest.json (docker save): %w", ErrFormat)
	} else if err != nil {
		return nil, nil, err
	}
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := document(s, "manifest.json", "", &saved); err != nil {
		return nil, nil, err
	}
	for i, m := range saved {
		if i >= maxImages || len(m.Layers) > maxLayers {
			return nil, nil, fmt.Errorf("it has %d images, one of %d layers: %w", len(saved), len(m.Layers), ErrHostile)
		}
		c := candidate{tags: m.RepoTags, id: fmt.Sprint(i)}
		if c.config, err = clean(m.Config); err != nil {
			return nil, nil, err
		}
		for _, l := range m.Layers {
			name, err := clean(l)
			if err != nil {
				return nil, nil, err
			}
			c.layers = append(c.layers, layer{name: name})
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("its manifest.json lists no image: %w", ErrDamaged)
	}
	return all, nil, nil
}

// walk gathers the images below an index.
type walk struct {
	s      store
	all    []candidate
	absent []string
	seen   int
}

func (w *walk) index(index *v1.IndexManifest, tags []string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("its indexes are nested more than %d deep: %w", maxNesting, ErrHostile)
	}
	for _, d := range index.Manifests {
		if w.seen++; w.seen > maxImages {
			return fmt.Errorf("its index lists more than %d images: %w", maxImages, ErrHostile)
		}
		// Attestations are listed as images for no platform.
		if d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		name, digest, err := blobPath(d.Digest)
		if err != nil {
			return err
		}
		named := tags
		for _, k := range []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"} {
			if t := d.Annotations[k]; t != "" {
				named = append(slices.Clip(named), t)
			}
		}
		if _, err := w.s.open(name); errors.Is(err, fs.ErrNotExist) {
			what := name
			if d.Platform != nil {
				what = d.Platform.String()
			}
			w.absent = append(w.absent, what)
			continue
		}
		if d.MediaType.IsIndex() {
			var inner v1.IndexManifest
			if err := document(w.s, name, digest, &inner); err != nil {
				return err
			}
			if err := w.index(&inner, named, depth+1); err != nil {
				return err
			}
			continue
		}
		if d.MediaType != "" && !d.MediaType.IsImage() {
			continue
		}
		if err := w.image(name, digest, d.Platform, named); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) image(name, digest string, platform *v1.Platform, tags []string) error {
	if i := slices.IndexFunc(w.all, func(c candidate) bool { return c.id == digest }); i >= 0 {
		w.all[i].tags = append(w.all[i].tags, tags...) // one image under two names
		return nil
	}
	var m v1.Manifest
	if err := document(w.s, name, digest, &m); err != nil {
		return err
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("it has %d layers: %w", len(m.Layers), ErrHostile)
	}
	c := candidate{platform: platform, tags: tags, id: digest}
	var err error
	if c.config, _, err = blobPath(m.Config.Digest); err != nil {
		return err
	}
	for _, l := range m.Layers {
		blob, digest, err := blobPath(l.Digest)
		if err != nil {
			return err
		}
		c.layers = append(c.layers, layer{name: blob, digest: digest})
	}
	w.all = append(w.all, c)
	return nil
}

func configOf(s store, c candidate) (*v1.ConfigFile, error) {
	digest := ""
	if h, ok := strings.CutPrefix(c.config, "blobs/sha256/"); ok {
		digest = h
	}
	config := new(v1.ConfigFile)
	if err := document(s, c.config, digest, config); err != nil {
		return nil, err
	}
	return config, nil
}

// choose finds the image that is meant.
func choose(s store, all []candidate, req Request) (candidate, error) {
	var none candidate
	if req.Tag != "" {
		left := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool {
			return !slices.ContainsFunc(c.tags, func(t string) bool { return isTag(t, req.Tag) })
		})
		if len(left) == 0 {
			return none, fmt.Errorf("no image in it is called %q; there are: %s: %w", req.Tag, tags(all), ErrChoice)
		}
		all = left
	}
	var fits []candidate
	var have []string
	for _, c := range all {
		p := c.platform
		if p == nil || p.Architecture == "" {
			config, err := configOf(s, c)
			if err != nil {
				return none, err
			}
			p = &v1.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
		}
		if !slices.Contains(have, p.String()) {
			have = append(have, p.String())
		}
		if p.OS == "" || p.Satisfies(req.Platform) {
			fits = append(fits, c)
		}
	}
	switch {
	case len(fits) == 0:
		return none, fmt.Errorf("it is for %s and not for %s; say --platform: %w", strings.Join(have, ", "), req.Platform.String(), ErrChoice)
	case len(fits) > 1:
		if t := tags(fits); t != "" {
			return none, fmt.Errorf("it has %d images for %s; say --tag with one of: %s: %w", len(fits), req.Platform.String(), t, ErrChoice)
		}
		return none, fmt.Errorf("it has %d images for %s without names; the platforms are %s: %w", len(fits), req.Platform.String(), strings.Join(have, ", "), ErrChoice)
	}
	return fits[0], nil
}

// isTag reports whether a full name such as docker.io/library/app:1 is meant by
// a shorter one, app:1.
func isTag(full, short string) bool {
	return full == short || strings.HasSuffix(full, "/"+short)
}

func tags(all []candidate) string {
	var out []string
	for _, c := range all {
		for _, t := range c.tags {
			if !slices.Contains(out, t) && len(out) < 20 {
				out = append(out, t)
			}
		}
	}
	return strings.Join(out, ", ")
}
