package facts

import "testing"

func TestInChild(t *testing.T) {
	b := base(t)
	for _, tt := range []struct {
		function, family, version string
		want                      CallKind
		fact                      string
	}{
		{"write", "glibc", "2.36", Listed, ""},
		{"__memcpy_chk", "glibc", "2.36", Listed, ""},
		{"fork", "glibc", "2.36", Reenters, "call-reenters"},
		{"malloc", "glibc", "2.36", Repaired, "glibc-malloc"},
		{"malloc", "glibc", "", Allocates, "glibc-malloc"},
		{"malloc", "musl", "1.2.1", Allocates, "musl-malloc"},
		{"malloc", "musl", "1.2.3", Repaired, "musl-malloc"},
		{"_Znwm", "glibc", "2.31", Repaired, "glibc-malloc"},
		{"_Znwm", "", "", Allocates, "call-as-malloc"},
		{"__vasprintf_chk", "glibc", "2.36", Repaired, "glibc-malloc"},
		{"localtime", "glibc", "2.36", Locked, "glibc-tzset-lock"},
		{"localtime_r", "glibc", "", Locked, "glibc-tzset-lock"},
		{"localtime", "musl", "1.2.3", Repaired, "musl-libc-locks"},
		{"pthread_mutex_unlock", "glibc", "2.36", Idiom, "call-release"},
		{"pthread_mutex_lock", "glibc", "2.36", Waits, "call-waits"},
		{"__stack_chk_fail", "glibc", "2.36", Ends, "call-ends"},
		{"gettid", "musl", "1.2.3", Plain, "call-kernel"},
		{"dlclose", "glibc", "2.41", Reenters, "call-reenters"},
		{"XOpenDisplay", "glibc", "2.36", Unlisted, ""},
	} {
		got := b.InChild(tt.function, tt.family, tt.version)
		if got.Kind != tt.want || got.Fact != tt.fact {
			t.Errorf("%s on %s %s: %s by %q, want %s by %q", tt.function, tt.family, tt.version, got.Kind, got.Fact, tt.want, tt.fact)
		}
	}
}
