package chance

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func near(a, b, within float64) bool { return math.Abs(a-b) <= within }

// The values of Newcombe, "Two-sided confidence intervals for the single
// proportion", Statistics in Medicine 17 (1998), table I, methods 3 and 5.
func TestPublishedIntervals(t *testing.T) {
	for _, tt := range []struct {
		k, n          int
		exact, wilson Interval
	}{
		{81, 263, Interval{0.2527, 0.3676}, Interval{0.2553, 0.3662}},
		{15, 148, Interval{0.0578, 0.1617}, Interval{0.0624, 0.1605}},
		{0, 20, Interval{0, 0.1684}, Interval{0, 0.1611}},
		{1, 29, Interval{0.0009, 0.1776}, Interval{0.0061, 0.1718}},
	} {
		if got := Exact(tt.k, tt.n); !near(got.Low, tt.exact.Low, 5e-5) || !near(got.High, tt.exact.High, 5e-5) {
			t.Errorf("Exact(%d, %d) = %.5f, published as %.4f", tt.k, tt.n, got, tt.exact)
		}
		if got := wilson(tt.k, tt.n); !near(got.Low, tt.wilson.Low, 5e-5) || !near(got.High, tt.wilson.High, 5e-5) {
			t.Errorf("wilson(%d, %d) = %.5f, published as %.4f", tt.k, tt.n, got, tt.wilson)
		}
	}
}

func TestEnds(t *testing.T) {
	if got := Exact(0, 0); got != (Interval{0, 1}) {
		t.Errorf("of nothing follows %v", got)
	}
	if got := Exact(7, 7); got.High != 1 || !near(got.Low, math.Pow(0.025, 1.0/7), 1e-9) {
		t.Errorf("7 of 7: %v", got)
	}
	for _, n := range []int{1, 30, 1000, 10_000_000} {
		if got, want := Exact(0, n).High, 1-math.Pow(0.025, 1/float64(n)); !near(got, want, want*1e-6) {
			t.Errorf("0 of %d: at most %g, want %g", n, got, want)
		}
	}
	// The rule of three, which is good from some 30 tries on.
	for _, n := range []int{30, 100, 10_000} {
		if got, rule := None(n), 3/float64(n); got > rule || got < 0.94*rule {
			t.Errorf("None(%d) = %g, the rule of three says %g", n, got, rule)
		}
	}
}

// Newcombe, "Interval estimation for the difference between independent
// proportions", Statistics in Medicine 17 (1998), table II, method 10.
func TestPublishedDifferences(t *testing.T) {
	for _, tt := range []struct {
		k1, n1, k2, n2 int
		low, high      float64
	}{
		{56, 70, 48, 80, 0.0524, 0.3339},
		{9, 10, 3, 10, 0.1705, 0.8090},
		{10, 10, 0, 20, 0.6791, 1},
		{6, 7, 2, 7, 0.0582, 0.8062},
		{5, 56, 0, 29, -0.0381, 0.1926},
		{0, 10, 0, 20, -0.1611, 0.2775},
		{10, 10, 0, 10, 0.6075, 1},
	} {
		// There the difference is first minus second.
		d, got := Difference(tt.k2, tt.n2, tt.k1, tt.n1)
		if !near(got.Low, tt.low, 6e-5) || !near(got.High, tt.high, 6e-5) || d < got.Low || d > got.High {
			t.Errorf("%d/%d against %d/%d: %.5f in %.5f, published as %.4f to %.4f", tt.k1, tt.n1, tt.k2, tt.n2, d, got, tt.low, tt.high)
		}
	}
	if _, got := Difference(0, 0, 1, 2); got != (Interval{-1, 1}) {
		t.Errorf("of nothing follows %v", got)
	}
}

func TestPublishedFisher(t *testing.T) {
	for _, tt := range []struct {
		k1, n1, k2, n2 int
		want           float64
		source         string
	}{
		{3, 4, 1, 4, 0.4857142857, "Fisher's lady tasting tea, 3 of 4 right: 34/70, as R's fisher.test says"},
		{4, 4, 0, 4, 2.0 / 70, "the same with all right"},
		{1, 12, 9, 12, 0.002759456, "24 teenagers of whom 1 of 12 and 9 of 12 study: Wikipedia, Fisher's exact test"},
	} {
		if got := Fisher(tt.k1, tt.n1, tt.k2, tt.n2); !near(got, tt.want, 1e-8) {
			t.Errorf("Fisher(%d, %d, %d, %d) = %.10f, want %.10f (%s)", tt.k1, tt.n1, tt.k2, tt.n2, got, tt.want, tt.source)
		}
	}
}

// What must hold of every table.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 500).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		i, p := Exact(k, n), float64(k)/float64(n)
		if !(0 <= i.Low && i.Low <= p && p <= i.High && i.High <= 1) {
			t.Fatalf("%v does not hold %g", i, p)
		}
		if j := Exact(n-k, n); !near(i.Low, 1-j.High, 1e-9) || !near(i.High, 1-j.Low, 1e-9) {
			t.Fatalf("%v of hits, but %v of misses", i, j)
		}
		m := rapid.IntRange(1, 500).Draw(t, "m")
		l := rapid.IntRange(0, m).Draw(t, "l")
		f := Fisher(k, n, l, m)
		if f < 0 || f > 1 || !near(f, Fisher(l, m, k, n), 1e-9) {
			t.Fatalf("p = %g, the other way round %g", f, Fisher(l, m, k, n))
		}
		if d, i := Difference(k, n, l, m); d < i.Low-1e-12 || d > i.High+1e-12 || i.Low < -1 || i.High > 1 {
			t.Fatalf("the difference %g is not in %v", d, i)
		}
	})
}

// The exact interval misses the true probability in at most 5 of 100 cases:
// summed over all outcomes, so that no luck is involved.
func TestCoverage(t *testing.T) {
	for _, n := range []int{5, 40, 200} {
		for _, p := range []float64{0.001, 0.01, 0.1, 0.37, 0.5, 0.9} {
			var missed float64
			for k := 0; k <= n; k++ {
				if i := Exact(k, n); p < i.Low || p > i.High {
					missed += math.Exp(choose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
				}
			}
			if missed > 0.05 {
				t.Errorf("n = %d, p = %g: missed in %.3f of all cases", n, p, missed)
			}
		}
	}
}
