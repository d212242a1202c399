// Package forklog keeps what was seen held at a fork, in one small file for each
// process that was made: whoever looks at that process later can tell from it
// that a lock without an owner field was left behind by a thread which the
// process does not have.
package forklog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/target"
)

// ErrNone is the error for a process of which nothing is kept.
var ErrNone = errors.New("nothing is known of its fork")

// Record is what is kept of one fork.
type Record struct {
	// Boot is the run of the machine, PID and Start the process that was made, by
	// its number in our PID namespace and its start in clock ticks.
	Boot  string `json:"boot"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	// Image tells the program in the process's memory: another one after an exec.
	Image string `json:"image"`
	// Time is when it was made, Parent the process that made it.
	Time   time.Time `json:"time"`
	Parent int       `json:"parent"`
	Locks  []Lock    `json:"locks"`
}

// Lock is one that was held in the new process before its first instruction,
// by a thread of the parent that the process does not have.
type Lock struct {
	// Addr is the word that waiters sleep on.
	Addr uint64 `json:"addr,string"`
	// Where names it.
	Where string `json:"where"`
	// Own: it is one of the C library's own, which only the function that took it
	// ever releases, and which the library does not make anew in a child. Where it
	// is false, the program may have made the lock anew since.
	Own bool `json:"own"`
	// TID and Name are the thread that held it, 0 where that is not known, and
	// Doing what it was doing.
	TID   int    `json:"tid,omitempty"`
	Name  string `json:"name,omitempty"`
	Doing string `json:"doing,omitempty"`
}

// maxFile bounds a file, in bytes.
const maxFile = 1 << 20

// Log is a folder of records.
type Log struct{ dir string }

// Default is the log of this user: $XDG_STATE_HOME/forkproof/forks, by default in
// ~/.local/state, and in /run for who has no home.
func Default() Log {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
			dir = filepath.Join(home, ".local", "state")
		} else {
			dir = "/run"
		}
	}
	return At(filepath.Join(dir, "forkproof", "forks"))
}

// At is the log in a folder.
func At(dir string) Log { return Log{dir} }

// Path is the file for a process.
func (l Log) Path(id target.ID) string {
	return filepath.Join(l.dir, fmt.Sprintf("%d-%d.json", id.PID, id.Start))
}

// Write keeps a record, readable by this user alone, and removes those of
// processes that are gone.
func (l Log) Write(fs proc.FS, id target.ID, r Record) error {
	r.PID, r.Start = id.PID, id.Start
	var err error
	if r.Boot, err = boot(); err != nil {
		return fmt.Errorf("keep what was held at a fork: %w", err)
	}
	if r.Image, err = image(fs, id.PID); err != nil {
		return fmt.Errorf("keep what was held at the fork of process %d: %w", id.PID, err)
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("keep what was held at a fork: %w", err)
	}
	l.prune(fs)
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(l.dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("keep what was held at a fork: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), l.Path(id))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("keep what was held at a fork: %w", err)
	}
	return nil
}

// Remove forgets a process, which ended or runs another program.
func (l Log) Remove(id target.ID) { _ = os.Remove(l.Path(id)) }

// Read returns what is kept of a process, if it is the same one, and runs the
// program that it was forked with. The error is ErrNone where nothing is.
func (l Log) Read(fs proc.FS, id target.ID) (Record, error) {
	f, err := os.OpenFile(l.Path(id), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return Record{}, ErrNone
	}
	if err != nil {
		return Record{}, fmt.Errorf("read what was held at a fork: %w", err)
	}
	defer f.Close()
	// What anybody else could have written proves nothing.
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Record{}, fmt.Errorf("read what was held at a fork: %s could have been written by others: %w", f.Name(), ErrNone)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return Record{}, fmt.Errorf("read what was held at a fork: %w", err)
	}
	r, err := Parse(b)
	if err != nil {
		return Record{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	now, err := boot()
	if err != nil || r.Boot != now || r.PID != id.PID || r.Start != id.Start {
		return Record{}, ErrNone
	}
	img, err := image(fs, id.PID)
	if err != nil || img != r.Image || !fs.Same(id) {
		return Record{}, ErrNone
	}
	return r, nil
}

// Parse reads a record as Write writes it.
func Parse(b []byte) (r Record, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, err
	}
	if r.PID <= 0 || r.Boot == "" || r.Image == "" {
		return Record{}, errors.New("it names no process")
	}
	return r, nil
}

// prune removes records of processes that are gone.
func (l Log) prune(fs proc.FS) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, start, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".json"), "-")
		id := target.ID{}
		id.PID, err = strconv.Atoi(pid)
		start64, err2 := strconv.ParseUint(start, 10, 64)
		if id.Start = start64; !ok || err != nil || err2 != nil {
			continue
		}
		if !fs.Same(id) {
			_ = os.Remove(filepath.Join(l.dir, e.Name()))
		}
	}
}

// boot is the id of this run of the machine.
func boot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// atRandom is the entry of the auxiliary vector that points to 16 random bytes,
// which the kernel makes anew at each exec, and fork copies (AT_RANDOM, elf.h).
const atRandom = 25

// image tells the program in a process's memory: its auxiliary vector, and the
// random bytes that it points to.
func image(fs proc.FS, pid int) (string, error) {
	aux, err := fs.Read(pid, "auxv")
	if err != nil {
		return "", err
	}
	for i := 0; i+16 <= len(aux); i += 16 {
		if binary.NativeEndian.Uint64(aux[i:]) != atRandom {
			continue
		}
		var random [16]byte
		if _, err := procmem.Open(pid).ReadAt(random[:], binary.NativeEndian.Uint64(aux[i+8:])); err != nil {
			return "", err
		}
		sum := sha256.Sum256(append(aux, random[:]...))
		return hex.EncodeToString(sum[:]), nil
	}
	return "", errors.New("its auxiliary vector has no random bytes")
}
