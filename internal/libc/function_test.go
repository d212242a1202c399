package libc

import "testing"

func TestTold(t *testing.T) {
	lib := func(names ...string) []Caller {
		var out []Caller
		for _, n := range names {
			out = append(out, Caller{Object: "libc.so.6", Function: n})
		}
		return append(out, Caller{Object: "app", Function: "pthread_mutex_lock_of_the_app"})
	}
	jump := lib("", "")
	jump[1].Called = "localtime_r"
	for name, tc := range map[string]struct {
		stack []Caller
		want  wants
		via   string
	}{
		"2.31":                        {lib("__lll_lock_wait", "__GI___pthread_mutex_lock"), mutex, "__pthread_mutex_lock"},
		"2.31, robust":                {lib("__pthread_mutex_lock_full"), mutex, "__pthread_mutex_lock_full"},
		"stripped":                    {lib("", "pthread_mutex_lock"), mutex, "pthread_mutex_lock"},
		"semaphore":                   {lib("do_futex_wait.constprop.0", "__new_sem_wait_slow.constprop.0"), semaphore, "__new_sem_wait_slow"},
		"named semaphores' own lock":  {lib("__lll_lock_wait_private", "sem_open"), other, "sem_open"},
		"condition":                   {lib("__futex_abstimed_wait_common64", "__pthread_cond_wait"), condition, "__pthread_cond_wait"},
		"locale":                      {lib("pthread_rwlock_wrlock", "setlocale"), rwlock, "setlocale"},
		"join":                        {lib("__pthread_clockjoin_ex"), join, "__pthread_clockjoin_ex"},
		"loader":                      {lib("__lll_lock_wait", "dl_iterate_phdr"), loader, "dl_iterate_phdr"},
		"a function that ended in it": {jump, other, "localtime_r"},
		"the program's own futex":     {lib("syscall"), bare, "syscall"},
		"no names":                    {lib("", ""), unnamed, ""},
		"only a helper":               {lib("__lll_lock_wait_private"), unnamed, ""},
		"resolver":                    {[]Caller{{Object: "libc.so.6", Function: "__lll_lock_wait_private"}, {Object: "libresolv.so.2", Function: "res_nquery"}, {Object: "libnss_dns.so.2"}, {Object: "libc.so.6", Function: "getaddrinfo"}, {Object: "app"}}, other, "getaddrinfo"},
	} {
		frames := inner(tc.stack)
		if got, v := told(frames), via(frames); got != tc.want || v != tc.via {
			t.Errorf("%s: waits for %d from %q, want %d from %q", name, got, v, tc.want, tc.via)
		}
	}
}
