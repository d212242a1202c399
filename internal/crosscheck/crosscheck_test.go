package crosscheck

import (
	"slices"
	"testing"

	"forkproof/internal/facts"
	"forkproof/internal/probe"
)

func base(t *testing.T) *facts.Base {
	t.Helper()
	b, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestProbesExist holds the probes that the facts name against those there are,
// and demands that a probe of a published defect is named by one.
func TestProbesExist(t *testing.T) {
	b := base(t)
	named := make(map[string]bool)
	add := func(id string, probes []string) {
		for _, p := range probes {
			named[p] = true
			if !slices.ContainsFunc(probe.All(), func(x probe.Probe) bool { return x.Name == p }) {
				t.Errorf("%s names the probe %s, which does not exist", id, p)
			}
		}
	}
	for _, d := range b.Defects() {
		add(d.ID, d.Probes)
	}
	for _, l := range b.Locks() {
		add(l.ID, l.Probes)
	}
	for _, h := range b.Hazards() {
		add(h.ID, h.Probes)
	}
	for _, p := range probe.All() {
		// A control that works everywhere belongs to no defect.
		if p.Group == probe.Defect && !named[p.Name] && p.Name != "dlclose-own-prepare" {
			t.Errorf("no entry of the facts names the probe %s of a defect", p.Name)
		}
	}
}

// TestMeasuredAgrees holds what was measured on real builds against the facts.
// The one contradiction is a crash that nobody has explained yet.
func TestMeasuredAgrees(t *testing.T) {
	reports, err := probe.Measured()
	if err != nil {
		t.Fatal(err)
	}
	table := Compare(base(t), reports)
	if n := table.Count(Agrees); n < 400 {
		t.Errorf("%d measurements agree with the facts, want 400 and more", n)
	}
	for _, r := range table.Rows {
		for i, c := range r.Cells {
			if c.Agreement == Contradicts && r.Probe != "register-child" {
				t.Errorf("%s on %s is documented as %s by %v, and %s", r.Probe, table.Builds[i].Name(), c.Documented, r.Facts, c.Measured)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	glibc := func(version, pkg, name string, o probe.Outcome, forks int) probe.Report {
		return probe.Report{Libc: probe.Libc{Family: "glibc", Version: version, Package: pkg}, Results: []probe.Result{{Probe: name, Outcome: o, Forks: forks}}}
	}
	for _, tt := range []struct {
		name   string
		report probe.Report
		probe  string
		want   Agreement
		says   Documented
	}{
		{"a defect where it is", glibc("2.31", "2.31-13+deb11u11", "bz-24595-child", probe.Hangs, 1), "bz-24595-child", Agrees, Has},
		{"a defect that was mended", glibc("2.36", "2.36-9+deb12u14", "bz-24595-child", probe.Works, 1), "bz-24595-child", Agrees, Sound},
		{"a defect that is back", glibc("2.36", "2.36-9+deb12u14", "bz-24595-child", probe.Hangs, 1), "bz-24595-child", Contradicts, Sound},
		{"a package that may have mended it", glibc("2.35", "", "bz-24595-child", probe.Works, 1), "bz-24595-child", Open, May},
		{"a function with a lock", glibc("2.36", "2.36-9+deb12u14", "localtime", probe.Hangs, 3), "localtime", Agrees, Has},
		{"a function with a lock that was lucky", glibc("2.36", "2.36-9+deb12u14", "localtime", probe.Works, 300), "localtime", NotSeen, Has},
		{"a function that fork repairs", glibc("2.36", "2.36-9+deb12u14", "malloc", probe.Works, 300), "malloc", Agrees, Sound},
		{"a function that fork repairs, and hangs", glibc("2.36", "2.36-9+deb12u14", "malloc", probe.Hangs, 3), "malloc", Contradicts, Sound},
		{"two functions of one lock", glibc("2.36", "2.36-9+deb12u14", "localtime+strftime", probe.Hangs, 1), "localtime+strftime", Agrees, Has},
		{"a window that was not reached", glibc("2.36", "2.36-9+deb12u14", "localtime", probe.NotReached, 9), "localtime", Open, Has},
		{"what nobody wrote down", glibc("2.36", "2.36-9+deb12u14", "order", probe.Differs, 1), "order", News, Silent},
		{"a version that the facts do not cover", glibc("2.99", "", "malloc", probe.Hangs, 1), "malloc", News, Silent},
		{"what no C library can repair", glibc("2.36", "2.36-9+deb12u14", "mutex-other", probe.Hangs, 1), "mutex-other", Agrees, Has},
		{"not measured", glibc("2.36", "2.36-9+deb12u14", "x", probe.Works, 1), "malloc", Open, Sound},
	} {
		table := Compare(base(t), []probe.Report{tt.report})
		i := slices.IndexFunc(table.Rows, func(r Row) bool { return r.Probe == tt.probe })
		if i < 0 {
			t.Errorf("%s: no row of %s", tt.name, tt.probe)
			continue
		}
		if c := table.Rows[i].Cells[0]; c.Agreement != tt.want || c.Documented != tt.says {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.name, c.Agreement, c.Documented, tt.want, tt.says)
		}
	}
}
