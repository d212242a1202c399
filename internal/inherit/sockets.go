package inherit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"forkproof/internal/proc"
)

// sockets fills in Sockets. The table of TCP connections has a bucket for each
// of some hundred thousand hash values, which takes the kernel 10 ms to walk
// even where it is empty. So what is cheap to tell is told first, Unix sockets
// and those that listen, and that table is read only where a socket in common
// is neither.
func (o *Observation) sockets(fs proc.FS) {
	o.Sockets = make(map[uint64]Socket)
	holders := o.holders()
	var inodes []uint64
	unknown := 0
	for inode, h := range holders {
		inodes = append(inodes, inode)
		if sharedHere(h) {
			unknown++
		}
	}
	if unknown == 0 {
		return
	}
	pid := o.Processes[0].ID.PID
	slices.Sort(inodes)
	wanted := func(inode uint64) bool { _, ok := holders[inode]; return ok }
	table, err := askKernel(fs, pid, inodes, wanted)
	if err != nil {
		o.Notes = append(o.Notes, fmt.Sprintf("the Unix sockets of process %d could not be told: %v", pid, err))
	}
	for _, s := range table {
		o.Sockets[s.Inode] = s
		if sharedHere(holders[s.Inode]) {
			unknown--
		}
	}
	if unknown <= 0 {
		return
	}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fs.Path(pid, "net", name))
		if os.IsNotExist(err) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		var table []Socket
		if err == nil {
			table, err = parseTCP(b, wanted)
		}
		if err != nil {
			o.Notes = append(o.Notes, fmt.Sprintf("the TCP connections of process %d could not be read: %v", pid, err))
			return
		}
		for _, s := range table {
			o.Sockets[s.Inode] = s
		}
	}
}

// holders lists who holds each socket.
func (o *Observation) holders() map[uint64][]Holder {
	m := make(map[uint64][]Holder)
	for i := range o.Processes {
		for _, fd := range o.Processes[i].FDs {
			if fd.Inode != 0 {
				m[fd.Inode] = append(m[fd.Inode], Holder{o.Processes[i].ID.PID, fd.Num})
			}
		}
	}
	return m
}

// sharedHere reports whether more than one process holds a socket, and not only
// as standard input, output or error.
func sharedHere(holders []Holder) bool {
	other, std := false, true
	for _, h := range holders {
		other = other || h.PID != holders[0].PID
		std = std && h.FD <= 2
	}
	return other && !std
}

// States of TCP sockets, include/net/tcp_states.h. Unix sockets use the same.
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpListen      = 10
	tcpClosing     = 11
)

// parseTCP parses /proc/PID/net/tcp or tcp6 and keeps the wanted sockets.
func parseTCP(b []byte, wanted func(inode uint64) bool) ([]Socket, error) {
	var list []Socket
	header := true
	for line := range strings.Lines(string(b)) {
		if header {
			header = false
			continue
		}
		// sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...
		w := strings.Fields(line)
		if len(w) < 10 {
			return nil, fmt.Errorf("net/tcp: %w: %.120q", proc.ErrParse, line)
		}
		inode, err := strconv.ParseUint(w[9], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("net/tcp: %w: %.120q", proc.ErrParse, line)
		}
		if inode == 0 || !wanted(inode) {
			continue
		}
		state, err := strconv.ParseUint(w[3], 16, 8)
		if err != nil {
			return nil, fmt.Errorf("net/tcp: %w: %.120q", proc.ErrParse, line)
		}
		s := Socket{Inode: inode, Proto: "tcp", Stream: true, Listening: state == tcpListen}
		switch state {
		case tcpEstablished, tcpSynSent, tcpFinWait1, tcpFinWait2, tcpCloseWait, tcpLastAck, tcpClosing:
			s.Connected = true
		}
		var errL, errR error
		s.Local, errL = parseAddr(w[1])
		s.Remote, errR = parseAddr(w[2])
		if errL != nil || errR != nil {
			return nil, fmt.Errorf("net/tcp: %w: %.120q", proc.ErrParse, line)
		}
		list = append(list, s)
	}
	return list, nil
}

// parseAddr parses "0100007F:1F90": 32-bit words of the address in the
// machine's byte order, and the port. An IPv4 address within IPv6 is unwrapped.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, ok := strings.Cut(s, ":")
	if !ok || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, proc.ErrParse
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, proc.ErrParse
	}
	var raw [16]byte
	for i := 0; i < len(host); i += 8 {
		v, err := strconv.ParseUint(host[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, proc.ErrParse
		}
		binary.NativeEndian.PutUint32(raw[i/2:], uint32(v))
	}
	var a netip.Addr
	if len(host) == 8 {
		a = netip.AddrFrom4([4]byte(raw[:4]))
	} else {
		a = netip.AddrFrom16(raw).Unmap()
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}
