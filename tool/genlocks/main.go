// Command genlocks makes the table of the locks inside C libraries, which have
// no symbols on a user's machine, from the debug packages of distributions:
//
//	genlocks VERSION=FOLDER... >internal/libc/builds.txt
//
// FOLDER is an unpacked package of debug files (usr/lib/debug/.build-id), VERSION
// the package's version. scripts/libclocks.sh fetches them and calls this.
package main

import (
	"bufio"
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// lock is a variable, or a part of one, that threads wait at.
type lock struct {
	addr, size   uint64
	symbol, file string
}

var (
	named    = regexp.MustCompile(`lock|^main_arena$|_once$`)
	notLocks = regexp.MustCompile(`block|unlock|clock|lock_fd|lock_recursive|attr$|_mutex_lock$|needs_lock|^dumped_|^__GI_`)
	numbered = regexp.MustCompile(`\.\d+$`)
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genlocks:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprint(out, "# Where the locks of C libraries lie: made by scripts/libclocks.sh, not to be edited.\n"+
		"# A build: its build-id, machine and package. Then its locks: address and size (hexadecimal), symbol, source file.\n")
	for _, arg := range args {
		version, folder, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not VERSION=FOLDER", arg)
		}
		err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || filepath.Ext(path) != ".debug" {
				return err
			}
			f, err := elf.Open(path)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			defer f.Close()
			locks, err := find(f)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if len(locks) == 0 {
				return nil
			}
			id, err := buildID(f)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			machine := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
			fmt.Fprintf(out, "\nbuild %s %s %s\n", id, machine, version)
			for _, l := range locks {
				fmt.Fprintf(out, "%x %x %s %s\n", l.addr, l.size, l.symbol, cmp.Or(l.file, "-"))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// find lists the locks of a file, in the order of their addresses.
func find(f *elf.File) ([]lock, error) {
	symbols, err := f.Symbols()
	if err != nil {
		return nil, nil // no symbol table: nothing to learn
	}
	var out []lock
	file := ""
	for _, s := range symbols {
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_FILE:
			file = s.Name
			continue
		case elf.STT_OBJECT:
		default:
			continue
		}
		if int(s.Section) >= len(f.Sections) || f.Sections[s.Section].Flags&elf.SHF_WRITE == 0 || f.Sections[s.Section].Name == ".data.rel.ro" {
			continue
		}
		name := numbered.ReplaceAllString(s.Name, "")
		if name == "_rtld_local" || name == "_rtld_global" {
			parts, err := members(f, "rtld_global", s.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, parts...)
			continue
		}
		if named.MatchString(name) && !notLocks.MatchString(name) {
			out = append(out, lock{s.Value, s.Size, name, file})
		}
	}
	slices.SortFunc(out, func(a, b lock) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(a.symbol, b.symbol), cmp.Compare(a.file, b.file))
	})
	return slices.CompactFunc(out, func(a, b lock) bool { return a.addr == b.addr }), nil
}

// members lists the locks among the members of a structure of the loader's.
func members(f *elf.File, structure string, at uint64) ([]lock, error) {
	d, err := f.DWARF()
	if err != nil {
		return nil, err
	}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil || e == nil {
			return nil, fmt.Errorf("no structure %s: %w", structure, err)
		}
		if name, _ := e.Val(dwarf.AttrName).(string); e.Tag != dwarf.TagStructType || name != structure || e.Val(dwarf.AttrDeclaration) != nil {
			continue
		}
		t, err := d.Type(e.Offset)
		if err != nil {
			return nil, err
		}
		var out []lock
		for _, m := range t.(*dwarf.StructType).Field {
			if named.MatchString(m.Name) && !notLocks.MatchString(m.Name) && m.Type.Size() > 0 {
				out = append(out, lock{at + uint64(m.ByteOffset), uint64(m.Type.Size()), m.Name, "rtld.c"})
			}
		}
		return out, nil
	}
}

func buildID(f *elf.File) (string, error) {
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return "", fmt.Errorf("no build-id")
	}
	b, err := s.Data()
	if err != nil {
		return "", err
	}
	if len(b) <= 16 {
		return "", fmt.Errorf("a build-id of %d bytes", len(b))
	}
	return hex.EncodeToString(b[16:]), nil // behind the note's header and "GNU\0"
}
