package libc

import (
	"slices"
	"strings"
)

// AtFork is what the fork of a C library does with one of its own locks.
type AtFork int

const (
	// LeftAlone: the child has it as it was. Who waits for it there, while a
	// thread that the child does not have held it, waits for ever.
	LeftAlone AtFork = iota
	// MadeAnew: the child's lock is free, whatever it was.
	MadeAnew
	// Taken: the forking thread takes it itself for the time of the fork, so that
	// nobody else holds it then.
	Taken
	// Unclear: no more is known.
	Unclear
)

// forkTakes, forkMakes and forkLeaves are locks of glibc by what fork does with
// them (sysdeps/nptl/fork.h, posix/fork.c, malloc/arena.c, libio/genops.c). The
// last list has only such as the functions that take them release themselves,
// whatever happens: no handler and no other code touches them.
var (
	forkTakes = []string{"main_arena", "list_lock", "free_list_lock", "list_all_lock", "atfork_lock", "__fork_lock"}
	forkMakes = []string{"_IO_stdfile_0_lock", "_IO_stdfile_1_lock", "_IO_stdfile_2_lock", "stack_cache_lock", "_dl_stack_cache_lock",
		"__default_pthread_attr_lock", "_dl_load_lock", "_dl_load_tls_lock", "__timer_active_sigev_thread_lock", "__active_timer_sigev_thread_lock"}
	forkLeaves = []string{"tzset_lock", "envlock", "syslog_lock", "nss_module_list_lock", "__libc_utmp_lock"}
	// Those called just "lock", by the file that has them.
	forkLeavesFiles = []string{"random.c", "resolv_conf.c", "check_pf.c", "getaddrinfo.c", "res_hconf.c", "getnameinfo.c", "fmtmsg.c", "localealias.c", "reg-printf.c", "reg-type.c", "reg-modifier.c"}
)

// Forked says what the fork of this C library does with one of its own locks.
func (id Identity) Forked(k Known) AtFork {
	if id.Family != "glibc" || id.Major != 2 {
		return Unclear
	}
	switch {
	case slices.Contains(forkTakes, k.Symbol):
		return Taken
	case slices.Contains(forkMakes, k.Symbol), k.Symbol == "lock" && k.File == "unwind-link.c":
		return MadeAnew
	case k.Symbol == "proc_file_chain_lock" && id.Minor >= 39, k.Symbol == "lock" && k.File == "abort.c" && id.Minor >= 41:
		// BZ 31595 was backported to the branches of 2.39 and 2.40.
		return Taken
	case k.Symbol == "nss_actions_lock" || strings.HasPrefix(k.Symbol, "nss_database"):
		return Unclear
	case slices.Contains(forkLeaves, k.Symbol),
		k.Symbol == "lock" && (slices.Contains(forkLeavesFiles, k.File) || database(k.File)):
		return LeftAlone
	}
	return Unclear
}

// database reports whether a file has the functions for a database of the name
// service that share one buffer and so have a lock.
func database(file string) bool {
	for _, d := range databases[:17] {
		if strings.HasPrefix(file, d.prefix) && strings.HasPrefix(d.prefix, "get") {
			return true
		}
	}
	return false
}
