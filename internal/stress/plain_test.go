package stress_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/stress"
	"forkproof/internal/testbed"
)

// The figures of docs/provoke.md, section "Plain forks", are of -plain-forks 10000
// -plain-time 3m; without these flags a benchmark only shows that it still works.
var (
	plainForks = flag.Int("plain-forks", 20, "how many forks BenchmarkPlainForks makes in each case")
	plainTime  = flag.Duration("plain-time", 5*time.Second, "how long it goes on in each case at the latest")
)

// BenchmarkPlainForks counts how many plain forks of the rare victims hang. It
// writes one row of a table for each.
func BenchmarkPlainForks(b *testing.B) {
	bookworm := testbed.Open(b, "bookworm")
	plain := func(name, way string, change func(*stress.Request), command []string) {
		b.Run(name+"/"+way, func(b *testing.B) {
			for b.Loop() {
				req := request(b, command)
				req.Forks, req.Duration, req.Timeout = *plainForks, *plainTime, 3*time.Second
				if change != nil {
					change(&req)
				}
				doc, err := stress.Run(b.Context(), req)
				if err != nil {
					b.Fatal(err)
				}
				b.Log(row(name, way, doc.Trials[0]))
				for _, l := range doc.Trials[0].Locks {
					b.Logf("%s/%s: %d of %s, %s", name, way, l.Count, l.Kind, l.Where)
				}
			}
		})
	}
	for _, where := range []struct{ libc, root, build string }{{"glibc 2.36", "bookworm", "glibc"}, {"glibc 2.43", "forky", "glibc"}, {"musl 1.2.3", "bookworm", "musl"}} {
		program := testbed.Build(b, "rarelocks.c")
		if where.build == "musl" {
			program = testbed.BuildMusl(b, "rarelocks.c")
		}
		root := testbed.Open(b, where.root)
		for _, lock := range testbed.RareLocks() {
			plain("C, "+lock+", "+where.libc, "loop", nil, root.Command(b, testbed.Cmd{Args: []string{program, lock, "forks=1000000"}}))
		}
	}
	for _, rare := range testbed.RareSites(b, bookworm) {
		plain(rare.Name, "loop", nil, bookworm.Command(b, rare.Forks(b, 1_000_000)))
		site := rare.Site()
		site.Workers = 4
		_, cmd := testbed.GunicornCmd(b, site)
		plain(rare.Name, "gunicorn", nil, bookworm.Command(b, cmd))
	}
	site := testbed.RareCelery(testbed.Redis(b, bookworm))
	site.Workers = 4
	celery := testbed.CeleryCmd(b, site)
	tasks := bookworm.Command(b, testbed.Cmd{Env: append([]string{"PYTHONPATH=" + testbed.Victim(b, "python"), "VICTIM=post_fork"}, site.Env...), Args: []string{"/usr/bin/python3", "-c",
		"import time, rare_celery\nwhile True:\n    rare_celery.nothing.delay()\n    time.sleep(0.01)"}})
	plain("celery", "max-tasks-per-child 1", func(req *stress.Request) {
		// The tasks make it fork; a reload would end children in the middle of one.
		req.Reload, req.LoadCmd = ":", quoted(tasks)
	}, bookworm.Command(b, celery))
}

func row(name, way string, t finding.Trial) string {
	first := "none"
	if t.First > 0 {
		first = fmt.Sprint(t.First)
	}
	return fmt.Sprintf("| %s | %s | %s | %d of %d | %.2g to %.2g %% | %d | %d | %.0f s |", name, way, first, t.Hung, t.Forks, 100*t.Low, 100*t.High, t.Suspected, t.FailedAtBoot, t.Seconds)
}

// quoted is a command line for the shell.
func quoted(args []string) (s string) {
	for _, a := range args {
		s += fmt.Sprintf(" '%s'", a)
	}
	return "exec" + s
}
