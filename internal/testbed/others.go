package testbed

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// PHPFPM starts PHP's process manager with a static pool; of the roots,
// bookworm has it (8.2).
func PHPFPM(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr, work := Address(t), t.TempDir()
	config := write(t, work, "php-fpm.conf", fmt.Sprintf(`[global]
daemonize = no
error_log = /proc/self/fd/2
[www]
user = www-data
group = www-data
listen = %s
pm = static
pm.max_children = %d
`, addr, site.workers()))
	return serve(t, root, &Server{Addr: addr, want: site.workers(), worker: named("pool www")},
		Cmd{Args: append([]string{"php-fpm8.2", "--fpm-config", config}, site.Flags...), Env: site.Env, Work: work})
}

// Puma starts Puma in cluster mode with preload_app!; of the roots, bookworm
// has it (5.6). App is a rackup file of victims/ruby without its ending.
func Puma(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr := Address(t)
	args := []string{"puma", "--bind", "tcp://" + addr, "--workers", strconv.Itoa(site.workers()), "--threads", "1:2", "--environment", "production"}
	if !site.NoPreload {
		args = append(args, "--preload")
	}
	args = append(append(args, site.Flags...), Victim(t, "ruby/"+app(site, "healthy")+".ru"))
	return serve(t, root, &Server{Addr: addr, want: site.workers(), worker: named("cluster worker")}, Cmd{Args: args, Env: site.Env, Work: site.Work})
}

// Unicorn starts Unicorn; of the roots, bookworm has it (6.1). App is a rackup
// file of victims/ruby without its ending.
func Unicorn(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr, work := Address(t), t.TempDir()
	config := write(t, work, "unicorn.rb", fmt.Sprintf("worker_processes %d\npreload_app %t\ntimeout 3600\n", site.workers(), !site.NoPreload))
	args := append([]string{"unicorn", "--listen", addr, "--config-file", config, "--env", "production"}, site.Flags...)
	args = append(args, Victim(t, "ruby/"+app(site, "healthy")+".ru"))
	return serve(t, root, &Server{Addr: addr, want: site.workers(), worker: named("worker[")}, Cmd{Args: args, Env: site.Env, Work: work})
}

// PostgreSQL makes a new cluster and starts it; of the roots, bookworm has it
// (15). Its workers are the background processes and later one per connection;
// any local user may connect over TCP without a password.
func PostgreSQL(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr, work := Address(t), t.TempDir()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	if site.Port != 0 {
		port = strconv.Itoa(site.Port)
		addr = net.JoinHostPort(host, port)
	}
	const script = `set -e
bin=$(echo /usr/lib/postgresql/*/bin)
"$bin/initdb" --no-sync --auth=trust --locale=C -D "$1/data" >"$1/initdb.log" 2>&1
exec "$bin/postgres" -D "$1/data" -h "$2" -p "$3" -k "$1" -c fsync=off`
	s := &Server{Addr: addr, want: 5, worker: named("postgres: ")} // checkpointer, background writer, WAL writer, autovacuum, replication
	s.Proc = root.Start(t, Cmd{Args: []string{"sh", "-c", script, "sh", work, host, port}, User: "postgres", Env: site.Env, Work: work})
	s.AwaitWorkers(t)
	s.AwaitAccept(t)
	return s
}

// Apache starts Apache with its prefork module; of the roots, bookworm has it (2.4).
func Apache(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr, work := Address(t), t.TempDir()
	write(t, work, "index.html", "ok\n")
	config := write(t, work, "apache.conf", fmt.Sprintf(`ServerName localhost
ServerRoot /etc/apache2
PidFile %[1]s/apache.pid
ErrorLog /proc/self/fd/2
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
User www-data
Group www-data
StartServers %[2]d
MinSpareServers %[2]d
MaxSpareServers %[2]d
MaxRequestWorkers %[2]d
Listen %[3]s
DocumentRoot %[1]s
DirectoryIndex index.html
`, work, site.workers(), addr))
	args := append([]string{"apache2", "-D", "FOREGROUND", "-f", config}, site.Flags...)
	return serve(t, root, &Server{Addr: addr, want: site.workers()}, Cmd{Args: args, Env: site.Env, Work: work})
}

// Nginx starts nginx; of the roots, bookworm has it (1.22).
func Nginx(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr, work := Address(t), t.TempDir()
	config := write(t, work, "nginx.conf", fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log stderr;
worker_processes %[2]d;
events {}
http {
	access_log off;
	server {
		listen %[3]s;
		location / { return 200 "ok\n"; }
	}
}
`, work, site.workers(), addr))
	return serve(t, root, &Server{Addr: addr, want: site.workers(), worker: named("worker process")},
		Cmd{Args: append([]string{"nginx", "-c", config, "-p", work}, site.Flags...), Env: site.Env, Work: work})
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatalf("testbed: %v", err)
	}
	return path
}
