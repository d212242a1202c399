package ptrace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Journal is memory that two processes share: the one that puts breakpoints in
// notes each before it does, the other takes them out if the first is killed.
//
// It begins with a futex word that a thread owns as it owns a robust mutex
// (set_robust_list(2)): the kernel marks it and wakes who waits there early in the
// thread's end, before it lets go of what that thread traces.
type Journal struct {
	mem []byte

	mu       sync.Mutex
	sessions map[*Session]bool
}

const (
	journalSize = 1 << 20
	wordAt      = 0  // the futex word
	nodeAt      = 8  // list node of the mutex, for the kernel
	headAt      = 16 // struct robust_list_head: first node, offset of the word from a node, pending
	slotsAt     = 64
	slotSize    = 64
	contextSize = 12
)

// Of linux/futex.h.
const (
	futexWait      = 0
	futexWaiters   = 0x80000000
	futexOwnerDied = 0x40000000
	futexTIDMask   = 0x3fffffff
)

// What a slot is used for.
const (
	unused = iota
	aBreak
	aHandler // addr is the page of a handler for SIGTRAP
)

// A slot: pid 4, in use 4, address 8, what the breakpoint replaced 4, and what
// follows it in the code.
type slot struct {
	pid, used uint32
	addr      uint64
	was       [4]byte
	context   [contextSize]byte
}

func newJournal() (*Journal, *os.File, error) {
	fd, err := unix.MemfdCreate("journal", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make the journal of breakpoints: %w", err)
	}
	f := os.NewFile(uintptr(fd), "journal")
	if err := f.Truncate(journalSize); err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("make the journal of breakpoints: %w", err)
	}
	j, err := openJournal(f)
	return j, f, err
}

func openJournal(f *os.File) (*Journal, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, journalSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the journal of breakpoints: %w", err)
	}
	return &Journal{mem: mem}, nil
}

func (j *Journal) word() *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&j.mem[wordAt])) }

func (j *Journal) slot(i int) *slot { return (*slot)(unsafe.Pointer(&j.mem[slotsAt+i*slotSize])) }

func (j *Journal) slots() int { return (len(j.mem) - slotsAt) / slotSize }

// own makes the calling thread the one whose end is waited for.
func (j *Journal) own() {
	node := uint64(uintptr(unsafe.Pointer(&j.mem[nodeAt])))
	head := uint64(uintptr(unsafe.Pointer(&j.mem[headAt])))
	binary.LittleEndian.PutUint64(j.mem[nodeAt:], head)
	binary.LittleEndian.PutUint64(j.mem[headAt:], node)
	binary.LittleEndian.PutUint64(j.mem[headAt+8:], ^uint64(nodeAt-wordAt-1)) // the word's offset: wordAt - nodeAt
	binary.LittleEndian.PutUint64(j.mem[headAt+16:], 0)
	j.word().Store(uint32(unix.Gettid()) | futexWaiters)
	_, _, _ = unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(head), 24, 0)
}

// disown ends that: the thread is about to end in order.
func (j *Journal) disown() {
	_, _, _ = unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, 0, 24, 0)
	j.word().Store(0)
}

// died waits until the thread that owns the word died, or for a second, and says which.
func (j *Journal) died() bool {
	now := j.word().Load()
	if now&futexOwnerDied != 0 {
		return true
	}
	second := unix.Timespec{Sec: 1}
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(j.word())), futexWait, uintptr(now), uintptr(unsafe.Pointer(&second)), 0, 0)
	return j.word().Load()&futexOwnerDied != 0
}

// note is called before a breakpoint is put in, strike after it was taken out.
// A nil journal notes nothing.
func (j *Journal) note(pid int, addr uint64, was patch, context []byte) error {
	return j.take(aBreak, pid, addr, func(s *slot) {
		copy(s.was[:], was[:])
		copy(s.context[:], context)
	})
}

// armed is called when a process was given a handler for SIGTRAP, disarmed when
// it was taken away.
func (j *Journal) armed(pid int, page uint64) {
	_ = j.take(aHandler, pid, page, func(*slot) {})
}

func (j *Journal) disarmed(pid int) { j.drop(aHandler, pid, 0) }

// take fills a slot.
func (j *Journal) take(use uint32, pid int, addr uint64, fill func(*slot)) error {
	if j == nil {
		return nil
	}
	for i := range j.slots() {
		s := j.slot(i)
		if s.used != unused {
			continue
		}
		s.pid, s.addr = uint32(pid), addr
		fill(s)
		atomic.StoreUint32(&s.used, use)
		return nil
	}
	return fmt.Errorf("more than %d breakpoints", j.slots())
}

// drop empties slots.
func (j *Journal) drop(use uint32, pid int, addr uint64) {
	if j == nil {
		return
	}
	for i := range j.slots() {
		if s := j.slot(i); s.used == use && s.pid == uint32(pid) && (addr == 0 || s.addr == addr) {
			atomic.StoreUint32(&s.used, unused)
		}
	}
}

// disarm takes the handlers away from the processes that had them when their
// tracer was killed. The page stays: a thread may be in it for an instant yet.
func (j *Journal) disarm() {
	for i := range j.slots() {
		sl := j.slot(i)
		if atomic.LoadUint32(&sl.used) != aHandler {
			continue
		}
		fs := proc.New("/proc")
		for range 3 {
			if st, err := fs.Status(int(sl.pid)); err != nil || st.SigCgt&(1<<(unix.SIGTRAP-1)) == 0 {
				break
			}
			s, err := Attach(int(sl.pid))
			if err != nil {
				continue
			}
			_ = s.Do(func() {
				if p := s.procs[int(sl.pid)]; p != nil {
					p.space.armed, p.space.used = sl.addr, true
				}
			})
			s.Close()
		}
		atomic.StoreUint32(&sl.used, unused)
	}
}

func (j *Journal) strike(pid int, addr uint64) { j.drop(aBreak, pid, addr) }

// repair takes all noted breakpoints out of every process that has them, those
// that were noted with it first: a child may have been made of it since.
// It returns how many it took out.
func (j *Journal) repair(tracer int) (n int) {
	var all []*slot
	first := make(map[int]bool)
	for i := range j.slots() {
		if s := j.slot(i); atomic.LoadUint32(&s.used) == aBreak {
			all = append(all, s)
			first[int(s.pid)] = true
		}
	}
	if len(all) == 0 {
		return 0
	}
	for pid := range first {
		n += mend(pid, all)
	}
	fs := proc.New("/proc")
	pids, err := fs.PIDs()
	if err != nil {
		return n
	}
	// The newest first: they run into it next.
	for _, pid := range slices.Backward(pids) {
		if first[pid] || pid == unix.Getpid() {
			continue
		}
		if st, err := fs.Status(pid); err != nil || st.TracerPID != 0 && st.TracerPID != tracer {
			continue // a debugger's breakpoints are its own
		}
		n += mend(pid, all)
	}
	return n
}

// mend takes breakpoints out of one process, where code and place are as noted.
func mend(pid int, all []*slot) (n int) {
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/mem", os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	for _, s := range all {
		var code [breakSize + contextSize]byte
		if _, err := f.ReadAt(code[:], int64(s.addr)); err != nil || !bytes.HasPrefix(code[:], breakInstruction[:]) {
			continue
		}
		if !like(code[breakSize:], s.context[:]) {
			continue
		}
		if _, err := f.WriteAt(s.was[:breakSize], int64(s.addr)); err == nil {
			n++
		}
	}
	return n
}

// like compares code, in which there may be more breakpoints.
func like(now, was []byte) bool {
	for i := 0; i < len(was); {
		if i+breakSize <= len(now) && bytes.Equal(now[i:i+breakSize], breakInstruction[:]) {
			i += breakSize
			continue
		}
		if now[i] != was[i] {
			return false
		}
		i++
	}
	return true
}
