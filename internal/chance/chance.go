// Package chance puts numbers to luck: how often something happens of which k
// cases were seen in n tries, and whether it happens less often than before.
// It is arithmetic alone.
package chance

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Confidence is that of all intervals here.
const Confidence = 0.95

// Interval is a range of probabilities, each from 0 to 1.
type Interval struct{ Low, High float64 }

// Exact returns the interval of Clopper and Pearson (Biometrika 26, 1934) for k
// of n: it holds the true probability in at least 95 of 100 cases, whatever that
// is, also where k is 0 or n is small. Of no tries nothing follows: 0 to 1.
// It panics if k is not between 0 and n.
func Exact(k, n int) Interval {
	if k < 0 || k > n {
		panic(fmt.Sprintf("chance: %d of %d", k, n))
	}
	const tail = (1 - Confidence) / 2
	i := Interval{0, 1}
	if k > 0 {
		i.Low = mathext.InvRegIncBeta(float64(k), float64(n-k+1), tail)
	}
	if k < n {
		i.High = mathext.InvRegIncBeta(float64(k+1), float64(n-k), 1-tail)
	}
	return i
}

// None returns the bound below which the probability is, with 95 % confidence,
// when n tries, 1 or more, showed nothing: the "rule of three", 3/n, without its
// approximation (Hanley and Lippman-Hand, JAMA 249, 1983). It is lower than the
// upper end of [Exact], which keeps half of its doubt for the other side.
func None(n int) float64 { return -math.Expm1(math.Log(1-Confidence) / float64(n)) }

// wilson returns Wilson's score interval (JASA 22, 1927) for k of n tries, n
// being 1 or more.
func wilson(k, n int) Interval {
	const z = 1.959963984540054 // the normal distribution's quantile at 0.975
	p, m := float64(k)/float64(n), float64(n)
	middle := p + z*z/(2*m)
	width := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Interval{max(0, (middle-width)/(1+z*z/m)), min(1, (middle+width)/(1+z*z/m))}
}

// Difference returns how much more probable the second of two things is than the
// first, from -1 to 1, and the interval of Newcombe for it (Statistics in
// Medicine 17, 1998, method 10: from two of Wilson's). Without tries of both,
// nothing follows: -1 to 1.
func Difference(k1, n1, k2, n2 int) (d float64, i Interval) {
	if n1 == 0 || n2 == 0 {
		return 0, Interval{-1, 1}
	}
	p1, p2 := float64(k1)/float64(n1), float64(k2)/float64(n2)
	w1, w2 := wilson(k1, n1), wilson(k2, n2)
	d = p2 - p1
	return d, Interval{ // rounding may lead past what a difference can be
		max(-1, d-math.Hypot(p2-w2.Low, w1.High-p1)),
		min(1, d+math.Hypot(w2.High-p2, p1-w1.Low)),
	}
}

// Fisher returns the two-sided p of Fisher's exact test: how probable a table at
// least as uneven as k1 of n1 against k2 of n2 is, if both had the same
// probability.
func Fisher(k1, n1, k2, n2 int) float64 {
	all, hits := n1+n2, k1+k2
	log := func(k int) float64 { return choose(n1, k) + choose(n2, hits-k) - choose(all, hits) }
	seen := log(k1)
	var p float64
	for k := max(0, hits-n2); k <= min(hits, n1); k++ {
		// Tables that are as probable as the one seen count, in spite of rounding.
		if l := log(k); l <= seen+1e-7 {
			p += math.Exp(l)
		}
	}
	return min(1, p)
}

// choose is the logarithm of the binomial coefficient.
func choose(n, k int) float64 {
	f := func(n int) float64 { l, _ := math.Lgamma(float64(n) + 1); return l }
	return f(n) - f(k) - f(n-k)
}
