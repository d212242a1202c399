package pylock

import "strings"

// Held returns the locks that can be reached from the modules and that are
// locked, with their names: those of plain programs at rest are none. It leaves
// out the locks that a healthy program keeps locked, because it uses them as a
// signal: those that stand for a running thread, and the lock on which a
// waiter of a Condition sleeps. Of the standard library it looks at logging,
// threading, imports and the standard streams only: the rest costs as much as
// all else together, and has hardly any.
//
// A lock that a running thread holds at this moment is in the list: it is for
// the caller to see whether its owner lives, or that it stays. Where Truncated
// is true, there may be more.
func (h *Heap) Held() []Lock {
	for (h.graph.phase < phaseStdlib || len(h.graph.queue) > 0) && h.grow(nil) {
	}
	var held []Lock
	for _, at := range h.graph.locks {
		n := h.graph.nodes[at]
		if n.class == classQueue {
			continue
		}
		l, ok := h.lockAt(n.object, 0)
		if !ok || !l.Locked {
			continue
		}
		if l.Kind == KindLock && h.signal(at) {
			continue
		}
		l.Name, _ = h.Name(n.object)
		held = append(held, l)
	}
	held = append(held, h.importing()...)
	if l, ok := h.importLock(0); ok && l.Locked {
		held = append(held, l)
	}
	return held
}

// signal reports whether a plain lock stands for something else than mutual
// exclusion. _tstate_lock is locked as long as its thread runs (threading.py
// until 3.12), _waiters are the sleepers of a Condition, wakeup belongs to a
// _ModuleLock, which importing looks at.
func (h *Heap) signal(at int32) bool {
	for n := h.graph.nodes[at]; ; n = h.graph.nodes[n.parent] {
		if n.step == stepAttribute {
			switch name, _ := h.str(n.key); name {
			case "_tstate_lock", "_waiters", "_shutdown_locks":
				return true
			case "wakeup":
				if n.parent >= 0 && strings.HasSuffix(h.typeName(n.parent), "_ModuleLock") {
					return true
				}
			}
		}
		if n.parent < 0 {
			return false
		}
	}
}

// importing lists the modules that are being imported:
// importlib._bootstrap._module_locks maps names to weak references.
func (h *Heap) importing() []Lock {
	m, ok := h.module("_frozen_importlib")
	if !ok {
		return nil
	}
	locks, ok := h.lookup(h.moduleDict(m), "_module_locks")
	if !ok {
		return nil
	}
	var held []Lock
	h.dict(locks, func(_, ref uint64) bool {
		ti := h.objectType(ref)
		if ti == nil || ti.class != classWeakref {
			return true
		}
		if at, ok := h.word(ref + weakrefObject); ok {
			if l, ok := h.moduleLockAt(at); ok && l.OwnerKnown {
				held = append(held, l)
			}
		}
		return len(held) < 1000
	})
	return held
}
