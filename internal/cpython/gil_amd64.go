package cpython

// gilSize is the size of _gil_runtime_state in bytes: two condition variables
// of 48 bytes and two mutexes, which glibc makes 40 bytes large on amd64.
const gilSize = 208
