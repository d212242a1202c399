/* running HOW: a process that computes for ever below outer() and middle(), and
 * so knows its own call chain. It writes "ready" when it is below both.
 *
 * HOW: loop      in a leaf that has no frame
 *      calls     in calls of small functions, with their entries and returns
 *      plt       in calls of the C library through the PLT
 *      vdso      in calls of clock_gettime, which the kernel's vdso does
 *      handler   in a signal handler
 *      altstack  in a signal handler on a stack of its own
 *      large     in a leaf below a frame of 300 KiB, more than is copied
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static const char *how;
static volatile unsigned long turns;
static volatile int zero;

KEEP static void leaf(void) { while (!zero) turns++; }
KEEP static unsigned long tiny(unsigned long n) { asm volatile(""); return n * 3 + turns; }
KEEP static unsigned long small(unsigned long n)
{
	unsigned long a = tiny(n), b = tiny(a), c = tiny(b);

	return tiny(a + b + c) + a * b * c;
}

KEEP static void handler(int sig) { (void)sig; leaf(); turns = 0; }

KEEP static void large(void)
{
	volatile char room[300 << 10];

	room[0] = 1;
	leaf();
	room[1] = room[0];
}

KEEP static int middle(int n)
{
	struct timespec t;

	if (strcmp(how, "loop") == 0)
		leaf();
	if (strcmp(how, "calls") == 0)
		while (!zero)
			turns += small(n);
	if (strcmp(how, "plt") == 0)
		while (!zero)
			turns += abs((int)turns) + strlen(how);
	if (strcmp(how, "vdso") == 0)
		while (!zero)
			turns += clock_gettime(CLOCK_MONOTONIC, &t);
	if (strcmp(how, "handler") == 0 || strcmp(how, "altstack") == 0)
		raise(SIGUSR1);
	if (strcmp(how, "large") == 0)
		large();
	return n + zero;
}

KEEP static int outer(int n) { return middle(n + 1) + zero; }

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = handler};
	stack_t other = {.ss_size = 64 << 10};

	how = argc > 1 ? argv[1] : "";
	if (strcmp(how, "altstack") == 0) {
		other.ss_sp = malloc(other.ss_size);
		sigaltstack(&other, NULL);
		sa.sa_flags = SA_ONSTACK;
	}
	sigaction(SIGUSR1, &sa, NULL);
	if (write(1, "ready\n", 6) != 6)
		return 1;
	return outer(argc);
}
