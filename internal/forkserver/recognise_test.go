package forkserver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// TestMatch holds command lines as real processes show them; what TestServers
// starts is not repeated here.
func TestMatch(t *testing.T) {
	tests := []struct {
		comm, exe string
		args      []string
		kind      string // empty: none
		title     string // of a worker
	}{
		// Recorded from Debian bookworm's gunicorn 20.1 with python3-setproctitle.
		{"gunicorn: maste", "/usr/bin/python3.11", []string{"gunicorn: master [app:app]", ""}, Gunicorn, "master"},
		{"gunicorn: worke", "/usr/bin/python3.11", []string{"gunicorn: worker [app:app]", ""}, Gunicorn, "worker"},
		{"python", "/usr/bin/python3.12", []string{"gunicorn: dirty-worker [app:app]"}, Gunicorn, "dirty-worker"},
		{"python", "/opt/py/bin/python3.12", []string{"/opt/py/bin/python", "-Esm", "gunicorn", "app"}, Gunicorn, "worker"},
		{"python", "/opt/py/bin/python3.12", []string{"/opt/py/bin/python", "-W", "ignore", "-X", "dev", "/opt/py/bin/gunicorn", "app"}, Gunicorn, "worker"},
		{"sudo", "/usr/bin/sudo", []string{"sudo", "gunicorn", "app"}, "", ""},
		{"vim", "/usr/bin/vim", []string{"vim", "gunicorn"}, "", ""},
		{"python3", "/usr/bin/python3.11", []string{"python3", "-c", "gunicorn"}, "", ""},

		{"uwsgi", "/usr/bin/uwsgi-core", []string{"uWSGI http 1"}, UWSGI, "http 1"},
		// What uWSGI 2.0.21 leaves of its arguments behind the title.
		{"uwsgi", "/usr/bin/uwsgi-core", []string{"uWSGI worker 12", strings.Repeat(" ", 120), "thon", "--module", "healthy:app"}, UWSGI, "worker 12"},
		{"uwsgi", "", []string{"/srv/venv/bin/uwsgi", "--ini", "x"}, UWSGI, "worker"},

		// Recorded from Debian bookworm's Celery 5.2 with python3-setproctitle.
		{"[celeryd: celer", "/usr/bin/python3.11", []string{"[celeryd: celery@vm:MainProcess] -active- (-A tasks worker -c 2)"}, Celery, "MainProcess"},
		{"[celeryd: celer", "/usr/bin/python3.11", []string{"[celeryd: celery@vm:ForkPoolWorker-1]", ""}, Celery, "ForkPoolWorker-1"},
		{"python3", "/usr/bin/python3.11", []string{"python3", "-m", "celery", "-A", "x", "worker"}, Celery, "worker"},
		{"celery", "/usr/bin/python3.11", []string{"/usr/bin/python3", "/usr/bin/celery", "-A", "x", "beat"}, "", ""},

		{"php-fpm8.2", "/usr/sbin/php-fpm8.2", []string{"php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"}, PHPFPM, "master process (/etc/php/8.2/fpm/php-fpm.conf)"},
		{"php-fpm", "", []string{"php-fpm: pool www"}, PHPFPM, "pool www"},
		{"php", "/usr/bin/php8.2", []string{"php", "worker.php"}, "", ""},

		{"puma 5.6.5 (tcp", "/usr/bin/ruby3.1", []string{"puma 5.6.5 (tcp://127.0.0.1:18021) [t]"}, Puma, "worker"},
		{"puma: cluster w", "/usr/bin/ruby3.1", []string{"puma: cluster worker 1: 25 [t]"}, Puma, "worker 1"},
		{"ruby", "/usr/bin/ruby3.1", []string{"ruby", "-I", "lib", "/usr/bin/puma", "-w", "2"}, Puma, "worker"},
		{"pumactl", "/usr/bin/ruby3.1", []string{"ruby", "/usr/bin/pumactl", "status"}, "", ""},

		{"ruby", "/usr/bin/ruby3.1", []string{"unicorn master -c /tmp/un.rb config.ru"}, Unicorn, "master"},
		{"ruby", "/usr/bin/ruby3.1", []string{"unicorn_rails worker[11] -c x"}, Unicorn, "worker[11]"},

		{"ruby", "/usr/bin/ruby3.1", []string{"pitchfork monitor - -c pitchfork.rb"}, Pitchfork, "monitor"},
		{"ruby", "/usr/bin/ruby3.1", []string{"pitchfork (gen:2) mold - requests: 3"}, Pitchfork, "mold"},
		{"ruby", "/usr/bin/ruby3.1", []string{"pitchfork (gen: 0) mold"}, Pitchfork, "mold"},
		{"ruby", "/usr/bin/ruby3.1", []string{"pitchfork (gen:2) worker[0] - requests: 3"}, Pitchfork, "worker[0]"},

		{"postgres", "/usr/lib/postgresql/15/bin/postgres", []string{"/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main"}, PostgreSQL, "worker"},
		{"postgres", "/usr/lib/postgresql/15/bin/postgres", []string{"postgres: 15/main: background writer "}, PostgreSQL, "background writer"},
		{"postgres", "", []string{"postgres: checkpointer "}, PostgreSQL, "checkpointer"},
		{"postgres", "/usr/lib/postgresql/15/bin/postgres", []string{"postgres: 15/main: postgres postgres [local] SELECT"}, PostgreSQL, "backend"},
		{"postgres", "/usr/lib/postgresql/15/bin/postgres", []string{"postgres: parallel worker for PID 123 "}, PostgreSQL, "parallel worker"},
		{"psql", "/usr/lib/postgresql/15/bin/psql", []string{"psql", "postgres"}, "", ""},

		{"httpd", "/usr/sbin/httpd", []string{"/usr/sbin/httpd", "-DFOREGROUND"}, Apache, "worker"},
		{"apache2", "/usr/sbin/apache2", []string{"(wsgi:blog)", "-k", "start"}, Apache, "mod_wsgi daemon (wsgi:blog)"},
		{"httpd", "/bin/busybox", []string{"httpd", "-f"}, "", ""},

		{"nginx", "/usr/sbin/nginx", []string{"nginx: master process /usr/sbin/nginx -g daemon off;"}, Nginx, "master"},
		{"nginx", "/usr/sbin/nginx", []string{"nginx: cache manager process"}, Nginx, "cache manager"},
		{"nginx", "/usr/sbin/nginx", []string{"nginx: worker process is shutting down"}, Nginx, "worker"},
		{"openresty", "", []string{"nginx: worker process"}, Nginx, "worker"},

		{"bash", "/usr/bin/bash", []string{"-bash"}, "", ""},
		{"kworker", "", nil, "", ""},
		{"python3", "/usr/bin/python3.11", []string{"python3", "-m"}, "", ""},
	}
	for _, tt := range tests {
		p := &Process{Comm: tt.comm, Exe: tt.exe, Args: tt.args, State: 'S'}
		kind, title := "", ""
		for _, r := range Recognisers() {
			if !r.Match(p) {
				continue
			}
			if kind != "" {
				t.Errorf("%q is %s and %s", tt.args, kind, r.Kind)
			}
			kind, title = r.Kind, string(Worker)
			if r.Title != nil {
				title = r.Title(p)
			}
		}
		if kind != tt.kind || title != tt.title {
			t.Errorf("%q is %q called %q, want %q called %q", tt.args, kind, title, tt.kind, tt.title)
		}
	}
}

func TestProgram(t *testing.T) {
	tests := []struct {
		args []string
		name string
		rest int
	}{
		{nil, "", 0},
		{[]string{"/usr/sbin/nginx", "-g", "x"}, "nginx", 2},
		{[]string{"python3.14t", "-u", "app.py", "a", "b"}, "app.py", 2},
		{[]string{"python3", "-mhttp.server", "80"}, "http.server", 1},
		{[]string{"python3", "-Wignore", "-W", "error", "x.py"}, "x.py", 0},
		{[]string{"python3", "--check-hash-based-pycs", "x.py"}, "x.py", 0},
		{[]string{"python3", "-", "x"}, "-", 1},
		{[]string{"python3", "--", "-x.py", "y"}, "-x.py", 1},
		{[]string{"python3", "-c", "import x", "y"}, "", 0},
		{[]string{"python3"}, "", 0},
		{[]string{"python3-config", "x"}, "python3-config", 1},
		{[]string{"/usr/bin/ruby3.1", "-I", "lib", "-rbundler", "/x/puma", "y"}, "puma", 1},
		{[]string{"perl", "-I", "lib", "-w", "x.pl"}, "x.pl", 0},
		{[]string{"/usr/bin/php8.2", "-d", "a=b", "x.php"}, "x.php", 0},
	}
	for _, tt := range tests {
		got := program(&Process{Args: tt.args})
		if got.name != tt.name || len(got.args) != tt.rest {
			t.Errorf("%q runs %q with %q, want %q with %d", tt.args, got.name, got.args, tt.name, tt.rest)
		}
	}
}

func TestOption(t *testing.T) {
	for _, tt := range []struct {
		args  string
		value string
		ok    bool
	}{
		{"-k gevent", "gevent", true}, {"-kgevent", "gevent", true}, {"--worker-class gevent", "gevent", true},
		{"--worker-class=gevent -b x", "gevent", true}, {"-k sync -k gthread", "gthread", true},
		{"-k", "", false}, {"--worker-classes=x", "", false}, {"", "", false}, {"-b k", "", false},
	} {
		value, ok := run{args: strings.Fields(tt.args)}.option("-k", "--worker-class")
		if value != tt.value || ok != tt.ok {
			t.Errorf("%q: %q, %v", tt.args, value, ok)
		}
	}
}

// unreal is more than any PID that Linux gives: what the kernel is asked about
// the processes of a forest, it knows nothing of.
const unreal = 1 << 23

// forest builds processes of one line each: "PID PARENT START IMAGE TITLE",
// where those of one image are copies of each other. "!" after the start marks
// one that called execve.
func forest(t *testing.T, lines string) []Process {
	t.Helper()
	var all []Process
	for line := range strings.Lines(lines) {
		w := strings.SplitN(strings.TrimSpace(line), " ", 5)
		if len(w) < 5 {
			continue
		}
		num := func(s string) int {
			n, err := strconv.Atoi(strings.TrimSuffix(s, "!"))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return n
		}
		at := uint64(num(w[3]))<<32 + 1
		all = append(all, Process{
			ID: target.ID{PID: unreal + num(w[0]), Start: uint64(num(w[2]))}, PPID: unreal + num(w[1]), StartTime: uint64(num(w[2])),
			Comm: "x", Exe: "/bin/x" + w[3], Args: []string{w[4]}, State: 'S', Threads: 1,
			image: image{noExec: !strings.HasSuffix(w[2], "!"), code: at, stack: at + 1, brk: at + 2},
		})
	}
	return all
}

// shape writes what Find saw: "kind MASTER:worker<template,..."
func shape(servers []Server) string {
	number := func(p Process) string {
		if p.ID.PID == 0 {
			return "gone"
		}
		return strconv.Itoa(p.ID.PID - unreal)
	}
	var out []string
	for _, s := range servers {
		var l []string
		for _, w := range s.Workers {
			l = append(l, number(w)+"<"+number(s.ForkedFrom(w)))
		}
		out = append(out, s.Kind+" "+number(s.Master)+" "+strings.Join(l, " "))
	}
	return strings.Join(out, "\n")
}

// TestTrees builds families of processes that are hard to get for real.
func TestTrees(t *testing.T) {
	tests := []struct{ name, forest, want string }{
		{"pitchfork after a refork", `
			10 1 100! 1 pitchfork monitor
			11 10 101 1 pitchfork (gen:0) mold
			12 10 102 1 pitchfork (gen:0) worker[0]
			13 10 103 1 pitchfork (gen:0) worker[1]
			14 10 110 1 pitchfork (gen:1) mold
			15 10 111 1 pitchfork (gen:1) worker[0]`,
			"pitchfork 10 11<10 12<11 13<11 14<10 15<14"},
		{"a mold that ended", `
			10 1 100! 1 pitchfork monitor
			12 10 102 1 pitchfork (gen:0) worker[0]
			14 10 110 1 pitchfork (gen:1) mold`,
			"pitchfork 10 12<10 14<10"},
		{"gunicorn with a dirty arbiter", `
			10 1 100! 1 gunicorn: master [x]
			11 10 101 1 gunicorn: dirty-arbiter
			12 11 102 1 gunicorn: dirty-worker [x]
			13 10 103 1 gunicorn: worker [x]`,
			"gunicorn 10 11<10 12<11 13<10"},
		{"a pool within a worker", `
			10 1 100! 1 gunicorn: master [x]
			11 10 101 1 gunicorn: worker [x]
			12 11 102 1 gunicorn: worker [x]`,
			"gunicorn 10 11<10\npre-fork server 11 12<11"},
		{"a second gunicorn below the first", `
			10 1 100! 1 gunicorn: master [x]
			11 10 101 1 gunicorn: worker [x]
			20 10 200! 2 gunicorn: master [x.2]
			21 20 201 2 gunicorn: worker [x.2]`,
			"gunicorn 10 11<10\ngunicorn 20 21<20"},
		{"puma that forks from worker 0, and an application that forks itself", `
			10 1 100! 1 puma 6.4.2 (tcp://0.0.0.0:80) [x]
			11 10 101 1 puma: cluster worker 0: 10 [x]
			12 11 102 1 puma: cluster worker 1: 10 [x]
			13 12 103 1 puma: cluster worker 1: 10 [x]
			14 11 104 1 puma: cluster worker 2: 10 [x]`,
			"puma 10 11<10 12<11 14<11\npre-fork server 12 13<12"},
		{"below a supervisor", `
			5 1 50! 5 supervisord
			10 5 100! 1 nginx: master process
			11 10 101 1 nginx: worker process`,
			"nginx 10 11<10"},
		{"a master without workers", `
			10 1 100! 1 gunicorn: master [x]`,
			"gunicorn 10 "},
		{"a daemon that lost its parent", `
			10 1 100 1 nginx: master process
			11 10 101 1 nginx: worker process`,
			"nginx 10 11<10"},
		{"a recycled number for a parent", `
			10 1 900! 1 some server
			11 10 101 1 some server`,
			""},
		{"a lone process", `
			10 1 100! 1 some server`,
			""},
		{"each other's parents", `
			10 11 100 1 some server
			11 10 100 1 some server`,
			"pre-fork server 10 11<10\npre-fork server 11 10<11"},
		{"a worker that its master left behind", `
			10 1 100 1 nginx: worker process`,
			"nginx gone 10<gone"},
		{"its own parent", `
			10 10 100 1 nginx: worker process`,
			"nginx gone 10<gone"},
	}
	fs := proc.New(t.TempDir())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := forest(t, tt.forest)
			if got := shape(Find(fs, all)); got != tt.want {
				t.Errorf("found\n%s\nwant\n%s", got, tt.want)
			}
			for _, p := range all {
				Of(fs, all, p.ID.PID) // ends
			}
		})
	}
}

// TestTemplates sees which process the next worker will be forked from.
func TestTemplates(t *testing.T) {
	all := forest(t, `
		10 1 100! 1 pitchfork monitor
		11 10 101 1 pitchfork (gen:0) mold
		14 10 110 1 pitchfork (gen:1) mold`)
	s, role, ok := Of(proc.New(t.TempDir()), all, unreal+11)
	if !ok || role != Worker || s.Template.ID.PID != unreal+14 || s.Template.Title != "mold" {
		t.Errorf("%v, %v, template %d %q", role, ok, s.Template.ID.PID, s.Template.Title)
	}
}

// TestHiddenAddresses sees that servers of other users are recognised by name
// where the kernel shows us no addresses, and unknown ones are not.
func TestHiddenAddresses(t *testing.T) {
	all := forest(t, `
		10 1 100! 1 nginx: master process
		11 10 101 1 nginx: worker process
		12 10 102! 1 nginx: master process
		20 1 100! 2 some server
		21 20 101 2 some server`)
	for i := range all {
		all[i].Exe, all[i].image = "", image{noExec: all[i].image.noExec}
	}
	if _, err := ForkedWithoutExec(proc.New("/proc"), all[0], all[1]); !proc.IsPermission(err) {
		t.Errorf("no complaint about permission: %v", err)
	}
	want := "nginx 10 11<10\nnginx 12 "
	if got := shape(Find(proc.New(t.TempDir()), all)); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
}

// TestYoungest sees that children which may be about to call execve are not
// listed yet, nor an only one that may end soon, and that both are told about
// when asked for.
func TestYoungest(t *testing.T) {
	now := uint64(sinceBoot() / tick)
	const second = 100 // ticks
	for _, tt := range []struct {
		name string
		ages []uint64 // of the children
		want int      // workers listed
	}{
		{"one of this moment", []uint64{0}, 0},
		{"two of this moment", []uint64{0, 0}, 0},
		{"two that stay", []uint64{3 * second, 3 * second}, 2},
		{"one that stays", []uint64{60 * second}, 1},
		{"one that may end soon", []uint64{3 * second}, 0},
		{"one that stays, and one of this moment", []uint64{60 * second, 0}, 1},
		{"one that may end soon, and one of this moment", []uint64{3 * second, 0}, 0},
	} {
		lines := "10 1 100! 1 some server\n"
		for i, age := range tt.ages {
			lines += fmt.Sprintf("%d 10 %d 1 some server\n", 11+i, now-age)
		}
		all := forest(t, lines)
		fs := proc.New(t.TempDir())
		got := 0
		for _, s := range Find(fs, all) {
			got += len(s.Workers)
		}
		if got != tt.want {
			t.Errorf("%s: %d workers, want %d", tt.name, got, tt.want)
		}
		if s, _, ok := Of(fs, all, unreal+10); !ok || len(s.Workers) != len(tt.ages) {
			t.Errorf("%s: asked for by number: %d workers, %v", tt.name, len(s.Workers), ok)
		}
	}
}

// TestNotServer holds the programs of usual machines.
func TestNotServer(t *testing.T) {
	for _, tt := range []struct {
		comm, exe string
		args      []string
		not       bool
	}{
		// A script that is started by its own name.
		{"backup.sh", "/usr/bin/bash", []string{"/bin/bash", "./backup.sh"}, true},
		{"backup.sh", "/usr/bin/dash", []string{"/bin/sh", "./backup.sh"}, true},
		{"sh", "/bin/busybox", []string{"sh", "-c", "x"}, true},
		{"tmux: server", "/usr/bin/tmux", []string{"tmux"}, true},
		{"(sd-pam)", "/usr/lib/systemd/systemd", []string{"(sd-pam)"}, true},
		{"(sd-pam)", "", []string{"(sd-pam)"}, true},
		{"apt", "/usr/bin/apt", []string{"apt", "install", "x"}, true},
		{"dpkg-deb", "/usr/bin/dpkg-deb", []string{"dpkg-deb", "-x", "a.deb", "."}, true},
		{"mmdebstrap", "/usr/bin/perl", []string{"/usr/bin/perl", "/usr/bin/mmdebstrap", "trixie"}, true},
		{"frontend", "/usr/bin/perl", []string{"/usr/bin/perl", "-w", "/usr/share/debconf/frontend", "x"}, true},
		{"unattended-upgr", "/usr/bin/python3.11", []string{"/usr/bin/python3", "/usr/bin/unattended-upgrade"}, true},
		{"containerd-shim", "/usr/bin/containerd-shim-runc-v2", []string{"/usr/bin/containerd-shim-runc-v2"}, true},
		{"x86_64-linux-gn", "/usr/bin/x86_64-linux-gnu-gcc", []string{"gcc", "x.c"}, true},
		{"chrome", "/opt/google/chrome/chrome", []string{"/opt/google/chrome/chrome", "--type=zygote"}, true},
		// Servers in the same languages.
		{"starman", "/usr/bin/perl", []string{"/usr/bin/perl", "/usr/bin/starman", "app.psgi"}, false},
		{"python3", "/usr/bin/python3.11", []string{"python3", "serve.py"}, false},
		{"frontend", "/srv/frontend", []string{"/srv/frontend"}, false},
		{"smbd", "/usr/sbin/smbd", []string{"/usr/sbin/smbd"}, false},
		{"haproxy", "/usr/sbin/haproxy", []string{"haproxy", "-W"}, false},
		{"a", "", nil, false},
	} {
		p := Process{Comm: tt.comm, Exe: tt.exe, Args: tt.args}
		if got := notServer(&p); got != tt.not {
			t.Errorf("%s %s %q: %v, want %v", tt.comm, tt.exe, tt.args, got, tt.not)
		}
	}
}

// TestAddressesDecide sees that equal addresses prove nothing where they are
// not random and the random bytes cannot be read.
func TestAddressesDecide(t *testing.T) {
	all := forest(t, "10 1 100! 1 x\n11 10 101 1 x")
	for _, tt := range []struct {
		personality string
		ok          bool
	}{{"00000000\n", true}, {"00040000\n", false}, {"00440000\n", false}, {"x", false}, {"", true}} {
		root := t.TempDir()
		if tt.personality != "" {
			if err := os.MkdirAll(filepath.Join(root, strconv.Itoa(unreal+11)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, strconv.Itoa(unreal+11), "personality"), []byte(tt.personality), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		is, err := ForkedWithoutExec(proc.New(root), all[0], all[1])
		if is != tt.ok || (err == nil) != tt.ok {
			t.Errorf("personality %q: %v, %v", tt.personality, is, err)
		}
	}
}

// TestTraits sees that every server tells what a report needs, with names that
// can be filled in.
func TestTraits(t *testing.T) {
	all := Recognisers()
	for _, r := range append(all, Recogniser{Kind: Generic, Traits: genericTraits()}) {
		tr := r.Traits
		if tr.RestartWorker == "" || !strings.Contains(tr.RestartWorker, "WORKER") {
			t.Errorf("%s: RestartWorker %q", r.Kind, tr.RestartWorker)
		}
		if got := tr.RestartCommand(10, 11); strings.Contains(got, "WORKER") || !strings.Contains(got, "11") {
			t.Errorf("%s: RestartCommand %q", r.Kind, got)
		}
		if r.Kind != Generic && len(tr.Sources) == 0 {
			t.Errorf("%s: no sources", r.Kind)
		}
		if (tr.KillsHungAfter > 0 || tr.BootDeadline > 0) && tr.KillSetting == "" && tr.BootSetting == "" {
			t.Errorf("%s: no setting behind its deadline", r.Kind)
		}
		for _, h := range tr.Hooks {
			if !slices.Contains([]string{"worker", "master", "mold"}, h.In) || h.Name == "" || h.Use == "" {
				t.Errorf("%s: hook %+v", r.Kind, h)
			}
		}
	}
}

func TestHungNote(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"gunicorn", "x"}, "gunicorn kills a worker about 30 s after it hung (--timeout 30); what is seen here is gone then"},
		{[]string{"gunicorn", "-t", "120", "x"}, "gunicorn kills a worker about 2 minutes after it hung (--timeout 120); what is seen here is gone then"},
		{[]string{"gunicorn", "--timeout=0", "x"}, "gunicorn does not kill a hung worker by itself (--timeout with a value above 0 would make it)"},
		{[]string{"gunicorn", "--timeout=-5", "x"}, "gunicorn kills a worker about 30 s after it hung (--timeout 30); what is seen here is gone then"},
	} {
		s := Server{Kind: Gunicorn, Name: "gunicorn", Master: Process{Args: tt.args}, Traits: gunicorn().Traits}
		describeGunicorn(proc.New(t.TempDir()), &s)
		if got := s.Traits.HungNote("gunicorn"); got != tt.want {
			t.Errorf("%q: %s", tt.args, got)
		}
	}
	if got := celery().Traits.HungNote("Celery"); !strings.Contains(got, "within 4 s") {
		t.Errorf("Celery: %s", got)
	}
	if got := nginx().Traits.HungNote("nginx"); got != "nginx does not kill a hung worker by itself" {
		t.Errorf("nginx: %s", got)
	}
}

func FuzzProgram(f *testing.F) {
	for _, s := range []string{"python3\x00-m\x00gunicorn", "python3\x00-W", "ruby\x00-", "perl\x00--\x00", "\x00", "python3\x00-Xm"} {
		f.Add(s)
	}
	list := Recognisers()
	f.Fuzz(func(t *testing.T, cmdline string) {
		p := &Process{Args: strings.Split(cmdline, "\x00"), State: 'S'}
		r := program(p)
		if len(r.args) >= len(p.Args) {
			t.Errorf("%q: more arguments than there are", cmdline)
		}
		r.option("-k", "--worker-class")
		for _, k := range list {
			if k.Match(p) && k.Title != nil && len(k.Title(p)) > 128 {
				t.Errorf("%q: a long title %q", cmdline, k.Title(p))
			}
		}
	})
}

func FuzzImage(f *testing.F) {
	f.Add([]byte("1 (x) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"))
	f.Add([]byte("1 (a) b) S"))
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Fuzz(func(t *testing.T, stat []byte) {
		st, err := proc.ParseStat(stat)
		if err != nil {
			return
		}
		im := parseImage(stat, st.Flags)
		if im.noExec != (st.Flags&forkNoExec != 0) || im.code == 1 || im.stack == 1 || im.brk == 1 {
			t.Errorf("%q: %+v", stat, im)
		}
	})
}
