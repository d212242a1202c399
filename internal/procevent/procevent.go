// Package procevent tells of every fork, execve and end of every process of the
// machine, as the kernel's process events connector does (CONFIG_PROC_EVENTS,
// include/uapi/linux/cn_proc.h): in their order, none left out without a word,
// and at no cost to the processes.
package procevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what happened.
type Kind uint32

// The kinds, as the kernel numbers them.
const (
	Fork Kind = 0x00000001
	Exec Kind = 0x00000002
	Exit Kind = 0x80000000
)

// Event is one thing that happened to a process. Those of single threads are
// left out. PIDs are those of the first PID namespace.
type Event struct {
	Kind Kind
	// PID is the process that called execve, or ended, or was made.
	PID int
	// Parent is the process that called fork, for a Fork alone. It is not the
	// parent of what CLONE_PARENT made, but the one that made it.
	Parent int
	// Status is how the process ended, for an Exit alone.
	Status unix.WaitStatus
	// At is when, by CLOCK_MONOTONIC.
	At time.Duration
}

// ErrLost says that events came faster than they were read, so that some are
// missing; later ones can still be read.
var ErrLost = errors.New("process events were lost")

// Listener is an open source of events.
type Listener struct {
	file *os.File
	conn syscall.RawConn
	buf  []byte
	held []Event // read and not yet returned
}

// From include/uapi/linux/connector.h and cn_proc.h.
const (
	cnIdxProc, cnValProc = 1, 1
	listen               = 1 // PROC_CN_MCAST_LISTEN
	headers              = unix.SizeofNlMsghdr + 20
	room                 = 16 << 20 // of the kernel's queue, in bytes
)

// Listen begins to collect events; what happens from its return on is told. It
// needs CAP_NET_ADMIN (any user may since Linux 6.6) in the first user and PID
// namespaces, and the network namespace of the machine; the error says what is
// missing.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("open a socket for process events: %w", err)
	}
	file := os.NewFile(uintptr(fd), "process events")
	l := &Listener{file: file, buf: make([]byte, 64<<10)}
	if err := l.begin(fd); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

func (l *Listener) begin(fd int) error {
	// Without the permission to force it a smaller queue must do.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}); err != nil {
		return fmt.Errorf("ask for process events: %w", err)
	}
	if err := unix.Send(fd, request(), 0); err != nil {
		return fmt.Errorf("ask for process events: %w", err)
	}
	conn, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	l.conn = conn
	// The kernel answers with an event of kind 0, and says there whether it will:
	// a namespace that it does not serve gets no answer at all.
	if err := l.file.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	for {
		b, err := l.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("the kernel tells process events neither in a PID namespace nor in a network namespace of one's own")
		case err != nil && !errors.Is(err, ErrLost):
			return err
		}
		if code, ok := answer(b); ok {
			if code != 0 {
				return fmt.Errorf("ask for process events: %w", unix.Errno(code))
			}
			return l.file.SetReadDeadline(time.Time{})
		}
		l.held = append(l.held, parse(b)...)
	}
}

func request() []byte {
	b := make([]byte, headers+4)
	n := binary.NativeEndian
	n.PutUint32(b[0:], uint32(len(b)))
	n.PutUint16(b[4:], unix.NLMSG_DONE)
	n.PutUint32(b[12:], uint32(os.Getpid()))
	n.PutUint32(b[16:], cnIdxProc)
	n.PutUint32(b[20:], cnValProc)
	n.PutUint16(b[32:], 4)
	n.PutUint32(b[headers:], listen)
	return b
}

// receive reads one datagram of the kernel's.
func (l *Listener) receive() ([]byte, error) {
	var n int
	var from unix.Sockaddr
	var failed error
	err := l.conn.Read(func(fd uintptr) bool {
		n, from, failed = unix.Recvfrom(int(fd), l.buf, 0)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, err
	case err != nil: // the only other reason for which a read is not tried
		return nil, os.ErrClosed
	case failed == unix.ENOBUFS:
		return nil, ErrLost
	case failed != nil:
		return nil, fmt.Errorf("read process events: %w", failed)
	}
	if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
		return nil, nil // not from the kernel
	}
	return l.buf[:n], nil
}

// Next returns the next event; it waits for one. [ErrLost] is returned once for
// each gap; os.ErrClosed after Close.
func (l *Listener) Next() (Event, error) {
	for len(l.held) == 0 {
		b, err := l.receive()
		if err != nil {
			return Event{}, err
		}
		l.held = parse(b)
	}
	e := l.held[0]
	l.held = l.held[1:]
	return e, nil
}

// Close ends the listening, also while Next waits.
func (l *Listener) Close() error { return l.file.Close() }

// answer returns the error code of the kernel's answer to a request.
func answer(b []byte) (code uint32, ok bool) {
	for body := range bodies(b) {
		if binary.NativeEndian.Uint32(body) == 0 {
			return binary.NativeEndian.Uint32(body[16:]), true
		}
	}
	return 0, false
}

// parse takes the events out of a datagram; what it does not know it skips.
func parse(b []byte) []Event {
	var all []Event
	for body := range bodies(b) {
		if e, ok := parseEvent(body); ok {
			all = append(all, e)
		}
	}
	return all
}

// bodies are the events of kind and length as cn_proc.h has them: what, CPU,
// time, then what differs, of which 8 bytes are there at least.
func bodies(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		n := binary.NativeEndian
		for len(b) >= headers {
			length := int(n.Uint32(b))
			if length < headers || length > len(b) {
				return
			}
			size := int(n.Uint16(b[32:]))
			if n.Uint32(b[16:]) == cnIdxProc && n.Uint32(b[20:]) == cnValProc && size >= 24 && headers+size <= length {
				if !yield(b[headers : headers+size]) {
					return
				}
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

func parseEvent(b []byte) (Event, bool) {
	n := binary.NativeEndian
	word := func(i int) int { return int(int32(n.Uint32(b[16+4*i:]))) }
	e := Event{Kind: Kind(n.Uint32(b)), At: time.Duration(n.Uint64(b[8:]))}
	switch e.Kind {
	case Fork: // parent's pid and tgid, child's pid and tgid
		if len(b) < 32 || word(2) != word(3) {
			return e, false
		}
		e.Parent, e.PID = word(1), word(3)
	case Exec: // pid, tgid
		e.PID = word(1)
	case Exit: // pid, tgid, status, signal
		if len(b) < 32 || word(0) != word(1) {
			return e, false
		}
		e.PID, e.Status = word(1), unix.WaitStatus(word(2))
	default:
		return e, false
	}
	return e, true
}
