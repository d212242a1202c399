#include "textflag.h"

// Constants of skipAVX2, see match.go for what they mean.
DATA ·highOnes<>+0(SB)/8, $0x0000000100000000
GLOBL ·highOnes<>(SB), RODATA|NOPTR, $8
DATA ·wordMasks<>+0(SB)/8, $0xffff0000ffc00000
GLOBL ·wordMasks<>(SB), RODATA|NOPTR, $8
DATA ·magicMasks<>+0(SB)/8, $0x00000000ffff0000
GLOBL ·magicMasks<>(SB), RODATA|NOPTR, $8
DATA ·magics<>+0(SB)/8, $0x00000000fbad0000
GLOBL ·magics<>(SB), RODATA|NOPTR, $8
DATA ·ceilings<>+0(SB)/8, $0x0007ffff0007ffff
GLOBL ·ceilings<>(SB), RODATA|NOPTR, $8
DATA ·owners<>+0(SB)/8, $0x3fffffff3fffffff
GLOBL ·owners<>(SB), RODATA|NOPTR, $8

DATA ·ones<>+0(SB)/8, $0x0000000100000001
DATA ·ones<>+8(SB)/8, $0x0000000100000001
DATA ·ones<>+16(SB)/8, $0x0000000100000001
DATA ·ones<>+24(SB)/8, $0x0000000100000001
GLOBL ·ones<>(SB), RODATA|NOPTR, $32
DATA ·twos<>+0(SB)/8, $0x0000000200000002
DATA ·twos<>+8(SB)/8, $0x0000000200000002
DATA ·twos<>+16(SB)/8, $0x0000000200000002
DATA ·twos<>+24(SB)/8, $0x0000000200000002
GLOBL ·twos<>(SB), RODATA|NOPTR, $32
DATA ·threes<>+0(SB)/8, $0x0000000300000003
DATA ·threes<>+8(SB)/8, $0x0000000300000003
DATA ·threes<>+16(SB)/8, $0x0000000300000003
DATA ·threes<>+24(SB)/8, $0x0000000300000003
GLOBL ·threes<>(SB), RODATA|NOPTR, $32
DATA ·lows<>+0(SB)/8, $0x00000000ffffffff
DATA ·lows<>+8(SB)/8, $0x00000000ffffffff
DATA ·lows<>+16(SB)/8, $0x00000000ffffffff
DATA ·lows<>+24(SB)/8, $0x00000000ffffffff
GLOBL ·lows<>(SB), RODATA|NOPTR, $32
DATA ·evens<>+0(SB)/8, $0xffffffffffffffff
DATA ·evens<>+8(SB)/8, $0
DATA ·evens<>+16(SB)/8, $0xffffffffffffffff
DATA ·evens<>+24(SB)/8, $0
GLOBL ·evens<>(SB), RODATA|NOPTR, $32

// NEAR sets what Y7 has of four words that can be the second of a lock or the
// first of a stream.
#define NEAR(offset) \
	VMOVDQU offset(SI)(AX*1), Y0 \
	VPSUBQ Y15, Y0, Y4 \
	VPAND Y14, Y4, Y4 \
	VPCMPEQQ Y13, Y4, Y4 \
	VPAND Y12, Y0, Y8 \
	VPCMPEQQ Y11, Y8, Y8 \
	VPOR Y4, Y7, Y7 \
	VPOR Y8, Y7, Y7

// func skipAVX2(p *byte, n int) int
TEXT ·skipAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	XORQ AX, AX
	VPBROADCASTQ ·highOnes<>(SB), Y15
	VPBROADCASTQ ·wordMasks<>(SB), Y14
	VPXOR Y13, Y13, Y13
	VPBROADCASTQ ·magicMasks<>(SB), Y12
	VPBROADCASTQ ·magics<>(SB), Y11
	VPBROADCASTQ ·ceilings<>(SB), Y10
	VPBROADCASTQ ·owners<>(SB), Y9

far:
	LEAQ 128(AX), DX
	CMPQ DX, CX
	JA rest
	VPXOR Y7, Y7, Y7
	NEAR(0)
	NEAR(32)
	NEAR(64)
	NEAR(96)
	VPTEST Y7, Y7
	JNZ close
	MOVQ DX, AX
	JMP far

rest:
	MOVQ CX, DX
	CMPQ AX, DX
	JAE done

close:
	// Y4: words that can be the second of a lock. Y6: those whose word before
	// can be the first of a held one, told by the low halves.
	VMOVDQU (SI)(AX*1), Y0
	VMOVDQU -8(SI)(AX*1), Y1
	VPSUBQ Y15, Y0, Y4
	VPAND Y14, Y4, Y4
	VPCMPEQQ Y13, Y4, Y4
	VPAND Y10, Y1, Y5
	VPCMPEQD ·ones<>(SB), Y5, Y6
	VPCMPEQD ·twos<>(SB), Y5, Y7
	VPOR Y7, Y6, Y6
	VPAND Y9, Y1, Y5
	VPCMPEQD Y0, Y5, Y7
	VPCMPEQD Y13, Y0, Y5
	VPANDN Y7, Y5, Y7
	VPOR Y7, Y6, Y6
	VPAND ·threes<>(SB), Y1, Y5
	VPCMPEQD ·threes<>(SB), Y5, Y5
	VPMINUD ·threes<>(SB), Y0, Y7
	VPCMPEQD Y0, Y7, Y7
	VPAND Y5, Y7, Y7
	VPOR Y7, Y6, Y6
	VPAND ·lows<>(SB), Y6, Y6
	VPAND Y4, Y6, Y6
	VPAND Y12, Y0, Y8
	VPCMPEQQ Y11, Y8, Y8
	VPAND ·evens<>(SB), Y8, Y8
	VPOR Y8, Y6, Y6
	VPTEST Y6, Y6
	JNZ done
	ADDQ $32, AX
	CMPQ AX, DX
	JB close
	JMP far

done:
	VZEROUPPER
	MOVQ AX, ret+16(FP)
	RET
