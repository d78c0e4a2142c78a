// SPDX-License-Identifier: GPL-2.0
/*
 * The call chain of a guest, for a sample that perf takes while the guest runs.
 *
 * The walk follows frame pointers. At an entry of a kernel with frame pointers, the walk
 * goes on with the registers that the entry code has saved, in the layout of Linux. These
 * registers lead to interrupted kernel code, or to user space.
 *
 * The guest chooses all values on its stacks, so a frame must be credible: on the stack in
 * use, above the previous frame, and near it. The first frame that is not credible ends the
 * chain.
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
 * The limit of guest pages to look up for a sample, page tables included. The first sample of
 * a program in a system call looks up some 20, for its stacks and its code. One lookup costs
 * as much as three frames in a known page. The limit keeps a guest with each frame in another
 * page from making the host's samples ten times as expensive.
 */
#define MAX_LOOKUPS		80

/*
 * How many times a chain may leave a kernel stack or go through an interrupt in the kernel.
 * After such a switch, a frame may be below the previous frame. Linux nests an NMI, an
 * interrupt, softirqs and some exceptions.
 */
#define MAX_KERNEL_SWITCHES	8

/* How many kernel frames to walk on the way to user space, if only user space is wanted. */
#define MAX_HIDDEN_FRAMES	PERF_MAX_STACK_DEPTH

/* The code selectors of 32-bit kernels: for the kernel, and for user space */
#define KERNEL32_CS		0x60
#define KERNEL32_USER_CS	0x73

/* The alignment of the kernel's stacks, and what Linux leaves free at their top. */
#define STACK_ALIGN		SZ_4K
#define MAX_STACK_PADDING	16

/* The size, and the alignment, of the stacks of 32-bit kernels. */
#define STACK32_SIZE		SZ_8K

struct pt_regs32 {
	u32 bx, cx, dx, si, di, bp, ax;
	u32 ds, es, fs, gs;
	u32 orig_ax;
	u32 ip, cs, flags, sp, ss;
};

/* What the walk needs of pt_regs, of 64-bit or 32-bit kernels */
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
	bool stores;		/* add frames to @entry, not only walk to user space */
	bool has_frame;		/* @sp is the end of a frame, not the stack pointer */
	unsigned int size;	/* of a frame: two words */
	unsigned int unaligned;	/* the bits that are 0 in the address of a word */
	unsigned long max_frame;
	unsigned long last;	/* the highest possible address of a frame */
	unsigned long sp;	/* the next frame is here or above */
	unsigned long fp;	/* the next frame, as the previous frame says */
	unsigned int half_shift;
	long half;		/* the half of the address space that has the code */
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
	unwind->unaligned = unwind->size / 2 - 1;
	unwind->stores = user || unwind->wants_kernel;
}

/* Start with the registers of the vCPU, whose memory @unwind->peek reads. */
static bool unwind_init(struct guest_unwind *unwind)
{
	struct kvm_vcpu *vcpu = unwind->peek->vcpu;
	int cs_db, cs_l;
	bool is_64bit;

	/* 16-bit code has frames of its own kind */
	kvm_x86_call(get_cs_db_l_bits)(vcpu, &cs_db, &cs_l);
	is_64bit = is_long_mode(vcpu) && cs_l;
	if (!is_64bit && (!cs_db || kvm_x86_call(get_rflags)(vcpu) & X86_EFLAGS_VM))
		return false;

	unwind->hidden_left = MAX_HIDDEN_FRAMES;
	unwind->switches_left = MAX_KERNEL_SWITCHES;
	unwind_set_mode(unwind, unwind->peek->user, is_64bit);
	unwind->sp = kvm_rsp_read(vcpu);
	unwind->fp = kvm_rbp_read(vcpu);
	if (is_64bit) {
		unwind->half = (long)kvm_rip_read(vcpu) >> unwind->half_shift;
		return true;
	}

	unwind->half = 0;
	unwind->cs_base = guest_segment_base(vcpu, VCPU_SREG_CS);
	unwind->ss_base = guest_segment_base(vcpu, VCPU_SREG_SS);
	unwind->sp = (u32)(unwind->sp + unwind->ss_base);
	unwind->fp = (u32)(unwind->fp + unwind->ss_base);
	return true;
}

/* The subtraction wraps: an address below the stack pointer is too far above it. */
static bool is_credible_address(struct guest_unwind *unwind, unsigned long address)
{
	return !(address & unwind->unaligned) &&
	       address - unwind->sp <= unwind->max_frame &&
	       address <= unwind->last;
}

/*
 * User code and kernel code each have one canonical half of the address space. The first
 * page has no code.
 */
static bool is_credible_ip(struct guest_unwind *unwind, unsigned long ip)
{
	return ip >= PAGE_SIZE && (long)ip >> unwind->half_shift == unwind->half;
}

/* A caller is code of the same half of the address space, in a page of the same kind. */
static __always_inline bool is_credible_caller(struct guest_unwind *unwind, unsigned long ip)
{
	return kvm_guest_peek_is_known_text(unwind->peek, ip) ||
	       (is_credible_ip(unwind, ip) && kvm_guest_peek_find_text(unwind->peek, ip));
}

static __always_inline bool unwind_store(struct guest_unwind *unwind, unsigned long ip)
{
	if (likely(unwind->stores))
		return !perf_callchain_store(unwind->entry, ip);
	return unwind->hidden_left--;
}

/* Each branch has a constant size, so that the reads become short code. */
static __always_inline bool unwind_frame(struct guest_unwind *unwind)
{
	unsigned long ip;

	if (likely(unwind->is_64bit)) {
		u64 frame[2] __uninitialized;

		if (!kvm_guest_peek(unwind->peek, unwind->fp, frame, sizeof(frame)))
			return false;
		unwind->sp = unwind->fp + sizeof(frame);
		unwind->fp = frame[0];
		ip = frame[1];
	} else {
		u32 frame[2] __uninitialized;

		if (!kvm_guest_peek(unwind->peek, unwind->fp, frame, sizeof(frame)))
			return false;
		unwind->sp = unwind->fp + sizeof(frame);
		unwind->fp = (u32)(frame[0] + unwind->ss_base);
		ip = (u32)(frame[1] + unwind->cs_base);
	}

	unwind->has_frame = true;
	return is_credible_caller(unwind, ip) && unwind_store(unwind, ip);
}

/*
 * The entry code of a kernel with frame pointers encodes the address of pt_regs as an
 * impossible frame pointer: odd in 64-bit kernels, in the lower half of the address space
 * in 32-bit kernels (ENCODE_FRAME_POINTER).
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
	u64 bp __uninitialized, words[4] __uninitialized;

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
	struct pt_regs32 regs32 __uninitialized;

	/* an interrupt of kernel code may have saved no SP and SS */
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
	return is_credible_caller(unwind, regs->ip) && unwind_store(unwind, regs->ip);
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
	kvm_guest_peek_switch(unwind->peek, true);
	return is_credible_caller(unwind, regs->ip) &&
	       !perf_callchain_store_context(unwind->entry, PERF_CONTEXT_GUEST_USER) &&
	       unwind_store(unwind, regs->ip);
}

/* The layout of pt_regs is that of Linux. So are the segments: all have a base of 0. */
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
 * The entry code for system calls does not encode the frame pointer. In 64-bit kernels, the
 * frame pointer is 0. In 32-bit kernels, it is still that of user space. After SYSENTER,
 * the frame pointer of user space is its stack pointer: Linux reads EBP from that stack.
 * pt_regs is between the last frame and the top of the stack.
 */
static bool read_regs_of_system_call(struct guest_unwind *unwind, struct saved_regs *regs)
{
	unsigned long end = unwind->sp + (unwind->is_64bit ? sizeof(struct pt_regs) :
							     sizeof(struct pt_regs32));

	return !(unwind->sp & unwind->unaligned) &&
	       ALIGN(end, STACK_ALIGN) - end <= MAX_STACK_PADDING &&
	       read_regs(unwind, unwind->sp, regs) &&
	       (regs->cs & SEGMENT_RPL_MASK) == USER_RPL &&
	       (!unwind->fp || unwind->fp == regs->bp ||
		(!unwind->is_64bit && unwind->fp == regs->sp));
}

/*
 * Linux runs interrupt handlers on a stack of their own, and saves the interrupted stack
 * pointer there: in the last word, above the first frame (64-bit), or in the first word
 * (32-bit). Returns the address of the saved stack pointer, or 0 if the last frame is not
 * at the top of a stack.
 */
static unsigned long interrupt_stack_link(struct guest_unwind *unwind)
{
	if (unwind->is_64bit)
		return offset_in_page(unwind->sp) == PAGE_SIZE - sizeof(u64) ? unwind->sp : 0;
	return IS_ALIGNED(unwind->sp, STACK32_SIZE) ? unwind->sp - STACK32_SIZE : 0;
}

static bool unwind_interrupt_stack(struct guest_unwind *unwind)
{
	unsigned long link;
	u64 sp = 0;

	if (!unwind->fp || !unwind->has_frame || !unwind->switches_left)
		return false;

	link = interrupt_stack_link(unwind);
	if (!link || !kvm_guest_peek(unwind->peek, link, &sp, unwind->size / 2) ||
	    decode_frame_pointer(unwind) - sp > unwind->max_frame)
		return false;

	unwind->switches_left--;
	unwind->has_frame = false;
	unwind->sp = sp;
	return true;
}

/* Go on where the frame pointer leads to no frame. Not inline, to keep reads of frames fast. */
static noinline bool unwind_entry(struct guest_unwind *unwind)
{
	unsigned long at = decode_frame_pointer(unwind);
	struct saved_regs regs __uninitialized;

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
	return !unwind->is_user && unwind_entry(unwind);
}

/*
 * Add the IP of @vcpu, the callers of the function that the vCPU was in when it was
 * interrupted, and the user space that called the kernel. Add no callers if the guest
 * cannot be read.
 */
void kvm_arch_vcpu_callchain(struct kvm_vcpu *vcpu,
			     struct perf_callchain_entry_ctx *entry,
			     bool kernel, bool user)
{
	bool in_kernel = kvm_arch_vcpu_in_kernel(vcpu);
	struct guest_unwind unwind __uninitialized;

	if ((in_kernel ? kernel : user) &&
	    (perf_callchain_store_context(entry, in_kernel ? PERF_CONTEXT_GUEST_KERNEL :
							     PERF_CONTEXT_GUEST_USER) ||
	     perf_callchain_store(entry, kvm_rip_read(vcpu))))
		return;
	if (!user && !(kernel && in_kernel))
		return;

	unwind.peek = kvm_guest_peek_start(vcpu, !in_kernel, MAX_LOOKUPS);
	if (!unwind.peek)
		return;

	unwind.entry = entry;
	unwind.wants_kernel = kernel;
	unwind.wants_user = user;
	if (unwind_init(&unwind)) {
		while (unwind_next(&unwind))
			;
	}
	kvm_guest_peek_end(unwind.peek);
}
