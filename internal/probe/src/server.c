/*
 * The server: runs probes one after the other, each in a process of its own, and
 * says what happens in lines.
 *
 *	probe list                        the names of all probes
 *	probe NAME [FORKS [MILLISECONDS]] one probe
 *	probe serve                       reads such lines from standard input
 *
 * It answers a probe with
 *
 *	begin NAME SUBJECT
 *	still PID FORKS    PID, the child or the subject itself, stands still
 *	moving             it does no more
 *	end NAME RESULT FORKS REACHED SIGNAL PID TEXT
 *
 * where RESULT is works, differs, crashes, absent, refused, not-reached, unsafe (threads
 * that call it crash without any fork), stopped (it was asked to) or overdue, REACHED is
 * -1 for a probe that does not race, and PID the process that was not collected when the
 * probe ended, 0 for none. The line "stop" ends the probe that runs; the end of standard
 * input ends everything. Nothing of a probe outlives its end: its processes are a group
 * of their own and die with their parents.
 */
#include "server.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

enum {
	step = 5,        /* milliseconds between two looks at a probe */
	stillness = 120, /* milliseconds without a change that are told */
	grace = 8000,    /* milliseconds beyond its time that a probe may take */
};

enum { overdue = 2 }; /* of a probe that was stopped: it took more than that */

struct state *state;

extern const struct probe *const __start_probes[], *const __stop_probes[];

long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	char line[600];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	for (int i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[n++] = '\n';
	for (int at = 0, w; at < n; at += w)
		if ((w = (int)write(1, line + at, (size_t)(n - at))) <= 0)
			return;
}

/* What libc says when it gives up goes here, and is bounded: nobody waits for it
 * to be read. */
static int errors[2];

/* Adds its first line to what there is to say. */
static void add_errors(int wanted)
{
	char text[200], rest[4096];
	ssize_t n = read(errors[0], text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	while (read(errors[0], rest, sizeof rest) > 0)
		;
	text[strcspn(text, "\n")] = 0;
	if (wanted && text[0]) {
		size_t at = strlen(state->text);
		snprintf(state->text + at, sizeof state->text - at, "%s%s", at ? ": " : "", text);
	}
}

static const struct probe *find(const char *name)
{
	for (const struct probe *const *p = __start_probes; p < __stop_probes; p++)
		if (!strcmp((*p)->name, name))
			return *p;
	return NULL;
}

static void become_subject(const struct probe *p, pid_t server)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != server)
		_exit(0);
	setpgid(0, 0);
	for (int s = 1; s < 32; s++)
		signal(s, SIG_DFL);
	int fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		refused("open /dev/null");
	for (int i = 0; i < 2; i++)
		dup2(fd, i);
	dup2(errors[1], 2);
	if (fd > 2)
		close(fd);
	state->subject = getpid();
	p->run();
	_exit(0);
}

/* Lines of standard input: returns whether there is one, -1 at the end. */
static char input[512];
static size_t have;

static int line(char *out, size_t size, int wait)
{
	for (;;) {
		char *end = memchr(input, '\n', have);
		if (end) {
			size_t n = (size_t)(end - input);
			if (n >= size)
				n = size - 1;
			memcpy(out, input, n);
			out[n] = 0;
			have -= (size_t)(end + 1 - input);
			memmove(input, end + 1, have);
			return 1;
		}
		struct pollfd p = {.fd = 0, .events = POLLIN};
		int r = poll(&p, 1, wait);
		if (r == 0 || (r < 0 && errno == EINTR))
			return 0;
		ssize_t got = have < sizeof input ? read(0, input + have, sizeof input - have) : 0;
		if (got <= 0)
			return -1;
		have += (size_t)got;
	}
}

static const char *name_of(int status, int stopped)
{
	switch (state->result) {
	case differs:
		return "differs";
	case crashed:
		return "crashes";
	case missing:
		return "absent";
	case denied:
		return "refused";
	case none:
		break;
	}
	if (stopped)
		return stopped == overdue ? "overdue" : "stopped";
	if (WIFSIGNALED(status)) {
		state->signal = WTERMSIG(status);
		snprintf(state->text, sizeof state->text, "the parent");
		return "crashes";
	}
	if (WIFEXITED(status) && WEXITSTATUS(status)) {
		snprintf(state->text, sizeof state->text, "the parent ended with status %d", WEXITSTATUS(status));
		return "differs";
	}
	if (state->races && state->reached == 0)
		return "not-reached";
	return "works";
}

static int ended(pid_t pid)
{
	siginfo_t info;
	info.si_pid = 0;
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

/* Whether the threads of a probe break their process without any fork, since libc
 * does not let threads share the function. */
static int unsafe(const struct probe *p, pid_t server, unsigned milliseconds)
{
	int status = 0;
	state->control = 1;
	state->deadline = now() + milliseconds * 1000000LL;
	pid_t subject = fork();
	if (subject == 0)
		become_subject(p, server);
	while (subject > 0 && !ended(subject) && now() < state->deadline + 1000000000LL)
		poll(NULL, 0, step);
	if (subject > 0) {
		kill(subject, SIGKILL);
		waitpid(subject, &status, 0);
	}
	return WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL;
}

/* Runs one probe; returns false at the end of the input. */
static int perform(const struct probe *p, unsigned most, unsigned milliseconds, int listens)
{
	int open = 1, stopped = 0, status = 0, told = 0;
	pid_t server = getpid(), subject;
	memset(state, 0, sizeof *state);
	state->most = most;
	state->deadline = now() + milliseconds * 1000000LL;
	long long last = now(), end = state->deadline + grace * 1000000LL;
	snprintf(state->semaphore, sizeof state->semaphore, "/forkproof-%d", (int)server);

	subject = fork();
	if (subject == 0)
		become_subject(p, server);
	if (subject < 0) {
		say("end %s refused 0 -1 0 0 fork: %s", p->name, strerror(errno));
		return 1;
	}
	setpgid(subject, subject);
	say("begin %s %d", p->name, (int)subject);
	unsigned forks = 0, moves = 0;
	int child = 0;
	while (!ended(subject)) {
		char text[16];
		if (listens && open) {
			int r = line(text, sizeof text, step);
			if (r < 0)
				open = 0;
			if (r < 0 || (r > 0 && !strcmp(text, "stop")))
				stopped = 1;
		} else {
			poll(NULL, 0, step);
		}
		if (!stopped && now() > end)
			stopped = overdue;
		if (stopped) {
			/* Held still, so that what is told last is what was so at the end. */
			kill(subject, SIGSTOP);
			child = state->child;
			break;
		}
		if (state->forks != forks || state->child != child || state->moves != moves) {
			forks = state->forks, child = state->child, moves = state->moves;
			last = now();
			if (told)
				say("moving");
			told = 0;
		} else if (!told && now() - last > stillness * 1000000LL) {
			say("still %d %u", child ? child : (int)subject, forks);
			told = 1;
		}
	}
	/* Before it is collected: until then nobody else can have its number. */
	kill(-subject, SIGKILL);
	kill(subject, SIGKILL);
	waitpid(subject, &status, 0);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	const char *result = name_of(status, stopped);
	if (!strcmp(result, "crashes") && state->races && unsafe(p, server, milliseconds > 1000 ? milliseconds : 1000))
		result = "unsafe";
	sem_unlink(state->semaphore);
	state->text[sizeof state->text - 1] = 0;
	add_errors(!strcmp(result, "differs") || !strcmp(result, "crashes"));
	say("end %s %s %u %d %d %d %s", p->name, result, state->forks, state->races ? (int)state->reached : -1, state->signal,
	    stopped ? (child ? child : (int)subject) : 0, state->text);
	return open;
}

static int serve(void)
{
	char text[256], name[128];
	unsigned most, milliseconds;
	for (;;) {
		int r = line(text, sizeof text, -1);
		if (r < 0)
			return 0;
		if (r == 0 || !strcmp(text, "stop"))
			continue; /* a probe that has just ended by itself */
		if (sscanf(text, "%127s %u %u", name, &most, &milliseconds) != 3 || !find(name)) {
			say("end %s unknown 0 -1 0 0 no such probe", text);
			continue;
		}
		if (!perform(find(name), most, milliseconds, 1))
			return 0;
	}
}

int main(int argc, char **argv)
{
	struct rlimit core = {1, 1};
	state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (state == MAP_FAILED) {
		perror("probe: mmap");
		return 1;
	}
	/* Of 1 and not 0: no file and no collector of crashes gets one (core(5)). */
	if (pipe2(errors, O_NONBLOCK | O_CLOEXEC)) {
		perror("probe: pipe");
		return 1;
	}
	setrlimit(RLIMIT_CORE, &core);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "list")) {
		for (const struct probe *const *p = __start_probes; p < __stop_probes; p++)
			say("%s", (*p)->name);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "serve")) {
		say("ready");
		return serve();
	}
	if (argc >= 2 && argc <= 4 && find(argv[1])) {
		perform(find(argv[1]), argc > 2 ? (unsigned)atoi(argv[2]) : 1000, argc > 3 ? (unsigned)atoi(argv[3]) : 1000, 0);
		return 0;
	}
	fprintf(stderr, "usage: probe list | serve | NAME [FORKS [MILLISECONDS]]\n");
	return 2;
}
