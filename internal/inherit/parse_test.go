package inherit

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

func everyone(uint64) bool { return true }

const (
	tcpHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	tcpLine = "   0: 0100007F:1F90 0200000A:1538 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 20 4 30 10 -1\n"
	tcp6    = "   1: 0000000000000000FFFF00000100007F:1F90 B80D0120000000000000000001000000:0050 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n"
)

func TestParseTCP(t *testing.T) {
	got, err := parseTCP([]byte(tcpHead+tcpLine+tcp6), everyone)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	a, b := got[0], got[1]
	if a.Inode != 4711 || !a.Connected || a.Listening || a.Local != netip.MustParseAddrPort("127.0.0.1:8080") || a.Remote != netip.MustParseAddrPort("10.0.0.2:5432") {
		t.Errorf("got %+v", a)
	}
	if b.Inode != 4712 || b.Connected || !b.Listening || b.Local != netip.MustParseAddrPort("127.0.0.1:8080") || b.Remote != netip.MustParseAddrPort("[2001:db8::1]:80") {
		t.Errorf("got %+v", b)
	}
	if got, err := parseTCP([]byte(tcpHead+tcpLine), func(uint64) bool { return false }); err != nil || len(got) != 0 {
		t.Errorf("not asked for: %+v, %v", got, err)
	}
	for _, bad := range []string{
		"x\n", "0: 0100007F:1F90 0200000A 01 0 0 0 0 0 5\n", "0: 0100007F:1F90 0200000A:1538 zz 0:0 0:0 0 0 0 4711\n",
		"0: 0100007F:1F90 0200000A:99999 01 0:0 0:0 0 0 0 4711\n", "0: 010007F:1F90 0200000A:1 01 0:0 0:0 0 0 0 4711\n", "0: a b c d e f g h x\n",
	} {
		if _, err := parseTCP([]byte(tcpHead+bad), everyone); !errors.Is(err, proc.ErrParse) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseInfo(t *testing.T) {
	in, err := parseInfo([]byte("pos:\t24\nflags:\t0100002\nmnt_id:\t15\nino:\t7\n"))
	if err != nil || in.pos != 24 || in.flags != unix.O_RDWR|0o100000 || in.watched != nil {
		t.Errorf("got %+v, %v", in, err)
	}
	in, err = parseInfo([]byte("pos:\t0\nflags:\t02\ntfd:       17 events:       19 data: 7f  pos:0 ino:3\ntfd:        5 events: 1 data: 5\n"))
	if err != nil || !slices.Equal(in.watched, []int{17, 5}) {
		t.Errorf("got %+v, %v", in, err)
	}
	for _, bad := range []string{"", "pos:\t1\n", "flags:\t02\n", "pos:\tx\nflags:\t02\n", "pos:\t1\nflags:\t09\n", "pos:\t1\nflags:\t02\ntfd:\n", "pos:\t1\nflags:\t02\ntfd: x\n"} {
		if _, err := parseInfo([]byte(bad)); !errors.Is(err, proc.ErrParse) {
			t.Errorf("%q was taken for an fdinfo file", bad)
		}
	}
}

// message is one answer of netlink: its length, its type and a body.
func message(kind uint16, body []byte) []byte {
	b := make([]byte, 16+len(body))
	native.PutUint32(b, uint32(len(b)))
	native.PutUint16(b[4:], kind)
	copy(b[16:], body)
	return b
}

// unixAnswer is a struct unix_diag_msg of a connected stream socket, with
// attributes of type and value.
func unixAnswer(inode uint32, attributes ...any) []byte {
	body := make([]byte, 16)
	body[0], body[1], body[2] = unix.AF_UNIX, unix.SOCK_STREAM, tcpEstablished
	native.PutUint32(body[4:], inode)
	for i := 0; i < len(attributes); i += 2 {
		value := attributes[i+1].([]byte)
		head := make([]byte, 4, 4+len(value)+3)
		native.PutUint16(head, uint16(4+len(value)))
		native.PutUint16(head[2:], uint16(attributes[i].(int)))
		head = append(head, value...)
		for len(head)%4 != 0 {
			head = append(head, 0)
		}
		body = append(body, head...)
	}
	return message(sockDiagByFamily, body)
}

func number(v uint32) []byte {
	b := make([]byte, 4)
	native.PutUint32(b, v)
	return b
}

func inetAnswer(family byte, state byte, inode uint32) []byte {
	body := make([]byte, 72)
	body[0], body[1], body[4], body[5] = family, state, 0x1f, 0x90
	body[8], body[11] = 127, 1
	native.PutUint32(body[68:], inode)
	return message(sockDiagByFamily, body)
}

func TestParseDiag(t *testing.T) {
	s, err := parseUnixDiag(unixAnswer(5, unixDiagName, []byte("\x00broker"), unixDiagPeer, number(6)))
	if err != nil || s.Inode != 5 || s.Path != "@broker" || s.PeerInode != 6 || !s.Stream || !s.Connected || s.Listening {
		t.Errorf("got %+v, %v", s, err)
	}
	if s, err = parseUnixDiag(unixAnswer(5, unixDiagName, []byte("/run/x\x00"))); err != nil || s.Path != "/run/x" || s.PeerInode != 0 {
		t.Errorf("got %+v, %v", s, err)
	}
	gone := message(unix.NLMSG_ERROR, number(uint32(0xfffffffe))) // -ENOENT
	if _, err := parseUnixDiag(gone); !errors.Is(err, unix.ENOENT) {
		t.Errorf("gone: %v", err)
	}
	for name, bad := range map[string][]byte{
		"nothing": {}, "a head alone": message(sockDiagByFamily, nil), "another type": message(77, make([]byte, 16)), "no error": message(unix.NLMSG_ERROR, number(0)),
		"too long": func() []byte { b := unixAnswer(5); native.PutUint32(b, 4000); return b }(),
		"a long attribute": func() []byte {
			b := unixAnswer(5, unixDiagPeer, number(6))
			native.PutUint16(b[32:], 99)
			return b
		}(),
		"a short peer": unixAnswer(5, unixDiagPeer, []byte{1}),
	} {
		if s, err := parseUnixDiag(bad); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	list, done, err := parseInetDiag(slices.Concat(inetAnswer(unix.AF_INET, tcpListen, 8), inetAnswer(unix.AF_INET6, tcpListen, 9), message(unix.NLMSG_DONE, number(0))))
	if err != nil || !done || len(list) != 2 || list[0].Local != netip.MustParseAddrPort("127.0.0.1:8080") || list[0].Inode != 8 || !list[1].Listening {
		t.Errorf("got %+v, %t, %v", list, done, err)
	}
	if _, _, err := parseInetDiag(message(sockDiagByFamily, make([]byte, 20))); !errors.Is(err, proc.ErrParse) {
		t.Errorf("a short message: %v", err)
	}
}

func FuzzTables(f *testing.F) {
	f.Add([]byte(tcpHead + tcpLine + tcp6))
	f.Add([]byte("pos:\t0\nflags:\t02\ntfd:       17 events:       19 data: 7f  pos:0 ino:3\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseTCP(b, everyone); err == nil {
			for _, s := range list {
				if s.Inode == 0 || s.Proto != "tcp" || s.Listening && s.Connected || !s.Local.IsValid() {
					t.Errorf("got %+v", s)
				}
			}
		}
		_, _ = parseInfo(b)
		_, _ = parseAddr(string(b))
	})
}

func FuzzNetlink(f *testing.F) {
	f.Add(unixAnswer(5, unixDiagName, []byte("\x00broker"), unixDiagPeer, number(6)))
	f.Add(slices.Concat(inetAnswer(unix.AF_INET, tcpListen, 8), inetAnswer(unix.AF_INET6, tcpListen, 9), message(unix.NLMSG_DONE, number(0))))
	f.Add(message(unix.NLMSG_ERROR, number(0xfffffffe)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseUnixDiag(b); err == nil && (s.Proto != "unix" || len(s.Path) > len(b)+1) {
			t.Errorf("got %+v", s)
		}
		if list, _, err := parseInetDiag(b); err == nil && len(list) > len(b)/88 {
			t.Errorf("%d sockets in %d bytes", len(list), len(b))
		}
	})
}
