// SPDX-License-Identifier: GPL-2.0
/*
 * The call chain of a guest, for a sample that perf takes while the guest runs.
 *
 * The walk follows frame pointers. Where a kernel with frame pointers was entered, it
 * goes on with the registers that the entry code has saved, as Linux saves them: in the
 * interrupted kernel code, or in user space.
 *
 * The guest chooses all values on its stacks, so a frame must be credible: on the stack
 * in use, above the frame before and not far from it. The first frame that is not
 * credible ends the chain.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/sizes.h>
#include <asm/ptrace.h>
#include <asm/segment.h>

#include "kvm_cache_regs.h"
#include "mmu/guest_peek.h"
#include "x86.h"

/*
 * The longest credible frame. A kernel's frame is within its stack, and no kernel's
 * stack is larger; a frame of user space may have arrays in it.
 */
#define MAX_KERNEL_FRAME	SZ_32K
#define MAX_USER_FRAME		SZ_1M

/*
 * How many pages of guest memory to look up for a sample, page tables included. The stacks
 * and the code of a program in the kernel are some 20. To look one up costs like one or two
 * frames in a page that is known: a guest that puts each of its frames into another page
 * shall not make the host's samples cost more by an order.
 */
#define MAX_LOOKUPS		80

/*
 * How many times a chain may leave a kernel stack or go through an interrupt in the
 * kernel. After that, a frame may be below the frame before. Linux nests an NMI, an
 * interrupt, softirqs and some exceptions.
 */
#define MAX_KERNEL_SWITCHES	8

/* How many frames of the kernel to walk if they are not wanted, only user space. */
#define MAX_HIDDEN_FRAMES	PERF_MAX_STACK_DEPTH

/* In 32-bit kernels: the selectors of the kernel's code and of user space's. */
#define KERNEL32_CS		0x60
#define KERNEL32_USER_CS	0x73

/* The alignment of the kernel's stacks, and what Linux leaves free at their top. */
#define STACK_ALIGN		SZ_4K
#define MAX_STACK_PADDING	16

struct pt_regs32 {
	u32 bx, cx, dx, si, di, bp, ax;
	u32 ds, es, fs, gs;
	u32 orig_ax;
	u32 ip, cs, flags, sp, ss;
};

/* What the walk needs of the pt_regs of either kind of kernel. */
struct saved_regs {
	unsigned long bp;
	unsigned long ip;
	u16 cs;
	unsigned long flags;
	unsigned long sp;
};

struct guest_unwind {
	struct kvm_guest_peek *peek;
	struct perf_callchain_entry_ctx *entry;
	bool wants_kernel;
	bool wants_user;
	unsigned int hidden_left;
	unsigned int switches_left;

	bool is_user;
	bool is_64bit;
	bool has_frame;		/* sp is the end of a frame, not the stack pointer */
	unsigned int size;	/* of a frame: two words */
	unsigned long max_frame;
	unsigned long last;	/* where the last possible frame is */
	unsigned long sp;	/* the next frame is here or above */
	unsigned long fp;	/* its address, by the frame before */
	unsigned int half_shift;
	long half;		/* the address space's half that has the code */
	unsigned long cs_base;
	unsigned long ss_base;
};

static unsigned long guest_segment_base(struct kvm_vcpu *vcpu, int seg)
{
	return kvm_x86_call(get_segment_base)(vcpu, seg);
}

static void unwind_set_mode(struct guest_unwind *unwind, bool user, bool is_64bit)
{
	unwind->is_user = user;
	unwind->max_frame = user ? MAX_USER_FRAME : MAX_KERNEL_FRAME;
	unwind->has_frame = false;
	unwind->is_64bit = is_64bit;
	if (is_64bit) {
		unwind->size = 2 * sizeof(u64);
		unwind->last = U64_MAX - unwind->size + 1;
		unwind->half_shift = unwind->peek->va_bits - 1;
	} else {
		unwind->size = 2 * sizeof(u32);
		unwind->last = U32_MAX - unwind->size + 1;
		/* to 32-bit code all addresses are in the same half */
		unwind->half_shift = 32;
	}
}

static bool unwind_init(struct guest_unwind *unwind, struct kvm_vcpu *vcpu, bool user)
{
	int cs_db, cs_l;
	bool is_64bit;

	/* 16-bit code has frames of its own kind */
	kvm_x86_call(get_cs_db_l_bits)(vcpu, &cs_db, &cs_l);
	is_64bit = is_long_mode(vcpu) && cs_l;
	if ((!is_64bit && !cs_db) ||
	    (kvm_x86_call(get_rflags)(vcpu) & X86_EFLAGS_VM))
		return false;

	unwind_set_mode(unwind, user, is_64bit);
	unwind->sp = kvm_rsp_read(vcpu);
	unwind->fp = kvm_rbp_read(vcpu);
	if (is_64bit) {
		unwind->half = (long)kvm_rip_read(vcpu) >> unwind->half_shift;
		return true;
	}

	unwind->cs_base = guest_segment_base(vcpu, VCPU_SREG_CS);
	unwind->ss_base = guest_segment_base(vcpu, VCPU_SREG_SS);
	unwind->sp = (u32)(unwind->sp + unwind->ss_base);
	unwind->fp = (u32)(unwind->fp + unwind->ss_base);
	return true;
}

/* What is below the stack pointer counts as far above it. */
static bool is_credible_address(struct guest_unwind *unwind, unsigned long address)
{
	return IS_ALIGNED(address, unwind->size / 2) &&
	       address - unwind->sp <= unwind->max_frame &&
	       address <= unwind->last;
}

/* Code of either mode stays in its, canonical, half of the address space. */
static bool is_credible_ip(struct guest_unwind *unwind, unsigned long ip)
{
	return ip && (long)ip >> unwind->half_shift == unwind->half;
}

/* Frames of a kernel that are not wanted are on the way to user space. */
static __always_inline bool unwind_store(struct guest_unwind *unwind, unsigned long ip)
{
	if (!is_credible_ip(unwind, ip))
		return false;

	if (unwind->is_user || unwind->wants_kernel)
		return !perf_callchain_store(unwind->entry, ip);
	return unwind->hidden_left--;
}

static __always_inline bool unwind_frame(struct guest_unwind *unwind)
{
	unsigned long ip;
	union {
		u64 words64[2];
		u32 words32[2];
	} frame __uninitialized;

	if (!kvm_guest_peek(unwind->peek, unwind->fp, &frame, unwind->size))
		return false;

	unwind->sp = unwind->fp + unwind->size;
	unwind->has_frame = true;
	if (unwind->is_64bit) {
		unwind->fp = frame.words64[0];
		ip = frame.words64[1];
	} else {
		unwind->fp = (u32)(frame.words32[0] + unwind->ss_base);
		ip = (u32)(frame.words32[1] + unwind->cs_base);
	}
	return kvm_guest_peek_is_text(unwind->peek, ip) && unwind_store(unwind, ip);
}

/*
 * The entry code of a kernel with frame pointers puts the address of pt_regs into the
 * frame pointer, as an impossible one: odd in 64-bit kernels, in the lower half of the
 * address space in 32-bit kernels (ENCODE_FRAME_POINTER).
 */
static unsigned long decode_frame_pointer(struct guest_unwind *unwind)
{
	if (unwind->is_64bit)
		return unwind->fp & 1 ? unwind->fp - 1 : unwind->fp;
	return unwind->fp | BIT(31);
}

static bool read_regs64(struct guest_unwind *unwind, unsigned long at,
			struct saved_regs *regs)
{
	u64 bp, words[4];

	if (!kvm_guest_peek(unwind->peek, at + offsetof(struct pt_regs, bp),
			    &bp, sizeof(bp)) ||
	    !kvm_guest_peek(unwind->peek, at + offsetof(struct pt_regs, ip),
			    words, sizeof(words)))
		return false;

	*regs = (struct saved_regs) {
		.bp = bp, .ip = words[0], .cs = words[1], .flags = words[2], .sp = words[3],
	};
	return true;
}

static bool read_regs32(struct guest_unwind *unwind, unsigned long at,
			struct saved_regs *regs)
{
	struct pt_regs32 regs32;

	/* an interrupt in the kernel may have left no SP and SS */
	if (!kvm_guest_peek(unwind->peek, at, &regs32, offsetof(struct pt_regs32, sp)))
		return false;

	*regs = (struct saved_regs) {
		.bp = regs32.bp, .ip = regs32.ip, .cs = regs32.cs, .flags = regs32.flags,
		.sp = at + offsetof(struct pt_regs32, sp),
	};
	if (!(regs32.cs & SEGMENT_RPL_MASK))
		return true;

	if (!kvm_guest_peek(unwind->peek, regs->sp, &regs32.sp, sizeof(regs32.sp)))
		return false;
	regs->sp = regs32.sp;
	return true;
}

static bool read_regs(struct guest_unwind *unwind, unsigned long at,
		      struct saved_regs *regs)
{
	if (!(unwind->is_64bit ? read_regs64(unwind, at, regs) :
				 read_regs32(unwind, at, regs)))
		return false;

	return (regs->flags & (X86_EFLAGS_FIXED | X86_EFLAGS_VM)) == X86_EFLAGS_FIXED;
}

/* The chain goes on in the kernel code that was interrupted. */
static bool unwind_to_kernel(struct guest_unwind *unwind, const struct saved_regs *regs)
{
	if (!unwind->switches_left--)
		return false;

	unwind->sp = regs->sp;
	unwind->fp = regs->bp;
	unwind->has_frame = false;
	return unwind_store(unwind, regs->ip);
}

/* The chain goes on in the user space that has entered the kernel. */
static bool unwind_to_user(struct guest_unwind *unwind, const struct saved_regs *regs,
			   bool is_64bit)
{
	if (!unwind->wants_user)
		return false;

	unwind_set_mode(unwind, true, is_64bit);
	unwind->half = 0;
	unwind->sp = regs->sp;
	unwind->fp = regs->bp;
	if (!is_credible_ip(unwind, regs->ip) ||
	    perf_callchain_store_context(unwind->entry, PERF_CONTEXT_GUEST_USER))
		return false;

	kvm_guest_peek_switch(unwind->peek, true);
	return unwind_store(unwind, regs->ip);
}

/* The segments are those of Linux, as is pt_regs: all have a base of 0. */
static bool unwind_to_regs(struct guest_unwind *unwind, const struct saved_regs *regs)
{
	unwind->cs_base = 0;
	unwind->ss_base = 0;
	if (unwind->is_64bit) {
		switch (regs->cs) {
		case __KERNEL_CS:
			return unwind_to_kernel(unwind, regs);
		case __USER_CS:
			return unwind_to_user(unwind, regs, true);
		case __USER32_CS:
			return unwind_to_user(unwind, regs, false);
		}
		return false;
	}

	switch (regs->cs) {
	case KERNEL32_CS:
		return unwind_to_kernel(unwind, regs);
	case KERNEL32_USER_CS:
		return unwind_to_user(unwind, regs, false);
	}
	return false;
}

/*
 * The entry code for system calls does not encode the frame pointer: it is 0 in 64-bit
 * kernels, and in 32-bit kernels it is still that of user space. pt_regs is between the
 * last frame and the top of the stack.
 */
static bool read_regs_of_system_call(struct guest_unwind *unwind, struct saved_regs *regs)
{
	unsigned long end = unwind->sp + (unwind->is_64bit ? sizeof(struct pt_regs) :
							     sizeof(struct pt_regs32));

	return ALIGN(end, STACK_ALIGN) - end <= MAX_STACK_PADDING &&
	       read_regs(unwind, unwind->sp, regs) &&
	       (regs->cs & SEGMENT_RPL_MASK) == USER_RPL &&
	       (!unwind->fp || unwind->fp == regs->bp);
}

/*
 * Linux runs interrupt handlers on a stack of their own, and puts the stack pointer of
 * the interrupted one above the first frame of that (64-bit), or at its bottom.
 */
static bool unwind_interrupt_stack(struct guest_unwind *unwind)
{
	unsigned int word = unwind->size / 2;
	unsigned long link = unwind->sp;
	u64 sp = 0;

	if (!unwind->is_64bit)
		link = ALIGN_DOWN(unwind->sp - 1, 2 * STACK_ALIGN);
	if (!unwind->fp || !unwind->has_frame || !unwind->switches_left ||
	    !kvm_guest_peek(unwind->peek, link, &sp, word))
		return false;

	if (decode_frame_pointer(unwind) - sp > unwind->max_frame)
		return false;

	unwind->switches_left--;
	unwind->has_frame = false;
	unwind->sp = sp;
	return true;
}

/* The frame pointer leads to no frame. Not inline, so that frames are read fast. */
static noinline bool unwind_entry(struct guest_unwind *unwind)
{
	unsigned long at = decode_frame_pointer(unwind);
	struct saved_regs regs;

	if (unwind->is_user)
		return false;
	if (at != unwind->fp && is_credible_address(unwind, at) &&
	    read_regs(unwind, at, &regs))
		return unwind_to_regs(unwind, &regs);
	if (read_regs_of_system_call(unwind, &regs))
		return unwind_to_regs(unwind, &regs);

	return unwind_interrupt_stack(unwind);
}

static bool unwind_next(struct guest_unwind *unwind)
{
	if (likely(is_credible_address(unwind, unwind->fp)))
		return unwind_frame(unwind);
	return unwind_entry(unwind);
}

/*
 * Add the callers of the function that @vcpu was in when it was interrupted, and the
 * user space that called the kernel. There are none if the guest cannot be read.
 */
void kvm_arch_vcpu_callchain(struct kvm_vcpu *vcpu,
			     struct perf_callchain_entry_ctx *entry,
			     bool kernel, bool user)
{
	bool in_user = !kvm_arch_vcpu_in_kernel(vcpu);
	struct kvm_guest_peek peek __uninitialized;
	struct guest_unwind unwind = {
		.peek = &peek,
		.entry = entry,
		.wants_kernel = kernel,
		.wants_user = user,
		.hidden_left = MAX_HIDDEN_FRAMES,
		.switches_left = MAX_KERNEL_SWITCHES,
	};

	if (!kvm_guest_peek_start(&peek, vcpu, in_user, MAX_LOOKUPS))
		return;

	if (unwind_init(&unwind, vcpu, in_user)) {
		while (unwind_next(&unwind))
			;
	}
	kvm_guest_peek_end(&peek);
}
