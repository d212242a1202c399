/* Functions of a library that may be built without unwind tables. */
#include <unistd.h>

volatile int nothing;

__attribute__((noinline)) static int inner(int (*f)(void)) {
	char b[100];
	asm volatile("" :: "r"(b) : "memory");
	int r = f();
	return r + b[nothing];
}

int foreign(int (*f)(void)) { int r = inner(f); return r + nothing; }

int foreign_read(int fd, void (*about)(void)) {
	char b[16];
	about();
	int r = read(fd, b, 1);
	return r + b[nothing];
}
