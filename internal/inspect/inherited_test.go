package inspect

import (
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// TestInherited sees the findings about what workers got from their master in
// the document of a whole inspection; package inherit tests each of them.
func TestInherited(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	db := testbed.PostgreSQL(t, root, testbed.Site{Port: 5432})
	server := testbed.Gunicorn(t, root, testbed.Site{App: "inherited", Hooks: "inherited", Work: db.Work, Env: []string{
		"VICTIM_TCP=" + db.Addr, "VICTIM_UNIX=" + filepath.Join(db.Work, ".s.PGSQL.5432"), "VICTIM_LISTEN=" + filepath.Join(db.Work, "own.sock")}})
	want := map[finding.Rule]int{finding.SharedConnection: 2, finding.SharedEventQueue: 4, finding.SharedFileOffset: 2, finding.VanishedThread: 1}
	var doc *finding.Document
	testbed.Await(t, "all findings", func() bool {
		doc = inspectPID(t, server.Master())
		got := make(map[finding.Rule]int)
		for _, f := range doc.Findings {
			got[f.Rule]++
		}
		for rule, n := range want {
			if got[rule] < n {
				return false
			}
		}
		return true
	})
	if len(proofs(doc)) > 0 {
		t.Errorf("a false proof:\n%s", text(doc))
	}
	for _, f := range doc.Findings {
		if want[f.Rule] == 0 {
			t.Errorf("%s: %s", f.Rule, f.Title)
		}
	}
	// Of one worker alone it is said, too.
	worker := server.Workers()[0]
	doc = inspectPID(t, worker)
	if !strings.Contains(text(doc), "share a connection to PostgreSQL at "+db.Addr) {
		t.Errorf("nothing of worker %d alone:\n%s", worker, text(doc))
	}
}

// TestVanishedByName: a worker has threads of its own, which the kernel knows by
// the same name as the one that it lost: only Python tells them apart.
func TestVanishedByName(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Env: []string{"VICTIM=free"}, Flags: []string{"--threads", "4"}})
		server.AwaitServing(t, "/")
		testbed.Await(t, "threads in each worker", func() bool {
			_, err := server.Get(t, "/", testbed.Patience)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range server.Workers() {
				if len(testbed.Threads(w)) < 2 {
					return false
				}
			}
			return true
		})
		var vanished []finding.Finding
		for _, f := range inspectPID(t, server.Master()).Findings {
			if f.Rule == finding.VanishedThread {
				vanished = append(vanished, f)
			}
		}
		if len(vanished) != 1 || !strings.Contains(strings.Join(vanished[0].Evidence, " "), `"refresher"`) || len(vanished[0].Others) != 2 {
			t.Errorf("of the refresher is said: %+v", vanished)
		}
	})
}
