package testbed

import "testing"

// Hanging is an application for gunicorn whose workers hang, every one, as soon
// as they have booted. With VICTIM=free in its environment it is its own
// healthy twin.
type Hanging struct {
	// Name is that of the application's module, and of its variant where it has some.
	Name string
	Site Site
}

// HangingSites are the applications that hang in the worker, on a lock that
// another thread of the master holds at every fork: no chance is involved.
func HangingSites(t testing.TB) []Hanging {
	t.Helper()
	lib, libCPP := "VICTIM_LIB="+Build(t, "libforkvictim.c"), "VICTIM_LIB="+Build(t, "libforkvictim_cpp.cc")
	touch := func(app string, env ...string) Site { return Site{App: app, Hooks: "touch", Env: env} }
	return []Hanging{
		{"lock_module", touch("lock_module")},
		{"acquire_module", touch("acquire_module")},
		{"rlock_module", touch("rlock_module")},
		{"queue_module", touch("queue_module")},
		{"executor", touch("executor")},
		{"import_lock", touch("import_lock")},
		{"ctypes_mutex", touch("native_mutex", lib)},
		{"native_mutex", touch("native_mutex", lib, "VICTIM_HOLDER=native")},
		{"std_mutex", touch("native_mutex", libCPP)},
		{"openblas", touch("openblas", "OMP_NUM_THREADS=4")},
		{"getaddrinfo_resolv", touch("getaddrinfo_resolv")},
		{"setlocale_slow", touch("setlocale_slow")},
		{"tz_slow", Site{App: "tz_slow", Hooks: "clock"}},
	}
}
