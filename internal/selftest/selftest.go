// Package selftest holds the tests that the repository has of itself: which
// package may import which, who may touch another process, and how large a
// package may grow. It has no code of its own.
package selftest
