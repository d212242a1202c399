package trace

// oldCalls are those that only this processor has.
var oldCalls = map[uint64]string{}
