// As libforkvictim.c, with a std::mutex in a namespace of C++.
//
// Shows: a mangled name, _ZN6victim6g_lockE, and frames of C++ around the wait.
#include <atomic>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace victim {
std::mutex g_lock;
static std::atomic<bool> held;

class Refresher {
public:
	[[noreturn]] void run()
	{
		std::lock_guard<std::mutex> guard(g_lock);
		held = true;
		for (;;)
			pause();
	}
};
} // namespace victim

extern "C" {
void victim_hold(void) { victim::Refresher().run(); }
void victim_start_holder(void) { std::thread(victim_hold).detach(); }

void victim_await_held(void)
{
	while (!victim::held)
		usleep(1000);
}

void victim_touch(void) { std::lock_guard<std::mutex> guard(victim::g_lock); }
}
