package facts

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/testbed"
)

func TestLibc(t *testing.T) {
	b := base(t)
	debian := func(release, version string) Package {
		return Package{Ecosystem: Deb, Name: "libc6", Version: version, Distribution: "debian", Release: release}
	}
	ubuntu := func(release, version string) Package {
		return Package{Ecosystem: Deb, Name: "libc6", Version: version, Distribution: "ubuntu", Release: release}
	}
	rpm := func(distribution, release, version string) Package {
		return Package{Ecosystem: RPM, Name: "glibc", Version: version, Distribution: distribution, Release: release}
	}
	contains := func(has bool) func(string) bool { return func(string) bool { return has } }
	for name, c := range map[string]struct {
		build Build
		id    string
		want  State
		why   string
	}{
		"fixed upstream":                    {Build{Family: "glibc", Version: "2.36"}, "BZ-24595", FixedUpstream, "fixed upstream in 2.36 (glibc 52a103e237)"},
		"not yet":                           {Build{Family: "glibc", Version: "2.27"}, "BZ-24595", Later, "it came with 2.28"},
		"by version alone":                  {Build{Family: "glibc", Version: "2.31"}, "BZ-24595", Possible, "not known"},
		"a point release is its release":    {Build{Family: "glibc", Version: "2.35.1"}, "BZ-24595", Possible, "branches of 2.34, 2.35"},
		"RHEL 7 before the backport":        {Build{Family: "glibc", Version: "2.17", Package: rpm("rhel", "7.3", "2.17-157.el7_3.1")}, "BZ-19431", Applies, "older than 2.17-162"},
		"RHEL 7 with the backport":          {Build{Family: "glibc", Version: "2.17", Package: rpm("rhel", "7.4", "2.17-196.el7")}, "BZ-19431", Backported, "2.17-162"},
		"the very backport":                 {Build{Family: "glibc", Version: "2.17", Package: rpm("centos", "7", "2.17-162.el7")}, "BZ-19431", Backported, "2.17-162"},
		"RHEL 8 before":                     {Build{Family: "glibc", Version: "2.28", Package: rpm("rhel", "8.6", "2.28-189.el8")}, "BZ-24595", Applies, "older than 2.28-206"},
		"Rocky 8 after":                     {Build{Family: "glibc", Version: "2.28", Package: rpm("rocky", "8.9", "2.28-236.el8")}, "BZ-24595", Backported, ""},
		"RHEL 9.0":                          {Build{Family: "glibc", Version: "2.34", Package: rpm("rhel", "9.0", "2.34-28.el9_0.2")}, "BZ-24595", Applies, ""},
		"Alma 9":                            {Build{Family: "glibc", Version: "2.34", Package: rpm("almalinux", "9.4", "2.34-100.el9")}, "BZ-24595", Backported, ""},
		"Amazon 2023 is not RHEL":           {Build{Family: "glibc", Version: "2.34", Package: rpm("amzn", "2023", "2.34-100.amzn2023")}, "BZ-24595", Possible, ""},
		"Fedora of the same number is not":  {Build{Family: "glibc", Version: "2.34", Package: rpm("fedora", "35", "2.34-49.fc35")}, "BZ-24595", Possible, ""},
		"Ubuntu 22.04 was looked at":        {Build{Family: "glibc", Version: "2.35", Package: ubuntu("22.04", "2.35-0ubuntu3.8")}, "BZ-24595", Applies, "was looked at and has it"},
		"Ubuntu 22.04 newer than looked at": {Build{Family: "glibc", Version: "2.35", Package: ubuntu("22.04", "2.35-0ubuntu3.99")}, "BZ-24595", Possible, "is newer and was not looked at"},
		"Ubuntu 16.04 first":                {Build{Family: "glibc", Version: "2.23", Package: ubuntu("16.04", "2.23-0ubuntu3")}, "BZ-19431", Applies, ""},
		"Ubuntu 16.04 updated":              {Build{Family: "glibc", Version: "2.23", Package: ubuntu("16.04", "2.23-0ubuntu11.3")}, "BZ-19431", Backported, "at the latest"},
		"Ubuntu 16.04 in between":           {Build{Family: "glibc", Version: "2.23", Package: ubuntu("16.04", "2.23-0ubuntu7")}, "BZ-19431", Possible, "still had it"},
		"Debian 12, popen":                  {Build{Family: "glibc", Version: "2.36", Package: debian("12", "2.36-9+deb12u14")}, "glibc-popen-list", Applies, ""},
		"popen, a narrow window":            {Build{Family: "glibc", Version: "2.27", Package: ubuntu("18.04", "2.27-3ubuntu1.6")}, "glibc-popen-list", Possible, "mended upstream in 2.41"},
		"Debian 13, popen":                  {Build{Family: "glibc", Version: "2.41", Package: debian("13", "2.41-12+deb13u5")}, "glibc-popen-list", FixedUpstream, ""},
		"Debian 13, exit":                   {Build{Family: "glibc", Version: "2.41", Package: debian("13", "2.41-12+deb13u5")}, "glibc-exit-lock", Applies, "no release"},
		"Debian testing by its code name":   {Build{Family: "glibc", Version: "2.43", Package: debian("forky", "2.43-7")}, "glibc-joinstate", Applies, ""},
		"newest, join":                      {Build{Family: "glibc", Version: "2.43", Package: debian("14", "2.43-7")}, "glibc-joinstate", Applies, ""},
		"the file tells: fixed":             {Build{Family: "glibc", Version: "2.35", Package: ubuntu("22.04", "2.35-0ubuntu3.8"), Contains: contains(true)}, "BZ-24595", Backported, "this file contains"},
		"the file tells: not fixed":         {Build{Family: "glibc", Version: "2.34", Contains: contains(false)}, "BZ-24595", Applies, "this file lacks"},
		"the file says nothing of others":   {Build{Family: "glibc", Version: "2.36", Contains: contains(true)}, "glibc-popen-list", Possible, ""},
		"a broken package version":          {Build{Family: "glibc", Version: "2.35", Package: ubuntu("22.04", "x y")}, "BZ-24595", Possible, ""},
		"newer than the data":               {Build{Family: "glibc", Version: "2.44"}, "glibc-joinstate", Possible, "nothing is known of this one"},
		"newer, mended long ago":            {Build{Family: "glibc", Version: "2.44"}, "BZ-24595", FixedUpstream, ""},
		"musl before 1.2.1":                 {Build{Family: "musl", Version: "1.1.24"}, "musl-fork-heap", Possible, ""},
		"musl 1.2.1":                        {Build{Family: "musl", Version: "1.2.1"}, "musl-fork-malloc", Possible, ""},
		"musl now":                          {Build{Family: "musl", Version: "1.2.5", Package: Package{Ecosystem: APK, Name: "musl", Version: "1.2.5-r9", Distribution: "alpine", Release: "3.21.3"}}, "musl-file-lock", Applies, ""},
		"documented alone":                  {Build{Family: "bionic", Version: ""}, "bionic-atfork-dlclose", Possible, "as its source was read"},
	} {
		t.Run(name, func(t *testing.T) {
			v := b.Libc(c.build)
			i := slices.IndexFunc(v.Defects, func(j Judged) bool { return j.ID == c.id })
			if i < 0 {
				t.Fatalf("no verdict on %s", c.id)
			}
			if j := v.Defects[i]; j.State != c.want || !strings.Contains(j.Why, c.why) {
				t.Errorf("%s: %s (%s), want %s (%s)", c.id, j.State, j.Why, c.want, c.why)
			}
		})
	}
}

func TestStandingIsSaid(t *testing.T) {
	b := base(t)
	for _, c := range []struct {
		family, version string
		want            Standing
		says            string
	}{
		{"glibc", "2.36", Covered, ""},
		{"glibc", "2.36.9000", Covered, ""},
		{"glibc", "2.43.1", Covered, ""},
		{"glibc", "2.44", Newer, "newer than forkproof's data, which end with 2.43"},
		{"glibc", "3.0", Newer, "newer"},
		{"glibc", "2.12", Older, "older than forkproof's data"},
		{"glibc", "", Unknown, "could not be read"},
		{"glibc", "unknown", Unknown, "could not be read"},
		{"dietlibc", "0.34", Unknown, "not in forkproof's data"},
		{"unknown", "", Unknown, "not in forkproof's data"},
		{"macos", "14.2", Unknown, "documented from its source alone"},
		{"musl", "1.2.7", Newer, "newer"},
	} {
		v := b.Libc(Build{Family: c.family, Version: c.version})
		if v.Standing != c.want || !strings.Contains(v.Says, c.says) || (c.says == "") != (v.Says == "") {
			t.Errorf("%s %s: %s, %q; want %s, %q", c.family, c.version, v.Standing, v.Says, c.want, c.says)
		}
		if v.Standing != Covered && v.Malloc != "" {
			t.Errorf("%s %s: malloc is said to be %s", c.family, c.version, v.Malloc)
		}
	}
}

// TestLocksByVersion: a lock counts only where the version has it.
func TestLocksByVersion(t *testing.T) {
	b := base(t)
	has := func(family, version, id string) bool {
		return slices.ContainsFunc(b.Libc(Build{Family: family, Version: version}).Locks, func(l *Lock) bool { return l.ID == id })
	}
	for _, c := range []struct {
		family, version, id string
		want                bool
	}{
		{"glibc", "2.36", "glibc-tzset-lock", true},
		{"glibc", "2.23", "glibc-nsswitch-lock", true},
		{"glibc", "2.33", "glibc-nsswitch-lock", false},
		{"glibc", "2.25", "glibc-resolv-conf-lock", false},
		{"glibc", "2.26", "glibc-resolv-conf-lock", true},
		{"musl", "1.2.5", "glibc-tzset-lock", false},
	} {
		if got := has(c.family, c.version, c.id); got != c.want {
			t.Errorf("%s %s has %s: %v", c.family, c.version, c.id, got)
		}
	}
}

func TestMeansNeverSaysProven(t *testing.T) {
	b := base(t)
	for _, f := range b.Families() {
		for _, v := range f.Versions {
			lines := b.Libc(Build{Family: f.ID, Version: v.Version}).Means()
			if len(lines) == 0 {
				t.Errorf("%s %s means nothing", f.ID, v.Version)
			}
			for _, l := range lines {
				if strings.Contains(l, "proven") || strings.Contains(l, "\n") {
					t.Errorf("%s %s: %q", f.ID, v.Version, l)
				}
			}
		}
	}
}

func TestMatrixAgreesWithTheVerdict(t *testing.T) {
	b := base(t)
	m := b.Matrix(Build{})
	if m.Machine != nil {
		t.Error("a machine that was not named is marked")
	}
	for _, l := range m.Libcs {
		if l.Documented {
			continue
		}
		for _, r := range l.Rows {
			var open []string
			for _, j := range b.Libc(Build{Family: l.ID, Version: r.Version.Version}).Defects {
				if j.Open() {
					open = append(open, j.ID)
				}
			}
			if !slices.Equal(open, r.Has) {
				t.Errorf("%s %s: the row has %v, the verdict %v", l.ID, r.Version.Version, r.Has, open)
			}
		}
	}
}

func TestMatrixMarksThisMachine(t *testing.T) {
	b := base(t)
	for _, c := range []struct {
		build     Build
		row, ship string
	}{
		{Build{Family: "glibc", Version: "2.36", Package: Package{Ecosystem: Deb, Name: "libc6", Version: "2.36-9+deb12u14", Distribution: "debian", Release: "12"}}, "2.36", "Debian 12 (bookworm)"},
		{Build{Family: "glibc", Version: "2.34", Package: Package{Ecosystem: RPM, Name: "glibc", Distribution: "rocky", Release: "9.4"}}, "2.34", "RHEL 9"},
		{Build{Family: "musl", Version: "1.2.5", Package: Package{Ecosystem: APK, Name: "musl", Distribution: "alpine", Release: "3.21.3"}}, "1.2.5", "Alpine 3.21"},
		{Build{Family: "glibc", Version: "2.43", Package: Package{Ecosystem: Deb, Name: "libc6", Distribution: "debian", Release: "forky"}}, "2.43", "Debian 14 (forky, testing)"},
		{Build{Family: "glibc", Version: "2.38", Package: Package{Ecosystem: RPM, Name: "glibc", Distribution: "opensuse-leap", Release: "15.6"}}, "2.38", "SLES 15 SP6"},
		{Build{Family: "glibc", Version: "2.99"}, "", ""},
		{Build{Family: "glibc", Version: "2.12"}, "", ""},
		{Build{Family: "dietlibc", Version: "1"}, "", ""},
	} {
		var rows, ships []string
		m := b.Matrix(c.build)
		for _, l := range m.Libcs {
			for _, r := range l.Rows {
				if r.Here {
					rows = append(rows, r.Version.Version)
				}
			}
			for _, s := range l.Ships {
				if s.Here {
					ships = append(ships, s.Name)
				}
			}
		}
		if strings.Join(rows, " ") != c.row || strings.Join(ships, " ") != c.ship || m.Machine == nil || m.Machine.Row != c.row {
			t.Errorf("%s %s: rows %v, ships %v, machine %+v", c.build.Family, c.build.Version, rows, ships, m.Machine)
		}
	}
}

// TestMarkTellsRealLibraries reads the C libraries of four Debian releases: the
// text that comes with the fix of BZ-24595 is in those that have it.
func TestMarkTellsRealLibraries(t *testing.T) {
	b := base(t)
	for release, c := range map[string]struct {
		version string
		want    State
	}{
		"bullseye": {"2.31", Applies},
		"bookworm": {"2.36", FixedUpstream},
		"trixie":   {"2.41", FixedUpstream},
	} {
		t.Run(release, func(t *testing.T) {
			found, err := filepath.Glob(filepath.Join(testbed.Open(t, release).Dir, "lib", "*-linux-gnu", "libc.so.6"))
			if err != nil || len(found) != 1 {
				t.Fatalf("the C library of %s: %v, %v", release, found, err)
			}
			text, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			d, _ := b.Defect("BZ-24595")
			if has := bytes.Contains(text, []byte(d.Mark)); has != (c.want == FixedUpstream) {
				t.Errorf("%s has the mark: %v", found[0], has)
			}
			v := b.Libc(Build{Family: "glibc", Version: c.version, Contains: func(s string) bool { return bytes.Contains(text, []byte(s)) }})
			for _, j := range v.Defects {
				if j.ID == d.ID && j.State != c.want {
					t.Errorf("%s: %s (%s)", j.ID, j.State, j.Why)
				}
			}
		})
	}
}

func TestOfServer(t *testing.T) {
	b := base(t)
	for _, c := range []struct {
		server, version, id string
		want                State
	}{
		{"gunicorn", "25.1.0", "gunicorn-control-thread", Applies},
		{"gunicorn", "25.2.0", "gunicorn-control-thread", FixedUpstream},
		{"gunicorn", "25.2.0", "gunicorn-control-leak", Applies},
		{"gunicorn", "26.1.0", "gunicorn-control-leak", FixedUpstream},
		{"gunicorn", "20.1.0", "gunicorn-control-thread", Later},
		{"gunicorn", "", "gunicorn-control-thread", Possible},
		{"uwsgi", "2.0.18", "uwsgi-no-fork-hooks", Applies},
		{"uWSGI", "2.0.30", "uwsgi-no-fork-hooks", Applies},
	} {
		found := false
		for _, j := range b.OfServer(c.server, c.version) {
			if j.ID != c.id {
				continue
			}
			found = true
			if j.State != c.want || j.Why == "" {
				t.Errorf("%s %s, %s: %s (%s), want %s", c.server, c.version, c.id, j.State, j.Why, c.want)
			}
		}
		if !found {
			t.Errorf("%s %s: nothing of %s", c.server, c.version, c.id)
		}
	}
	if got := b.OfServer("no-such-server", "1"); got != nil {
		t.Errorf("a server that is not known has %v", got)
	}
}

// TestRangesOfDefects pins where each defect of the C libraries begins and ends:
// the release before, the first and the last that have it, and the one after.
func TestRangesOfDefects(t *testing.T) {
	b := base(t)
	glibc := []string{
		"2.17", "2.18", "2.19", "2.20", "2.21", "2.22", "2.23", "2.24", "2.25", "2.26", "2.27", "2.28", "2.29", "2.30", "2.31", "2.32", "2.33", "2.34", "2.35", "2.36",
		"2.37", "2.38", "2.39", "2.40", "2.41", "2.42", "2.43",
	}
	musl := []string{"1.1.22", "1.1.24", "1.2.0", "1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5", "1.2.6"}
	for id, span := range map[string][2]string{
		"BZ-19431": {"2.17", "2.23"}, "glibc-atfork-dlclose-wait": {"2.17", "2.27"}, "glibc-atfork-realloc": {"2.17", "2.23"}, "glibc-atfork-wake": {"2.17", "2.20"},
		"BZ-12847": {"2.17", "2.20"}, "BZ-19703": {"2.17", "2.23"}, "BZ-24595": {"2.28", "2.35"}, "BZ-27054": {"2.28", "2.35"}, "glibc-atfork-abort": {"2.28", "2.35"},
		"BZ-24161": {"2.28", "2.29"}, "glibc-atfork-list-lock": {"2.17", "2.27"}, "glibc-popen-list": {"2.17", "2.40"}, "glibc-dl-write-lock": {"2.17", "2.43"},
		"glibc-rwlock-atfork": {"2.25", "2.43"}, "glibc-cond-destroy": {"2.25", "2.43"}, "glibc-cond-ghosts": {"2.25", "2.40"}, "glibc-cond-lost": {"2.41", "2.43"},
		"glibc-mutex-owner": {"2.17", "2.43"}, "glibc-funlockfile": {"2.17", "2.36"}, "glibc-exit-lock": {"2.41", "2.43"}, "glibc-joinstate": {"2.43", "2.43"},
		"glibc-stack-cache": {"2.43", "2.43"}, "BZ-26275": {"2.17", "2.40"}, "BZ-32994": {"2.41", "2.42"}, "BZ-32215": {"2.34", "2.40"}, "BZ-21386": {"2.17", "2.25"},
		"BZ-19402": {"2.17", "2.24"}, "BZ-4737": {"2.17", "2.43"}, "BZ-28357": {"2.34", "2.34"}, "glibc-atfork-malloc": {"2.28", "2.43"}, "glibc-helper-threads": {"2.17", "2.43"},
		"musl-fork-heap": {"1.1.22", "1.2.0"}, "musl-fork-malloc": {"1.2.1", "1.2.1"}, "musl-file-lock": {"1.1.22", "1.2.6"}, "musl-atfork-register": {"1.1.22", "1.2.6"},
		"musl-mutex-owner": {"1.1.22", "1.2.6"},
	} {
		d, ok := b.Defect(id)
		if !ok {
			t.Errorf("%s is not in the data", id)
			continue
		}
		all := glibc
		if d.Subject == "musl" {
			all = musl
		}
		from, last := slices.Index(all, span[0]), slices.Index(all, span[1])
		for i, v := range all {
			has := slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Holds(v) })
			if has != (i >= from && i <= last) {
				t.Errorf("%s in %s %s: %v", id, d.Subject, v, has)
			}
			if end := d.Until(v); has && last < len(all)-1 && end != all[last+1] || has && last == len(all)-1 && end != "" {
				t.Errorf("%s of %s %s ends with %q", id, d.Subject, v, end)
			}
		}
	}
	for _, f := range []string{"glibc", "musl"} {
		family, _ := b.Family(f)
		var rows []string
		for _, v := range family.Versions {
			rows = append(rows, v.Version)
		}
		if want := map[string][]string{"glibc": glibc, "musl": musl}[f]; !slices.Equal(rows, want) {
			t.Errorf("the rows of %s are %v", f, rows)
		}
	}
}

// TestHangingFunctions: which functions of glibc hang in a worker, by version, as
// nine builds showed.
func TestHangingFunctions(t *testing.T) {
	b := base(t)
	for function, c := range map[string]struct{ hangs, fine []string }{
		"getaddrinfo": {hangs: []string{"2.23", "2.27", "2.31", "2.43"}},
		"res_init":    {hangs: []string{"2.27", "2.43"}, fine: []string{"2.23"}},
		"setenv":      {hangs: []string{"2.23", "2.43"}},
		"localtime_r": {hangs: []string{"2.23", "2.43"}},
		"atexit":      {hangs: []string{"2.23", "2.43"}},
		"exit":        {hangs: []string{"2.27", "2.31", "2.43"}, fine: []string{"2.23"}},
		"sem_open":    {hangs: []string{"2.23", "2.43"}},
		"malloc":      {fine: []string{"2.17", "2.23", "2.43"}},
		"getenv":      {fine: []string{"2.23", "2.43"}},
		"getpwnam_r":  {fine: []string{"2.36"}},
		"drand48":     {fine: []string{"2.36"}},
	} {
		hangs := func(version string) bool {
			return slices.ContainsFunc(b.Libc(Build{Family: "glibc", Version: version}).Locks, func(l *Lock) bool { return slices.Contains(l.Functions, function) })
		}
		for _, v := range c.hangs {
			if !hangs(v) {
				t.Errorf("%s hangs in a worker of glibc %s", function, v)
			}
		}
		for _, v := range c.fine {
			if hangs(v) {
				t.Errorf("%s does not hang in a worker of glibc %s", function, v)
			}
		}
	}
}
