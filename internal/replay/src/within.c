/*
 * Stops inside of libc, while it holds a lock of its own. Where libc calls back
 * (a stream of one's own, dl_iterate_phdr) that is plain. Where it makes a system
 * call under the lock (malloc that needs more memory, dlopen that opens a file),
 * a seccomp filter turns that into a signal, whose handler stops the thread and
 * then makes the call.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "replay.h"

/* musl's headers have no linux/. These are of the kernel's ABI: linux/filter.h,
 * linux/bpf_common.h, linux/seccomp.h. */
struct filter {
	unsigned short code;
	unsigned char yes, no;
	unsigned k;
};
struct filters {
	unsigned short length;
	struct filter *filter;
};
enum {
	load_word = 0x20,  /* BPF_LD | BPF_W | BPF_ABS */
	jump_equal = 0x15, /* BPF_JMP | BPF_JEQ | BPF_K */
	give = 0x06,       /* BPF_RET | BPF_K */
	at_number = 0,
	at_ip = 8,
	seccomp_filter = 2,
	no_new_privileges = 38,
	set_seccomp = 22,
};
#define ALLOW 0x7fff0000u
#define TRAP 0x00030000u

#if defined __x86_64__
__asm__(".text\n"
	".globl raw, raw_made\n"
	"raw: mov %rdi, %rax\n"
	" mov %rsi, %rdi\n"
	" mov %rdx, %rsi\n"
	" mov %rcx, %rdx\n"
	" mov %r8, %r10\n"
	" mov %r9, %r8\n"
	" mov 8(%rsp), %r9\n"
	" syscall\n"
	"raw_made: ret\n"
	".type raw, @function\n");
#define REGISTER(c, n) ((c)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[n]])
#define RESULT(c) ((c)->uc_mcontext.gregs[REG_RAX])
#elif defined __aarch64__
__asm__(".text\n"
	".globl raw, raw_made\n"
	"raw: mov x8, x0\n"
	" mov x0, x1\n"
	" mov x1, x2\n"
	" mov x2, x3\n"
	" mov x3, x4\n"
	" mov x4, x5\n"
	" mov x5, x6\n"
	" svc #0\n"
	"raw_made: ret\n"
	".type raw, %function\n");
#define REGISTER(c, n) ((c)->uc_mcontext.regs[n])
#define RESULT(c) ((c)->uc_mcontext.regs[0])
#else
#error "which registers has a system call here?"
#endif
extern char raw_made[];

static __thread volatile int waits_for; /* a sum of in_, 0 when not armed */

void arm(int where) { waits_for = where; }
int armed(void) { return waits_for; }

static void reached(int where)
{
	if (!(waits_for & where))
		return;
	waits_for = 0;
	record(stops);
	stop();
}

void callback(void) { reached(in_callback); }

static void on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *c = context;
	int saved = errno, number = info->si_syscall;
	(void)signal;
	switch (number) {
#ifdef SYS_open
	case SYS_open:
#endif
	case SYS_openat:
		reached(in_open);
		break;
	case SYS_write:
	case SYS_writev:
		reached(in_write);
		break;
	default:
		reached(in_memory);
	}
	RESULT(c) = raw(number, REGISTER(c, 0), REGISTER(c, 1), REGISTER(c, 2), REGISTER(c, 3), REGISTER(c, 4), REGISTER(c, 5));
	errno = saved;
}

static void die(const char *what)
{
	dprintf(2, "%s: %s\n", what, strerror(errno));
	_exit(120);
}

void prepare_within(void)
{
	static const int trapped[] = {
		SYS_mmap, SYS_mprotect, SYS_brk, SYS_openat, SYS_write, SYS_writev,
#ifdef SYS_open
		SYS_open,
#endif
	};
	enum { calls = sizeof trapped / sizeof *trapped };
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
	uint64_t made = (uintptr_t)raw_made;
	struct filter filter[calls + 8];
	int n = 0;
	filter[n++] = (struct filter){load_word, 0, 0, at_number};
	for (int i = 0; i < calls; i++, n++)
		filter[n] = (struct filter){jump_equal, calls - i, 0, trapped[i]};
	filter[n++] = (struct filter){give, 0, 0, ALLOW};
	filter[n++] = (struct filter){load_word, 0, 0, at_ip};
	filter[n++] = (struct filter){jump_equal, 0, 3, (unsigned)made};
	filter[n++] = (struct filter){load_word, 0, 0, at_ip + 4};
	filter[n++] = (struct filter){jump_equal, 0, 1, (unsigned)(made >> 32)};
	filter[n++] = (struct filter){give, 0, 0, ALLOW};
	filter[n++] = (struct filter){give, 0, 0, TRAP};
	struct filters filters = {n, filter};
	if (sigaction(SIGSYS, &action, NULL))
		die("handle SIGSYS");
	if (prctl(no_new_privileges, 1, 0, 0, 0) || prctl(set_seccomp, seccomp_filter, &filters, 0, 0))
		die("trap system calls (seccomp)");
}
