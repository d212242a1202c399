package inherit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/target"
)

// pair is a master 10 and workers 11, 12 ... that were forked at tick 100.
func pair(workers int) Observation {
	o := Observation{Kind: forkserver.Generic, Name: "server", Sockets: make(map[uint64]Socket)}
	o.Processes = append(o.Processes, Process{ID: target.ID{PID: 10, Start: 50}, Role: forkserver.Master, Threads: []Thread{{TID: 10, Name: "s", Start: 50, Robust: 0x1000}}})
	for i := range workers {
		pid := 11 + i
		o.Processes = append(o.Processes, Process{
			ID: target.ID{PID: pid, Start: 100}, Role: forkserver.Worker, From: 10,
			Threads: []Thread{{TID: pid, Name: "s", Start: 100, Robust: 0x1000}},
		})
	}
	return o
}

// hold gives descriptor num of each process the same link.
func (o *Observation) hold(num int, link string, inode uint64, pids ...int) {
	for _, pid := range pids {
		p := o.process(pid)
		p.FDs = append(p.FDs, FD{Num: num, Link: link, Inode: inode})
	}
}

func titles(all []finding.Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s %s\n", f.Severity, f.Rule, f.Title)
	}
	return strings.TrimSpace(b.String())
}

func TestVanished(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(o *Observation)
		want string
	}{
		"no threads": {func(*Observation) {}, ""},
		"one before the fork": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "refresher", Start: 60})
		}, "info vanished-thread 1 thread of master 10 is missing in its workers"},
		"several": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "pool", Start: 60}, Thread{TID: 21, Name: "pool", Start: 60}, Thread{TID: 22, Name: "send", Start: 60})
		}, "info vanished-thread 3 threads of master 10 are missing in its workers"},
		"one after the fork": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "later", Start: 101})
		}, ""},
		// Ticks are of 10 ms: the numbers tell which was first.
		"one in the tick of the fork, before": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 9, Name: "early", Start: 100})
		}, "info vanished-thread 1 thread of master 10 is missing in its workers"},
		"one in the tick of the fork, after": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "control", Start: 100})
		}, ""},
		"started anew in the workers": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "refresher", Start: 60})
			for i := range o.Processes[1:] {
				w := &o.Processes[1+i]
				w.Threads = append(w.Threads, Thread{TID: 30 + i, Name: "refresher", Start: 110})
			}
		}, ""},
		"started anew in one of them": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "refresher", Start: 60})
			o.Processes[1].Threads = append(o.Processes[1].Threads, Thread{TID: 30, Name: "refresher", Start: 110})
		}, "info vanished-thread 1 thread of master 10 is missing in its worker 12"},
		// The survivor is the thread with the same list of robust futexes.
		"another thread forked": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "forker", Start: 60, Robust: 0x2000})
			for i := range o.Processes[1:] {
				o.Processes[1+i].Threads[0].Robust = 0x2000
			}
		}, "info vanished-thread 1 thread of master 10 is missing in its workers"},
		"Puma's forking thread": {func(o *Observation) {
			o.Kind = forkserver.Puma
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "forker", Start: 60, Robust: 0x2000})
			for i := range o.Processes[1:] {
				o.Processes[1+i].Threads[0].Robust = 0x2000
			}
		}, ""},
		"the first thread of a worker ended": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "refresher", Start: 60})
			for i := range o.Processes[1:] {
				o.Processes[1+i].Threads = []Thread{{TID: 40 + i, Name: "x", Start: 110}}
			}
		}, ""},
		"not forked from there": {func(o *Observation) {
			o.Processes[0].Threads = append(o.Processes[0].Threads, Thread{TID: 20, Name: "refresher", Start: 60})
			o.Processes[1].From, o.Processes[2].From = 0, 0
		}, ""},
		"from a worker": {func(o *Observation) {
			o.Processes[1].Threads = append(o.Processes[1].Threads, Thread{TID: 30, Name: "pool", Start: 105})
			o.Processes[2].From, o.Processes[2].ID.Start = 11, 200
		}, "info vanished-thread 1 thread of worker 11 is missing in its worker 12"},
	} {
		t.Run(name, func(t *testing.T) {
			o := pair(2)
			tc.set(&o)
			if got := titles(Judge(o)); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestConnections(t *testing.T) {
	local, remote := netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:5432")
	tcp := Socket{Inode: 7, Proto: "tcp", Stream: true, Connected: true, Local: local, Remote: remote}
	with := func(s Socket, change func(*Socket)) Socket { change(&s); return s }
	for name, tc := range map[string]struct {
		socket  Socket
		others  []Socket // also held by the master
		holders []int
		want    string
	}{
		"in all":                 {tcp, nil, []int{10, 11, 12}, "warning shared-connection 3 processes share a connection to PostgreSQL at 10.0.0.2:5432"},
		"in two workers":         {tcp, nil, []int{11, 12}, "warning shared-connection 2 processes share a connection to PostgreSQL at 10.0.0.2:5432"},
		"in one":                 {tcp, nil, []int{11}, ""},
		"of no known service":    {with(tcp, func(s *Socket) { s.Remote = netip.MustParseAddrPort("[2001:db8::1]:4711") }), nil, []int{10, 11}, "warning shared-connection 2 processes share a connection to [2001:db8::1]:4711"},
		"not connected":          {with(tcp, func(s *Socket) { s.Connected = false }), nil, []int{10, 11}, ""},
		"listening":              {with(tcp, func(s *Socket) { s.Connected, s.Listening = false, true }), nil, []int{10, 11}, ""},
		"accepted":               {tcp, []Socket{{Inode: 8, Proto: "tcp", Stream: true, Listening: true, Local: netip.MustParseAddrPort("0.0.0.0:40000")}}, []int{10, 11}, ""},
		"both ends here":         {tcp, []Socket{{Inode: 8, Proto: "tcp", Stream: true, Connected: true, Local: remote, Remote: local}}, []int{10, 11}, ""},
		"unix, to a database":    {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true, PeerInode: 99, PeerPath: "/run/postgresql/.s.PGSQL.5432"}, nil, []int{10, 11}, "warning shared-connection 2 processes share a connection to PostgreSQL at /run/postgresql/.s.PGSQL.5432"},
		"unix, abstract":         {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true, PeerInode: 99, PeerPath: "@broker"}, nil, []int{10, 11}, "warning shared-connection 2 processes share a connection to @broker"},
		"unix, to the journal":   {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true, PeerInode: 99, PeerPath: "/run/systemd/journal/stdout"}, nil, []int{10, 11}, ""},
		"unix, datagrams":        {Socket{Inode: 7, Proto: "unix", Connected: true, PeerInode: 99, PeerPath: "/run/x"}, nil, []int{10, 11}, ""},
		"unix, accepted":         {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true, PeerInode: 99, PeerPath: "/run/x", Path: "/run/own.sock"}, nil, []int{10, 11}, ""},
		"unix, a pair":           {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true, PeerInode: 8}, []Socket{{Inode: 8, Proto: "unix", Stream: true, Connected: true, PeerInode: 7}}, []int{10, 11}, ""},
		"unix, to who knows who": {Socket{Inode: 7, Proto: "unix", Stream: true, Connected: true}, nil, []int{10, 11}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := pair(2)
			o.Sockets[7] = tc.socket
			o.hold(5, "socket:[7]", 7, tc.holders...)
			for _, s := range tc.others {
				o.Sockets[s.Inode] = s
				o.hold(6, "socket:[8]", s.Inode, 10)
			}
			if got := titles(Judge(o)); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
	t.Run("standard streams only", func(t *testing.T) {
		o := pair(2)
		o.Sockets[7] = tcp
		o.hold(1, "socket:[7]", 7, 10, 11, 12)
		o.hold(2, "socket:[7]", 7, 10, 11, 12)
		if got := titles(Judge(o)); got != "" {
			t.Errorf("said of a log: %s", got)
		}
	})
	t.Run("many to one peer", func(t *testing.T) {
		o := pair(2)
		for i := range uint64(9) {
			s := tcp
			s.Inode = 100 + i
			o.Sockets[s.Inode] = s
			o.hold(int(5+i), "socket:[x]", s.Inode, 10, 11, 12)
		}
		all := Judge(o)
		if got := titles(all); got != "warning shared-connection 3 processes share 9 connections to PostgreSQL at 10.0.0.2:5432" {
			t.Fatalf("got %s", got)
		}
		if e := all[0].Evidence; len(e) != 8 || e[7] != "and 3 more" {
			t.Errorf("evidence %q", e)
		}
	})
	t.Run("Celery's broker", func(t *testing.T) {
		o := pair(1)
		o.Kind = forkserver.Celery
		o.Sockets[7], o.Sockets[8] = tcp, with(tcp, func(s *Socket) { s.Inode, s.Local = 8, netip.MustParseAddrPort("10.0.0.1:40001") })
		o.hold(5, "socket:[7]", 7, 10, 11)
		o.hold(6, "socket:[8]", 8, 10)
		o.Processes[0].Watched = []int{6}
		if got := titles(Judge(o)); got != "info shared-connection 2 processes share a connection to PostgreSQL at 10.0.0.2:5432" {
			t.Errorf("got %s", got)
		}
	})
}

func TestQueuesAndOffsets(t *testing.T) {
	both := []Holder{{10, 4}, {11, 4}, {12, 4}}
	for name, tc := range map[string]struct {
		shared []Shared
		want   string
	}{
		"nobody uses it":  {[]Shared{{Type: "eventpoll", Holders: both}}, ""},
		"the master only": {[]Shared{{Type: "eventpoll", Holders: both, Users: []int{10}}}, ""},
		"one worker":      {[]Shared{{Type: "eventpoll", Holders: both[:2], Users: []int{11}}}, "info shared-event-queue worker 11 uses an epoll queue that it inherited and that master 10 has still open"},
		"one of three":    {[]Shared{{Type: "signalfd", Holders: both, Users: []int{11}}}, "info shared-event-queue worker 11 uses a signalfd that it inherited and that 2 other processes have still open"},
		"two":             {[]Shared{{Type: "io_uring", Holders: both, Users: []int{11, 12}}}, "warning shared-event-queue 2 processes share and use an io_uring"},
		"master and worker, said once for each kind": {[]Shared{
			{Type: "eventfd", Holders: both, Users: []int{10, 11}}, {Type: "eventfd", Holders: both, Users: []int{10, 12}},
			{Type: "inotify", Holders: both, Users: []int{10, 11}},
		}, "warning shared-event-queue 2 processes share and use an eventfd\nwarning shared-event-queue 2 processes share and use an inotify queue"},
		"a file":                   {[]Shared{{Type: "file", Holders: both, Path: "/srv/data", Pos: 5, Flags: unix.O_RDWR}}, "warning shared-file-offset 3 processes share the position in /srv/data"},
		"a file that is written":   {[]Shared{{Type: "file", Holders: both, Path: "/srv/out", Pos: 5, Flags: unix.O_WRONLY}}, "info shared-file-offset 3 processes share the position in /srv/out"},
		"a file with a PID":        {[]Shared{{Type: "file", Holders: both, Path: "/run/server.pid", Pos: 5, Flags: unix.O_WRONLY}}, ""},
		"a lock file that is gone": {[]Shared{{Type: "file", Holders: both, Path: "/run/x.lock (deleted)", Pos: 5, Flags: unix.O_RDWR}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := pair(2)
			o.Shared = tc.shared
			if got := titles(Judge(o)); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	if got := enumerate([]string{"a", "b", "c", "d"}, 2); got != "a, b and 2 more" {
		t.Error(got)
	}
	// One left over takes no less room than "1 more".
	if got := enumerate([]string{"a", "b", "c"}, 2); got != "a, b and c" {
		t.Error(got)
	}
	if got := enumerate(nil, 2) + enumerate([]string{"a"}, 2); got != "a" {
		t.Error(got)
	}
	if got := plural(1, "process") + ", " + plural(2, "process") + ", " + plural(3, "thread"); got != "1 process, 2 processes, 3 threads" {
		t.Error(got)
	}
	if got := ticks(1) + ", " + ticks(123); got != "less than 20 ms, 1.23 s" {
		t.Error(got)
	}
}
