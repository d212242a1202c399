package inherit

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
)

// connections finds connections to somebody else that more than one process of
// the server holds.
func connections(o *Observation) []finding.Finding {
	holders := o.holders()
	groups := make(map[string][]uint64) // inodes by peer
	var peers []string
	inodes := make([]uint64, 0, len(holders))
	for inode := range holders {
		inodes = append(inodes, inode)
	}
	slices.Sort(inodes)
	for _, inode := range inodes {
		s, ok := o.Sockets[inode]
		if !ok || !sharedHere(holders[inode]) || !foreign(o, s, holders) {
			continue
		}
		p := peer(s)
		if len(groups[p]) == 0 {
			peers = append(peers, p)
		}
		groups[p] = append(groups[p], inode)
	}
	var all []finding.Finding
	for _, p := range peers {
		all = append(all, connectionFinding(o, p, groups[p], holders))
	}
	return all
}

// foreign reports whether s is a connection that this server opened to somebody
// outside it. Left out are listening sockets, those that it accepted, pairs
// between its own processes, and those whose other end cannot be told: pipes to
// a supervisor look like that.
func foreign(o *Observation, s Socket, holders map[uint64][]Holder) bool {
	if s.Listening || !s.Connected || !s.Stream {
		return false
	}
	if s.Proto == "unix" {
		return foreignUnix(o, s, holders)
	}
	for inode, other := range o.Sockets {
		if _, ours := holders[inode]; !ours || other.Proto != "tcp" {
			continue
		}
		if other.Listening && other.Local.Port() == s.Local.Port() {
			return false // accepted here
		}
		if other.Local == s.Remote && other.Remote == s.Local {
			return false // both ends are ours
		}
	}
	return true
}

func foreignUnix(o *Observation, s Socket, holders map[uint64][]Holder) bool {
	if _, ours := holders[s.PeerInode]; ours || s.PeerInode == 0 || s.PeerPath == "" {
		return false
	}
	if s.Path != "" {
		// A client has no name; a socket that was accepted has the name of
		// the one that listens.
		return false
	}
	for _, p := range byDesign {
		if strings.HasPrefix(s.PeerPath, p) {
			return false
		}
	}
	return true
}

// byDesign are services that a process may keep a connection to over a fork: the
// journal takes lines of text from anybody, and the name service modules of
// sssd and winbind look at their own PID before they use one.
var byDesign = []string{
	"/run/systemd/", "/var/run/systemd/", "/dev/log", "/var/lib/sss/", "/run/winbindd", "/var/run/winbindd", "/run/samba/winbindd",
}

// peer writes the other end of a connection.
func peer(s Socket) string {
	if s.Proto == "unix" {
		return s.PeerPath
	}
	return s.Remote.String()
}

// services are what listens on a well-known port: mostly the databases, brokers
// and caches that an application talks to.
var services = map[uint16]string{
	80: "HTTP", 443: "HTTPS", 389: "LDAP", 636: "LDAPS", 25: "SMTP", 465: "SMTPS", 587: "SMTP", 53: "DNS", 22: "SSH",
	1433: "SQL Server", 1521: "Oracle", 2181: "ZooKeeper", 2379: "etcd", 3306: "MySQL", 33060: "MySQL", 4222: "NATS",
	4317: "OpenTelemetry", 4318: "OpenTelemetry", 5432: "PostgreSQL", 5433: "PostgreSQL", 5671: "AMQP", 5672: "AMQP",
	6379: "Redis", 6380: "Redis", 6432: "PgBouncer", 8125: "StatsD", 8126: "Datadog", 8200: "Vault", 8500: "Consul",
	9000: "ClickHouse", 8123: "ClickHouse", 9042: "Cassandra", 9092: "Kafka", 9093: "Kafka", 9200: "Elasticsearch",
	9300: "Elasticsearch", 11211: "memcached", 26379: "Redis Sentinel", 27017: "MongoDB", 61613: "STOMP",
}

// unixServices are told by the socket's name.
var unixServices = []struct{ part, name string }{
	{".s.PGSQL.", "PostgreSQL"}, {"mysql", "MySQL"}, {"mariadb", "MariaDB"}, {"redis", "Redis"}, {"memcache", "memcached"},
	{"mongodb", "MongoDB"}, {"dbus", "D-Bus"}, {"docker.sock", "Docker"}, {"containerd", "containerd"}, {"nscd", "nscd"},
	{"rabbit", "AMQP"}, {"beanstalk", "beanstalkd"},
}

func service(s Socket) string {
	if s.Proto == "tcp" {
		return services[s.Remote.Port()]
	}
	for _, u := range unixServices {
		if strings.Contains(s.PeerPath, u.part) {
			return u.name
		}
	}
	return ""
}

func connectionFinding(o *Observation, to string, inodes []uint64, holders map[uint64][]Holder) finding.Finding {
	s := o.Sockets[inodes[0]]
	what := "a connection"
	if len(inodes) > 1 {
		what = fmt.Sprintf("%d connections", len(inodes))
	}
	where := to
	if n := service(s); n != "" {
		where = n + " at " + to
	}
	var pids []int
	for _, inode := range inodes {
		for _, h := range holders[inode] {
			if !slices.Contains(pids, h.PID) {
				pids = append(pids, h.PID)
			}
		}
	}
	f := finding.Finding{
		Rule: finding.SharedConnection, Severity: finding.Warning, Confidence: finding.Observed,
		PID: pids[0], Others: pids[1:],
		Title: fmt.Sprintf("%s share %s to %s", capital(plural(len(pids), "process")), what, where),
		Why: "fork shares an open connection, it does not copy it. If two of these processes use it, their requests mix on the wire " +
			"and an answer reaches the one that did not ask; if one closes it properly, it is closed for all.",
		Remedy:  remake(o.Traits, "open the connection in each worker, and close the inherited one there without saying good-bye on it"),
		Sources: []string{"fork(2), on open file descriptions"},
	}
	if brokerOf(o, to, pids) {
		f.Severity = finding.Info
		f.Why = "Celery's master opens its own connections to the broker after the first workers were forked, so that workers which it forks later " +
			"inherit them; Celery does not use them there. It would matter only if the application opened this connection itself, before the fork."
	}
	if n := service(s); n != "" && s.Proto == "tcp" {
		f.Evidence = append(f.Evidence, "that it is "+n+" is told by the port "+strconv.Itoa(int(s.Remote.Port()))+" alone")
	}
	const most = 6
	for i, inode := range inodes {
		if i == most && len(inodes) > most+1 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and %d more", len(inodes)-most))
			break
		}
		f.Evidence = append(f.Evidence, fmt.Sprintf("socket %d (%s) is %s", inode, ends(o.Sockets[inode]), o.describeHolders(holders[inode])))
	}
	return f
}

// brokerOf reports whether the peer is the broker that a Celery master is
// connected to: its event queue watches a connection to it.
func brokerOf(o *Observation, to string, pids []int) bool {
	master := &o.Processes[0]
	if o.Kind != forkserver.Celery || !slices.Contains(pids, master.ID.PID) {
		return false
	}
	return slices.ContainsFunc(master.FDs, func(fd FD) bool {
		s, ok := o.Sockets[fd.Inode]
		return ok && s.Connected && peer(s) == to && slices.Contains(master.Watched, fd.Num)
	})
}

func ends(s Socket) string {
	if s.Proto == "unix" {
		return "unix, to " + path.Clean(s.PeerPath)
	}
	host := net.JoinHostPort(s.Local.Addr().String(), strconv.Itoa(int(s.Local.Port())))
	return "tcp, " + host + " to " + s.Remote.String()
}
