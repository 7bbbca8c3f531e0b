/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kernels: the copies between caller and media, each line loaded once into registers, stored from there, and its CRC32C taken from there.
 *
 * So the CRC is that of the bytes that were stored, whatever happens to the caller's buffer meanwhile, without a buffer in between. And it costs next to nothing: the
 * multiplications run while the memory is waited for.
 *
 * The CRC is folded: an accumulator of one line stands for everything before it, modulo the polynomial. To move it on by d bits, the low half of each 128 is multiplied by
 * x^(d+32) mod P, the high half by x^(d-32) mod P (both bit-reflected, shifted by one), without carries. Four accumulators of a line each hide the latency of the
 * multiplication. In the end all are folded into 128 bits, and the CRC instruction takes these as it would take 16 bytes of data.
 *
 * In assembly, for two reasons: the guard (guard.c) must know which instructions may load from media and that nothing is on the stack there, and no compiler may load
 * a line twice, as it may in C. The wide kind uses registers 16 to 31 only, which need no vzeroupper. Stores to media are not in the table of the guard: they have an own copy
 * of the code.
 *
 * Other processors than x86-64 with carry-less multiplication have no kernel: copy.c then goes piece by piece through a local buffer.
 */
#include "media/kernel.h"

#if defined(__x86_64__)

/*
 * Register use: rdi dst, rsi src, rdx lines left, rcx the CRC register in memory. nt: non-temporal. crc: with the CRC. Labels: 1 loop of four lines, 2 four
 * accumulators become one, 3 fewer than four lines, 4 loop of single lines, 5 the end.
 */
/* clang-format off */
__asm__(
"	.pushsection .rodata\n"
"	.balign	64\n"
"pc_kernel_k2048:\n" /* multipliers for the low and the high half; see above */
"	.quad	0xdcb17aa4, 0xb9e02b86\n"
"pc_kernel_k1536:\n"
"	.quad	0xa87ab8a8, 0xab7aff2a\n"
"pc_kernel_k1024:\n"
"	.quad	0x6992cea2, 0x0d3b6092\n"
"pc_kernel_k512:\n"
"	.quad	0x740eef02, 0x9e4addf8\n"
"pc_kernel_klanes:\n" /* 384, 256, 128 bits; the last lane stays as it is */
"	.quad	0x1c291d04, 0x1d82c63da\n"
"	.quad	0x1384aa63a, 0xba4fc28e\n"
"	.quad	0xf20c0dfe, 0x14cd00bd6\n"
"	.quad	0, 0\n"
"	.popsection\n"

"	.macro	PC_BEGIN name\n"
"	.pushsection .text\n"
"	.balign	64\n"
"	.globl	\\name\n"
"	.hidden	\\name\n"
"	.type	\\name, @function\n"
"\\name:\n"
"	.cfi_startproc\n"
"	.endm\n"

/* The end of what may fault, and where a fault goes on. */
"	.macro	PC_END name\n"
"	.globl	\\name\\()_fault\n"
"	.hidden	\\name\\()_fault\n"
"\\name\\()_fault:\n"
"	movl	$-5, %eax\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size	\\name, . - \\name\n"
"	.popsection\n"
"	.endm\n"

/* ---- 64-byte registers: AVX-512 and VPCLMULQDQ ---- */

"	.macro	PC_LINE_WIDE nt, off, reg\n"
"	vmovdqu64 \\off(%rsi), \\reg\n"
"	.if \\nt\n"
"	vmovntdq \\reg, \\off(%rdi)\n"
"	.else\n"
"	vmovdqu64 \\reg, \\off(%rdi)\n"
"	.endif\n"
"	.endm\n"

/* acc: moved on by the distance of k, and the line in data added. tmp is lost. */
"	.macro	PC_FOLD_WIDE acc, data, k, tmp\n"
"	vpclmulqdq $0x00, \\k, \\acc, \\tmp\n"
"	vpclmulqdq $0x11, \\k, \\acc, \\acc\n"
"	vpternlogq $0x96, \\tmp, \\data, \\acc\n"
"	.endm\n"

"	.macro	PC_WIDE name, nt, crc\n"
"	PC_BEGIN \\name\n"
"	testq	%rdx, %rdx\n"
"	jz	6f\n"
"	.if \\crc\n"
"	vmovd	(%rcx), %xmm30\n"
"	vbroadcasti32x4 pc_kernel_k512(%rip), %zmm31\n"
"	.endif\n"
"	cmpq	$4, %rdx\n"
"	jb	3f\n"
"	PC_LINE_WIDE \\nt, 0, %zmm16\n"
"	PC_LINE_WIDE \\nt, 64, %zmm17\n"
"	PC_LINE_WIDE \\nt, 128, %zmm18\n"
"	PC_LINE_WIDE \\nt, 192, %zmm19\n"
"	.if \\crc\n"
"	vpxorq	%zmm30, %zmm16, %zmm16\n"
"	vbroadcasti32x4 pc_kernel_k2048(%rip), %zmm30\n"
"	.endif\n"
"	subq	$-256, %rsi\n"
"	subq	$-256, %rdi\n"
"	subq	$4, %rdx\n"
"	cmpq	$4, %rdx\n"
"	jb	2f\n"
"	.balign	32\n"
"1:	PC_LINE_WIDE \\nt, 0, %zmm20\n"
"	PC_LINE_WIDE \\nt, 64, %zmm21\n"
"	PC_LINE_WIDE \\nt, 128, %zmm22\n"
"	PC_LINE_WIDE \\nt, 192, %zmm23\n"
"	.if \\crc\n"
"	PC_FOLD_WIDE %zmm16, %zmm20, %zmm30, %zmm24\n"
"	PC_FOLD_WIDE %zmm17, %zmm21, %zmm30, %zmm25\n"
"	PC_FOLD_WIDE %zmm18, %zmm22, %zmm30, %zmm26\n"
"	PC_FOLD_WIDE %zmm19, %zmm23, %zmm30, %zmm27\n"
"	.endif\n"
"	subq	$-256, %rsi\n"
"	subq	$-256, %rdi\n"
"	subq	$4, %rdx\n"
"	cmpq	$4, %rdx\n"
"	jae	1b\n"
"2:\n"
"	.if \\crc\n"
"	vbroadcasti32x4 pc_kernel_k1536(%rip), %zmm30\n"
"	vbroadcasti32x4 pc_kernel_k1024(%rip), %zmm29\n"
"	PC_FOLD_WIDE %zmm18, %zmm19, %zmm31, %zmm24\n"
"	PC_FOLD_WIDE %zmm17, %zmm18, %zmm29, %zmm25\n"
"	PC_FOLD_WIDE %zmm16, %zmm17, %zmm30, %zmm26\n"
"	.endif\n"
"	testq	%rdx, %rdx\n"
"	jnz	4f\n"
"	jmp	5f\n"
"3:	PC_LINE_WIDE \\nt, 0, %zmm16\n"
"	.if \\crc\n"
"	vpxorq	%zmm30, %zmm16, %zmm16\n"
"	.endif\n"
"	jmp	7f\n"
"4:	PC_LINE_WIDE \\nt, 0, %zmm20\n"
"	.if \\crc\n"
"	PC_FOLD_WIDE %zmm16, %zmm20, %zmm31, %zmm24\n"
"	.endif\n"
"7:	addq	$64, %rsi\n"
"	addq	$64, %rdi\n"
"	decq	%rdx\n"
"	jnz	4b\n"
"5:\n"
"	.if \\crc\n"
"	vmovdqu64 pc_kernel_klanes(%rip), %zmm30\n"
"	vextracti32x4 $3, %zmm16, %xmm20\n"
"	vpclmulqdq $0x00, %zmm30, %zmm16, %zmm24\n"
"	vpclmulqdq $0x11, %zmm30, %zmm16, %zmm16\n"
"	vpxorq	%zmm24, %zmm16, %zmm16\n"
"	vextracti64x4 $1, %zmm16, %ymm24\n" /* its upper lane is zero */
"	vextracti32x4 $1, %ymm16, %xmm25\n"
"	vpternlogq $0x96, %xmm24, %xmm25, %xmm16\n"
"	vpxorq	%xmm20, %xmm16, %xmm16\n"
"	vmovq	%xmm16, %rax\n"
"	vpextrq	$1, %xmm16, %r8\n"
"	xorl	%r9d, %r9d\n"
"	crc32q	%rax, %r9\n"
"	crc32q	%r8, %r9\n"
"	movl	%r9d, (%rcx)\n"
"	.endif\n"
"6:	xorl	%eax, %eax\n"
"	ret\n"
"	PC_END \\name\n"
"	.endm\n"

/* ---- 16-byte registers: SSE4.2 and PCLMULQDQ ---- */

"	.macro	PC_LINE_NARROW nt, a, b, c, d\n"
"	movdqu	(%rsi), \\a\n"
"	movdqu	16(%rsi), \\b\n"
"	movdqu	32(%rsi), \\c\n"
"	movdqu	48(%rsi), \\d\n"
"	.if \\nt\n"
"	movntdq	\\a, (%rdi)\n"
"	movntdq	\\b, 16(%rdi)\n"
"	movntdq	\\c, 32(%rdi)\n"
"	movntdq	\\d, 48(%rdi)\n"
"	.else\n"
"	movdqu	\\a, (%rdi)\n"
"	movdqu	\\b, 16(%rdi)\n"
"	movdqu	\\c, 32(%rdi)\n"
"	movdqu	\\d, 48(%rdi)\n"
"	.endif\n"
"	.endm\n"

"	.macro	PC_FOLD_NARROW acc, data, k, tmp\n"
"	movdqa	\\acc, \\tmp\n"
"	pclmulqdq $0x00, \\k, \\tmp\n"
"	pclmulqdq $0x11, \\k, \\acc\n"
"	pxor	\\data, \\acc\n"
"	pxor	\\tmp, \\acc\n"
"	.endm\n"

"	.macro	PC_NARROW name, nt, crc\n"
"	PC_BEGIN \\name\n"
"	testq	%rdx, %rdx\n"
"	jz	6f\n"
"	.if \\crc\n"
"	movd	(%rcx), %xmm8\n"
"	movdqa	pc_kernel_k512(%rip), %xmm9\n"
"	PC_LINE_NARROW \\nt, %xmm0, %xmm1, %xmm2, %xmm3\n"
"	pxor	%xmm8, %xmm0\n"
"	jmp	2f\n"
"	.endif\n"
"	.balign	32\n"
"1:	PC_LINE_NARROW \\nt, %xmm4, %xmm5, %xmm6, %xmm7\n"
"	.if \\crc\n"
"	PC_FOLD_NARROW %xmm0, %xmm4, %xmm9, %xmm10\n"
"	PC_FOLD_NARROW %xmm1, %xmm5, %xmm9, %xmm11\n"
"	PC_FOLD_NARROW %xmm2, %xmm6, %xmm9, %xmm12\n"
"	PC_FOLD_NARROW %xmm3, %xmm7, %xmm9, %xmm13\n"
"	.endif\n"
"2:	addq	$64, %rsi\n"
"	addq	$64, %rdi\n"
"	decq	%rdx\n"
"	jnz	1b\n"
"	.if \\crc\n"
"	movdqa	pc_kernel_klanes(%rip), %xmm9\n"
"	PC_FOLD_NARROW %xmm0, %xmm3, %xmm9, %xmm10\n"
"	movdqa	16+pc_kernel_klanes(%rip), %xmm9\n"
"	PC_FOLD_NARROW %xmm1, %xmm0, %xmm9, %xmm10\n"
"	movdqa	32+pc_kernel_klanes(%rip), %xmm9\n"
"	PC_FOLD_NARROW %xmm2, %xmm1, %xmm9, %xmm10\n"
"	movq	%xmm2, %rax\n"
"	pextrq	$1, %xmm2, %r8\n"
"	xorl	%r9d, %r9d\n"
"	crc32q	%rax, %r9\n"
"	crc32q	%r8, %r9\n"
"	movl	%r9d, (%rcx)\n"
"	.endif\n"
"6:	xorl	%eax, %eax\n"
"	ret\n"
"	PC_END \\name\n"
"	.endm\n"

"	PC_WIDE pc_kernel_wide_store, 1, 0\n"
"	PC_WIDE pc_kernel_wide_store_crc, 1, 1\n"
"	PC_WIDE pc_kernel_wide_load, 0, 0\n"
"	PC_WIDE pc_kernel_wide_load_crc, 0, 1\n"
"	PC_NARROW pc_kernel_narrow_store, 1, 0\n"
"	PC_NARROW pc_kernel_narrow_store_crc, 1, 1\n"
"	PC_NARROW pc_kernel_narrow_load, 0, 0\n"
"	PC_NARROW pc_kernel_narrow_load_crc, 0, 1\n");
/* clang-format on */

#define FOUR_ROUTINES(kind) \
	void pc_kernel_##kind##_store(void *dst, const void *src, size_t line_nr); \
	void pc_kernel_##kind##_store_crc(void *dst, const void *src, size_t line_nr, uint32_t *reg); \
	int pc_kernel_##kind##_load(void *dst, const void *src, size_t line_nr); \
	int pc_kernel_##kind##_load_crc(void *dst, const void *src, size_t line_nr, uint32_t *reg); \
	extern const uint8_t pc_kernel_##kind##_load_fault[], pc_kernel_##kind##_load_crc_fault[]; \
	static const struct pc_kernel kind = { #kind, pc_kernel_##kind##_store, pc_kernel_##kind##_store_crc, \
					       pc_kernel_##kind##_load, pc_kernel_##kind##_load_crc }

FOUR_ROUTINES(wide);
FOUR_ROUTINES(narrow);

static bool can_wide(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("vpclmulqdq") &&
	       __builtin_cpu_supports("sse4.2");
}

static bool can_narrow(void)
{
	return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

static const struct {
	const struct pc_kernel *kernel;
	bool (*is_usable)(void);
} kinds[] = { { &wide, can_wide }, { &narrow, can_narrow } };

const struct pc_kernel *pc_kernel_get(size_t idx, bool *out_usable)
{
	if (idx >= PC_ARRAY_NR(kinds))
		return NULL;
	*out_usable = kinds[idx].is_usable();
	return kinds[idx].kernel;
}

static bool is_within(uintptr_t at, uintptr_t begin, const uint8_t *end)
{
	return at >= begin && at < (uintptr_t)end;
}

/* clang-format off */
#define GO_ON(at, routine) \
	if (is_within(at, (uintptr_t)routine, routine##_fault)) \
		return (uintptr_t)routine##_fault
/* clang-format on */

uintptr_t pc_kernel_fault_of(uintptr_t at)
{
	GO_ON(at, pc_kernel_wide_load);
	GO_ON(at, pc_kernel_wide_load_crc);
	GO_ON(at, pc_kernel_narrow_load);
	GO_ON(at, pc_kernel_narrow_load_crc);
	return 0;
}

#else

const struct pc_kernel *pc_kernel_get(size_t idx, bool *out_usable)
{
	(void)idx;
	(void)out_usable;
	return NULL;
}

uintptr_t pc_kernel_fault_of(uintptr_t at)
{
	(void)at;
	return 0;
}

#endif

const struct pc_kernel *pc_kernel_best(void)
{
	const struct pc_kernel *kernel;
	bool usable;

	for (size_t i = 0; (kernel = pc_kernel_get(i, &usable)) != NULL; i++) {
		if (usable)
			return kernel;
	}
	return NULL;
}
