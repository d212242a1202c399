package libc

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// builds is made by scripts/libclocks.sh.
//
//go:embed builds.txt
var builds []byte

// Known is a lock inside of a C library.
type Known struct {
	// Symbol is its name in the source, File the source file (empty for one that
	// several files use).
	Symbol, File string
	// Words say what it protects, empty where nobody wrote that down.
	Words string
}

// String names the lock for people, behind "glibc's": "time zone lock
// (tzset_lock)".
func (k Known) String() string {
	what := k.Words
	if what == "" {
		what = "own lock"
	}
	if k.Symbol == "lock" {
		return fmt.Sprintf("%s (lock in %s)", what, k.File)
	}
	return fmt.Sprintf("%s (%s)", what, k.Symbol)
}

// LockNamed is the lock of a C library that has this symbol, such as "lock", in
// this source file, such as "random.c".
func LockNamed(symbol, file string) Known {
	k := Known{Symbol: symbol, File: file}
	k.Words = words(k)
	return k
}

type knownLock struct {
	addr, size uint64
	lock       Known
}

// table has the locks of each build, in the order of their addresses.
var table = sync.OnceValue(func() map[string][]knownLock { return parseBuilds(builds) })

// parseBuilds reads a table as tool/genlocks writes it. It is ours: a line that
// is not understood is left out, and the tests would tell.
func parseBuilds(b []byte) map[string][]knownLock {
	out := make(map[string][]knownLock)
	id := ""
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		f := strings.Fields(s.Text())
		switch {
		case len(f) != 4 || f[0] == "#":
		case f[0] == "build":
			// Two packages may hold the same file.
			id = f[1]
			out[id] = nil
		default:
			var l knownLock
			if _, err := fmt.Sscanf(f[0]+" "+f[1], "%x %x", &l.addr, &l.size); err != nil || id == "" {
				continue
			}
			l.lock = LockNamed(f[2], strings.TrimPrefix(f[3], "-"))
			out[id] = append(out[id], l)
		}
	}
	return out
}

// KnownLock names the lock at an address of the file that has this build-id, as
// the file counts addresses; ok is false where the build or the lock is not in
// the table of builds.
func KnownLock(buildID string, vaddr uint64) (k Known, ok bool) {
	locks := table()[buildID]
	i := sort.Search(len(locks), func(i int) bool { return locks[i].addr > vaddr }) - 1
	if i < 0 || vaddr-locks[i].addr >= locks[i].size {
		return Known{}, false
	}
	return locks[i].lock, true
}

// LockAt returns where the lock of this symbol and source file (empty for one that
// several files use) lies in the file that has this build-id, as the file counts
// addresses, and its size in bytes; ok is false where the build or the lock is not
// in the table of builds.
func LockAt(buildID, symbol, file string) (vaddr, size uint64, ok bool) {
	for _, l := range table()[buildID] {
		if l.lock.Symbol == symbol && l.lock.File == file {
			return l.addr, l.size, true
		}
	}
	return 0, 0, false
}

// bySymbol says in words what locks protect that have a name of their own.
var bySymbol = map[string]string{
	"tzset_lock": "time zone lock", "syslog_lock": "syslog lock", "envlock": "environment lock", "__libc_setlocale_lock": "locale lock",
	"_nl_state_lock": "message catalogue lock", "tree_lock": "message catalogue lock", "__gconv_lock": "character conversion lock",
	"main_arena": "main malloc arena", "list_lock": "list of malloc arenas", "free_list_lock": "list of free malloc arenas",
	"__exit_funcs_lock": "lock of exit handlers", "__exit_lock": "exit lock", "atfork_lock": "lock of fork handlers", "__fork_lock": "lock of fork handlers",
	"list_all_lock": "list of all streams", "proc_file_chain_lock": "popen lock",
	"_IO_stdfile_0_lock": "lock of stdin", "_IO_stdfile_1_lock": "lock of stdout", "_IO_stdfile_2_lock": "lock of stderr",
	"_dl_load_lock": "lock of the dynamic loader", "_dl_load_write_lock": "list of loaded libraries", "_dl_load_tls_lock": "lock of thread-local storage",
	"_dl_stack_cache_lock": "lock of thread stacks", "stack_cache_lock": "lock of thread stacks",
	"nss_actions_lock": "name service lock", "nss_module_list_lock": "name service lock",
	"__sem_mappings_lock": "lock of named semaphores", "sem_mappings_lock": "lock of named semaphores", "__libc_utmp_lock": "login records lock",
	"createxid_lock": "RPC lock", "keycall_lock": "RPC lock", "__default_pthread_attr_lock": "lock of default thread attributes", "__attr_list_lock": "lock of thread attributes",
	"__aio_requests_mutex": "asynchronous I/O lock", "domainname_lock": "NIS lock", "ypbindlist_lock": "NIS lock",
	"__timer_active_sigev_thread_lock": "lock of timers", "__timer_helper_once": "lock of timers",
}

// byFile does it for those called just "lock".
var byFile = map[string]string{
	"resolv_conf.c": "resolver configuration lock", "check_pf.c": "lock of network interfaces", "getaddrinfo.c": "gai.conf lock", "res_hconf.c": "host.conf lock",
	"getnameinfo.c": "domain name lock", "nsswitch.c": "name service lock", "random.c": "random lock", "system.c": "system lock", "abort.c": "abort lock",
	"cxa_atexit.c": "lock of exit handlers", "on_exit.c": "lock of exit handlers", "dcigettext.c": "message catalogue lock", "finddomain.c": "message catalogue lock",
	"loadmsgcat.c": "message catalogue lock", "localealias.c": "locale alias lock", "fmtmsg.c": "fmtmsg lock", "lckpwdf.c": "password file lock",
	"unwind-link.c": "lock of the unwinder", "bindresvport.c": "bindresvport lock", "bindrsvprt.c": "bindresvport lock", "mtrace.c": "mtrace lock", "reg-printf.c": "printf registration lock", "reg-type.c": "printf registration lock",
	"reg-modifier.c": "printf registration lock",
}

// databases of the name service by the letters behind get, set, end or fget in
// the name of a source file (nss/, and directories named after the database).
var databases = []struct{ prefix, words string }{
	{"getpw", "password"}, {"fgetpw", "password"}, {"getgr", "group"}, {"fgetgr", "group"}, {"getsp", "shadow password"}, {"fgetsp", "shadow password"}, {"sgetsp", "shadow password"},
	{"getsg", "shadow group"}, {"fgetsg", "shadow group"}, {"sgetsg", "shadow group"}, {"gethst", "host"}, {"getnetgr", "netgroup"}, {"getnet", "network"}, {"getpr", "protocol"},
	{"getrpc", "RPC program"}, {"getserv", "service"}, {"getsrv", "service"}, {"getalias", "mail alias"}, {"compat-", "compatibility"}, {"files-", "name service file"},
}

func words(k Known) string {
	if w, ok := bySymbol[k.Symbol]; ok || k.Symbol != "lock" {
		return w
	}
	if w, ok := byFile[k.File]; ok {
		return w
	}
	for _, d := range databases {
		if strings.HasPrefix(k.File, d.prefix) {
			return d.words + " database lock"
		}
	}
	return ""
}

// OwnLock is a lock inside of a C library, at an address as its file counts them.
type OwnLock struct {
	Known
	Addr, Size uint64
}

// Locks returns the locks of the file that has this build-id, in the order of
// their addresses; none where it is not in the table of builds.
func Locks(buildID string) []OwnLock {
	var out []OwnLock
	for _, l := range table()[buildID] {
		out = append(out, OwnLock{l.lock, l.addr, l.size})
	}
	return out
}
