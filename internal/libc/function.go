package libc

import (
	"slices"
	"strings"
)

// Caller is one frame above the system call, innermost first.
type Caller struct {
	// Function is empty for one without a symbol.
	Function string
	// Called is the function that the frame's caller called, by the call
	// instruction: it names a function that went on by a jump to one without a
	// symbol. Empty where that is not known.
	Called string
	// Object is the base name of the file.
	Object string
}

// names are the frame's, as plain prints them.
func (c Caller) names() []string {
	var out []string
	for _, s := range []string{c.Function, c.Called} {
		if s = plain(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// plain takes off what compilers and C libraries add to the name of a function:
// __GI___pthread_mutex_lock, __new_sem_wait_slow.constprop.0.
func plain(name string) string {
	if i := strings.IndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	name = strings.TrimPrefix(name, "__GI_")
	return strings.TrimLeft(name, "_")
}

// helpers are the inner functions of C libraries that do the waiting for all
// others, and tell nothing about the lock.
var helpers = []string{"lll_", "futex_", "do_futex", "do_wait", "syscall_c", "internal_syscall_cancel", "timedwait", "wait", "libc_"}

// helper reports whether a plain name is that of a helper.
func helper(name string) bool {
	return slices.ContainsFunc(helpers, func(h string) bool {
		return strings.HasPrefix(name, h) && (h != "wait" && h != "timedwait" || name == h || name == h+"_cp")
	})
}

// own reports whether a file of this name is part of a C library.
func own(base string) bool {
	if Named(base) != "" || Loader(base) {
		return true
	}
	for _, lib := range []string{"libresolv", "librt", "libanl", "libnss_", "libnsl", "libc_malloc_debug"} {
		if strings.HasPrefix(base, lib) && (strings.HasPrefix(base[len(lib):], ".") || strings.HasPrefix(base[len(lib):], "-2.") || lib == "libnss_") {
			return true
		}
	}
	return false
}

// inner are the frames from the system call out to the first that is not the C
// library's.
func inner(callers []Caller) []Caller {
	for i, c := range callers {
		if !own(c.Object) {
			return callers[:i]
		}
	}
	return callers
}

// wants is what kind of object a function waits for.
type wants int

const (
	unnamed wants = iota // no function with a name that tells
	mutex
	rwlock
	condition
	semaphore
	barrier
	join
	once
	loader // the dynamic loader's locks, which are mutexes
	bare   // syscall(2): whatever the program makes of the word
	other  // a function that waits for a lock of the library's own
)

var prefixes = []struct {
	prefix string
	wants  wants
}{
	{"pthread_mutex_", mutex}, {"mtx_", mutex}, {"pthread_rwlock_", rwlock}, {"pthread_cond_", condition}, {"cnd_", condition},
	{"sem_", semaphore}, {"new_sem_", semaphore}, {"old_sem_", semaphore}, {"pthread_barrier_", barrier},
	{"pthread_join", join}, {"pthread_timedjoin", join}, {"pthread_clockjoin", join}, {"pthread_tryjoin", join}, {"thrd_join", join},
	{"pthread_once", once}, {"call_once", once}, {"dl_", loader}, {"dlopen", loader}, {"dlclose", loader}, {"dlsym", loader}, {"dladdr", loader},
	{"syscall", bare},
}

// notSemaphores are functions of semaphores that wait for a lock of the
// library's own.
var notSemaphores = []string{"sem_open", "sem_close", "sem_unlink"}

// told finds the innermost function that tells what is waited for.
func told(frames []Caller) wants {
	for _, c := range frames {
		found := unnamed
		for _, name := range c.names() {
			if helper(name) {
				continue
			}
			found = other
			for _, p := range prefixes {
				if strings.HasPrefix(name, p.prefix) && !slices.Contains(notSemaphores, name) {
					return p.wants
				}
			}
		}
		if found == other {
			return other
		}
	}
	return unnamed
}

// via is the function of the C library that the program called: the outermost
// that has a name. Never a helper's.
func via(frames []Caller) string {
	for _, c := range slices.Backward(frames) {
		for _, name := range []string{c.Called, c.Function} {
			if name != "" && !helper(plain(name)) {
				if i := strings.IndexByte(name, '.'); i > 0 {
					name = name[:i]
				}
				return strings.TrimPrefix(name, "__GI_")
			}
		}
	}
	return ""
}
