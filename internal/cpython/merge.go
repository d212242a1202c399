package cpython

import "strings"

// evalFrame is the C function that executes Python frames, in all releases.
const evalFrame = "_PyEval_EvalFrameDefault"

// IsEval reports whether a native function is a C evaluation loop. Compilers
// split rarely used parts off as _PyEval_EvalFrameDefault.cold, and clone it as
// .isra.0 or .constprop.0. The functions named _TAIL_CALL_... of a 3.14 built
// with tail calls are not: each loop of those stands under one frame of
// _PyEval_EvalFrameDefault, which waits for them.
func IsEval(function string) bool {
	rest, ok := strings.CutPrefix(function, evalFrame)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '@')
}

// Match says which native frame executes which Python frame. Both lists have
// the innermost first; native holds function names, "" where it is not known.
// The result has the index into native for each Python frame, -1 where none
// can be told.
//
// exact says that there are as many C evaluation loops in one list as in the
// other, or that the unnamed frames which call for it make up the difference.
// Otherwise a list was cut short or a native frame is missing, and loops are
// paired from the end that is sure to be there: from the outermost, unless the
// Python frames were truncated.
func Match(native []string, frames []Frame, truncated bool) (eval []int, exact bool) {
	eval = make([]int, len(frames))
	// loop[i] is the number of the loop that executes frames[i], 0 the innermost.
	loop := make([]int, len(frames))
	loops := 0
	for i, f := range frames {
		eval[i], loop[i] = -1, loops
		if f.Entry || i == len(frames)-1 {
			loops++
		}
	}
	var named, both []int
	for i, n := range native {
		if IsEval(n) {
			named = append(named, i)
		}
		if IsEval(n) || n == "" {
			both = append(both, i)
		}
	}
	at := named
	switch {
	case len(named) == loops:
		exact = !truncated
	case len(named) < loops && len(both) == loops:
		// In a stripped binary the split off part of the loop has no name.
		at, exact = both, !truncated
	}
	shift := len(at) - loops
	if truncated {
		shift = 0
	}
	for i := range frames {
		if k := loop[i] + shift; k >= 0 && k < len(at) {
			eval[i] = at[k]
		}
	}
	return eval, exact
}
