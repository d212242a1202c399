package trace

import "forkproof/internal/unwind"

func (l *look) keep(self []unwind.Frame) {}

func (j *job) log(pid int) string { return "" }
