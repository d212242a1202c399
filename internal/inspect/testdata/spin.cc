// A thread holds abseil's spin lock at a fork, and the child wants it. With an
// argument the thread lets go of it in time. Prints the child's PID.
//
// abseil 20220623 waits in a futex without a time-out after its first tries. A
// program may bring a delay of its own; with -DTIMED this one sleeps a little
// at a time, as gperftools does and as abseil does where there is no futex.
#include <absl/base/internal/spinlock.h>
#include <cstdio>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

absl::base_internal::SpinLock g_spin(absl::base_internal::SCHEDULE_KERNEL_ONLY);
#ifdef TIMED
extern "C" __attribute__((noinline)) void ABSL_INTERNAL_C_SYMBOL(AbslInternalSpinLockDelay)(std::atomic<uint32_t> *, uint32_t, int, absl::base_internal::SchedulingMode) {
	usleep(1000);
	asm volatile(""); // not a tail call, so that it is on the stack
}
#endif

static sem_t held;
static bool keep;

static void *hold(void *) {
	g_spin.Lock();
	if (!keep)
		g_spin.Unlock();
	sem_post(&held);
	for (;;)
		pause();
}

int main(int argc, char **argv) {
	keep = argc < 2 || !argv[1][0];
	pthread_t t;
	pthread_create(&t, nullptr, hold, nullptr);
	pthread_setname_np(t, "refresher");
	while (sem_wait(&held))
		;
	pid_t pid = fork();
	if (pid == 0) {
		g_spin.Lock();
		for (;;)
			pause();
	}
	printf("%d\n", pid);
	fflush(stdout);
	for (;;)
		pause();
}
