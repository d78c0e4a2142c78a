// SPDX-License-Identifier: GPL-2.0
/*
 * The call chain of a guest, for a sample that perf takes while the guest runs.
 *
 * The walk follows frame pointers. The guest chooses all values on its stack, so a
 * frame must be credible: on the stack in use, above the frame before and not far
 * from it. The first frame that is not credible ends the chain.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/sizes.h>

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
 * How many pages of stack to look up for a sample. To look one up costs like
 * some ten frames in a page that is known: a guest that puts each of its frames
 * into another page shall not make the host's samples cost more by an order.
 */
#define MAX_STACK_PAGES		16

struct guest_unwind {
	struct kvm_guest_peek peek;
	bool is_64bit;
	unsigned int size;	/* of a frame: two words */
	unsigned long max_frame;
	unsigned long last;	/* where the last possible frame is */
	unsigned long sp;	/* the next frame is here or above */
	unsigned long fp;	/* its address, by the frame before */
	unsigned int half_shift;
	long half;		/* the address space's half that has the code */
	unsigned long cs_base;
	unsigned long ss_base;

	/* the frame read last: the caller's frame pointer, the return address */
	union {
		u64 words64[2];
		u32 words32[2];
	};
};

static unsigned long guest_segment_base(struct kvm_vcpu *vcpu, int seg)
{
	return kvm_x86_call(get_segment_base)(vcpu, seg);
}

static bool guest_unwind_init(struct guest_unwind *unwind, struct kvm_vcpu *vcpu)
{
	int cs_db, cs_l;

	/* 16-bit code has frames of its own kind */
	kvm_x86_call(get_cs_db_l_bits)(vcpu, &cs_db, &cs_l);
	unwind->is_64bit = is_long_mode(vcpu) && cs_l;
	if ((!unwind->is_64bit && !cs_db) ||
	    (kvm_x86_call(get_rflags)(vcpu) & X86_EFLAGS_VM))
		return false;

	unwind->sp = kvm_rsp_read(vcpu);
	unwind->fp = kvm_rbp_read(vcpu);
	if (unwind->is_64bit) {
		unwind->size = sizeof(unwind->words64);
		unwind->last = U64_MAX - unwind->size + 1;
		unwind->half_shift = unwind->peek.va_bits - 1;
		unwind->half = (long)kvm_rip_read(vcpu) >> unwind->half_shift;
		return true;
	}

	unwind->size = sizeof(unwind->words32);
	unwind->last = U32_MAX - unwind->size + 1;
	/* to 32-bit code all addresses are in the same half */
	unwind->half_shift = 32;
	unwind->cs_base = guest_segment_base(vcpu, VCPU_SREG_CS);
	unwind->ss_base = guest_segment_base(vcpu, VCPU_SREG_SS);
	unwind->sp = (u32)(unwind->sp + unwind->ss_base);
	unwind->fp = (u32)(unwind->fp + unwind->ss_base);
	return true;
}

/* A frame below the stack pointer counts as a frame far above it. */
static bool is_credible_frame(struct guest_unwind *unwind)
{
	return IS_ALIGNED(unwind->fp, unwind->size / 2) &&
	       unwind->fp - unwind->sp <= unwind->max_frame &&
	       unwind->fp <= unwind->last;
}

/* Code of either mode stays in its, canonical, half of the address space. */
static bool is_credible_return(struct guest_unwind *unwind, unsigned long ip)
{
	return ip && (long)ip >> unwind->half_shift == unwind->half;
}

static bool guest_unwind_next(struct guest_unwind *unwind, unsigned long *ip)
{
	if (!is_credible_frame(unwind) ||
	    !kvm_guest_peek(&unwind->peek, unwind->fp, unwind->words64, unwind->size))
		return false;

	unwind->sp = unwind->fp + unwind->size;
	if (unwind->is_64bit) {
		unwind->fp = unwind->words64[0];
		*ip = unwind->words64[1];
	} else {
		unwind->fp = (u32)(unwind->words32[0] + unwind->ss_base);
		*ip = (u32)(unwind->words32[1] + unwind->cs_base);
	}
	return is_credible_return(unwind, *ip);
}

/*
 * The callers of the function that @vcpu was in when it was interrupted. There
 * are none if the guest cannot be read.
 */
void kvm_arch_vcpu_callchain(struct kvm_vcpu *vcpu,
			     struct perf_callchain_entry_ctx *entry)
{
	bool user = !kvm_arch_vcpu_in_kernel(vcpu);
	struct guest_unwind unwind = {
		.max_frame = user ? MAX_USER_FRAME : MAX_KERNEL_FRAME,
	};
	unsigned long ip;

	if (!kvm_guest_peek_start(&unwind.peek, vcpu, user, MAX_STACK_PAGES))
		return;

	if (guest_unwind_init(&unwind, vcpu)) {
		while (guest_unwind_next(&unwind, &ip) &&
		       !perf_callchain_store(entry, ip))
			;
	}
	kvm_guest_peek_end(&unwind.peek);
}
