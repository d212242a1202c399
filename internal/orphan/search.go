package orphan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// standing is what the recorded owner of a lock is to the target.
type standing int

const (
	// nobody: no thread of the target or its ancestors can have this id.
	nobody standing = iota
	// ours: a thread of the target, or one that may be, under an older id.
	ours
	// vanished: a thread that is known to have vanished and is alive elsewhere.
	vanished
	// ended: perhaps a thread that vanished and has ended since.
	ended
)

// search is what the workers of one Scan share; they only read it.
type search struct {
	t    *Target
	mem  procmem.Reader
	musl bool
	ours map[uint32]bool
	tcbs map[uint64]bool
	gone map[uint32]*Thread
	// goneTCB are the vanished threads by thread pointer.
	goneTCB map[uint64]*Thread
	// ids are the numbers of the vanished threads, without repetition.
	ids []uint32
	// statics are where declared variables lie, in ascending order; asked for
	// only once something looks like a lock.
	statics func() []procmem.Range
	noise   [classes]noise
	// crowd counts, by owner, the candidates that lie in no declared variable and
	// are tied to nothing.
	crowd map[uint32]int
}

// mostHeld is how many locks of that sort one thread is believed to have held
// at once.
const mostHeld = 4

// crowds counts candidates: the same number in many places is a table.
func (s *search) crowds(found []candidate) {
	s.crowd = make(map[uint32]int)
	for _, c := range found {
		if c.tcb == 0 && c.link == 0 && c.stream == 0 && !s.static(c.addr) {
			s.crowd[c.owner]++
		}
	}
}

// Classes of places, each with a noise of its own.
const (
	mutexElsewhere = iota
	mutexStatic
	rwlockElsewhere
	rwlockStatic
	classes
)

func (s *search) class(c candidate) int {
	n := mutexElsewhere
	if c.kind == "pthread_rwlock" {
		n = rwlockElsewhere
	}
	if s.static(c.addr) {
		n++
	}
	return n
}

func newSearch(t *Target) *search {
	s := &search{
		t: t, mem: procmem.Open(t.ID.PID), musl: t.Libc.Family == "musl",
		ours: make(map[uint32]bool), tcbs: make(map[uint64]bool), gone: make(map[uint32]*Thread), goneTCB: make(map[uint64]*Thread),
	}
	s.statics = sync.OnceValue(s.declared)
	for _, id := range slices.Concat(t.Threads, t.Former) {
		s.ours[uint32(id)] = true
	}
	for _, tcb := range t.TCBs {
		s.tcbs[tcb] = true
	}
	for i := range t.Vanished {
		v := &t.Vanished[i]
		if s.gone[uint32(v.Inner)] == nil {
			s.gone[uint32(v.Inner)] = v
			s.ids = append(s.ids, uint32(v.Inner))
		}
		if v.TCB != 0 && s.goneTCB[v.TCB] == nil {
			s.goneTCB[v.TCB] = v
		}
	}
	return s
}

// relist learns of threads that came into being while the search went on.
func (s *search) relist() error {
	if s.t.Recheck == nil {
		return nil
	}
	ids, err := s.t.Recheck()
	if err != nil {
		return err
	}
	for _, id := range ids {
		s.ours[uint32(id)] = true
	}
	return nil
}

// owner says whose a lock is.
func (s *search) owner(c shape) standing {
	if c.tcb != 0 {
		switch {
		case s.tcbs[c.tcb]:
			return ours
		case s.goneTCB[c.tcb] != nil:
			return vanished
		case s.t.AllTCBs:
			return ended
		}
		return ours
	}
	switch {
	case s.ours[c.owner]:
		return ours
	case s.gone[c.owner] != nil:
		return vanished
	case s.between(c.owner):
		return ended
	}
	return nobody
}

// concerns reports whether an owner is worth a closer look.
func (s *search) concerns(id uint32) bool {
	return !s.ours[id] && (s.gone[id] != nil || s.between(id))
}

// between reports whether the kernel can have given out an id between the
// parent's own and the target's. Ids go up and begin anew after the largest.
func (s *search) between(id uint32) bool {
	a, b, i := s.t.After, s.t.Before, int(id)
	switch {
	case a == 0 || b == 0 || i == 0:
		return false
	case a < b:
		return a < i && i < b
	default:
		return i > a || i < b
	}
}

// Reasons for which a candidate is no orphaned lock.
const (
	dropMoved    = "changed between two looks"
	dropOurs     = "held by a thread of the process"
	dropStack    = "on a stack where nothing is in use"
	dropUnlinked = "not in its owner's list of held locks"
	dropEnded    = "owner unknown, and no static lock"
	dropStream   = "no stream"
	dropInitial  = "as in the file"
	dropUsers    = "more users than there were threads"
	dropChance   = "may be chance: the memory is full of such numbers"
)

// confirm looks at a candidate again, and around it. It returns the lock, or
// why it is none.
func (s *search) confirm(c candidate) (Lock, string) {
	m, ok := proc.Find(s.t.Mappings, c.addr)
	if !ok || m.Shared || !m.Write {
		return Lock{}, dropStream
	}
	now, ok := s.decode(s.mem, c)
	if !ok || now.owner != c.owner || now.tcb != c.tcb {
		return Lock{}, dropMoved
	}
	who := s.owner(now)
	if who != vanished && who != ended {
		return Lock{}, dropOurs
	}
	for _, r := range s.t.Stacks {
		if r.Start <= c.addr && c.addr < r.End {
			return Lock{}, dropStack
		}
	}
	if now.link != 0 {
		if v, err := procmem.Uint64(s.mem, now.link); err != nil || v&^1 != now.back {
			return Lock{}, dropUnlinked
		}
	}
	if c.stream != 0 && !s.isStream(c) {
		return Lock{}, dropStream
	}
	l := Lock{
		Addr: c.addr, Word: c.addr, Stream: c.stream, Kind: now.kind, State: now.state, Shared: now.shared,
		OwnerTID: int(now.owner), OwnerTCB: now.tcb, Static: s.static(c.addr), Mapping: m, Parent: s.inParent(c),
	}
	if s.musl && c.stream == 0 {
		l.Word += 4
	}
	// A number is not much to go by: only a lock that is tied to other things
	// that hold together stands by itself.
	tied := now.link != 0 || c.stream != 0 || l.Parent == ParentFree || l.Parent == ParentOther
	switch {
	// All its users were threads of the parent at the fork.
	case !tied && int(now.users) > len(s.t.Vanished)+1:
		return Lock{}, dropUsers
	case !tied && !l.Static && s.crowd[now.owner] > mostHeld,
		!tied && !s.noise[s.class(c)].credible(now.owner, s.suspects(who)):
		return Lock{}, dropChance
	case s.initial(c, m):
		return Lock{}, dropInitial
	}
	if who == vanished {
		l.OwnerAlive = true
		if now.tcb != 0 {
			l.Owner = *s.goneTCB[now.tcb]
		} else {
			l.Owner = *s.gone[now.owner]
		}
		return l, ""
	}
	// Whether such an owner ever was is not known: the lock must stand where
	// locks are declared, or be tied.
	switch {
	case now.tcb != 0:
		// The thread's control block is still here, as fork copied it.
		if v, err := procmem.Uint64(s.mem, now.tcb+tcbSelf); err != nil || v != now.tcb {
			return Lock{}, dropEnded
		}
	case !tied && !l.Static:
		return Lock{}, dropEnded
	}
	return l, ""
}

// decode reads a candidate anew.
func (s *search) decode(r procmem.Reader, c candidate) (shape, bool) {
	var buf [fileSize + ioLockSize]byte
	read := func(addr uint64, n int) ([]byte, bool) {
		_, err := r.ReadAt(buf[:n], addr)
		return buf[:n], err == nil
	}
	switch {
	case s.musl && c.stream != 0:
		if b, ok := read(c.stream, muslFSize); ok {
			return muslFile(b)
		}
	case s.musl:
		if b, ok := read(c.addr, 40); ok {
			return muslMutex(c.addr, b)
		}
	case c.stream != 0:
		if b, ok := read(c.addr, ioLockSize); ok {
			return glibcFileLock(b)
		}
	case c.kind == "pthread_rwlock":
		if b, ok := read(c.addr, lockSize); ok {
			return glibcRWLock(b)
		}
	default:
		if b, ok := read(c.addr, 40); ok {
			return glibcMutex(c.addr, b)
		}
	}
	return shape{}, false
}

// isStream reports whether a stream's pointers lead where a stream's do.
func (s *search) isStream(c candidate) bool {
	var b [muslFSize]byte
	n := fileSize
	if s.musl {
		n = muslFSize
	}
	if _, err := s.mem.ReadAt(b[:n], c.stream); err != nil {
		return false
	}
	if !s.musl {
		lock, ok := glibcFile(b[:n])
		vtable, in := proc.Find(s.t.Mappings, binary.LittleEndian.Uint64(b[fileVtable:]))
		return ok && lock == c.addr && in && vtable.File()
	}
	// close and seek are functions, and one of read (which may be missing in a
	// stream for writing) and write.
	code := func(off int) bool {
		m, ok := proc.Find(s.t.Mappings, binary.LittleEndian.Uint64(b[off:]))
		return ok && m.Exec
	}
	_, ok := proc.Find(s.t.Mappings, binary.LittleEndian.Uint64(b[88:]))
	return ok && code(24) && (code(64) || code(72))
}

// initial reports whether the bytes of a lock are those that the mapped file has
// there: what a program begins with nobody has locked.
func (s *search) initial(c candidate, m proc.Mapping) bool {
	if !m.File() || s.t.OpenMapped == nil {
		return false
	}
	f, err := s.t.OpenMapped(m)
	if err != nil {
		return false
	}
	defer f.Close()
	var now, was [16]byte
	if _, err := f.ReadAt(was[:], int64(c.addr-m.Start+m.Offset)); err != nil {
		return false
	}
	_, err = s.mem.ReadAt(now[:], c.addr)
	return err == nil && now == was
}

// overlap is how many numbers two spans have in common.
func overlap(a, b, from, to uint32) int { return max(0, int(min(b, to))-int(max(a, from))+1) }

// suspects counts the numbers in a span that a vanished thread may have had.
func (s *search) suspects(who standing) func(from, to uint32) int {
	return func(from, to uint32) (n int) {
		if who == ended {
			a, b, most := uint32(s.t.After), uint32(s.t.Before), uint32(libc.MaxTID)
			if a < b {
				return overlap(from, to, a+1, b-1)
			}
			return overlap(from, to, a+1, most) + overlap(from, to, 1, b-1)
		}
		for _, id := range s.ids {
			if from <= id && id <= to {
				n++
			}
		}
		return n
	}
}

// inParent says what lies at the same address in the parent.
func (s *search) inParent(c candidate) ParentState {
	if s.t.Parent == nil {
		return ParentUnknown
	}
	var b [lockSize]byte
	n := 40
	if c.kind == "stdio" {
		n = 4
		if !s.musl {
			n = ioLockSize
		}
	}
	if _, err := s.t.Parent.ReadAt(b[:n], c.addr); err != nil {
		return ParentUnknown
	}
	if now, ok := s.decode(s.t.Parent, c); ok && now.owner == c.owner && now.tcb == c.tcb {
		return ParentSame
	} else if ok && s.sameAround(c) {
		return ParentOther
	}
	if free(b[:n], c, s.musl) && s.sameAround(c) {
		return ParentFree
	}
	return ParentDifferent
}

// sameAround reports whether a lock has the same neighbours in the parent: that
// it is the same object there, and not memory that was put to another use since.
func (s *search) sameAround(c candidate) bool {
	const around = 64
	size := uint64(lockSize)
	switch {
	case c.kind == "pthread_mutex":
		size = 40
	case c.kind == "stdio":
		return true // found through the stream, or in the midst of it
	}
	same, differ := 0, 0
	for _, at := range []uint64{c.addr - around, c.addr + size} {
		var a, b [around]byte
		if _, err := s.mem.ReadAt(a[:], at); err != nil {
			continue
		}
		if _, err := s.t.Parent.ReadAt(b[:], at); err != nil {
			continue
		}
		for i := 0; i < around; i += 8 {
			switch v, w := binary.LittleEndian.Uint64(a[i:]), binary.LittleEndian.Uint64(b[i:]); {
			case v != w:
				differ++
			case v != 0:
				same++
			}
		}
	}
	return same >= 2 && same > differ
}

// free reports whether the bytes of a lock in the parent are what c would be if
// nobody held it.
func free(b []byte, c candidate, musl bool) bool {
	u := binary.LittleEndian
	switch {
	case c.kind == "stdio" && musl:
		return u.Uint32(b) == 0
	case c.kind == "stdio":
		return u.Uint64(b) == 0 && u.Uint64(b[8:]) == 0
	case c.kind == "pthread_rwlock":
		return u.Uint32(b)&1 == 0 && u.Uint64(b[16:]) == 0 && u.Uint32(b[24:]) == 0
	case musl:
		return u.Uint32(b[4:]) == 0
	}
	return u.Uint64(b) == 0 && u.Uint32(b[8:]) == 0
}

func (t Thread) String() string { return fmt.Sprintf("thread %d of process %d", t.TID, t.PID) }
