// Handlers that are registered and reached as C++ programs do it: methods of
// static objects, virtual ones, lambdas, a local static.
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <string>

static std::mutex guard;
volatile int sink;

struct Base {
	virtual ~Base() = default;
	virtual void reset() = 0;
};
struct Pool final : Base {
	std::string name = "pool";
	void reset() override { name = std::string(100 + sink, 'x'); }
};
static Pool pool;

extern "C" void cpp_child() { pool.reset(); }

struct Registrar {
	Registrar(void (*prepare)(), void (*parent)(), void (*child)()) { pthread_atfork(prepare, parent, child); }
};
static Registrar here([] { guard.lock(); }, [] { guard.unlock(); }, cpp_child);

extern "C" void local_child() { sink = rand(); }
extern "C" void cpp_local() { static int once = pthread_atfork(nullptr, nullptr, local_child); sink = once; }
