package disasm_test

import (
	"bufio"
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/disasm"
	"forkproof/internal/testbed"
)

// window is how much of each library objdump is asked for: it prints some 40
// bytes for each byte of code.
const window = 1 << 20

// TestObjdump compares length, kind and target of every instruction with what
// objdump says of the same code, in libraries that between them have most of
// what compilers and people write: AVX-512 and FMA4 by hand (OpenBLAS, libcrypto),
// CET, C++, an interpreter's jump tables.
func TestObjdump(t *testing.T) {
	root := testbed.Open(t, "bookworm").Dir
	for _, tt := range []struct {
		file string
		skip uint64 // where in the code to begin
	}{
		{"usr/lib/x86_64-linux-gnu/libc.so.6", 0},
		{"usr/lib/x86_64-linux-gnu/libcrypto.so.3", 0},
		{"usr/lib/x86_64-linux-gnu/libstdc++.so.6", 0},
		{"usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblasp-r0.3.21.so", 3 << 20},
		{"usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblasp-r0.3.21.so", 20 << 20},
		{"usr/lib/x86_64-linux-gnu/libm.so.6", 0},
	} {
		t.Run(fmt.Sprintf("%s+%d", filepath.Base(tt.file), tt.skip>>20), func(t *testing.T) {
			compare(t, disasm.AMD64, "objdump", filepath.Join(root, tt.file), tt.skip)
		})
	}
}

// TestObjdumpARM64 is the same for AArch64, with the objdump of the root folder
// that cross-compiles.
func TestObjdumpARM64(t *testing.T) {
	root := testbed.Cross(t).Dir
	for _, file := range []string{"usr/aarch64-linux-gnu/lib/libc.so.6", "usr/aarch64-linux-gnu/lib/libm.so.6", "usr/lib/gcc-cross/aarch64-linux-gnu/10/libgcc_s.so"} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			full := filepath.Join(root, file)
			if strings.HasSuffix(file, "gcc_s.so") {
				full = filepath.Join(root, "usr/aarch64-linux-gnu/lib/libgcc_s.so.1")
			}
			compare(t, disasm.ARM64, "aarch64-linux-gnu-objdump", full, 0, "chroot", root)
		})
	}
}

func compare(t *testing.T, arch disasm.Arch, objdump, file string, skip uint64, in ...string) {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	text := f.Section(".text")
	skip = min(skip, text.Size)
	from, to := text.Addr+skip, text.Addr+min(text.Size, skip+window)
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	name := file
	if len(in) > 0 {
		name = strings.TrimPrefix(file, in[1])
	}
	args := append(in, objdump, "-d", "-w", "--no-show-raw-insn", "-j", ".text", fmt.Sprintf("--start-address=%#x", from), fmt.Sprintf("--stop-address=%#x", to), name)
	cmd := exec.Command(args[0], args[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	type line struct {
		addr uint64
		text string
	}
	var prev line
	seen, wrong := 0, 0
	check := func(l line, end uint64) {
		// Tables within the code give what no assembler writes: a prefix without its
		// instruction. FWAIT is one of its own, though objdump joins it to the next.
		if l.text == "" || slices.ContainsFunc(strings.Fields(l.text), func(w string) bool { return far[w] }) || strings.Contains(l.text, "rex") || strings.HasPrefix(l.text, "f") && code[l.addr-text.Addr] == 0x9b || strings.Contains(l.text, "(bad)") || strings.Contains(l.text, ".inst") || strings.Contains(l.text, ".word") || strings.Contains(l.text, "undefined") || strings.HasPrefix(l.text, ".") {
			return
		}
		seen++
		at := l.addr - text.Addr
		got := disasm.Decode(arch, code[at:], l.addr)
		problem := ""
		if got.End() != end {
			problem = fmt.Sprintf("length %d, objdump %d", got.Len, end-l.addr)
		} else if kind, target, ok := objdumpKind(l.text); ok && (got.Kind != kind || target != 0 && got.Target != target) {
			problem = fmt.Sprintf("kind %d to %#x, objdump %d to %#x", got.Kind, got.Target, kind, target)
		} else if !ok && got.Kind != disasm.Next {
			problem = fmt.Sprintf("kind %d, objdump none", got.Kind)
		}
		if problem != "" {
			if wrong++; wrong <= 20 {
				t.Errorf("%#x % x %q: %s", l.addr, code[at:min(at+12, uint64(len(code)))], l.text, problem)
			}
		}
	}
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		a, rest, ok := strings.Cut(strings.TrimLeft(scan.Text(), " "), ":\t")
		addr, err := strconv.ParseUint(a, 16, 64)
		if !ok || err != nil {
			// A symbol: what is before it ends there, or before the padding.
			if strings.HasSuffix(scan.Text(), ">:") || strings.Contains(scan.Text(), "...") {
				prev = line{}
			}
			continue
		}
		if prev.text != "" {
			check(prev, addr)
		}
		prev = line{addr, strings.TrimSpace(rest)}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	if seen < 5000 {
		t.Errorf("objdump told of %d instructions only", seen)
	}
	t.Logf("%d instructions, %d differ", seen, wrong)
}

// far are far and 16-bit jumps, which are nowhere but in tables within the code.
var far = map[string]bool{"jmpw": true, "callw": true, "retw": true, "iretw": true, "lret": true, "lretw": true, "lretq": true, "lcall": true, "ljmp": true}

// objdumpKind is the kind of an instruction in objdump's words.
func objdumpKind(text string) (kind disasm.Kind, target uint64, ok bool) {
	f := strings.Fields(text)
	for len(f) > 1 && (f[0] == "bnd" || f[0] == "notrack" || f[0] == "data16" || f[0] == "addr32" || f[0] == "cs" || f[0] == "ds" || f[0] == "repz" || f[0] == "repnz" || f[0] == "lock" || f[0] == "fs" || f[0] == "gs" || f[0] == "es" || f[0] == "ss") {
		f = f[1:]
	}
	m, _, _ := strings.Cut(f[0], ",")
	operand := ""
	if len(f) > 1 {
		for _, w := range f[1:] {
			if strings.HasPrefix(w, "<") || w == "#" {
				break
			}
			operand = w
		}
		if i := strings.LastIndexByte(operand, ','); i >= 0 {
			operand = operand[i+1:]
		}
	}
	// The target is in hexadecimal; *%rax and the like are not.
	if v, err := strconv.ParseUint(strings.TrimPrefix(operand, "0x"), 16, 64); err == nil {
		target = v
	}
	switch {
	case m == "call", m == "callq", m == "bl", m == "blr", m == "blraaz":
		kind = disasm.Call
	case m == "jmp", m == "jmpq", m == "b", m == "br":
		kind = disasm.Jump
	case m == "ret", m == "retq", m == "retaa", m == "retab", m == "iretq", m == "iret":
		return disasm.Return, 0, true
	case m == "ud2", m == "hlt", m == "int3", m == "brk", m == "udf", m == "ud1", m == "ud0", m == "int1":
		return disasm.Stop, 0, true
	case m == "xbegin", m == "bic", m == "bfi", m == "bfxil", m == "bics", m == "bfm", m == "bsl", m == "bit", m == "bif", m == "bti", m == "bfc":
		return 0, 0, false
	case strings.HasPrefix(m, "j"), strings.HasPrefix(m, "b."), strings.HasPrefix(m, "loop"), m == "cbz", m == "cbnz", m == "tbz", m == "tbnz":
		kind = disasm.Branch
	default:
		return 0, 0, false
	}
	if m == "br" || m == "blr" {
		target = 0
	}
	return kind, target, true
}
