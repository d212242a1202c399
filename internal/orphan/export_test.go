package orphan

// Owners are what the lookalikes named as theirs.
func (r Result) Owners() map[uint32]struct{} {
	all := make(map[uint32]struct{})
	for i := range r.noise {
		for o := range r.noise[i].owners {
			all[o] = struct{}{}
		}
	}
	return all
}
