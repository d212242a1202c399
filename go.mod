module forkproof

go 1.26.0

require (
	github.com/ianlancetaylor/demangle v0.0.0-20260724033716-83e58baca724
	github.com/therootcompany/xz v1.0.1
	golang.org/x/sys v0.49.0
)
