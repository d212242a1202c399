package facts

import (
	"strings"
	"testing"
)

func TestLibrary(t *testing.T) {
	b := base(t)
	deb := func(name, version string) Package { return Package{Ecosystem: Deb, Name: name, Version: version} }
	for name, c := range map[string]struct {
		e    Evidence
		want string // ids, then how the first behaves
	}{
		"by file":                      {Evidence{File: "libgomp.so.1.0.0"}, "libgomp no critical"},
		"wheel's copy of a file":       {Evidence{File: "libgomp-a34b3233.so.1.0.0"}, "libgomp no critical"},
		"scipy's copy of OpenBLAS":     {Evidence{File: "libscipy_openblas64_-8fb3d286.so", Version: "0.3.28"}, "openblas yes info"},
		"numpy's copy of OpenBLAS":     {Evidence{File: "libopenblas64_p-r0-0cf96a72.3.23.dev.so"}, "openblas ? warning"},
		"Fedora's OpenMP flavour":      {Evidence{File: "libopenblaso-r0.3.21.so"}, "openblas-openmp no critical"},
		"no library of ours":           {Evidence{File: "libm.so.6"}, ""},
		"part of a name":               {Evidence{File: "notlibgomp.so.1"}, ""},
		"by package":                   {Evidence{Package: deb("libopenblas0-openmp", "0.3.21+ds-4")}, "openblas-openmp no critical"},
		"package with a version":       {Evidence{Package: deb("libssl3", "3.0.19-1~deb12u2")}, "openssl partly info"},
		"old package":                  {Evidence{Package: deb("libssl1.1", "1.1.1c-1")}, "openssl no critical"},
		"OpenSSL's letters":            {Evidence{File: "libssl.so.1.1", Version: "1.1.1d"}, "openssl partly info"},
		"jemalloc 5.2":                 {Evidence{Package: deb("libjemalloc2", "5.2.1-3")}, "jemalloc partly warning"},
		"jemalloc 5.3":                 {Evidence{Package: deb("libjemalloc2", "5.3.0-1")}, "jemalloc yes info"},
		"name of OpenSSL 3":            {Evidence{File: "libcrypto.so.3"}, "openssl partly info"},
		"wheel's copy of OpenSSL 3":    {Evidence{File: "libssl-3e69114b.so.3"}, "openssl partly info"},
		"name of OpenSSL 1.1":          {Evidence{File: "libcrypto.so.1.1"}, "openssl ? critical"},
		"name of Arrow 11":             {Evidence{File: "libarrow.so.1100"}, "arrow yes info"},
		"name of Arrow 10":             {Evidence{File: "libarrow.so.1000.1.0"}, "arrow ? warning"},
		"version unknown":              {Evidence{File: "libjemalloc.so.2"}, "jemalloc ? warning"},
		"version that is none":         {Evidence{File: "libjemalloc.so.2", Version: "trunk"}, "jemalloc ? warning"},
		"Python":                       {Evidence{Python: "Sentry_SDK", Version: "2.60.0"}, "sentry partly info"},
		"Python of several libraries":  {Evidence{Python: "psycopg2-binary", Version: "2.9"}, "libpq no warning"},
		"withdrawn release":            {Evidence{Python: "grpcio", Version: "1.78.1"}, "grpc no critical"},
		"a symbol of a static library": {Evidence{HasSymbol: func(n string) bool { return n == "_cgo_init" }}, "go-runtime no critical"},
		"nothing":                      {Evidence{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			for i, m := range b.Library(c.e) {
				if i > 0 {
					got += " "
				}
				got += m.Library.ID
				if m.By == "" {
					t.Errorf("%s: by nothing", m.Library.ID)
				}
				if m.Range == nil {
					got += " ? " + string(m.Worst.Severity)
					if m.Says == "" {
						t.Errorf("%s: an unknown version is not said", m.Library.ID)
					}
				} else {
					got += " " + m.Range.Heals + " " + string(m.Range.Severity)
				}
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	b := base(t)
	for _, c := range []struct{ id, as, kind, has string }{
		{"BZ-19431", "BZ-19431", "defect", "2.17-162"},
		{"bz-19431", "BZ-19431", "defect", ""},
		{"RHBZ-906468", "BZ-19431", "defect", ""},
		{"BZ-27054", "BZ-24595", "defect", "2.28-206"},
		{"openblas", "openblas", "library", "0.3.14"},
		{"OTEL", "opentelemetry", "library", ""},
		{"localtime_r", "localtime_r", "function", "tzset_lock"},
		{"localtime_r()", "localtime_r", "function", "tzset_lock"},
		{"getaddrinfo", "getaddrinfo", "function", "resolv_conf.c"},
		{"malloc", "malloc", "function", "works on all versions of glibc"},
		{"write", "write", "function", "async-signal-safe since POSIX.1-2001"},
		{"fork", "fork", "function", "POSIX.1-2024 took it off"},
		{"_Fork", "_Fork", "function", "POSIX.1-2024"},
		{"getpwnam_r", "getpwnam_r", "function", "works on all versions of glibc"},
		{"glibc-tzset-lock", "glibc-tzset-lock", "lock", "localtime_r"},
		{"ol", "OL", "hazard", ""},
		{"gunicorn", "gunicorn", "server", "post_fork"},
		{"httpd", "apache", "server", ""},
		{"glibc", "glibc", "libc", "2.43"},
		{"bionic", "bionic", "libc", "as its source was read"},
	} {
		a, ok := b.Explain(c.id)
		if !ok || a.ID != c.as || a.Kind != c.kind {
			t.Errorf("%s: %v, %s, %s", c.id, ok, a.ID, a.Kind)
			continue
		}
		all := strings.Join(append(append(append(append([]string{}, a.What...), a.When...), a.Packages...), a.Steps...), "\n")
		if !strings.Contains(all, c.has) {
			t.Errorf("%s: nothing of %q in\n%s", c.id, c.has, all)
		}
	}
	for _, id := range []string{"", "  ", "BZ-0", "glib c", "\x00"} {
		if _, ok := b.Explain(id); ok {
			t.Errorf("%q is explained", id)
		}
	}
}

// TestEveryTopicIsExplained: what the list has can be asked for, whole, and what
// an article names can be asked for too.
func TestEveryTopicIsExplained(t *testing.T) {
	b := base(t)
	names := b.Functions()
	for _, topic := range b.Topics() {
		names = append(append(names, topic.ID), topic.Aliases...)
	}
	if len(names) < 300 {
		t.Fatalf("only %d names", len(names))
	}
	for _, n := range names {
		a, ok := b.Explain(n)
		if !ok {
			t.Errorf("%s is listed and not explained", n)
			continue
		}
		if a.Title == "" || len(a.Sources) == 0 || len(a.What)+len(a.When)+len(a.Steps) == 0 {
			t.Errorf("%s: the article is not whole: %+v", n, a)
		}
		for _, r := range a.Related {
			if _, ok := b.Explain(r); !ok {
				t.Errorf("%s names %s, which is not explained", n, r)
			}
		}
	}
}

func TestNear(t *testing.T) {
	names := []string{"openblas", "openblas-openmp", "openssl", "BZ-24595", "BZ-24161", "localtime_r", "libpq"}
	for _, c := range []struct{ name, first string }{
		{"opnblas", "openblas"},
		{"BZ-24594", "BZ-24595"},
		{"bz24595", "BZ-24595"},
		{"localtime", "localtime_r"},
		{"libpg", "libpq"},
		{"zzzzzz", ""},
		{"", ""},
		{strings.Repeat("x", 1000), ""},
	} {
		got := Near(c.name, names)
		if (c.first == "") != (len(got) == 0) || (len(got) > 0 && got[0] != c.first) {
			t.Errorf("%.20q: %v, want %s first", c.name, got, c.first)
		}
	}
}
