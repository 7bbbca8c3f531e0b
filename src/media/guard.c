/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard: loads from the mapping that survive SIGBUS (option media_guard).
 *
 * A load from poisoned media, or from a page behind the end of a file that was truncated, is a SIGBUS. The functions that load are written in assembly, so that the
 * addresses of their instructions are known: pc_guard_copy here, for any length, and the loads of kernel.c, for whole lines. The handler looks at two things: was the process at
 * an instruction of one of them, and does the address that could not be loaded lie in a mapping that is guarded? Then it lets the function go on at its error
 * return, and the signal is over: nothing is unwound, no mask changes, no state is kept for each thread, and a load that does not fault costs nothing but the copy. In every other case the disposition that was there before gets the signal, as if we were not there.
 *
 * The copy uses plain loads: a string instruction that meets poison in its middle cannot be recovered on every processor.
 *
 * Async-signal safety: the handler reads the list of ranges, which is only ever extended at its head, and calls sigaction, raise and pthread_sigmask only on the way to the
 * handler before us. Ranges are reused and never freed: there are as many as guarded caches were ever open at the same time.
 *
 * Stores are not guarded: a store cannot report an error to the code that thinks it is done.
 *
 * Lock: guard_lock, at open and close of a guarded cache only; nothing is locked inside of it.
 */
#include "media/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

#include "media/kernel.h"

/* ---- the copy ------------------------------------------------------------------------------------------------------- */

/* clang-format off */
#if defined(__x86_64__)
__asm__(
"	.pushsection .text\n"
"	.balign	64\n"
"	.globl	pc_guard_copy\n"
"	.hidden	pc_guard_copy\n"
"	.type	pc_guard_copy, @function\n"
"pc_guard_copy:\n" /* rdi: dst, rsi: src, rdx: len, ecx: wide, kept for the end */
"	.cfi_startproc\n"
"	testl	%ecx, %ecx\n"
"	jz	2f\n"
"	cmpq	$128, %rdx\n"
"	jb	2f\n"
"1:	vmovdqu	(%rsi), %ymm0\n"
"	vmovdqu	32(%rsi), %ymm1\n"
"	vmovdqu	64(%rsi), %ymm2\n"
"	vmovdqu	96(%rsi), %ymm3\n"
"	vmovdqu	%ymm0, (%rdi)\n"
"	vmovdqu	%ymm1, 32(%rdi)\n"
"	vmovdqu	%ymm2, 64(%rdi)\n"
"	vmovdqu	%ymm3, 96(%rdi)\n"
"	subq	$-128, %rsi\n"
"	subq	$-128, %rdi\n"
"	addq	$-128, %rdx\n"
"	cmpq	$128, %rdx\n"
"	jae	1b\n"
"	vzeroupper\n"
"2:	cmpq	$64, %rdx\n"
"	jb	4f\n"
"3:	movdqu	(%rsi), %xmm0\n"
"	movdqu	16(%rsi), %xmm1\n"
"	movdqu	32(%rsi), %xmm2\n"
"	movdqu	48(%rsi), %xmm3\n"
"	movdqu	%xmm0, (%rdi)\n"
"	movdqu	%xmm1, 16(%rdi)\n"
"	movdqu	%xmm2, 32(%rdi)\n"
"	movdqu	%xmm3, 48(%rdi)\n"
"	addq	$64, %rsi\n"
"	addq	$64, %rdi\n"
"	subq	$64, %rdx\n"
"	cmpq	$64, %rdx\n"
"	jae	3b\n"
"4:	testq	%rdx, %rdx\n"
"	jz	6f\n"
"5:	movb	(%rsi), %al\n"
"	movb	%al, (%rdi)\n"
"	incq	%rsi\n"
"	incq	%rdi\n"
"	decq	%rdx\n"
"	jnz	5b\n"
"6:	xorl	%eax, %eax\n"
"	ret\n"
"	.globl	pc_guard_fault\n"
"	.hidden	pc_guard_fault\n"
"pc_guard_fault:\n" /* also the end of what may fault */
"	testl	%ecx, %ecx\n"
"	jz	7f\n"
"	vzeroupper\n"
"7:	movl	$-5, %eax\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size	pc_guard_copy, . - pc_guard_copy\n"
"	.popsection\n");
#else /* arm64 */
__asm__(
"	.pushsection .text\n"
"	.balign	64\n"
"	.globl	pc_guard_copy\n"
"	.hidden	pc_guard_copy\n"
"	.type	pc_guard_copy, %function\n"
"pc_guard_copy:\n" /* x0: dst, x1: src, x2: len, w3 is not looked at */
"	.cfi_startproc\n"
"	cmp	x2, #64\n"
"	b.lo	2f\n"
"1:	ldp	x3, x4, [x1]\n"
"	ldp	x5, x6, [x1, #16]\n"
"	ldp	x7, x8, [x1, #32]\n"
"	ldp	x9, x10, [x1, #48]\n"
"	stp	x3, x4, [x0]\n"
"	stp	x5, x6, [x0, #16]\n"
"	stp	x7, x8, [x0, #32]\n"
"	stp	x9, x10, [x0, #48]\n"
"	add	x1, x1, #64\n"
"	add	x0, x0, #64\n"
"	sub	x2, x2, #64\n"
"	cmp	x2, #64\n"
"	b.hs	1b\n"
"2:	cbz	x2, 4f\n"
"3:	ldrb	w3, [x1], #1\n"
"	strb	w3, [x0], #1\n"
"	subs	x2, x2, #1\n"
"	b.ne	3b\n"
"4:	mov	w0, #0\n"
"	ret\n"
"	.globl	pc_guard_fault\n"
"	.hidden	pc_guard_fault\n"
"pc_guard_fault:\n" /* also the end of what may fault */
"	mov	w0, #-5\n"
"	ret\n"
"	.cfi_endproc\n"
"	.size	pc_guard_copy, . - pc_guard_copy\n"
"	.popsection\n");
#endif
/* clang-format on */

_Static_assert(EIO == 5, "the assembly returns -EIO as a number");

extern const uint8_t pc_guard_fault[];

int pc_guard_load(void *dst, const void *src, size_t len)
{
#if defined(__x86_64__)
	return pc_guard_copy(dst, src, len, __builtin_cpu_supports("avx2") != 0);
#else
	return pc_guard_copy(dst, src, len, 0);
#endif
}

/* ---- the handler ---------------------------------------------------------------------------------------------------- */

/* end_addr 0: not in use. */
struct pc_guard_range {
	struct pc_guard_range *next; /* constant */
	_Atomic uintptr_t begin_addr;
	_Atomic uintptr_t end_addr;
};

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct pc_guard_range *) ranges;
static uint32_t range_nr; /* in use; under guard_lock */
static bool installed; /* ours may be called, if only by a handler that was put on top of it; under guard_lock */
static struct sigaction before; /* constant while installed */
static _Atomic bool before_is_spent; /* it had SA_RESETHAND, and was called */

static uintptr_t instruction_of(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
	return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static void continue_at(ucontext_t *context, uintptr_t at)
{
#if defined(__x86_64__)
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)at;
#else
	context->uc_mcontext.pc = at;
#endif
}

/* Where a load goes on whose instruction faulted; 0: it is none of ours. */
static uintptr_t fault_of(uintptr_t at)
{
	if (at >= (uintptr_t)pc_guard_copy && at < (uintptr_t)pc_guard_fault)
		return (uintptr_t)pc_guard_fault;
	return pc_kernel_fault_of(at);
}

/* A load or store of this thread, now; not a signal that somebody sent, nor the kernel's news of poison that nobody has touched yet. */
static bool is_fault(const siginfo_t *info)
{
	return info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
}

/* Whether the address lies in a guarded mapping. For poison the kernel may say where it begins, with its size. */
static bool is_guarded(const siginfo_t *info)
{
	uintptr_t addr = (uintptr_t)info->si_addr, len = 1;

	if (info->si_code == BUS_MCEERR_AR && info->si_addr_lsb > 0 && info->si_addr_lsb < 48) {
		len = (uintptr_t)1 << info->si_addr_lsb;
		addr &= ~(len - 1);
	}
	for (struct pc_guard_range *range = atomic_load_explicit(&ranges, memory_order_acquire); range;
	     range = range->next) {
		uintptr_t end_addr = atomic_load_explicit(&range->end_addr, memory_order_acquire);

		if (addr < end_addr && addr + len > atomic_load_explicit(&range->begin_addr, memory_order_relaxed))
			return true;
	}
	return false;
}

/* The signals that are blocked while the handler before us runs, as the kernel would have it. */
static void block_for_handler(int sig, const ucontext_t *context)
{
	sigset_t blocked = context->uc_sigmask;

	for (int other = 1; other < NSIG; other++) {
		if (sigismember(&before.sa_mask, other) == 1)
			(void)sigaddset(&blocked, other);
	}
	if (!(before.sa_flags & SA_NODEFER))
		(void)sigaddset(&blocked, sig);
	(void)pthread_sigmask(SIG_SETMASK, &blocked, NULL);
}

/* The default action. A fault comes again when the handler has returned, at the same instruction, and ends the process there. */
static void end_process(int sig, const siginfo_t *info)
{
	struct sigaction by_default = { .sa_handler = SIG_DFL };

	(void)sigaction(sig, &by_default, NULL);
	if (!is_fault(info))
		(void)raise(sig);
}

static void call_before(int sig, siginfo_t *info, void *context)
{
	bool spent = (before.sa_flags & (int)SA_RESETHAND) && atomic_exchange(&before_is_spent, true);

	if ((before.sa_flags & SA_SIGINFO) && !spent) {
		block_for_handler(sig, context);
		before.sa_sigaction(sig, info, context);
	} else if (spent || before.sa_handler == SIG_DFL || (before.sa_handler == SIG_IGN && is_fault(info))) {
		end_process(sig, info);
	} else if (before.sa_handler != SIG_IGN) {
		block_for_handler(sig, context);
		before.sa_handler(sig);
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t go_on = fault_of(instruction_of(context));
	int saved_errno = errno;

	if (is_fault(info) && go_on && is_guarded(info))
		continue_at(context, go_on);
	else
		call_before(sig, info, context);
	errno = saved_errno;
}

/* ---- life ----------------------------------------------------------------------------------------------------------- */

static bool is_ours(const struct sigaction *action)
{
	return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigbus;
}

static bool is_function(const struct sigaction *action)
{
	return (action->sa_flags & SA_SIGINFO) || (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

/*
 * Another handler that lies on top of ours is left there: it calls ours, as every handler of a process that has several must, and to install ours once more on top of it
 * would make a circle.
 */
static int install_locked(void)
{
	struct sigaction ours = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct sigaction now;

	if (sigaction(SIGBUS, NULL, &now) != 0)
		return -errno;
	if (installed && (is_ours(&now) || is_function(&now)))
		return 0;
	/* Before ours can be called. */
	before = now;
	atomic_store(&before_is_spent, false);
	(void)sigemptyset(&ours.sa_mask);
	if (sigaction(SIGBUS, &ours, NULL) != 0)
		return -errno;
	installed = true;
	return 0;
}

static void uninstall_locked(void)
{
	struct sigaction now;

	if (sigaction(SIGBUS, NULL, &now) != 0 || !is_ours(&now))
		return;
	if (before_is_spent)
		before = (struct sigaction){ .sa_handler = SIG_DFL };
	installed = sigaction(SIGBUS, &before, NULL) != 0;
}

/* One that is not in use, or a new one. */
static struct pc_guard_range *take_range_locked(void)
{
	struct pc_guard_range *range = atomic_load_explicit(&ranges, memory_order_relaxed);

	while (range && atomic_load_explicit(&range->end_addr, memory_order_relaxed) != 0)
		range = range->next;
	if (range)
		return range;
	range = calloc(1, sizeof(*range));
	if (range) {
		range->next = atomic_load_explicit(&ranges, memory_order_relaxed);
		atomic_store_explicit(&ranges, range, memory_order_release);
	}
	return range;
}

int pc_guard_add(const void *base, uint64_t len, struct pc_guard_range **out_range)
{
	struct pc_guard_range *range;
	int rc;

	(void)pthread_mutex_lock(&guard_lock);
	range = take_range_locked();
	rc = range ? install_locked() : -ENOMEM;
	if (!rc) {
		/* Order: who sees the end sees the beginning. */
		atomic_store_explicit(&range->begin_addr, (uintptr_t)base, memory_order_relaxed);
		atomic_store_explicit(&range->end_addr, (uintptr_t)base + len, memory_order_release);
		range_nr++;
		*out_range = range;
	}
	(void)pthread_mutex_unlock(&guard_lock);
	return rc;
}

void pc_guard_remove(struct pc_guard_range *range)
{
	if (!range)
		return;
	(void)pthread_mutex_lock(&guard_lock);
	atomic_store_explicit(&range->end_addr, 0, memory_order_release);
	if (--range_nr == 0)
		uninstall_locked();
	(void)pthread_mutex_unlock(&guard_lock);
}
