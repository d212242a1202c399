// Package inherit finds what the workers of a pre-fork server inherited besides
// memory and what hurts there: threads that fork did not copy, and open file
// descriptions that fork shares although their users think they own them:
// connections, event queues, file offsets.
//
// Observe reads; Judge decides, and reads nothing. Reading stops and changes
// nobody.
package inherit

import (
	"net/netip"

	"forkproof/internal/forkserver"
	"forkproof/internal/target"
)

// Observation is what was read of one server at one time.
type Observation struct {
	// Kind, Name and Traits are those of the server.
	Kind, Name string
	Traits     forkserver.Traits
	// Processes are the master, first, and its workers.
	Processes []Process
	// Sockets are all sockets of these processes that could be told, by inode.
	Sockets map[uint64]Socket
	// Shared are open file descriptions other than sockets that more than one
	// of the processes holds.
	Shared []Shared
	// Notes say what could not be read.
	Notes []string
}

// Process is one process of the server.
type Process struct {
	ID target.ID
	// Role is "master" or "worker".
	Role forkserver.Role
	// Title is what it does in its server: "worker 0", "checkpointer".
	Title string
	// From is the PID of the process it was forked from; 0 for the master.
	From    int
	Threads []Thread
	FDs     []FD
	// Watched are the descriptors in the epoll queues of the master; nil for
	// a worker.
	Watched []int
}

// Thread is one thread.
type Thread struct {
	TID  int
	Name string
	// Start is in clock ticks (100 per second) since boot.
	Start uint64
	// Robust is the address of the C library's list of robust futexes for
	// this thread, 0 where unknown. It lies in the thread's control block:
	// the survivor of a fork keeps it, which tells which thread forked.
	Robust uint64
	// WaitsOn is the descriptor on which the thread sleeps in epoll_wait,
	// read or io_uring_enter; -1 where it does not.
	WaitsOn int
}

// FD is one descriptor.
type FD struct {
	Num int
	// Link is what /proc/PID/fd/N shows: a path, "socket:[123]",
	// "anon_inode:[eventpoll]".
	Link string
	// Inode is that of a socket, 0 for anything else.
	Inode uint64
}

// Socket is one TCP or Unix socket.
type Socket struct {
	Inode uint64
	// Proto is "tcp" or "unix".
	Proto string
	// Listening: it accepts connections.
	Listening bool
	// Connected: it has a peer, or had one until the peer closed.
	Connected bool
	// Stream is false for Unix datagram sockets: their messages do not mix.
	Stream bool
	// Local and Remote are the ends of a TCP socket.
	Local, Remote netip.AddrPort
	// Path is the name that a Unix socket is bound to, "@..." for an abstract
	// one; PeerPath that of its peer.
	Path, PeerPath string
	// PeerInode is the socket at the other end of a Unix socket, 0 if unknown.
	PeerInode uint64
}

// Holder is one process's descriptor of something shared.
type Holder struct {
	PID, FD int
}

// Shared is one open file description that several processes hold, other than
// a socket or pipe.
type Shared struct {
	// Type is "eventpoll", "eventfd", "timerfd", "inotify", "signalfd",
	// "io_uring", or "file" for a regular file.
	Type    string
	Holders []Holder
	// Users are the holders that were seen to use it, by PID: a thread that
	// sleeps on it, or an epoll queue of that process which watches it.
	Users []int
	// Path, Pos and Flags are those of a regular file: where it lies as the
	// process sees it, the shared offset in bytes, and the flags of open(2).
	Path  string
	Pos   int64
	Flags int
}

// process returns the process with the given PID.
func (o *Observation) process(pid int) *Process {
	for i := range o.Processes {
		if o.Processes[i].ID.PID == pid {
			return &o.Processes[i]
		}
	}
	return nil
}
