package replay

import (
	"iter"

	"forkproof/internal/model/scenario"
)

// Calls yields every call of a scenario, wherever it stands, those of repeats and of
// children included.
func Calls(s *scenario.Scenario) iter.Seq[*scenario.Call] {
	return func(yield func(*scenario.Call) bool) {
		for _, body := range bodies(s) {
			if !walk(*body, yield) {
				return
			}
		}
	}
}

// bodies are the lists of calls of a scenario that stand in no other.
func bodies(s *scenario.Scenario) []*[]scenario.Call {
	var all []*[]scenario.Call
	for i := range s.Threads {
		all = append(all, &s.Threads[i].Body)
	}
	for i := range s.Functions {
		all = append(all, &s.Functions[i].Body)
	}
	for i := range s.Libraries {
		all = append(all, &s.Libraries[i].Load, &s.Libraries[i].Unload)
	}
	for i := range s.Handlers {
		h := &s.Handlers[i]
		all = append(all, &h.Prepare, &h.Parent, &h.Child)
	}
	return all
}

func walk(body []scenario.Call, yield func(*scenario.Call) bool) bool {
	for i := range body {
		if !yield(&body[i]) || !walk(body[i].Body, yield) {
			return false
		}
	}
	return true
}
