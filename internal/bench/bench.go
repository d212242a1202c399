// Package bench measures how fast forkproof answers about real servers, beside
// another program asked the same in the same run: what counts is the ratio. It
// has no code of its own; make bench runs it, and docs/performance.md says what
// came out. The search of a process's memory is measured in internal/orphan.
package bench
