// SPDX-License-Identifier: GPL-2.0
/*
 * Registers and stacks of a guest, for a sample that perf takes while the guest runs.
 *
 * The perf tool unwinds a kernel without frame pointers later, with tables that KVM does
 * not have. Unwinding takes the registers, and the stack from the stack pointer up to the
 * end.
 *
 * The dump assumes of the guest's kernel how its stacks end. Linux runs the handlers of
 * interrupts on another stack, and saves the interrupted stack pointer in the last word of
 * that stack. The stack of a task, and those of NMIs and of some exceptions, end with what
 * the CPU pushes at an entry: the stack pointer of user space, or of the interrupted code.
 *
 * A sample of a vCPU is taken in an NMI or an interrupt right after its VM exit. One sample
 * does not interrupt another, nor KVM's reads of registers from the VMCS.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/perf_guest_dump.h>

#include "kvm_cache_regs.h"
#include "mmu/guest_peek.h"
#include "x86.h"

/*
 * The limit of guest pages to look up for a sample, page tables included. In the first sample,
 * two stacks of a kernel take up to 7 pages of tables, and 2 or 3 pages each. The guest chooses
 * where its stacks are: the limit bounds the cost of a sample.
 */
#define MAX_LOOKUPS	16

static u16 guest_selector(struct kvm_vcpu *vcpu, int seg)
{
	struct kvm_segment segment;

	kvm_x86_call(get_segment)(vcpu, &segment, seg);
	return segment.selector;
}

static u64 guest_code_abi(struct kvm_vcpu *vcpu)
{
	int db, l;

	kvm_x86_call(get_cs_db_l_bits)(vcpu, &db, &l);
	if (is_long_mode(vcpu) && l)
		return PERF_SAMPLE_REGS_ABI_64;
	/* 16-bit code has no registers of these sizes. */
	if (!db || (kvm_x86_call(get_rflags)(vcpu) & X86_EFLAGS_VM))
		return PERF_SAMPLE_REGS_ABI_NONE;
	return PERF_SAMPLE_REGS_ABI_32;
}

static void dump_regs(struct kvm_vcpu *vcpu, struct pt_regs *regs)
{
	*regs = (struct pt_regs) {
		.ax = kvm_rax_read(vcpu), .bx = kvm_rbx_read(vcpu),
		.cx = kvm_rcx_read(vcpu), .dx = kvm_rdx_read(vcpu),
		.si = kvm_rsi_read(vcpu), .di = kvm_rdi_read(vcpu),
		.bp = kvm_rbp_read(vcpu), .sp = kvm_rsp_read(vcpu),
		.r8 = kvm_r8_read(vcpu), .r9 = kvm_r9_read(vcpu),
		.r10 = kvm_r10_read(vcpu), .r11 = kvm_r11_read(vcpu),
		.r12 = kvm_r12_read(vcpu), .r13 = kvm_r13_read(vcpu),
		.r14 = kvm_r14_read(vcpu), .r15 = kvm_r15_read(vcpu),
		.ip = kvm_rip_read(vcpu),
		.flags = kvm_x86_call(get_rflags)(vcpu),
		/* csx and ssx are all 64 bits of cs and ss */
		.csx = guest_selector(vcpu, VCPU_SREG_CS),
		.ssx = guest_selector(vcpu, VCPU_SREG_SS),
	};
}

static bool is_dumped(const struct perf_guest_dump *dump, u64 addr)
{
	unsigned int i;

	for (i = 0; i < dump->nr; i++)
		if (addr - dump->stacks[i].addr < dump->stacks[i].size)
			return true;
	return false;
}

/* What the CPU pushes at an interrupt, and entry code at a system call. */
struct iret_frame {
	u64 ip;
	u64 cs;
	u64 flags;
	u64 sp;
	u64 ss;
};

/* Returns the end of the dumped words if that is where the guest's pages end, or NULL. */
static const u64 *copy_stack(struct kvm_guest_peek *peek, struct perf_guest_dump *dump, u64 addr)
{
	u8 *to = dump->data + dump->nr * (size_t)dump->max_size;
	unsigned int size = kvm_guest_peek_copy(peek, addr, to, dump->max_size);

	if (!size)
		return NULL;
	dump->stacks[dump->nr++] = (struct perf_guest_stack) { .addr = addr, .size = size };
	return size < dump->max_size ? (u64 *)(to + size) : NULL;
}

/* Can this be the stack pointer of a kernel, with a stack that is in no dump? */
static bool is_kernel_stack(struct kvm_vcpu *vcpu, const struct perf_guest_dump *dump, u64 addr)
{
	return IS_ALIGNED(addr, sizeof(u64)) && (s64)addr < 0 &&
	       __is_canonical_address(addr, vcpu_virt_addr_bits(vcpu)) &&
	       !is_dumped(dump, addr);
}

static bool is_user_frame(const struct iret_frame *frame)
{
	return (frame->cs & SEGMENT_RPL_MASK) == USER_RPL;
}

static bool is_iret_frame(const struct iret_frame *frame)
{
	return frame->cs && frame->cs <= U16_MAX && frame->ss <= U16_MAX &&
	       !((frame->cs ^ frame->ss) & SEGMENT_RPL_MASK) &&
	       (frame->flags & X86_EFLAGS_FIXED) && frame->flags <= U32_MAX;
}

/* With CONFIG_X86_FRED, Linux leaves two words unused at the end of the stacks of tasks. */
static const struct iret_frame *find_iret_frame(const struct perf_guest_dump *dump,
						const u64 *end)
{
	u64 size = dump->stacks[dump->nr - 1].size;
	const struct iret_frame *frame;
	unsigned int unused;

	for (unused = 0; unused <= 2 * sizeof(u64); unused += 2 * sizeof(u64)) {
		if (size < sizeof(*frame) + unused)
			return NULL;
		frame = (void *)end - unused - sizeof(*frame);
		if (is_iret_frame(frame))
			return frame;
	}
	return NULL;
}

/* Find the stack that the guest's kernel has come from to the one that was dumped last. */
static bool find_next_stack(struct kvm_guest_peek *peek, const struct perf_guest_dump *dump,
			    const u64 *end, u64 *addr)
{
	const struct iret_frame *frame;

	*addr = end[-1];
	if (is_kernel_stack(peek->vcpu, dump, *addr))
		return true;

	frame = find_iret_frame(dump, end);
	if (!frame)
		return false;

	*addr = frame->sp;
	if (!is_user_frame(frame))
		return is_kernel_stack(peek->vcpu, dump, *addr);

	/* User pages alone are read from here on. 32-bit code has words of 4 bytes. */
	*addr = ALIGN_DOWN(*addr, sizeof(u64));
	kvm_guest_peek_switch(peek, true);
	return true;
}

static void dump_stacks64(struct kvm_guest_peek *peek, struct perf_guest_dump *dump)
{
	u64 addr = dump->regs.sp;
	const u64 *end;

	if (!IS_ALIGNED(addr, sizeof(u64)))
		return;

	end = copy_stack(peek, dump, addr);
	while (end && !peek->user && dump->nr < PERF_GUEST_MAX_STACKS &&
	       find_next_stack(peek, dump, end, &addr))
		end = copy_stack(peek, dump, addr);
}

/* Dump linear addresses in units of 8 bytes, maybe from 4 bytes below the stack pointer on. */
static void dump_stack32(struct kvm_guest_peek *peek, struct perf_guest_dump *dump)
{
	u32 base = kvm_x86_call(get_segment_base)(peek->vcpu, VCPU_SREG_SS);
	u32 addr = dump->regs.sp + base;

	if (IS_ALIGNED(addr, sizeof(u32)))
		copy_stack(peek, dump, ALIGN_DOWN(addr, sizeof(u64)));
}

/* Dump nothing if the guest cannot be read. */
void kvm_arch_vcpu_dump(struct kvm_vcpu *vcpu, struct perf_guest_dump *dump)
{
	bool user = !kvm_arch_vcpu_in_kernel(vcpu);
	struct kvm_guest_peek *peek;

	peek = kvm_guest_peek_start(vcpu, user, MAX_LOOKUPS);
	if (!peek)
		return;

	dump->abi = guest_code_abi(vcpu);
	if (dump->abi != PERF_SAMPLE_REGS_ABI_NONE) {
		dump_regs(vcpu, &dump->regs);
		if (dump->abi == PERF_SAMPLE_REGS_ABI_64)
			dump_stacks64(peek, dump);
		else
			dump_stack32(peek, dump);
	}
	kvm_guest_peek_end(peek);
}
