package inherit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Values of include/uapi/linux/unix_diag.h and sock_diag.h.
const (
	sockDiagByFamily = 20
	udiagShowName    = 0x1
	udiagShowPeer    = 0x4
	unixDiagName     = 0
	unixDiagPeer     = 2
)

var native = binary.NativeEndian

// askKernel tells what is known of the Unix sockets with the given inodes, and of
// the wanted TCP sockets that listen, in the network namespace of a process.
// /proc/net/unix does not say who is at the other end of a socket, the kernel's
// sock_diag interface does.
func askKernel(fs proc.FS, pid int, inodes []uint64, wanted func(uint64) bool) ([]Socket, error) {
	theirs, err := fs.Namespace(pid, "net")
	if err != nil {
		return nil, err
	}
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if theirs == ours {
		return ask(inodes, wanted)
	}
	type answer struct {
		list []Socket
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		// The thread enters the other namespace and is never unlocked: it
		// ends with this goroutine, and nobody else runs there by mistake.
		runtime.LockOSThread()
		ns, err := os.Open(fs.Path(pid, "ns", "net"))
		if err != nil {
			done <- answer{nil, err}
			return
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if cerr := ns.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			done <- answer{nil, fmt.Errorf("enter its network namespace: %w (run as root, or with CAP_SYS_ADMIN)", err)}
			return
		}
		list, err := ask(inodes, wanted)
		done <- answer{list, err}
	}()
	a := <-done
	return a.list, a.err
}

func ask(inodes []uint64, wanted func(uint64) bool) ([]Socket, error) {
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	defer func() { _ = unix.Close(nl) }()
	// The kernel answers within the call of sendto; the time-out is against
	// one that does not.
	if err := unix.SetsockoptTimeval(nl, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	list, err := listening(nl, wanted)
	if err != nil {
		// Without the kernel's inet_diag module: /proc/net/tcp has them too.
		list = nil
	}
	told := make(map[uint64]bool)
	for _, s := range list {
		told[s.Inode] = true
	}
	for _, inode := range inodes {
		if told[inode] {
			continue
		}
		s, err := askOne(nl, inode)
		if errors.Is(err, unix.ENOENT) {
			continue // not a Unix socket, or gone
		}
		if err != nil {
			return list, err
		}
		if s.PeerInode != 0 {
			peer, err := askOne(nl, s.PeerInode)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return list, err
			}
			s.PeerPath = peer.Path
		}
		list = append(list, s)
	}
	return list, nil
}

// listening lists the wanted TCP sockets that listen.
func listening(nl int, wanted func(uint64) bool) ([]Socket, error) {
	var list []Socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		// struct nlmsghdr, then struct inet_diag_req_v2.
		req := make([]byte, 16+56)
		native.PutUint32(req[0:], uint32(len(req)))
		native.PutUint16(req[4:], sockDiagByFamily)
		native.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		body := req[16:]
		body[0], body[1] = family, unix.IPPROTO_TCP
		native.PutUint32(body[4:], 1<<tcpListen)
		if err := unix.Sendto(nl, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, fmt.Errorf("ask sock_diag: %w", err)
		}
		buf := make([]byte, 32<<10)
		for done := false; !done; {
			n, _, err := unix.Recvfrom(nl, buf, 0)
			if err != nil {
				return nil, fmt.Errorf("ask sock_diag: %w", err)
			}
			var part []Socket
			if part, done, err = parseInetDiag(buf[:n]); err != nil {
				return nil, err
			}
			for _, s := range part {
				if wanted(s.Inode) {
					list = append(list, s)
				}
			}
		}
	}
	return list, nil
}

// parseInetDiag parses some answers of sock_diag about TCP, each a struct
// inet_diag_msg; done tells that they were the last ones.
func parseInetDiag(b []byte) (list []Socket, done bool, err error) {
	for len(b) >= 16 {
		size := native.Uint32(b)
		if size < 16 || uint64(size) > uint64(len(b)) {
			return nil, false, fmt.Errorf("sock_diag: %w: a message of %d bytes", proc.ErrParse, size)
		}
		msg := b[16:size]
		switch native.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return list, true, nil
		case unix.NLMSG_ERROR:
			if len(msg) >= 4 {
				if errno := -int32(native.Uint32(msg)); errno > 0 {
					return nil, true, unix.Errno(errno)
				}
			}
			return nil, true, fmt.Errorf("sock_diag: %w", proc.ErrParse)
		case sockDiagByFamily:
			// family, state, timer, retransmits; ports in network order, two
			// addresses of 16 bytes, interface, cookie; expiry, queues, user,
			// inode.
			if len(msg) < 72 {
				return nil, false, fmt.Errorf("sock_diag: %w: a message of %d bytes", proc.ErrParse, size)
			}
			var local netip.Addr
			if msg[0] == unix.AF_INET {
				local = netip.AddrFrom4([4]byte(msg[8:12]))
			} else {
				local = netip.AddrFrom16([16]byte(msg[8:24])).Unmap()
			}
			list = append(list, Socket{
				Inode: uint64(native.Uint32(msg[68:])), Proto: "tcp", Stream: true, Listening: msg[1] == tcpListen,
				Local: netip.AddrPortFrom(local, binary.BigEndian.Uint16(msg[4:])),
			})
		}
		b = b[min((uint64(size)+3)&^3, uint64(len(b))):]
	}
	return list, false, nil
}

// askOne asks for one socket by its inode.
func askOne(nl int, inode uint64) (Socket, error) {
	if inode > 1<<32-1 {
		return Socket{}, unix.ENOENT
	}
	// struct nlmsghdr, then struct unix_diag_req; a cookie of all ones stands
	// for any.
	req := make([]byte, 16+24)
	native.PutUint32(req[0:], uint32(len(req)))
	native.PutUint16(req[4:], sockDiagByFamily)
	native.PutUint16(req[6:], unix.NLM_F_REQUEST)
	native.PutUint32(req[8:], uint32(inode))
	body := req[16:]
	body[0] = unix.AF_UNIX
	native.PutUint32(body[4:], ^uint32(0))
	native.PutUint32(body[8:], uint32(inode))
	native.PutUint32(body[12:], udiagShowName|udiagShowPeer)
	native.PutUint64(body[16:], ^uint64(0))
	if err := unix.Sendto(nl, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Socket{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(nl, buf, 0)
	if err != nil {
		return Socket{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	return parseUnixDiag(buf[:n])
}

// parseUnixDiag parses one answer of sock_diag: an error, or struct
// unix_diag_msg with its attributes.
func parseUnixDiag(b []byte) (Socket, error) {
	bad := fmt.Errorf("sock_diag: %w: %d bytes", proc.ErrParse, len(b))
	if len(b) < 16 {
		return Socket{}, bad
	}
	size := native.Uint32(b)
	if size < 16 || uint64(size) > uint64(len(b)) {
		return Socket{}, bad
	}
	typ := native.Uint16(b[4:])
	b = b[16:size]
	switch typ {
	case unix.NLMSG_ERROR:
		if len(b) < 4 {
			return Socket{}, bad
		}
		if errno := -int32(native.Uint32(b)); errno > 0 {
			return Socket{}, unix.Errno(errno)
		}
		return Socket{}, bad
	case sockDiagByFamily:
	default:
		return Socket{}, bad
	}
	if len(b) < 16 || b[0] != unix.AF_UNIX {
		return Socket{}, bad
	}
	s := Socket{
		Proto: "unix", Inode: uint64(native.Uint32(b[4:])),
		Stream:    b[1] == unix.SOCK_STREAM || b[1] == unix.SOCK_SEQPACKET,
		Listening: b[2] == tcpListen, Connected: b[2] == tcpEstablished,
	}
	for b = b[16:]; len(b) >= 4; {
		n, kind := int(native.Uint16(b)), native.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return Socket{}, bad
		}
		val := b[4:n]
		switch kind {
		case unixDiagName:
			s.Path = socketName(val)
		case unixDiagPeer:
			if len(val) < 4 {
				return Socket{}, bad
			}
			s.PeerInode = uint64(native.Uint32(val))
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return s, nil
}

// socketName writes the name of a Unix socket as tools do: an abstract one,
// which begins with a zero byte, with "@".
func socketName(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	prefix := ""
	if b[0] == 0 {
		prefix, b = "@", b[1:]
	}
	return prefix + strings.TrimRight(string(b), "\x00")
}
