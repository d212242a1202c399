package provoke

// role is what a function does to a lock.
type role uint8

const (
	// acquires: the function returns with the lock, or with an error.
	acquires role = iota
	// tries: it may return without the lock, and says so.
	tries
	// releases: who stands at its entry has the lock, or misuses it.
	releases
	// forks: a process is about to be made.
	forks
)

// kind is what sort of lock it is: how its state is read from memory.
type kind string

// The kinds, in the words of finding.Lock.
const (
	kindMutex     kind = "pthread_mutex"
	kindRWLock    kind = "pthread_rwlock"
	kindSemaphore kind = "semaphore"
	kindStream    kind = "stdio"
	kindPython    kind = "python-lock"
	kindLibc      kind = "libc-internal"
)

// function is one that is watched. All of them have the lock, or what holds it, as
// their first argument.
type function struct {
	names []string
	role  role
	kind  kind
}

// lockFunctions are the functions by which programs take locks. A name that a
// program, or an older or newer library, does not have is left out.
//
// Python's locks are semaphores until 3.12; 3.13 has besides, and 3.14 has for
// threading.Lock, mutexes of one byte; see pythonTakes.
var lockFunctions = []function{
	{[]string{"pthread_mutex_lock"}, acquires, kindMutex},
	{[]string{"pthread_mutex_trylock", "pthread_mutex_timedlock", "pthread_mutex_clocklock"}, tries, kindMutex},
	{[]string{"pthread_mutex_unlock"}, releases, kindMutex},
	{[]string{"pthread_rwlock_rdlock", "pthread_rwlock_wrlock"}, acquires, kindRWLock},
	{[]string{"pthread_rwlock_tryrdlock", "pthread_rwlock_trywrlock", "pthread_rwlock_timedrdlock", "pthread_rwlock_timedwrlock", "pthread_rwlock_clockrdlock", "pthread_rwlock_clockwrlock"}, tries, kindRWLock},
	{[]string{"pthread_rwlock_unlock"}, releases, kindRWLock},
	{[]string{"sem_wait"}, acquires, kindSemaphore},
	{[]string{"sem_trywait", "sem_timedwait", "sem_clockwait"}, tries, kindSemaphore},
	{[]string{"sem_post"}, releases, kindSemaphore},
	{[]string{"flockfile"}, acquires, kindStream},
	{[]string{"ftrylockfile"}, tries, kindStream},
	{[]string{"funlockfile"}, releases, kindStream},
	{[]string{"fork"}, forks, ""},
}

// pythonTakes and pythonReleases are the methods of Python's locks of one byte; see
// pylock.Heap.Methods.
var pythonTakes, pythonReleases = function{role: tries, kind: kindPython}, function{role: releases, kind: kindPython}

// own is a lock inside of the C library, with functions that take it.
type own struct {
	// symbol and file are its name in the library's source; see libc.Known.
	symbol, file string
	// functions take it on their way, most of them always.
	functions []string
	// fork says what fork does about it, empty for nothing; see the facts of
	// package facts, glibc-*-lock and glibc-malloc, glibc-stdio.
	fork string
}

// What fork does about a lock of the C library.
const (
	taken = "fork takes it and gives it back in both processes"
	reset = "fork resets it in the child"
)

// ownLocks are glibc's own, as far as ordinary functions take them by themselves;
// those that are mutexes or read-write locks are seen by the functions for these.
// Read in the sources of 2.31 to 2.43; where each lies is told by package libc.
var ownLocks = []own{
	{"main_arena", "malloc.c", []string{"malloc", "calloc", "realloc", "free"}, taken},
	{"list_all_lock", "genops.c", []string{"fopen", "fclose"}, taken},
	{"envlock", "setenv.c", []string{"setenv", "unsetenv", "putenv", "clearenv"}, ""},
	{"tzset_lock", "tzset.c", []string{"tzset", "localtime", "localtime_r", "mktime", "strftime"}, ""},
	{"lock", "random.c", []string{"random", "rand", "srandom", "srand", "initstate", "setstate"}, ""},
	{"syslog_lock", "syslog.c", []string{"syslog", "vsyslog", "openlog", "closelog", "setlogmask"}, ""},
	{"__gconv_lock", "", []string{"iconv_open", "iconv_close"}, ""},
	{"lock", "getpwnam.c", []string{"getpwnam"}, ""},
	{"lock", "getpwuid.c", []string{"getpwuid"}, ""},
	{"lock", "getgrnam.c", []string{"getgrnam"}, ""},
	{"lock", "getgrgid.c", []string{"getgrgid"}, ""},
	{"lock", "gethstbynm.c", []string{"gethostbyname"}, ""},
	{"lock", "getsrvbynm.c", []string{"getservbyname"}, ""},
	{"lock", "getpwent.c", []string{"getpwent"}, ""},
	{"lock", "getpwent_r.c", []string{"setpwent", "getpwent_r", "endpwent"}, ""},
	{"lock", "getgrent.c", []string{"getgrent"}, ""},
	{"lock", "getgrent_r.c", []string{"setgrent", "getgrent_r", "endgrent"}, ""},
	{"lock", "resolv_conf.c", []string{"getaddrinfo", "gethostbyname", "gethostbyname_r", "res_ninit", "__res_ninit"}, ""},
	{"lock", "check_pf.c", []string{"getaddrinfo"}, ""},
	{"lock", "getaddrinfo.c", []string{"getaddrinfo"}, ""},
	{"lock", "system.c", []string{"system"}, ""},
	{"proc_file_chain_lock", "iopopen.c", []string{"popen", "pclose"}, ""},
	{"__exit_funcs_lock", "", []string{"atexit", "on_exit", "__cxa_atexit"}, ""},
	{"lock", "fmtmsg.c", []string{"fmtmsg"}, ""},
}

// mended are locks of glibc's own, among those that are mutexes, that fork makes
// anew in the child (2.31 to 2.43, posix/fork.c or sysdeps/nptl/fork.c).
var mended = []string{"_dl_load_lock", "_dl_load_tls_lock"}

// streamFunctions write to or read from a stream and hold its lock meanwhile. The
// argument that is the stream counts from 0; -1 stands for stdout.
var streamFunctions = []struct {
	names    []string
	argument int
}{
	{[]string{"fwrite", "fread"}, 3},
	{[]string{"fputs", "fputc", "putc"}, 1},
	{[]string{"fflush", "fgetc", "getc", "fprintf", "vfprintf", "fseek", "ftell", "__fprintf_chk", "__vfprintf_chk"}, 0},
	{[]string{"fgets"}, 2},
	{[]string{"printf", "puts", "putchar", "vprintf", "__printf_chk"}, -1},
}
