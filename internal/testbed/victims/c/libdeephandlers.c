/* Its child handler goes on in another library. */
#include <pthread.h>
#include <unistd.h>

void deep_reset(void);

static void far_child(void)
{
	if (getpid())
		deep_reset();
}

__attribute__((constructor)) static void far_away(void) { pthread_atfork(NULL, NULL, far_child); }
