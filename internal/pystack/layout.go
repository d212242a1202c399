// Package pystack reads the state of a CPython interpreter in the memory of
// another process: threads, frames with file and line, the GIL, and which
// object a lock belongs to. It stops nobody; what it reads of a running
// interpreter may be torn and is bounded everywhere.
package pystack

// layout holds where the fields lie that are read, in bytes. One literal per
// release, measured with that release's own headers on x86-64 (the offsets are
// those of any LP64 machine).
type layout struct {
	minor int
	// _PyRuntimeState
	interpHead uint64
	// runtimeGIL is the GIL within _PyRuntimeState, 0 where each interpreter
	// has its own.
	runtimeGIL uint64
	// PyInterpreterState
	interpNext, threads, modules uint64
	// interpGIL is the pointer to the interpreter's GIL.
	interpGIL uint64
	// PyThreadState
	tsNext, tsInterp, tsIdent, tsNative uint64
	// tsFrame leads to the innermost frame; cframe says that it leads there
	// through a _PyCFrame whose current_frame is at cframeFrame.
	tsFrame     uint64
	cframe      bool
	cframeFrame uint64
	// frames
	frameBack, frameCode, frameInstr uint64
	// frameOwner is the owner byte, 0 for the frame objects of 3.10 and before.
	frameOwner uint64
	// foreign is the least owner value that marks a frame of the interpreter's
	// own and not of Python code; 0 where there is none.
	foreign byte
	// PyCodeObject
	codeFile, codeName, codeQualname, codeLine, codeTable, codeStart uint64
	lines                                                            lineTable
	// strings
	strData, strDataWide uint64
	// strShift is where kind:3, compact:1, ascii:1 begin in the state word.
	strShift uint
	// dictEntries: where dk_indices lie; log2 sizes from 3.11 on.
	dictLog2 bool
}

type lineTable int

const (
	lnotab   lineTable = iota // up to 3.9: pairs of unsigned bytes and signed lines
	pep626                    // 3.10
	location                  // 3.11 and later
)

// layouts by minor version of Python 3.
var layouts = map[int]layout{
	8: { // 3.8.18
		interpHead: 32, runtimeGIL: 1152, interpNext: 0, threads: 8, modules: 56,
		tsNext: 8, tsInterp: 16, tsIdent: 176, tsFrame: 24,
		frameBack: 24, frameCode: 32, frameInstr: 104,
		codeFile: 104, codeName: 112, codeLine: 40, codeTable: 120, lines: lnotab,
		strData: 48, strDataWide: 72, strShift: 2,
	},
	9: { // 3.9.18
		interpHead: 32, runtimeGIL: 352, interpNext: 0, threads: 8, modules: 856,
		tsNext: 8, tsInterp: 16, tsIdent: 176, tsFrame: 24,
		frameBack: 24, frameCode: 32, frameInstr: 104,
		codeFile: 104, codeName: 112, codeLine: 40, codeTable: 120, lines: lnotab,
		strData: 48, strDataWide: 72, strShift: 2,
	},
	10: { // 3.10.13
		interpHead: 32, runtimeGIL: 352, interpNext: 0, threads: 8, modules: 856,
		tsNext: 8, tsInterp: 16, tsIdent: 176, tsFrame: 24,
		frameBack: 24, frameCode: 32, frameInstr: 96,
		codeFile: 104, codeName: 112, codeLine: 40, codeTable: 120, lines: pep626,
		strData: 48, strDataWide: 72, strShift: 2,
	},
	11: { // 3.11.7
		interpHead: 40, runtimeGIL: 360, interpNext: 0, threads: 16, modules: 888,
		tsNext: 8, tsInterp: 16, tsIdent: 152, tsNative: 160, tsFrame: 56, cframe: true, cframeFrame: 8,
		frameBack: 48, frameCode: 32, frameInstr: 56, frameOwner: 69,
		codeFile: 112, codeName: 120, codeQualname: 128, codeLine: 72, codeTable: 136, codeStart: 184, lines: location,
		strData: 48, strDataWide: 72, strShift: 2, dictLog2: true,
	},
	12: { // 3.12.1
		interpHead: 40, interpNext: 0, threads: 72, modules: 944, interpGIL: 384,
		tsNext: 8, tsInterp: 16, tsIdent: 136, tsNative: 144, tsFrame: 56, cframe: true, cframeFrame: 0,
		frameBack: 8, frameCode: 0, frameInstr: 56, frameOwner: 70, foreign: 3,
		codeFile: 112, codeName: 120, codeQualname: 128, codeLine: 68, codeTable: 136, codeStart: 192, lines: location,
		strData: 40, strDataWide: 56, strShift: 2, dictLog2: true,
	},
	13: { // 3.13: the rest comes from _Py_DebugOffsets
		foreign: 3, lines: location, strData: 40, strDataWide: 56, strShift: 2, dictLog2: true,
	},
	14: { // 3.14: likewise
		foreign: 3, lines: location, strData: 40, strDataWide: 56, strShift: 2, dictLog2: true,
	},
}

// debugOffsets says where _Py_DebugOffsets of a release keeps each offset
// (Include/internal/pycore_debug_offsets.h of 3.13.0 and 3.14.8).
type debugOffsets struct {
	interpHead, interpNext, threads, modules, interpGIL, tsNext, tsInterp, tsFrame, tsIdent, tsNative,
	frameBack, frameCode, frameInstr, frameOwner,
	codeFile, codeName, codeQualname, codeTable, codeLine, codeStart int
}

var debugOffsetsOf = map[int]debugOffsets{
	13: {40, 64, 72, 88, 112, 168, 176, 184, 192, 200, 232, 240, 248, 264, 280, 288, 296, 304, 312, 344},
	14: {40, 64, 72, 96, 120, 192, 200, 208, 216, 224, 256, 264, 272, 288, 320, 328, 336, 344, 352, 384},
}

// Fields of struct _gil_runtime_state, the same in 3.8 to 3.14.
const (
	gilHolder = 8
	gilLocked = 16
	gilSwitch = 24
	gilSize   = 208
)
