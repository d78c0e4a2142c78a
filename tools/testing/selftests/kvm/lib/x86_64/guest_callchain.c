// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared by the tests of call chains: guests with a loop of two instructions,
 * hand-made page tables, and constant frames on the stack; and checks of the
 * sampled chains.
 */
#include <linux/perf_event.h>
#include <stdlib.h>

#include "guest_callchain.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"

const struct mode mode_kernel64 = { PAGING_64, true, 0, 1 };
const struct mode mode_user64 = { PAGING_64, true, 3, 1 };
const struct mode mode_kernel_2m = { PAGING_64, true, 0, 2 };
const struct mode mode_kernel_pae = { PAGING_PAE, false, 0, 1 };

/* dec %ecx; jnz .-2; out %al, $0x80: the same bytes in 32 and 64 bits */
static const uint8_t spin_code[] = { 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x80 };

/* ---- the guest */

int guest_levels(struct guest *g)
{
	return 2 + (int)g->mode.paging;
}

static int index_bits(struct guest *g)
{
	return g->mode.paging == PAGING_32 ? 10 : 9;
}

static unsigned int word(struct guest *g)
{
	return g->mode.code64 ? 8 : 4;
}

void *guest_hva(struct guest *g, uint64_t gpa)
{
	return addr_gpa2hva(g->vm, gpa);
}

uint64_t guest_alloc_table(struct guest *g)
{
	uint64_t gpa = g->next_table;

	TEST_ASSERT(gpa < TABLES_END, "out of page tables");
	g->next_table += PAGE_SIZE;
	return gpa;
}

static void *entry_at(struct guest *g, uint64_t table, uint64_t gva, int level)
{
	uint64_t index = gva >> (12 + (level - 1) * index_bits(g));

	index &= (1 << index_bits(g)) - 1;
	return guest_hva(g, table) + index * (g->mode.paging == PAGING_32 ? 4 : 8);
}

uint64_t guest_entry_get(struct guest *g, void *entry)
{
	return g->mode.paging == PAGING_32 ? *(uint32_t *)entry : *(uint64_t *)entry;
}

void guest_entry_set(struct guest *g, void *entry, uint64_t val)
{
	if (g->mode.paging == PAGING_32)
		*(uint32_t *)entry = val;
	else
		*(uint64_t *)entry = val;
}

/* The entry for gva at a level. All tables above must be present. */
void *guest_find_entry(struct guest *g, uint64_t gva, int level)
{
	uint64_t table = g->cr3;
	int l;

	for (l = guest_levels(g); l > level; l--)
		table = guest_entry_get(g, entry_at(g, table, gva, l)) & GENMASK_ULL(50, 12);
	return entry_at(g, table, gva, level);
}

/* Map gva. New tables on the path get the accessed bit from flags. */
void guest_map(struct guest *g, uint64_t gva, uint64_t gpa, int leaf, uint64_t flags)
{
	uint64_t table = g->cr3, val;
	void *entry;
	int level;

	for (level = guest_levels(g); level > leaf; level--) {
		entry = entry_at(g, table, gva, level);
		if (!guest_entry_get(g, entry)) {
			val = guest_alloc_table(g) | PTE_P;
			/* in a PDPTE of PAE, the other bits are reserved */
			if (g->mode.paging != PAGING_PAE || level < 3)
				val |= PTE_W | PTE_U | (flags & PTE_A);
			guest_entry_set(g, entry, val);
		}
		table = guest_entry_get(g, entry) & GENMASK_ULL(50, 12);
	}

	/* PSE-36: address bits 32 and above are at bit 13 */
	if (g->mode.paging == PAGING_32)
		gpa |= (gpa >> 32) << 13;
	guest_entry_set(g, entry_at(g, table, gva, leaf),
			gpa | flags | PTE_P | (leaf > 1 ? PTE_PS : 0));
}

static void guest_addresses(struct guest *g)
{
	bool user = g->mode.ring;

	if (!g->mode.code64) {
		/* in different GiB: each has a PDPTE of its own */
		g->code = user ? 0x08048000 : 0x80100000;
		g->stack = user ? 0x50000000 : 0xd0000000;
	} else if (g->mode.paging == PAGING_LA57) {
		g->code = user ? 0x400000 : 0xffffffff81000000;
		g->stack = user ? 0x00ff000040000000 : 0xff11000040000000;
	} else {
		g->code = user ? 0x400000 : 0xffffffff81000000;
		g->stack = user ? 0x7f0040000000 : 0xffff888040000000;
	}
}

static uint64_t user_flag(struct guest *g)
{
	return g->mode.ring ? PTE_U : 0;
}

/* Map the code accessed and dirty: then the CPU does not write to the page tables. */
void guest_map_code(struct guest *g, const void *code, size_t size)
{
	memcpy(guest_hva(g, CODE_GPA), code, size);
	g->code_size = size;
	guest_map(g, g->code, CODE_GPA, 1, PTE_A | PTE_D | PTE_W | user_flag(g));
}

/* Map two adjacent pages. Small pages are in reverse order in physical memory. */
static void map_stack(struct guest *g)
{
	int leaf = g->mode.leaf;
	uint64_t base = leaf == 3 ? 0 : PAGE_4M;

	if (g->mode.high) {
		vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, g->mode.high,
					    EXTRA_SLOT, PAGE_4M / PAGE_SIZE, 0);
		base = g->mode.high;
	}

	if (leaf == 1) {
		g->stack_gpa[0] = PAGE_4M + 0x3000;
		g->stack_gpa[1] = PAGE_4M + 0x1000;
		guest_map(g, g->stack, g->stack_gpa[0], 1, PTE_W | user_flag(g));
		guest_map(g, g->stack + PAGE_SIZE, g->stack_gpa[1], 1, PTE_W | user_flag(g));
		return;
	}

	guest_map(g, g->stack, base, leaf, PTE_W | user_flag(g));
	g->stack += (leaf == 3 ? PAGE_4M : 0) + PAGE_SIZE;
	g->stack_gpa[0] = base + (leaf == 3 ? PAGE_4M : 0) + PAGE_SIZE;
	g->stack_gpa[1] = g->stack_gpa[0] + PAGE_SIZE;
}

static void set_segment(struct kvm_segment *seg, int type, int ring, bool code64)
{
	*seg = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = 8 | ring, .present = 1, .s = 1,
		.type = type, .dpl = ring, .g = 1, .l = code64, .db = !code64,
	};
}

static void set_sregs(struct guest *g, struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG | X86_CR0_ET;
	sregs.cr3 = g->cr3;
	sregs.cr4 = X86_CR4_PSE;
	if (g->mode.paging >= PAGING_PAE) {
		sregs.cr4 |= X86_CR4_PAE;
		sregs.efer = EFER_NX;
	}
	if (g->mode.paging >= PAGING_64)
		sregs.efer |= EFER_LME | EFER_LMA;
	if (g->mode.paging == PAGING_LA57)
		sregs.cr4 |= X86_CR4_LA57;

	set_segment(&sregs.cs, 0xb, g->mode.ring, g->mode.code64);
	set_segment(&sregs.ss, 0x3, g->mode.ring, false);
	sregs.ds = sregs.ss;
	sregs.es = sregs.ss;
	sregs.fs = sregs.ss;
	sregs.gs = sregs.ss;
	sregs.tr = (struct kvm_segment) { .limit = 0x67, .type = 11, .present = 1 };
	sregs.ldt = (struct kvm_segment) { .unusable = 1 };
	vcpu_sregs_set(vcpu, &sregs);
}

struct kvm_vcpu *guest_add_vcpu(struct guest *g, int id)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(g->vm, id);

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	set_sregs(g, vcpu);
	return vcpu;
}

void put_word(struct guest *g, uint64_t gva, uint64_t val)
{
	uint64_t off = gva - g->stack;

	memcpy(guest_hva(g, g->stack_gpa[off / PAGE_SIZE] + off % PAGE_SIZE), &val, word(g));
}

void put_frame(struct guest *g, uint64_t at, uint64_t next, uint64_t ret)
{
	put_word(g, at, next);
	put_word(g, at + word(g), ret);
}

/* Three frames: one in each page, and one across the boundary. */
uint64_t frame_at(struct guest *g, int n)
{
	const uint64_t at[] = { 0x100, PAGE_SIZE - word(g), 0x1200 };

	return g->stack + at[n];
}

uint64_t return_address(struct guest *g, int n)
{
	return g->code + 0x11 * (n + 1);
}

struct guest *guest_new(const struct mode *mode)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->mode = *mode;
	g->next_table = TABLES_GPA;
	g->vm = vm_create_barebones();
	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, 0, MEM_SLOT,
				    MEM_SIZE / PAGE_SIZE, 0);
	memset(guest_hva(g, 0), 0, MEM_SIZE);
	guest_addresses(g);
	g->cr3 = guest_alloc_table(g);
	guest_map_code(g, spin_code, sizeof(spin_code));
	map_stack(g);

	put_frame(g, frame_at(g, 0), frame_at(g, 1), return_address(g, 0));
	put_frame(g, frame_at(g, 1), frame_at(g, 2), return_address(g, 1));
	put_frame(g, frame_at(g, 2), 0, return_address(g, 2));

	g->vcpu = guest_add_vcpu(g, 0);
	g->rsp = g->stack + 0x80;
	g->rbp = frame_at(g, 0);
	return g;
}

void guest_free(struct guest *g)
{
	kvm_vm_free(g->vm);
	free(g);
}

uint64_t guest_checksum(struct guest *g)
{
	const uint64_t *p = guest_hva(g, 0);
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < MEM_SIZE / sizeof(*p); i++)
		sum = (sum << 1 | sum >> 63) ^ p[i];
	return sum;
}

void guest_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	regs->rflags = 0x3002;	/* IOPL 3: the code ends with OUT */
	vcpu_regs_set(vcpu, regs);
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == 0x80,
		    "exit reason %u (%s)", vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
}

void guest_sample_regs(struct sampler *sampler, struct guest *g, struct kvm_regs *regs)
{
	sampler_ioctl(sampler, PERF_EVENT_IOC_ENABLE);
	guest_vcpu_run(g->vcpu, regs);
	sampler_ioctl(sampler, PERF_EVENT_IOC_DISABLE);
}

struct kvm_regs guest_spin_regs(struct guest *g, uint64_t spins)
{
	return (struct kvm_regs) {
		.rip = g->code, .rcx = spins, .rsp = g->rsp, .rbp = g->rbp,
	};
}

void guest_sample(struct sampler *sampler, struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, SPINS);

	guest_sample_regs(sampler, g, &regs);
}

/* Let the CPU set all accessed bits before the checksum is taken. */
void guest_run_unsampled(struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, 1);

	guest_vcpu_run(g->vcpu, &regs);
}

/* Make the code that of 16 bits: its offset is below 64 KiB. */
void guest_set_16_bits(struct guest *g)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cs.db = 0;
	sregs.cs.base = g->code;
	vcpu_sregs_set(g->vcpu, &sregs);
	g->code = 0;
}

/* Without paging the guest runs the same code, at its physical address. */
void guest_disable_paging(struct guest *g)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cr0 &= ~X86_CR0_PG;
	vcpu_sregs_set(g->vcpu, &sregs);
	g->code = CODE_GPA;
}

/* The memory that SMM has is that of slots of address space 1. */
void guest_enter_smm(struct guest *g)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(g->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = 1;
	vcpu_events_set(g->vcpu, &events);
}

static void copy_segment(struct vmcb_seg *to, const struct kvm_segment *from)
{
	*to = (struct vmcb_seg) {
		.selector = from->selector, .limit = from->limit, .base = from->base,
		.attrib = from->type | from->s << 4 | from->dpl << 5 | from->present << 7 |
			  from->l << 9 | from->db << 10 | from->g << 11,
	};
}

/* Make the guest run a nested guest with the same code and page tables. */
void guest_enter_nested(struct guest *g)
{
	static const uint8_t vmrun_rax[] = { 0x0f, 0x01, 0xd8 };
	uint64_t vmcb_gpa = guest_alloc_table(g), vmrun_offset = 0x800;
	struct vmcb *vmcb = guest_hva(g, vmcb_gpa);
	struct kvm_regs regs = guest_spin_regs(g, 1);
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.efer |= EFER_SVME;
	vcpu_sregs_set(g->vcpu, &sregs);
	vcpu_set_msr(g->vcpu, MSR_VM_HSAVE_PA, guest_alloc_table(g));

	vmcb->control.intercept = BIT_ULL(INTERCEPT_VMRUN);
	vmcb->control.asid = 1;
	copy_segment(&vmcb->save.cs, &sregs.cs);
	copy_segment(&vmcb->save.ss, &sregs.ss);
	copy_segment(&vmcb->save.ds, &sregs.ds);
	copy_segment(&vmcb->save.es, &sregs.es);
	vmcb->save.cr0 = sregs.cr0;
	vmcb->save.cr3 = sregs.cr3;
	vmcb->save.cr4 = sregs.cr4;
	vmcb->save.efer = sregs.efer;
	vmcb->save.rflags = 2;
	vmcb->save.rip = g->code;
	vmcb->save.rsp = g->rsp;

	memcpy(guest_hva(g, CODE_GPA + vmrun_offset), vmrun_rax, sizeof(vmrun_rax));
	regs.rip = g->code + vmrun_offset;
	regs.rax = vmcb_gpa;
	guest_vcpu_run(g->vcpu, &regs);
}

static uint64_t marker(struct guest *g)
{
	return g->mode.ring ? PERF_CONTEXT_GUEST_USER : PERF_CONTEXT_GUEST_KERNEL;
}

/* ---- checks of one sample: return NULL, or an error message */

const char *sample_check_start(struct guest *g, const struct sample *sample)
{
	if (sample->nr < 2)
		return "the sample has no chain";
	if (sample->ips[0] != marker(g))
		return "the marker does not match the guest's mode";
	if (sample->ips[1] != sample->ip)
		return "the chain does not start with the sample's IP";
	if (sample->ip < g->code || sample->ip > g->code + g->code_size)
		return "the IP is outside the code";
	return NULL;
}

static const char *check_frames(struct guest *g, const struct sample *sample, const void *data)
{
	const char *why = sample_check_start(g, sample);
	unsigned int frames = *(const unsigned int *)data;
	unsigned int i;

	if (why)
		return why;
	if (sample->nr != 2 + frames)
		return "the number of frames is wrong";
	for (i = 0; i < frames; i++)
		if (sample->ips[2 + i] != return_address(g, i))
			return "a return address is wrong";
	return NULL;
}

void sample_dump(const struct sample *sample)
{
	unsigned int i;

	for (i = 0; i < sample->nr; i++)
		pr_info("# %2u: %016lx\n", i, (unsigned long)sample->ips[i]);
}

/* Sample the guest. Each sample must pass the check; guest memory must not change. */
void expect_samples(struct guest *g, struct perf_event_attr *attr,
		    const char *(*check)(struct guest *g, const struct sample *sample,
					 const void *data),
		    const void *data)
{
	struct sampler sampler = sampler_open(attr, CLOCK | CYCLES);
	uint64_t buf[MAX_CHAIN], before;
	struct sample *sample = (struct sample *)buf;
	const char *why;
	int i;

	guest_run_unsampled(g);
	before = guest_checksum(g);
	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		guest_sample(&sampler, g);
		while (sampler_next(&sampler, sample, sizeof(buf))) {
			why = check(g, sample, data);
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
		}
	}
	TEST_ASSERT(sampler_fewest(&sampler) >= MIN_SAMPLES,
		    "%u samples of the guest, want %u",
		    sampler_fewest(&sampler), MIN_SAMPLES);
	TEST_ASSERT(guest_checksum(g) == before, "guest memory has changed");
	sampler_close(&sampler);
}

/* Each chain must have all frames. */
void expect_frames_attr(struct guest *g, unsigned int frames,
			struct perf_event_attr *attr)
{
	expect_samples(g, attr, check_frames, &frames);
}

void expect_frames(struct guest *g, unsigned int frames)
{
	struct perf_event_attr attr = {};

	expect_frames_attr(g, frames, &attr);
}
