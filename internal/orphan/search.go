package orphan

import (
	"encoding/binary"
	"fmt"
	"slices"

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
}

func newSearch(t *Target) *search {
	s := &search{
		t: t, mem: procmem.Open(t.ID.PID), musl: t.Libc.Family == "musl",
		ours: make(map[uint32]bool), tcbs: make(map[uint64]bool), gone: make(map[uint32]*Thread), goneTCB: make(map[uint64]*Thread),
	}
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
	if who == vanished {
		l.OwnerAlive = true
		if now.tcb != 0 {
			l.Owner = *s.goneTCB[now.tcb]
		} else {
			l.Owner = *s.gone[now.owner]
		}
		return l, ""
	}
	// Nothing but the lock itself tells of its owner: only a lock that stands
	// where locks are declared, or is tied to other things that hold together,
	// is believed.
	switch {
	case now.link != 0 || s.musl && c.stream != 0:
	case now.tcb != 0:
		if v, err := procmem.Uint64(s.mem, now.tcb+tcbSelf); err != nil || v != now.tcb {
			return Lock{}, dropEnded
		}
	case !l.Static:
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

// static reports whether addr lies in the data of a mapped file: in a page of
// it that the process changed, or in the zeroed memory right behind, its .bss.
func (s *search) static(addr uint64) bool {
	maps := s.t.Mappings
	i := slices.IndexFunc(maps, func(m proc.Mapping) bool { return m.Contains(addr) })
	if i < 0 {
		return false
	}
	if maps[i].File() {
		return true
	}
	return maps[i].Path == "" && i > 0 && maps[i-1].File() && maps[i-1].Write && maps[i-1].End == maps[i].Start
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
	if now, ok := s.decode(s.t.Parent, c); ok {
		if now.owner == c.owner && now.tcb == c.tcb {
			return ParentSame
		}
		return ParentOther
	}
	if free(b[:n], c, s.musl) {
		return ParentFree
	}
	return ParentDifferent
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
