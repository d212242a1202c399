// loader LIST: loads the libraries of LIST, a path a line, each group (up to an
// empty line) in a process of its own, and stands still there.
//
// For each group it writes "loaded group=N pid=PID failed=N", then waits for
// SIGUSR1, ends that process and goes on. A group whose process dies is "died
// group=N". Libraries that register their handlers only when they are used are
// used, by the functions of the table below.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

// An argument of -1 stands for the address of some room.
static char room[1 << 16];

static const struct { const char *name; long args[6]; } first_use[] = {
	{ "OPENSSL_init_crypto", { 0x20000 } }, // OPENSSL_INIT_ATFORK of 1.1
	{ "gnutls_global_init", { 0 } },
	{ "p11_kit_be_quiet", { 0 } },
	{ "npth_init", { 0 } },
	{ "npth_sigev_fini", { 0 } },
	{ "arc4random", { 0 } },
	{ "capng_get_caps_process", { 0 } },
	{ "psx_syscall3", { 39 } }, // getpid
	{ "Tcl_FindExecutable", { 0 } },
	{ "Tcl_InitNotifier", { 0 } },
	{ "sd_event_new", { -1 } },
	{ "sd_bus_new", { -1 } },
	{ "sd_id128_randomize", { -1 } },
	{ "uuid_generate_time_safe", { -1 } },
	{ "uv_default_loop", { 0 } },
	{ "Z3_mk_config", { 0 } },
	{ "pkcs11h_initialize", { 0 } },
	{ "avahi_simple_poll_new", { 0 } },
};

static char line[4096], *paths[4096];

static void group(int n, int count)
{
	int ready[2];
	if (pipe(ready))
		exit(2);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		int failed = 0;
		for (int i = 0; i < count; i++) {
			void *lib = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
			if (!lib) {
				failed++;
				continue;
			}
			for (size_t k = 0; k < sizeof first_use / sizeof *first_use; k++) {
				long (*use)(long, long, long, long, long, long) = dlsym(lib, first_use[k].name), a[6];
				Dl_info where;
				// Only the library's own, not that of one it needs.
				if (use && dladdr(use, &where) && !strcmp(strrchr(where.dli_fname, '/'), strrchr(paths[i], '/'))) {
					for (int n = 0; n < 6; n++)
						a[n] = first_use[k].args[n] == -1 ? (long)room : first_use[k].args[n];
					use(a[0], a[1], a[2], a[3], a[4], a[5]);
				}
			}
		}
		if (write(ready[1], &failed, sizeof failed) != sizeof failed)
			_exit(2);
		for (;;)
			pause();
	}
	close(ready[1]);
	int failed;
	if (read(ready[0], &failed, sizeof failed) != sizeof failed) {
		printf("died group=%d\n", n);
	} else {
		printf("loaded group=%d pid=%d failed=%d\n", n, (int)pid, failed);
		fflush(stdout);
		sigset_t go;
		int got;
		sigemptyset(&go);
		sigaddset(&go, SIGUSR1);
		sigwait(&go, &got);
	}
	fflush(stdout);
	close(ready[0]);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < count; i++)
		free(paths[i]);
}

int main(int argc, char **argv)
{
	FILE *list = argc > 1 ? fopen(argv[1], "r") : NULL;
	if (!list)
		return 2;
	sigset_t go;
	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	sigprocmask(SIG_BLOCK, &go, NULL);
	int n = 0, count = 0;
	while (fgets(line, sizeof line, list)) {
		line[strcspn(line, "\n")] = 0;
		if (*line && count < 4096)
			paths[count++] = strdup(line);
		if (!*line) {
			group(n++, count);
			count = 0;
		}
	}
	printf("done groups=%d\n", n);
	fflush(stdout);
	for (;;)
		pause();
}
