/* What libdeephandlers.c needs. */
#include <stdlib.h>
#include <time.h>

void deep_reset(void);
int deep_count;

static __attribute__((noinline)) void renew(void)
{
	time_t now = 0;
	struct tm *tm = localtime(&now);
	deep_count = tm ? tm->tm_sec : 0;
}

void deep_reset(void)
{
	if (deep_count)
		renew();
}
