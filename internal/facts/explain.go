package facts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Article is what Explain says of one thing.
type Article struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"`
	// Kind is defect, lock, repair, function, library, hazard, server, libc or rule.
	Kind     string   `json:"kind"`
	Title    string   `json:"title"`
	Severity Severity `json:"severity,omitempty"`
	// Known says how this is known, in words.
	Known string `json:"known,omitempty"`
	// What says in a sentence or two what is the matter.
	What []string `json:"what,omitempty"`
	// Steps are what happens, in order.
	Steps   []string `json:"steps,omitempty"`
	Trigger string   `json:"trigger,omitempty"`
	// When says since and until which versions, a line for each range.
	When []string `json:"when,omitempty"`
	// Packages say which distributions' packages have it or not.
	Packages []string `json:"packages,omitempty"`
	// Measured says what forkproof's probes found on real C libraries, a line for
	// each probe; it is for who calls Explain to fill in.
	Measured []string `json:"measured,omitempty"`
	// See is how to see it.
	See []string `json:"see,omitempty"`
	// Do is how to get rid of it.
	Do []string `json:"do,omitempty"`
	// Related are ids that Explain knows too.
	Related []string `json:"related,omitempty"`
	Sources []Source `json:"sources,omitempty"`
}

// Topic is one line of the list of what can be explained.
type Topic struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"`
	Kind    string   `json:"kind"`
	Title   string   `json:"title"`
}

// Explain returns the article on an id or alias, in any case of letters, or on a
// function of a C library.
func (b *Base) Explain(id string) (Article, bool) {
	key := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(id), "()"))
	switch e := b.byName[key].(type) {
	case *Defect:
		return e.article(), true
	case *Lock:
		return e.article(), true
	case *Repair:
		return e.article(), true
	case *Library:
		return e.article(), true
	case *Hazard:
		return b.ofHazard(e), true
	case *Server:
		return b.ofServer(e), true
	case *Family:
		return b.ofFamily(e), true
	}
	return b.function(key)
}

func (d *Defect) article() Article {
	a := Article{
		ID: d.ID, Aliases: d.Aliases, Kind: "defect", Title: d.Title, Severity: d.Severity, Known: d.Basis.Says(),
		What: []string{d.Mechanism}, Steps: d.Steps, Trigger: d.Trigger, See: d.See, Do: d.Remedy.Say, Related: []string{d.Subject}, Sources: d.Sources,
	}
	for _, r := range d.Ranges {
		a.When = append(a.When, r.long(d.Subject))
	}
	where := map[string]string{"both": "master or worker", "master": "master", "worker": "worker"}[d.Where]
	if d.Threads {
		a.When = append(a.When, "needs a second thread in the master; strikes in the "+where)
	} else {
		a.When = append(a.When, "needs no second thread in the master; strikes in the "+where)
	}
	for _, x := range d.Branches {
		line := fmt.Sprintf("mended on the branch of %s (%s)", x.Version, x.Commit)
		if x.Date != "" {
			line += ", " + x.Date
		}
		a.Packages = append(a.Packages, line)
	}
	for _, x := range d.Packages {
		line := fmt.Sprintf("%s %s: mended in %s %s", x.Distribution, x.Release, x.Package, x.gotWith())
		if x.Note != "" {
			line += " (" + x.Note + ")"
		}
		a.Packages = append(a.Packages, line+", "+x.Basis.Says())
	}
	for _, x := range d.Still {
		a.Packages = append(a.Packages, fmt.Sprintf("%s %s: not mended in %s %s, %s", x.Distribution, x.Release, x.Package, x.Through, x.Basis.Says()))
	}
	return a
}

func (r Range) noted() string {
	if r.Note == "" {
		return ""
	}
	return " (" + r.Note + ")"
}

// long is the range of something with what made and mended it.
func (r Range) long(name string) string {
	s := r.Of(name)
	var more []string
	if r.Made != "" {
		more = append(more, "came with "+r.Made)
	}
	if r.Mended != "" {
		more = append(more, "mended by "+r.Mended)
	}
	if r.Note != "" {
		more = append(more, r.Note)
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, "; ") + ")"
	}
	return s
}

func (l *Lock) article() Article {
	a := Article{
		ID: l.ID, Kind: "lock", Title: "a lock that fork leaves as it is: " + l.Title, Known: l.Basis.Says(),
		What: []string{
			fmt.Sprintf("%s's %s (%s) is neither taken nor reset by fork.", l.Family, l.Symbol, l.File),
			"Functions that want it: " + strings.Join(l.Functions, ", ") + ".",
		},
		Steps: []string{
			"A thread of the master is inside one of these functions and holds the lock.",
			"The master forks; the lock is copied locked, the thread is not copied.",
			"The first of these functions that the worker calls waits for ever.",
		},
		Trigger: "one thread of the master loops over such a function, the worker calls one",
		See:     []string{"A worker of one thread sleeps in the function; forkproof inspect PID names the lock."},
		Do: []string{
			"Let no thread of the master call these functions while it may fork: start threads after the fork.",
			"No version of the C library mends it.",
		},
		Related: []string{l.Family}, Sources: l.Sources,
	}
	if len(l.Python) > 0 {
		a.What = append(a.What, "From Python: "+strings.Join(l.Python, "; ")+".")
	}
	if l.Note != "" {
		a.What = append(a.What, l.Note)
	}
	if last := l.Ranges[len(l.Ranges)-1]; last.Until != "" {
		a.Do[1] = "Install " + l.Family + " " + last.Until + " or later: it has other locks in its place."
	}
	for _, r := range l.Ranges {
		a.When = append(a.When, r.long(l.Family))
	}
	if len(l.RanOn) > 0 {
		a.When = append(a.When, "a worker was seen to hang on "+l.Family+" "+strings.Join(l.RanOn, ", "))
	}
	return a
}

func (r *Repair) article() Article {
	a := Article{
		ID: r.ID, Kind: "repair", Title: r.Title, Known: r.Basis.Says(),
		What:    []string{"Functions that work in a worker, whatever other threads of the master did at the fork: " + strings.Join(r.Functions, ", ") + "."},
		Related: []string{r.Family}, Sources: r.Sources,
	}
	if r.Note != "" {
		a.What = append(a.What, r.Note)
	}
	for _, x := range r.Ranges {
		a.When = append(a.When, x.long(r.Family))
	}
	return a
}

func (l *Library) article() Article {
	a := Article{
		ID: l.ID, Aliases: l.Aliases, Kind: "library", Title: l.Name, Known: l.Basis.Says(),
		See: l.See, Do: l.Remedy.Say, Related: l.Hazards, Sources: l.Sources,
	}
	for i, r := range l.Ranges {
		a.When = append(a.When, fmt.Sprintf("%s: %s [%s; repairs itself: %s]", Range{From: r.From, Until: r.Until}, r.What, r.Severity, r.Heals))
		if i == 0 || slices.Index(severities, r.Severity) > slices.Index(severities, a.Severity) {
			a.Severity = r.Severity
		}
	}
	if len(l.Python) > 0 {
		a.What = append(a.What, "Python distributions: "+strings.Join(l.Python, ", ")+".")
	}
	if len(l.Packages) > 0 {
		a.What = append(a.What, "Packages: "+strings.Join(l.Packages, ", ")+".")
	}
	return a
}

func (b *Base) ofHazard(h *Hazard) Article {
	a := Article{ID: h.ID, Kind: "hazard", Title: h.Title, Steps: h.Steps, See: h.See, Do: h.Do, Sources: h.Sources}
	for _, l := range b.libraries {
		if slices.Contains(l.Hazards, h.ID) {
			a.Related = append(a.Related, l.ID)
		}
	}
	return a
}

func (b *Base) ofServer(s *Server) Article {
	a := Article{
		ID: s.ID, Aliases: s.Aliases, Kind: "server", Title: s.Name, Known: s.Basis.Says(),
		What: append([]string{s.Preload}, s.Notes...), Sources: s.Sources,
	}
	for _, h := range s.Hooks {
		line := fmt.Sprintf("%s, in the %s: %s", h.Name, h.Process, h.Says)
		if h.From != "" || h.Until != "" {
			line += " (" + Range{From: h.From, Until: h.Until}.String() + ")"
		}
		if h.Step {
			line = "(" + line + ")"
		}
		a.Steps = append(a.Steps, line)
	}
	for _, d := range b.defects {
		if d.Subject == s.ID {
			a.Related = append(a.Related, d.ID)
		}
	}
	if s.File != "" && s.Language != "" {
		a.Do = []string{"forkproof remedy --server " + s.ID + " ID... writes " + s.File + " for what was found."}
	}
	return a
}

func (b *Base) ofFamily(f *Family) Article {
	a := Article{
		ID: f.ID, Kind: "libc", Title: f.Name, Known: f.Basis.Says(), What: f.Summary, Sources: f.Sources,
		When: []string{"data from " + f.Oldest() + " to " + f.Newest() + map[bool]string{true: " (as its source was read)"}[f.Documented]},
	}
	for _, v := range f.Versions {
		if v.Fork != "" {
			a.When = append(a.When, v.Version+": "+v.Fork)
		}
	}
	for _, d := range b.defects {
		if d.Subject == f.ID {
			a.Related = append(a.Related, d.ID)
		}
	}
	for _, l := range b.locks {
		if l.Family == f.ID {
			a.Related = append(a.Related, l.ID)
		}
	}
	return a
}

// function explains a function of a C library: what can make it hang, what fork
// repairs of it, and whether the standard lets a child call it.
func (b *Base) function(name string) (Article, bool) {
	a := Article{ID: name, Kind: "function", Title: name + " in a worker"}
	has := func(names []string) bool {
		i := slices.IndexFunc(names, func(s string) bool { return strings.EqualFold(s, name) })
		if i >= 0 {
			a.ID, a.Title = names[i], names[i]+" in a worker"
		}
		return i >= 0
	}
	hangs := false
	for _, l := range b.locks {
		if !has(l.Functions) {
			continue
		}
		hangs = true
		for _, r := range l.Ranges {
			a.When = append(a.When, fmt.Sprintf("can hang on %s: %s's %s, %s [%s]", r.Of(l.Family), l.File, l.Symbol, l.Title, l.Basis.Says()))
		}
		if l.Note != "" {
			a.What = append(a.What, l.Note)
		}
		a.Related, a.Sources = append(a.Related, l.ID), append(a.Sources, l.Sources...)
	}
	for _, d := range b.defects {
		if !has(d.Calls) {
			continue
		}
		for _, say := range d.Remedy.Say {
			if !slices.Contains(a.Do, d.ID+": "+say) {
				a.Do = append(a.Do, d.ID+": "+say)
			}
		}
		for _, r := range d.Ranges {
			a.When = append(a.When, fmt.Sprintf("%s%s: %s (%s)", r.Of(d.Subject), r.noted(), d.Title, d.ID))
		}
		a.Related, a.Sources = append(a.Related, d.ID), append(a.Sources, d.Sources...)
	}
	for _, r := range b.repairs {
		if !has(r.Functions) {
			continue
		}
		for _, x := range r.Ranges {
			a.When = append(a.When, fmt.Sprintf("works on %s: %s [%s]", x.Of(r.Family), r.Title, r.Basis.Says()))
		}
		if r.Note != "" {
			a.What = append(a.What, r.Note)
		}
		a.Related, a.Sources = append(a.Related, r.ID), append(a.Sources, r.Sources...)
	}
	safe := false
	for _, i := range b.posix.Issues {
		if !has(i.Functions) {
			continue
		}
		safe = true
		line := "POSIX lets the child of a process with threads call it (async-signal-safe since " + i.Name + ")."
		for _, r := range i.Removed {
			if strings.EqualFold(r.Function, name) {
				line = "POSIX had it on its list of async-signal-safe functions from " + i.Name + " until " + r.By + " took it off."
			}
		}
		a.What, a.Sources = append(a.What, line), append(a.Sources, b.posix.Sources...)
	}
	if len(a.What)+len(a.When) == 0 {
		return Article{}, false
	}
	if !safe {
		a.What = append([]string{"POSIX does not let the child of a process with threads call it: it is not on the list of async-signal-safe functions. What C libraries do beyond the standard stands below."}, a.What...)
	}
	if hangs {
		a.Steps = []string{
			"A thread of the master is inside " + a.ID + ", or another function that takes the same lock.",
			"The master forks; the lock is copied locked, the thread is not copied.",
			"The worker calls " + a.ID + " and waits for ever.",
		}
		a.See = []string{"A worker of one thread sleeps in " + a.ID + "; forkproof inspect PID names the lock."}
		a.Do = append([]string{"Let no thread of the master call it while it may fork: start threads after the fork."}, a.Do...)
	}
	return a, true
}

// Topics lists what Explain explains, without the functions, by kind and id.
func (b *Base) Topics() []Topic {
	var out []Topic
	for _, f := range b.families {
		out = append(out, Topic{ID: f.ID, Kind: "libc", Title: f.Name})
	}
	for _, d := range b.defects {
		out = append(out, Topic{ID: d.ID, Aliases: d.Aliases, Kind: "defect", Title: d.Title})
	}
	for _, l := range b.locks {
		out = append(out, Topic{ID: l.ID, Kind: "lock", Title: l.Title})
	}
	for _, r := range b.repairs {
		out = append(out, Topic{ID: r.ID, Kind: "repair", Title: r.Title})
	}
	for _, l := range b.libraries {
		out = append(out, Topic{ID: l.ID, Aliases: l.Aliases, Kind: "library", Title: l.Name})
	}
	for _, h := range b.hazards {
		out = append(out, Topic{ID: h.ID, Kind: "hazard", Title: h.Title})
	}
	for _, s := range b.servers {
		out = append(out, Topic{ID: s.ID, Aliases: s.Aliases, Kind: "server", Title: s.Name})
	}
	return out
}

// Functions lists the functions of C libraries that Explain explains, sorted.
func (b *Base) Functions() []string {
	var out []string
	for _, l := range b.locks {
		out = append(out, l.Functions...)
	}
	for _, d := range b.defects {
		out = append(out, d.Calls...)
	}
	for _, r := range b.repairs {
		out = append(out, r.Functions...)
	}
	for _, i := range b.posix.Issues {
		out = append(out, i.Functions...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Near returns up to five of the names that are closest to a misspelt one: those
// that contain it, then those that differ in few letters.
func Near(name string, among []string) []string {
	name = strings.ToLower(name)
	if name == "" || len(name) > longest {
		return nil
	}
	type scored struct {
		name string
		far  int
	}
	var found []scored
	for _, n := range among {
		l := strings.ToLower(n)
		switch far := distance(name, l); {
		case len(name) >= 3 && strings.Contains(l, name):
			found = append(found, scored{n, 0})
		case far <= max(1, min(len(name), len(l))/3):
			found = append(found, scored{n, far})
		}
	}
	slices.SortStableFunc(found, func(x, y scored) int {
		return cmp.Or(cmp.Compare(x.far, y.far), cmp.Compare(len(x.name), len(y.name)), strings.Compare(x.name, y.name))
	})
	var out []string
	for _, f := range found[:min(5, len(found))] {
		out = append(out, f.name)
	}
	return out
}

// distance is the number of letters to change, add or leave out (Levenshtein's).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := last
			if a[i] != b[j] {
				change++
			}
			last = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
