package osdb

import (
	"errors"
	"slices"
	"testing"
	"testing/fstest"
)

func TestFilesOf(t *testing.T) {
	fsys := fstest.MapFS{
		"var/lib/dpkg/info/libz1:amd64.list": {Data: []byte("/.\n/usr\n/usr/lib/libz.so.1\n/usr/../etc/passwd\n")},
		"var/lib/dpkg/info/libz1:arm64.list": {Data: []byte("/usr/lib/arm/libz.so.1\n")},
		"var/lib/dpkg/info/bash.list":        {Data: []byte("/bin/bash")},
	}
	for name, want := range map[string][]string{
		"libz1":       {"usr", "usr/lib/libz.so.1", "usr/lib/arm/libz.so.1"},
		"libz1:arm64": {"usr/lib/arm/libz.so.1"},
		"bash":        {"bin/bash"},
	} {
		if got, err := FilesOf(fsys, name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"zlib", "", "*", "../info/bash", "libz1:mips"} {
		if got, err := FilesOf(fsys, name); !errors.Is(err, ErrNoPackage) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if got, err := FilesOf(fstest.MapFS{}, "bash"); err == nil || errors.Is(err, ErrNoPackage) {
		t.Errorf("without dpkg: %q, %v", got, err)
	}
}
