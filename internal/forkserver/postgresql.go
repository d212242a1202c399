package forkserver

import (
	"strings"

	"forkproof/internal/proc"
)

// postgresql recognises PostgreSQL: the postmaster keeps its command line, its
// children are called "postgres: checkpointer", with the cluster's name before
// that where cluster_name is set (src/backend/utils/misc/ps_status.c).
func postgresql() Recogniser {
	return Recogniser{
		Kind: PostgreSQL,
		Match: func(p *Process) bool {
			return oneOf(p.exeBase(), "postgres", "postmaster", "edb-postgres") ||
				p.Exe == "" && (hasTitle(p, "postgres: ") || oneOf(program(p).name, "postgres", "postmaster"))
		},
		Title:    postgresTitle,
		Describe: func(_ proc.FS, s *Server) { s.Name = "PostgreSQL" },
		Traits: Traits{
			KillSetting:   "statement_timeout",
			RestartWorker: "SELECT pg_terminate_backend(WORKER); only if that does not help, kill -QUIT WORKER, which restarts the whole server",
			RestartAll:    "pg_ctl restart",
			LoadAfterFork: "use session_preload_libraries where the module allows it, in place of shared_preload_libraries",
			Notes: []string{
				"modules of shared_preload_libraries run in the postmaster, which must have one thread only: a thread started there is lost in every backend",
				"SIGKILL for one backend makes the postmaster end all of them and recover",
			},
			Sources: []string{
				"https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-SHARED-PRELOAD-LIBRARIES",
				"postgresql src/backend/postmaster/postmaster.c, \"postmaster became multithreaded during startup\"",
			},
		},
	}
}

// postgresDuties are the titles of processes that serve no client.
var postgresDuties = []string{
	"checkpointer", "background writer", "walwriter", "wal writer", "autovacuum launcher", "autovacuum worker",
	"logical replication launcher", "logical replication worker", "logical replication", "archiver", "stats collector",
	"logger", "walsender", "walreceiver", "startup", "parallel worker", "io worker", "slotsync worker", "walsummarizer",
	"bgworker", "wal sender process", "wal receiver process",
}

func postgresTitle(p *Process) string {
	t, ok := strings.CutPrefix(p.title(), "postgres: ")
	if !ok {
		return string(Worker)
	}
	for _, d := range postgresDuties {
		// After the cluster's name, if there is one: "15/main: checkpointer".
		if strings.HasPrefix(t, d) {
			return d
		}
		if i := strings.Index(t, ": "+d); i >= 0 {
			return d
		}
	}
	return "backend"
}
