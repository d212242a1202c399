package pylock

// layout tells where a release keeps what: byte offsets within its objects, on
// 64-bit machines. Measured with the debug information of CPython 3.8.18,
// 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, and with the internal headers of
// Debian's 3.14.8; amd64 and arm64 agree, no field before those used depends
// on a pthread object.
type layout struct {
	minor int

	// parking says that the parking lot exists (from 3.13), and with it locks
	// that are a PyMutex; see typeInfo.inline for which.
	parking bool

	keysLog2    bool // _dictkeysobject of 3.11 and later, with compact entries
	dkEntries   int  // dk_nentries
	dkIndices   int
	valuesSkip  int // bytes before the first of _dictvalues
	cachedKeys  int // ht_cached_keys
	managed     managed
	funcClosure int
	tupleItems  int // the first; 3.14 has the hash before it

	strASCII, strOther int // where the characters of a compact str begin
	longTag            bool

	frame frameLayout
}

// managed says how instances without tp_dictoffset keep their attributes.
type managed uint8

const (
	managedNone   managed = iota
	managedTwo            // 3.11: values at -4 words, dict at -3 words
	managedTagged         // 3.12: at -3 words values (lowest bit set) or a dict
	managedInline         // 3.13 and later: dict at -3 words, values after the object
)

type frameLayout struct {
	localsplus, globals, locals int
	valueStack                  int // pointer to it, until 3.10; else it follows localsplus
	tag                         uint64
	// beforeWith is the instruction BEFORE_WITH (Include/opcode_ids.h) of 3.12 and
	// 3.13, which calls __enter__ of what is still on the stack then; 0 in
	// releases that have put __exit__ there before.
	beforeWith byte
	// in the code object
	stackSize        int
	nlocals          int
	names            int // co_varnames until 3.10, then co_localsplusnames
	cellvars, frees  int // until 3.10
	valuesCountField int // co_nlocalsplus, from 3.11
}

// Fields that no release from 3.8 to 3.14 has moved.
const (
	obType = 8
	obSize = 16

	dictUsed, dictKeys, dictValues = 16, 32, 40

	tpName, tpBasicSize, tpFlags  = 24, 32, 168
	tpBase, tpDict, tpDictOffset  = 256, 264, 288
	typeHead                      = 296 // bytes of a type that are read
	listItems                     = 24
	cellRef, weakrefObject        = 16, 16
	moduleDict                    = 16
	frameInstr                    = 56 // prev_instr of 3.12, instr_ptr of 3.13
	textBuffer                    = 32
	lockWord                      = 16 // sem_t*, or the PyMutex itself
	lockLocked                    = 32 // until 3.13
	rlockOwner, rlockCount        = 24, 32
	bufferedLock, bufferedOwner   = 104, 112
	queueWord, queueLocked        = 16, 24
	longSize, longDigits          = 16, 24
	importsLock                   = 48 // from imports.modules in PyInterpreterState, from 3.12
	importsOwner                  = 56
	maxInterpState                = 64 << 10
	semSize                       = 32
	lockInline, rlockInline       = 24, 40           // sizes of the objects with a PyMutex
	waitArg, waitKey, waitNode    = -16, -8, semSize // of struct wait_entry, from its semaphore
	flagInline, flagManaged       = 1 << 2, 1 << 4
	flagHeap, flagList, flagTuple = 1 << 9, 1 << 25, 1 << 26
	flagDict, flagType            = 1 << 29, 1 << 31
	flagLong, flagUnicode         = 1 << 24, 1 << 28
)

func layoutFor(minor int) (layout, bool) {
	l := layout{minor: minor, dkEntries: 32, dkIndices: 40, funcClosure: 48, tupleItems: 24, strASCII: 48, strOther: 72}
	l.frame = frameLayout{
		localsplus: 360, globals: 48, locals: 56, valueStack: 64,
		stackSize: 32, nlocals: 28, names: 72, frees: 80, cellvars: 88,
	}
	switch minor {
	case 8:
		l.cachedKeys = 872
	case 9:
		l.cachedKeys = 864
	case 10:
		l.cachedKeys = 872
		l.frame.localsplus = 352
		l.funcClosure = 72
	case 11, 12, 13, 14:
		l.keysLog2, l.dkEntries, l.dkIndices = true, 24, 32
		l.cachedKeys, l.funcClosure = 880, 72
		l.frame = frameLayout{
			localsplus: 72, globals: 24, locals: 40,
			stackSize: 64, valuesCountField: 72, names: 96,
		}
		l.strASCII, l.strOther, l.longTag = 40, 56, true
	default:
		return layout{}, false
	}
	switch minor {
	case 11:
		l.cachedKeys, l.managed = 872, managedTwo
		l.frame.globals, l.frame.locals = 8, 24
		l.frame.stackSize, l.frame.valuesCountField = 68, 76
		l.strASCII, l.strOther, l.longTag = 48, 72, false
	case 12:
		l.managed = managedTagged
		l.frame.beforeWith = 53
	case 13:
		l.managed, l.parking, l.valuesSkip = managedInline, true, 8
		l.frame.beforeWith = 2
	case 14:
		l.managed, l.parking, l.valuesSkip = managedInline, true, 8
		l.frame.localsplus, l.frame.tag, l.tupleItems = 80, 3, 32
	}
	return l, true
}
