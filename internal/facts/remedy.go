package facts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Recipe is a configuration that takes care of what was found.
type Recipe struct {
	Server string `json:"server"`
	// For are the ids that it takes care of.
	For []string `json:"for"`
	// Files are to be merged with those that the server has, the main one first;
	// empty where no configuration can help.
	Files []File `json:"files"`
	// Notes say what is left to people, a line each.
	Notes []string `json:"notes,omitempty"`
}

// File is one file of a recipe.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// NameError says that a server, hazard or library is not in the data.
type NameError struct {
	// What was looked for, for example "server".
	What, Name string
	// Near are names that it may be a slip of.
	Near []string
}

func (e *NameError) Error() string {
	s := fmt.Sprintf("no %s %q is known", e.What, e.Name)
	if len(e.Near) > 0 {
		s += "; did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	return s
}

// plan is what the fixes of all ids come to.
type plan struct {
	settings, noPreload []piece
	env                 []piece
	before, after       []piece
	notes               []string
}

// piece is a fix and the ids that call for it.
type piece struct {
	ids []string
	Fix
}

// comment is the line above a piece.
func (p piece) comment() string { return strings.Join(p.ids, ", ") + ": " + p.Says }

// Remedy writes the configuration of a server that the ids call for, and nothing
// that they do not. An id is that of a library, defect, lock or hazard, or a rule
// of forkproof. The version picks the names of hooks; empty stands for the newest.
// A name that is not known is a *NameError.
func (b *Base) Remedy(server, version string, ids []string) (Recipe, error) {
	s, ok := b.Server(server)
	if !ok {
		var names []string
		for _, x := range b.servers {
			names = append(append(names, x.ID), x.Aliases...)
		}
		return Recipe{}, &NameError{"server", server, Near(server, names)}
	}
	var p plan
	r := Recipe{Server: s.ID}
	for _, id := range ids {
		name, fixes, say, err := b.fixes(id)
		if err != nil {
			return Recipe{}, err
		}
		if slices.Contains(r.For, name) {
			continue
		}
		if d, ok := b.byName[strings.ToLower(name)].(*Defect); ok && d.Subject == s.ID && isVersion(version) && !slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Holds(version) }) {
			_, why := outside(d, version)
			p.notes = append(p.notes, fmt.Sprintf("%s: not in %s %s: %s", name, s.Name, version, why))
			continue
		}
		r.For = append(r.For, name)
		// A server without a configuration of code is left to people, as advice.
		if s.Language == "" || !p.add(s, name, fixes) {
			for _, line := range say {
				p.notes = append(p.notes, name+": "+line)
			}
		}
	}
	r.Files, r.Notes = p.write(s, version, r.For), p.notes
	return r, nil
}

// fixes finds the pieces and the advice of an id.
func (b *Base) fixes(id string) (name string, fixes []Fix, say []string, err error) {
	key := strings.ToLower(strings.TrimSpace(id))
	switch e := b.byName[key].(type) {
	case *Library:
		return e.ID, e.Remedy.Fixes, e.Remedy.Say, nil
	case *Defect:
		return e.ID, e.Remedy.Fixes, e.Remedy.Say, nil
	case *Hazard:
		return e.ID, e.Fixes, e.Do, nil
	case *Lock:
		return e.ID, b.orphans(), e.article().Do[:1], nil
	}
	var names []string
	for _, h := range b.hazards {
		if slices.Contains(h.Rules, key) {
			return key, h.Fixes, h.Do, nil
		}
		names = append(append(names, h.ID), h.Rules...)
	}
	for _, t := range b.Topics() {
		names = append(append(names, t.ID), t.Aliases...)
	}
	return "", nil, nil, &NameError{"library, defect, hazard or rule", id, Near(id, names)}
}

// orphans are the fixes against orphaned locks.
func (b *Base) orphans() []Fix {
	if h, ok := b.byName["ol"].(*Hazard); ok {
		return h.Fixes
	}
	return nil
}

// add sorts the fixes that this server can use, and reports whether any is.
func (p *plan) add(s *Server, id string, fixes []Fix) bool {
	used := false
	for _, f := range fixes {
		var into *[]piece
		switch {
		case f.When == "setting" && f.Server == s.ID:
			into = &p.settings
		case f.When == "environment":
			into = &p.env
		case f.When == "no-preload":
			into = &p.noPreload
		case f.When == "before-fork" && f.Language == s.speaks():
			into = &p.before
		case f.When == "after-fork" && f.Language == s.speaks():
			into = &p.after
		default:
			continue
		}
		used = true
		same := func(x piece) bool { return x.Code == f.Code && maps.Equal(x.Env, f.Env) && f.When != "no-preload" }
		if i := slices.IndexFunc(*into, same); i >= 0 {
			(*into)[i].ids = append((*into)[i].ids, id)
			continue
		}
		*into = append(*into, piece{[]string{id}, f})
	}
	return used
}

// speaks is the language of a server's hooks.
func (s *Server) speaks() string {
	if s.Language == "ini" {
		return "python"
	}
	return s.Language
}

// write makes the files.
func (p *plan) write(s *Server, version string, ids []string) []File {
	if s.Language == "" {
		return nil
	}
	w := writers[s.ID]
	if w == nil {
		return nil
	}
	if len(p.noPreload) > 0 && lazy[s.ID] {
		// What is not loaded in the master needs no other care.
		p.env, p.before, p.after = nil, nil, nil
	} else if len(p.noPreload) > 0 {
		for _, x := range p.noPreload {
			x.Code = "# " + s.Name + " always loads the application before the fork: make it here instead"
			p.after = append(p.after, x)
		}
		p.noPreload = nil
	}
	head := []string{"Written by forkproof remedy for " + s.Name + " against: " + strings.Join(ids, ", ") + ".", "Merge it with the configuration that you have."}
	if len(ids) == 0 {
		head[0] = "Written by forkproof remedy for " + s.Name + ": nothing was named that calls for a hook."
	} else if len(p.settings)+len(p.noPreload)+len(p.env)+len(p.before)+len(p.after) == 0 {
		head[1] = "None of it calls for a setting or hook."
	}
	return w(s, p, version, head)
}

// hook is the name of the first real hook of a list that this version has.
func (s *Server) hook(version string, names ...string) string {
	for _, name := range names {
		for _, h := range s.Hooks {
			if h.Name != name || h.Step {
				continue
			}
			r := Range{From: h.From, Until: h.Until}
			if (version == "" && h.Until == "") || (version != "" && r.Holds(version)) {
				return name
			}
		}
	}
	return names[0]
}

// HazardsOf returns the classes of hazard that a rule of forkproof finds.
func (b *Base) HazardsOf(rule string) []string {
	var out []string
	for _, h := range b.hazards {
		if slices.Contains(h.Rules, rule) {
			out = append(out, h.ID)
		}
	}
	return out
}
