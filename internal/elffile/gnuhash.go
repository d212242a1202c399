package elffile

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// maxChain bounds the entries that one lookup walks. Real buckets hold a
// handful; a bucket as long as the whole table would still be found.
const maxChain = maxSymbols

// gnuHash is DT_GNU_HASH: four words, a Bloom filter of 64-bit words, buckets
// with the first symbol of each, and one hash value for each symbol from
// symOffset on whose lowest bit ends the bucket.
type gnuHash struct {
	data                       Data
	buckets, bloomSize, shift  uint32
	symOffset                  uint32
	bloomAt, bucketAt, chainAt uint64
}

func (s *Symbols) readGNUHash() (*gnuHash, error) {
	if s.dynamic == nil {
		return nil, fmt.Errorf("hash table: %w", ErrAbsent)
	}
	addr, ok := s.dynamic.Addr(elf.DT_GNU_HASH)
	if !ok {
		return nil, fmt.Errorf("GNU hash table: %w", ErrAbsent)
	}
	data, err := s.f.FromVAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("GNU hash table: %w", err)
	}
	raw, err := data.Slice(0, 16)
	if err != nil {
		return nil, fmt.Errorf("GNU hash table: %w", err)
	}
	h := &gnuHash{
		data:      data,
		buckets:   binary.LittleEndian.Uint32(raw),
		symOffset: binary.LittleEndian.Uint32(raw[4:]),
		bloomSize: binary.LittleEndian.Uint32(raw[8:]),
		shift:     binary.LittleEndian.Uint32(raw[12:]),
		bloomAt:   16,
	}
	h.bucketAt = h.bloomAt + 8*uint64(h.bloomSize)
	h.chainAt = h.bucketAt + 4*uint64(h.buckets)
	if h.buckets == 0 || h.bloomSize == 0 || h.bloomSize&(h.bloomSize-1) != 0 || h.chainAt > data.Size || h.buckets > maxSymbols {
		return nil, fmt.Errorf("GNU hash table with %d buckets and %d filter words in %d bytes: %w", h.buckets, h.bloomSize, data.Size, ErrDamaged)
	}
	return h, nil
}

func (h *gnuHash) word(at uint64) (uint32, error) {
	raw, err := h.data.Slice(at, 4)
	if err != nil {
		return 0, fmt.Errorf("GNU hash table: %w", err)
	}
	return binary.LittleEndian.Uint32(raw), nil
}

// count is one more than the highest symbol in any bucket.
func (h *gnuHash) count() (uint64, error) {
	raw, err := h.data.Slice(h.bucketAt, 4*uint64(h.buckets))
	if err != nil {
		return 0, fmt.Errorf("GNU hash table: %w", err)
	}
	last := uint32(0)
	for ; len(raw) >= 4; raw = raw[4:] {
		last = max(last, binary.LittleEndian.Uint32(raw))
	}
	if last < h.symOffset {
		return uint64(h.symOffset), nil // nothing is exported
	}
	for i := uint64(last); i < maxSymbols; i++ {
		v, err := h.word(h.chainAt + 4*(i-uint64(h.symOffset)))
		if err != nil {
			return 0, err
		}
		if v&1 != 0 {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("GNU hash table: the last bucket has no end: %w", ErrDamaged)
}

// find calls match with the index of each symbol whose hash is that of name,
// until match returns true or an error.
func (h *gnuHash) find(name string, match func(i int) (bool, error)) error {
	hash := hashGNU(name)
	at := h.bloomAt + 8*uint64(hash/64&(h.bloomSize-1))
	raw, err := h.data.Slice(at, 8)
	if err != nil {
		return fmt.Errorf("GNU hash table: %w", err)
	}
	bloom := binary.LittleEndian.Uint64(raw)
	if bloom>>(hash%64)&1 == 0 || bloom>>(hash>>(h.shift&31)%64)&1 == 0 {
		return nil
	}
	first, err := h.word(h.bucketAt + 4*uint64(hash%h.buckets))
	if err != nil || first == 0 {
		return err
	}
	if first < h.symOffset {
		return fmt.Errorf("GNU hash table: a bucket begins at symbol %d, before the first (%d): %w", first, h.symOffset, ErrDamaged)
	}
	for i := uint64(first); i < uint64(first)+maxChain; i++ {
		v, err := h.word(h.chainAt + 4*(i-uint64(h.symOffset)))
		if err != nil {
			return err
		}
		if v|1 == hash|1 {
			if done, err := match(int(i)); done || err != nil {
				return err
			}
		}
		if v&1 != 0 {
			return nil
		}
	}
	return fmt.Errorf("GNU hash table: a bucket has no end: %w", ErrDamaged)
}

// findSysV is the same through DT_HASH, the older table: number of buckets, number
// of symbols, buckets, and for each symbol the next of its bucket.
func (s *Symbols) findSysV(name string, match func(i int) (bool, error)) error {
	addr, ok := s.dynamic.Addr(elf.DT_HASH)
	if !ok {
		return fmt.Errorf("hash table: %w", ErrAbsent)
	}
	data, err := s.f.FromVAddr(addr)
	if err != nil {
		return fmt.Errorf("symbol hash table: %w", err)
	}
	h := gnuHash{data: data} // for its word
	buckets, err := h.word(0)
	if err != nil {
		return err
	}
	count, err := h.word(4)
	if err != nil {
		return err
	}
	if buckets == 0 {
		return fmt.Errorf("symbol hash table without buckets: %w", ErrDamaged)
	}
	i, err := h.word(8 + 4*uint64(hashSysV(name)%buckets))
	for steps := uint32(0); err == nil && i != 0; steps++ {
		if i >= count || steps > count {
			return fmt.Errorf("symbol hash table: symbol %d of %d in a bucket without end: %w", i, count, ErrDamaged)
		}
		if done, err := match(int(i)); done || err != nil {
			return err
		}
		i, err = h.word(8 + 4*(uint64(buckets)+uint64(i)))
	}
	return err
}

func hashGNU(name string) uint32 {
	h := uint32(5381)
	for i := range len(name) {
		h = h*33 + uint32(name[i])
	}
	return h
}

func hashSysV(name string) uint32 {
	var h uint32
	for i := range len(name) {
		h = h<<4 + uint32(name[i])
		h ^= h >> 24 & 0xf0
	}
	return h & 0x0fffffff
}

// versionHidden marks in DT_VERSYM a symbol that is not the default version.
const versionHidden = 0x8000

// Find looks a defined symbol up by name through the hash table of the dynamic
// section, at the cost of a few small reads. Of several versions
// (pthread_cond_wait has two in glibc) it takes the default one, which is what
// programs linked today get. ok is false where no defined symbol has the name;
// an error that wraps ErrAbsent says that there is no hash table to ask.
func (s *Symbols) Find(name string) (index int, sym RawSym, ok bool, err error) {
	if s.dynamic == nil {
		return 0, RawSym{}, false, fmt.Errorf("hash table: %w", ErrAbsent)
	}
	match := func(i int) (bool, error) {
		got, err := s.At(i)
		if err != nil {
			return true, err
		}
		if got.Section == elf.SHN_UNDEF || !s.named(got, name) {
			return false, nil
		}
		hidden, err := s.hidden(i)
		if err != nil {
			return true, err
		}
		if !ok || !hidden {
			index, sym, ok = i, got, true
		}
		return !hidden, nil
	}
	if h, herr := s.gnu(); herr == nil {
		err = h.find(name, match)
	} else if _, has := s.dynamic.Value(elf.DT_HASH); has {
		err = s.findSysV(name, match)
	} else {
		err = herr
	}
	if err != nil {
		return 0, RawSym{}, false, err
	}
	return index, sym, ok, nil
}

// named compares without reading more of a string table than name is long.
func (s *Symbols) named(sym RawSym, name string) bool {
	raw, err := s.Strings.Slice(uint64(sym.Name), uint64(len(name))+1)
	return err == nil && raw[len(name)] == 0 && string(raw[:len(name)]) == name
}

func (s *Symbols) hidden(i int) (bool, error) {
	addr, ok := s.dynamic.Addr(elf.DT_VERSYM)
	if !ok {
		return false, nil
	}
	raw, err := s.f.BytesAt(addr+2*uint64(i), 2)
	if err != nil {
		return false, fmt.Errorf("version of symbol %d: %w", i, err)
	}
	return binary.LittleEndian.Uint16(raw)&versionHidden != 0, nil
}
