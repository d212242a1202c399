/* The controller: runs each program in a process of its own, says which thread
 * goes next, sees when nothing moves any more, and tells what happened. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replay.h"

struct shared *shared;

enum {
	look_every = 300000, /* nanoseconds, while nothing is heard */
	patience = 20,       /* seconds without an end: a fault of this program */
};

static const char *const overdue = "nothing has come to rest";

/* A process of the run, other than the subject's parent. */
struct relative {
	pid_t pid;
	int stuck;  /* it had not ended when nothing moved any more */
	int status; /* as of wait, if it had */
};
static struct relative relative[64];
static int relatives;

static struct relative *relative_of(pid_t pid)
{
	for (int i = 0; i < relatives; i++)
		if (relative[i].pid == pid)
			return &relative[i];
	if (relatives == sizeof relative / sizeof *relative) {
		fprintf(stderr, "too many processes\n");
		exit(1);
	}
	relative[relatives] = (struct relative){.pid = pid};
	return &relative[relatives++];
}

/* A small file whole; its length, or 0. */
static size_t read_file(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;
	if (fd >= 0) {
		n = read(fd, to, size - 1);
		close(fd);
	}
	to[n < 0 ? 0 : n] = 0;
	return n < 0 ? 0 : n;
}

enum motion { moves, rests, waits_for_child, is_gone };

/* What a thread does. Where it rests in the kernel, mark is raised by how often it
 * has slept: so two looks can be compared. */
static enum motion motion(pid_t pid, pid_t tid, unsigned long *mark)
{
	char path[64], text[4096];
	unsigned long number, a[6];
	snprintf(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
	if (!read_file(path, text, sizeof text))
		return is_gone;
	const char *state = strstr(text, "\nState:\t"), *slept = strstr(text, "\nvoluntary_ctxt_switches:\t");
	if (!state || !slept)
		return moves;
	state += strlen("\nState:\t");
	if (*state == 'Z' || *state == 'X')
		return is_gone;
	if (*state != 'S')
		return moves;
	*mark += strtoul(slept + strlen("\nvoluntary_ctxt_switches:\t"), NULL, 10);
	snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
	if (!read_file(path, text, sizeof text) || sscanf(text, "%lu %lx %lx %lx %lx", &number, &a[0], &a[1], &a[2], &a[3]) != 5)
		return moves;
	if (number == SYS_wait4)
		return waits_for_child;
	/* A wait without end, and not at a stop: FUTEX_WAIT or FUTEX_WAIT_BITSET. */
	int command = a[1] & 0x7f;
	uintptr_t from = (uintptr_t)shared, word = a[0];
	if (number == SYS_futex && (command == 0 || command == 9) && !a[3] && (word < from || word >= from + sizeof *shared))
		return rests;
	return moves;
}

/* Notes the children of a process, theirs, and so on. */
static void find_children(pid_t pid)
{
	char path[64], text[4096];
	DIR *tasks;
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	if (!(tasks = opendir(path)))
		return;
	for (struct dirent *d; (d = readdir(tasks));) {
		if (*d->d_name == '.')
			continue;
		snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", pid, d->d_name);
		read_file(path, text, sizeof text);
		for (char *s = text, *word; (word = strsep(&s, " "));) {
			pid_t child = atoi(word);
			if (child) {
				relative_of(child);
				find_children(child);
			}
		}
	}
	closedir(tasks);
}

/* All processes of the run. One whose parent has ended is the controller's. */
static void find_relatives(void)
{
	find_children(getpid());
	int n = atomic_load(&shared->histories);
	for (int i = 0; i < n && i < most_processes; i++)
		if (atomic_load(&shared->history[i].pid))
			relative_of(atomic_load(&shared->history[i].pid));
}

/* The parent of a process, 0 if it has ended. */
static pid_t parent_of(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	char *state = read_file(path, text, sizeof text) ? strrchr(text, ')') : NULL;
	return !state || state[2] == 'Z' || state[2] == 'X' ? 0 : atoi(state + 4);
}

/* Whether a process that has not ended has come to rest. */
static int look(struct relative *r, pid_t subject, unsigned long *mark)
{
	char path[64];
	DIR *tasks;
	int all = 1, tasks_seen = 0, living = 0;
	for (int i = 0; i < relatives; i++)
		living += parent_of(relative[i].pid) == r->pid;
	snprintf(path, sizeof path, "/proc/%d/task", r->pid);
	if (!(tasks = opendir(path)))
		return 0;
	for (struct dirent *d; (d = readdir(tasks));) {
		pid_t tid = atoi(d->d_name);
		if (!tid)
			continue;
		tasks_seen++;
		int at_stop = 0;
		for (int i = 0; r->pid == subject && i < program.threads; i++) {
			const struct seat *seat = &shared->seat[i];
			if (atomic_load(&seat->tid) == tid)
				at_stop = atomic_load(&seat->standing) == standing || (atomic_load(&seat->standing) == ended && (!program.end || i == 0));
		}
		if (at_stop)
			continue;
		switch (motion(r->pid, tid, mark)) {
		case rests:
			break;
		case is_gone: /* no thread goes by itself: the whole process is about to */
			all = 0;
			break;
		case waits_for_child:
			if (!living)
				all = 0; /* one that has ended is about to be collected */
			break;
		default:
			all = 0;
		}
	}
	closedir(tasks);
	/* Those that end by themselves do so some time after they have said so. */
	int want = r->pid != subject ? 1 : program.threads;
	for (int i = 1; r->pid == subject && program.end && i < program.threads; i++)
		want -= atomic_load(&shared->seat[i].standing) == ended;
	return all && tasks_seen >= want;
}

/* Whether every thread of the subject has told its number. */
static int seated(void)
{
	for (int i = 0; i < program.threads; i++)
		if (!atomic_load(&shared->seat[i].tid))
			return 0;
	return 1;
}

/* Waits until nothing moves: what is at rest at two looks, and has not slept once
 * more in between, was so at once at the end of the first, when the rest of it
 * was, and nothing is left that could wake it. NULL, or what is wrong. */
static const char *settle(pid_t subject, int *alive)
{
	struct timespec begun, now;
	unsigned long before = 0;
	int news_before = 0, rested = 0;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (;;) {
		int news = atomic_load(&shared->news), all = 1;
		unsigned long mark = 0;
		find_relatives();
		for (int i = 0; i < relatives; i++) {
			if (parent_of(relative[i].pid)) {
				all &= look(&relative[i], subject, &mark);
				mark++; /* how many there are counts, too */
			}
		}
		*alive = parent_of(subject) != 0;
		all = all && (!*alive || seated());
		if (all && rested && mark == before && news == news_before && news == atomic_load(&shared->news))
			return NULL;
		struct timespec rest = {0, look_every};
		if (!all)
			syscall(SYS_futex, &shared->news, 0 /* FUTEX_WAIT */, news, &rest, NULL, 0);
		rested = all;
		before = mark;
		news_before = news;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begun.tv_sec > patience)
			return overdue;
	}
}

/* Which thread goes next: that of the program's list if it stands at a stop, after
 * the list the first that does. */
static int next(int *turn)
{
	for (; *turn < program.turns; ++*turn) {
		int n = program.turn[*turn];
		if (atomic_load(&shared->seat[n].standing) == standing) {
			++*turn;
			return n;
		}
	}
	for (int i = 0; i < program.threads; i++)
		if (atomic_load(&shared->seat[i].standing) == standing)
			return i;
	return nobody;
}

static void tell_history(int n)
{
	const struct history *h = &shared->history[n];
	int events = atomic_load(&h->events);
	printf(" process=%d:%d:", h->parent, h->fork);
	const struct relative *r = relative_of(atomic_load(&h->pid));
	if (r->stuck)
		printf("stuck:");
	else if (WIFSIGNALED(r->status))
		printf("signal-%d:", WTERMSIG(r->status));
	else
		printf("exit-%d:", WEXITSTATUS(r->status));
	for (int i = 0; i < events; i++) {
		const struct event *e = &h->event[i];
		printf("%s%c%d.%d.%d", i ? "," : "", e->what, e->thread, e->function, e->call);
	}
}

/* Ends what is left of a run: it is stuck. How all others ended is noted. */
static void collect(void)
{
	int status;
	pid_t pid;
	find_relatives();
	for (int i = 0; i < relatives; i++) {
		struct relative *r = &relative[i];
		r->stuck = parent_of(r->pid) != 0;
		if (r->stuck)
			kill(r->pid, SIGKILL);
	}
	while ((pid = waitpid(-1, &status, 0)) > 0)
		relative_of(pid)->status = status;
	for (int i = 0; i < most_processes; i++)
		if (shared->waited[i].pid)
			relative_of(shared->waited[i].pid)->status = shared->waited[i].status;
}

static void run(void)
{
	const char *bad = NULL;
	int turn = 0, alive = 1, given = 0;
	memset(shared, 0, sizeof *shared);
	relatives = 0;
	pid_t subject_pid = fork();
	if (subject_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int null = open("/dev/null", O_RDWR);
		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			_exit(126);
		subject();
	}
	relative_of(subject_pid);
	for (;;) {
		if ((bad = settle(subject_pid, &alive)) || !alive)
			break;
		int n = next(&turn);
		if (n == nobody)
			break;
		struct seat *seat = &shared->seat[n];
		atomic_store(&seat->standing, going);
		atomic_fetch_add(&seat->turns, 1);
		syscall(SYS_futex, &seat->turns, 1 /* FUTEX_WAKE */, INT_MAX, NULL, NULL, 0);
		given++;
	}
	collect();
	if (bad) {
		printf("%s bad=%s\n", program.name, bad);
		return;
	}
	printf("%s", program.name);
	printf(" turns=%d threads=", given);
	for (int i = 0; i < program.threads; i++)
		putchar(atomic_load(&shared->seat[i].standing) == ended ? 'e' : alive ? 's' : 'g');
	int n = atomic_load(&shared->histories);
	for (int i = 0; i < n && i < most_processes; i++)
		tell_history(i);
	/* Those that hang before they could tell anything. */
	int silent = 0;
	for (int i = 0; i < relatives; i++) {
		int known = 0;
		for (int j = 0; j < n && j < most_processes; j++)
			known |= atomic_load(&shared->history[j].pid) == relative[i].pid;
		silent += !known && relative[i].stuck;
	}
	printf(" silent=%d\n", silent);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	struct rlimit none = {0, 0};
	if (argc > 1 && !freopen(argv[1], "r", stdin)) {
		perror(argv[1]);
		return 1;
	}
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("share memory");
		return 1;
	}
	setenv("TZ", "Nowhere/A", 1);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	puts("ready");
	fflush(stdout);
	while ((n = getline(&line, &size, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		const char *bad = parse(line);
		if (bad)
			printf("%s bad=%s\n", program.name, bad);
		else
			run();
		fflush(stdout);
	}
	return 0;
}
