package libc

import (
	"encoding/binary"
	"testing"
)

func mutexBytes(lock, count, owner, users, kind uint32) []byte {
	b := make([]byte, MutexSize)
	for i, v := range []uint32{lock, count, owner, users, kind} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	return b
}

func TestMutexPlausible(t *testing.T) {
	for name, tc := range map[string]struct {
		b    []byte
		want bool
	}{
		"normal, held":                  {mutexBytes(1, 0, 77, 1, 0), true},
		"normal, waited for":            {mutexBytes(2, 0, 77, 1, 0), true},
		"recursive, held twice":         {mutexBytes(2, 2, 77, 1, 1), true},
		"recursive with no count":       {mutexBytes(2, 0, 77, 1, 1), false},
		"normal with a count":           {mutexBytes(2, 1, 77, 1, 0), false},
		"errorcheck":                    {mutexBytes(1, 0, 77, 1, 2), true},
		"adaptive":                      {mutexBytes(2, 0, 77, 1, 3), true},
		"robust":                        {mutexBytes(77|0x80000000, 0, 77, 1, 16), true},
		"robust, counted":               {mutexBytes(77, 1, 77, 1, 16|128), true},
		"robust of another owner":       {mutexBytes(78, 0, 77, 1, 16), false},
		"priority inheritance":          {mutexBytes(77|0x80000000, 0, 77, 1, 32), true},
		"free":                          {mutexBytes(0, 0, 0, 0, 0), false},
		"lock word of three":            {mutexBytes(3, 0, 77, 1, 0), false},
		"no user":                       {mutexBytes(1, 0, 77, 0, 0), false},
		"owner no thread can have":      {mutexBytes(1, 0, MaxTID, 1, 0), false},
		"kind of no mutex":              {mutexBytes(1, 0, 77, 1, 4096), false},
		"list pointer in a normal lock": {append(mutexBytes(1, 0, 77, 1, 0)[:24], 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), false},
	} {
		if got := DecodeMutex(tc.b).Plausible(); got != tc.want {
			t.Errorf("%s: plausible %v, want %v", name, got, tc.want)
		}
	}
}

func TestParseFutex(t *testing.T) {
	f, ok := ParseFutex([6]uint64{0x1000, 0x189, 0, 0})
	if !ok || !f.Private() || f.Timeout || f.Command() != opWaitBitset {
		t.Errorf("got %+v, %v", f, ok)
	}
	if f, ok := ParseFutex([6]uint64{0x1000, 0, 2, 0x7ffe}); !ok || f.Private() || !f.Timeout {
		t.Errorf("got %+v, %v", f, ok)
	}
	if _, ok := ParseFutex([6]uint64{0x1000, 129, 1, 0}); ok {
		t.Error("a wake was taken for a wait")
	}
}
