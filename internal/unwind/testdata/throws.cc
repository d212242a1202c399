// Exceptions through several frames, and a sleep in a handler and in a destructor.
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>
#include <unistd.h>

struct Sleeps {
	std::string s;
	bool really;
	__attribute__((noinline)) ~Sleeps() { if (really) { puts("ready"); fflush(stdout); for (;;) pause(); } }
};

__attribute__((noinline)) static int thrower(int n) {
	std::vector<std::string> v(n, "some text that does not fit into the string itself");
	Sleeps quiet{"a", false};
	if (n == 0)
		throw std::runtime_error("bottom");
	return thrower(n - 1) + int(v.size());
}

__attribute__((noinline)) static int unwinds(int n) {
	Sleeps loud{"b", true};
	return thrower(n) + 1;
}

__attribute__((noinline)) static int catches(int n) {
	try {
		return thrower(n);
	} catch (const std::exception &e) {
		try {
			return unwinds(n) + int(std::string(e.what()).size());
		} catch (...) {
			return -1;
		}
	}
}

int main(int argc, char **) { return catches(10 + argc); }
