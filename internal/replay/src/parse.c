/* Reads a program: encode in replay.go says how a line reads. */
#include <stdlib.h>
#include <string.h>

#include "replay.h"

struct program program;

/* A number below limit, or nobody where "-" stands. -2: neither. */
static int number(const char *s, int limit)
{
	char *end;
	if (!s || !*s)
		return -2;
	if (!strcmp(s, "-"))
		return nobody;
	long n = strtol(s, &end, 10);
	return *end || n < 0 || n >= limit ? -2 : (int)n;
}

static const char *function(char *s)
{
	if (program.functions == most_functions)
		return "too many functions";
	struct function *f = &program.function[program.functions++];
	f->library = number(strsep(&s, ","), most_libraries);
	if (f->library == -2)
		return "a function of no library";
	for (char *word; (word = strsep(&s, ","));) {
		if (f->calls == most_calls)
			return "too many calls";
		struct call *c = &f->call[f->calls++];
		size_t n = strlen(word);
		if (n && word[n - 1] == '!') {
			word[n - 1] = 0;
			c->within = 1;
		}
		char *name = strsep(&word, ":");
		c->verb = verb_named(name);
		if (!c->verb)
			return "an unknown call";
		if (c->within && !c->verb->within)
			return "a stop within a call that has none";
		c->operand = word ? number(word, 256) : nobody;
		if (c->operand == -2)
			return "a bad operand";
		if (!strcmp(c->verb->name, "join"))
			program.end = 1;
	}
	return NULL;
}

static int list(char *s, int limit, int most, int *out)
{
	int n = 0;
	for (char *word; (word = strsep(&s, ","));) {
		int v = number(word, limit);
		if (v < 0 || n == most)
			return -1;
		out[n++] = v;
	}
	return n;
}

static const char *read_word(char *key, char *value)
{
	int v[most_turns], n, *count = NULL, most = 0;
	if (!strcmp(key, "f"))
		return function(value);
	if (!strcmp(key, "locks")) {
		program.locks = strlen(value);
		if (program.locks > most_locks || strspn(value, "nre") != (size_t)program.locks)
			return "bad locks";
		memcpy(program.lock, value, program.locks);
		return NULL;
	}
	if (!strcmp(key, "threads")) {
		program.threads = list(value, most_functions, most_threads, program.thread);
		return program.threads > 0 ? NULL : "bad threads";
	}
	if (!strcmp(key, "atfork")) {
		program.registered = list(value, most_handlers, most_handlers, program.atfork);
		return program.registered >= 0 ? NULL : "bad handlers to register";
	}
	if (!strcmp(key, "turns")) {
		if ((n = list(value, most_threads, most_turns, v)) < 0)
			return "bad turns";
		for (int i = 0; i < n; i++)
			program.turn[i] = v[i];
		program.turns = n;
		return NULL;
	}
	if (!strcmp(key, "library")) {
		if (program.libraries == most_libraries)
			return "too many libraries";
		struct library *l = &program.library[program.libraries++];
		l->loaded = number(strsep(&value, ":"), 2);
		l->load = number(strsep(&value, ":"), most_functions);
		l->unload = number(value, most_functions);
		return l->loaded < 0 || l->load == -2 || l->unload == -2 ? "a bad library" : NULL;
	}
	if (!strcmp(key, "handler")) {
		if (program.handlers == most_handlers)
			return "too many handlers";
		struct handler *h = &program.handler[program.handlers++];
		h->library = number(strsep(&value, ":"), most_libraries);
		for (int i = 0; i < 3; i++)
			h->function[i] = number(strsep(&value, ":"), most_functions);
		return h->library == -2 || h->function[0] == -2 || h->function[1] == -2 || h->function[2] == -2 ? "a bad handler" : NULL;
	}
	if (!strcmp(key, "arenas"))
		count = &program.arenas, most = 64;
	else if (!strcmp(key, "semaphores"))
		count = &program.semaphores, most = most_semaphores;
	else if (!strcmp(key, "streams"))
		count = &program.streams, most = most_streams;
	if (!count || (*count = number(value, most + 1)) < 0)
		return "an unknown word";
	return NULL;
}

/* That everything named is there. */
static const char *complete(void)
{
	for (int i = 0; i < program.functions; i++) {
		struct function *f = &program.function[i];
		if (f->library >= program.libraries)
			return "a function of no library";
		for (int j = 0; j < f->calls; j++) {
			int many = operands(f->call[j].verb), o = f->call[j].operand;
			if (many == nobody ? o != nobody : o == nobody || o >= many)
				return "a call of something that is not there";
		}
	}
	for (int i = 0; i < program.threads; i++)
		if (program.thread[i] >= program.functions)
			return "a thread without a function";
	for (int i = 0; i < program.libraries; i++)
		if (program.library[i].load >= program.functions || program.library[i].unload >= program.functions)
			return "a library without a function";
	for (int i = 0; i < program.handlers; i++) {
		struct handler *h = &program.handler[i];
		if (h->library >= program.libraries)
			return "a handler of no library";
		for (int j = 0; j < 3; j++)
			if (h->function[j] >= program.functions)
				return "a handler without a function";
	}
	for (int i = 0; i < program.registered; i++)
		if (program.atfork[i] >= program.handlers)
			return "no such handler";
	for (int i = 0; i < program.turns; i++)
		if (program.turn[i] >= program.threads)
			return "the turn of no thread";
	return program.threads ? NULL : "no threads";
}

const char *parse(char *line)
{
	memset(&program, 0, sizeof program);
	program.arenas = 1;
	char *name = strsep(&line, " ");
	if (!name || strlen(name) >= sizeof program.name)
		return "no name, or a long one";
	strcpy(program.name, name);
	for (char *word; (word = strsep(&line, " "));) {
		char *value = strchr(word, '=');
		if (!value)
			return "a word without a value";
		*value++ = 0;
		const char *bad = read_word(word, value);
		if (bad)
			return bad;
	}
	return complete();
}
