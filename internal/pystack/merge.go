package pystack

import "strings"

// Merge returns for each Python frame the index of the native frame whose
// evaluation loop runs it, -1 where that is not known. native holds the
// functions of the thread's native frames, innermost first.
func Merge(native []string, frames []Frame) []int {
	out := make([]int, len(frames))
	at := nextEval(native, -1)
	for i, f := range frames {
		out[i] = at
		if f.Entry && at >= 0 {
			at = nextEval(native, at)
		}
	}
	return out
}

func nextEval(native []string, from int) int {
	for i := from + 1; i < len(native); i++ {
		if strings.HasPrefix(native[i], "_PyEval_EvalFrameDefault") {
			return i
		}
	}
	return -1
}
