package facts

import (
	"cmp"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func sign(n int) int { return cmp.Compare(n, 0) }

// compared is what ComparePackages says, as a sign.
func compared(t interface {
	Helper()
	Fatal(...any)
}, e Ecosystem, a, b string) int {
	t.Helper()
	c, err := ComparePackages(e, a, b)
	if err != nil {
		t.Fatal(err)
	}
	return sign(c)
}

func TestComparePackages(t *testing.T) {
	for _, c := range []struct {
		e    Ecosystem
		a, b string
		want int
	}{
		{Deb, "2.36-9+deb12u9", "2.36-9+deb12u10", -1},
		{Deb, "2.31-0ubuntu9.9", "2.31-0ubuntu9.18", -1},
		{Deb, "2.36~rc1-1", "2.36-1", -1},
		{Deb, "1:2.0-1", "3.0-1", 1},
		{Deb, "2.36-9", "2.36-9", 0},
		{RPM, "2.17-162.el7", "2.17-162", 1},
		{RPM, "2.17-157.el7_3.1", "2.17-162", -1},
		{RPM, "2.34-60.el9", "2.34-100.el9", -1},
		{RPM, "2.28-206.el8", "2.28-206", 1},
		{RPM, "2.34-28.el9_0.2", "2.34-35", -1},
		{RPM, "2.34-35.el9", "2.34-35", 1},
		{RPM, "2.36~rc1-1", "2.36-1", -1},
		{RPM, "1:1.0-1", "2.0-1", 1},
		{APK, "1.2.5-r0", "1.2.5-r10", -1},
		{APK, "1.2.2_pre2-r0", "1.2.2-r0", -1},
		{APK, "1.2.5_git20240101-r0", "1.2.5-r0", 1},
		{APK, "1.1.24-r10", "1.2.2-r0", -1},
	} {
		if got := compared(t, c.e, c.a, c.b); got != c.want {
			t.Errorf("%s: %s against %s: %d, want %d", c.e, c.a, c.b, got, c.want)
		}
		if got := compared(t, c.e, c.b, c.a); got != -c.want {
			t.Errorf("%s: %s against %s: %d, want %d", c.e, c.b, c.a, got, -c.want)
		}
	}
	for _, bad := range []struct {
		e Ecosystem
		v string
	}{{Deb, ""}, {Deb, "x y"}, {APK, "one"}, {"pacman", "1"}, {RPM, strings.Repeat("1", 300)}} {
		if _, err := ComparePackages(bad.e, bad.v, "1"); err == nil {
			t.Errorf("%s takes %q for a version", bad.e, bad.v)
		}
	}
}

// debian draws a version as Debian allows it.
func debian() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		v := rapid.StringMatching(`[0-9]{1,3}(\.[0-9]{1,3}|[a-z]{1,2}|\+[a-z0-9]{1,4}|~[a-z0-9]{1,3}){0,4}`).Draw(t, "upstream")
		if rapid.Bool().Draw(t, "has epoch") {
			v = rapid.StringMatching(`[0-2]:`).Draw(t, "epoch") + v
		}
		if rapid.Bool().Draw(t, "has revision") {
			v += rapid.StringMatching(`-[0-9]{1,2}((\.|\+|~)?[a-z]{0,6}[0-9]{0,2}){0,2}`).Draw(t, "revision")
		}
		return v
	})
}

// near draws a pair that differs in little, as versions do that are compared.
func near(t *rapid.T, g *rapid.Generator[string]) (a, b string) {
	a = g.Draw(t, "a")
	if rapid.Bool().Draw(t, "apart") {
		return a, g.Draw(t, "b")
	}
	i := rapid.IntRange(0, len(a)-1).Draw(t, "place")
	return a, a[:i] + rapid.StringMatching(`[0-9]{0,2}|\+b1|~1`).Draw(t, "change") + a[i:]
}

func TestDebianOrderIsThatOfDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("no dpkg here")
	}
	tried := 0
	rapid.Check(t, func(t *rapid.T) {
		a, b := near(t, debian())
		ours, err := ComparePackages(Deb, a, b)
		if err != nil {
			return // dpkg, more lenient, is asked nothing
		}
		relation := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[sign(ours)]
		if err := exec.Command(dpkg, "--compare-versions", a, relation, b).Run(); err != nil {
			t.Fatalf("we say %s %s %s, dpkg does not", a, relation, b)
		}
		tried++
	})
	if tried < 50 {
		t.Errorf("only %d pairs were compared", tried)
	}
}

func TestRPMOrderIsThatOfRPM(t *testing.T) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Skip("no rpm here")
	}
	if out, err := exec.Command(rpm, "--eval", `%{lua:print(rpm.vercmp("1","2"))}`).Output(); err != nil || strings.TrimSpace(string(out)) != "-1" {
		t.Skipf("this rpm compares no versions: %s, %v", out, err)
	}
	version := rapid.StringMatching(`[0-9]{1,3}(\.[0-9]{1,3}|[a-z]{1,3}|~[a-z0-9]{1,3}|_[0-9]{1,2}){0,4}(-[0-9]{1,3}(\.el[0-9](_[0-9])?)?)?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := near(t, version)
		if strings.Contains(a+b, "+") {
			return // what follows a plus is only separated by it
		}
		out, err := exec.Command(rpm, "--eval", `%{lua:print(rpm.vercmp("`+a+`","`+b+`"))}`).Output()
		if err != nil {
			t.Fatal(err)
		}
		theirs := map[string]int{"-1": -1, "0": 0, "1": 1}[strings.TrimSpace(string(out))]
		if ours := compared(t, RPM, a, b); ours != theirs {
			t.Fatalf("%s against %s: we say %d, rpm says %d", a, b, ours, theirs)
		}
	})
}

// FuzzComparePackages feeds what a damaged package database may hold: no panic,
// and the order of two versions does not depend on which is named first.
func FuzzComparePackages(f *testing.F) {
	for _, s := range []string{"2.36-9+deb12u9", "1:2~", "-", ":", "1.2.5-r0", "1.2_p", "^~-", "9999999999999999999999-1", "0:", "1-", "٣.1"} {
		f.Add(s, "2.36-9+deb12u14")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, e := range []Ecosystem{Deb, RPM, APK} {
			x, errX := ComparePackages(e, a, b)
			y, errY := ComparePackages(e, b, a)
			if (errX == nil) != (errY == nil) {
				t.Errorf("%s: %q against %q: %v, the other way %v", e, a, b, errX, errY)
			}
			if errX == nil && sign(x) != -sign(y) {
				t.Errorf("%s: %q against %q: %d, the other way %d", e, a, b, x, y)
			}
		}
		_ = Upstream(Deb, a)
		if sign(CompareUpstream(a, b)) != -sign(CompareUpstream(b, a)) {
			t.Errorf("upstream: %q against %q: %d, the other way %d", a, b, CompareUpstream(a, b), CompareUpstream(b, a))
		}
	})
}

func TestCompareUpstream(t *testing.T) {
	// Each is newer than the one before it.
	order := []string{"0.2.9.rc1", "0.2.9.rc2", "0.2.9", "0.2.9.1", "0.3.14", "1.0.2", "1.1.0", "1.1.1", "1.1.1d", "1.1.1n", "1.1.2", "2.9", "2.10", "2.36", "2.36.1", "3.0.19", "10"}
	for i, a := range order {
		for j, b := range order {
			if got := sign(CompareUpstream(a, b)); got != cmp.Compare(i, j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
}

func TestUpstream(t *testing.T) {
	for _, c := range []struct {
		e       Ecosystem
		v, want string
	}{
		{Deb, "2.36-9+deb12u14", "2.36"},
		{Deb, "3.0.19-1~deb12u2", "3.0.19"},
		{Deb, "0.3.21+ds-4", "0.3.21"},
		{Deb, "1:1.21.5-2", "1.21.5"},
		{RPM, "2.34-60.el9", "2.34"},
		{RPM, "1:3.0.7-27.el9", "3.0.7"},
		{APK, "1.2.5-r10", "1.2.5"},
		{APK, "1.2.5_git20240101-r0", "1.2.5"},
		{Deb, "", ""},
	} {
		if got := Upstream(c.e, c.v); got != c.want {
			t.Errorf("%s %s is of %q, want %q", c.e, c.v, got, c.want)
		}
	}
}
