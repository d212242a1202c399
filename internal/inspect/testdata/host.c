/* A program that hangs in a library which it loads by the path in its argument. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
	void *lib = dlopen(argv[argc - 1], RTLD_NOW);
	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	void (*hang)(void) = (void (*)(void))dlsym(lib, "hang_here");
	hang();
	puts("not reached");
	return 0;
}
