// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared by the tests of the paravirtual PMU's branch stacks: the loops, the NMI handler
 * of the guest, the pages for branches, and checks of what was found.
 */
#include "pv_pmu_branches.h"

#define FILL	0x5a

/* ---- the guest */

/* NAME_call(loops, mask): the loop, then COMMIT, without another branch. */
#define GUEST_LOOP(name)						\
	asm(".pushsection .text\n"					\
	    #name "_call: push %rbx\n"					\
	    #name ": nop\n"						\
	    #name "_dec: dec %rdi\n"					\
	    #name "_jnz: jnz " #name "\n"				\
	    #name "_end: mov $20, %eax\n\t"				\
	    "xor %ebx, %ebx\n\t"					\
	    "mov %rsi, %rcx\n\t"					\
	    "vmmcall\n\t"						\
	    "pop %rbx\n\t"						\
	    "ret\n"							\
	    ".popsection")

GUEST_LOOP(guest_loop);
GUEST_LOOP(guest_other_loop);

kvm_static_assert(KVM_HC_PV_PMU == 20 && KVM_PV_PMU_OP_COMMIT == 0);

#define LOOP(name) ((struct branch_loop) {					\
	name##_call, (uint64_t)name, (uint64_t)name##_dec,			\
	(uint64_t)name##_jnz, (uint64_t)name##_end })

static struct found_branches all_found[NR_VCPUS];

static struct found_branches *this_found(struct pv_pmu_mailbox *m)
{
	return &all_found[((uint64_t)m->area - AREA_GPA) / (2 * PAGE_SIZE)];
}

static bool is_of_loop(const struct branch_loop *loop, const struct kvm_pv_pmu_branch *b)
{
	return b->to == loop->start && (b->from == loop->dec || b->from == loop->jnz);
}

static void look_at_branch(struct found_branches *f, const struct kvm_pv_pmu_branch *b)
{
	f->branches++;
	if (b->reserved || b->flags & ~(KVM_PV_PMU_BRANCH_MISPREDICTED |
					KVM_PV_PMU_BRANCH_PREDICTED |
					KVM_PV_PMU_BRANCH_SPEC_MASK))
		f->malformed++;
	if (is_of_loop(&f->loop, b))
		return;
	if (!f->strange++) {
		f->from = b->from;
		f->to = b->to;
	}
}

static bool is_malformed(const struct kvm_pv_pmu_branch_record *r)
{
	uint32_t reserved = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(r->reserved); i++)
		reserved |= r->reserved[i];
	return reserved || r->seq & 1 || r->flags & ~KVM_PV_PMU_BRANCHES_LOST ||
	       r->nr > ENTRIES || (r->flags & KVM_PV_PMU_BRANCHES_LOST && r->nr);
}

static void look_at_record(struct found_branches *f, const struct kvm_pv_pmu_branch_record *r,
			   bool in_loop)
{
	int i;

	f->records++;
	if (!f->first_nr)
		f->first_nr = r->nr;
	f->of_slots |= r->slots;
	f->malformed += is_malformed(r);
	f->lost += r->flags & KVM_PV_PMU_BRANCHES_LOST;
	f->full += r->nr == ENTRIES;
	if (!in_loop) {
		f->outside++;
		return;
	}
	for (i = 0; i < r->nr && i < ENTRIES; i++)
		look_at_branch(f, &r->branches[i]);
}

/* Look at the records that are newer than those seen before. Returns their slots. */
static uint64_t look_at_page(struct found_branches *f, bool in_loop)
{
	const struct kvm_pv_pmu_branch_record *r;
	uint64_t newest = f->number, slots = 0;
	int i;

	for (i = 0; i < KVM_PV_PMU_NR_BRANCH_RECORDS; i++) {
		r = &f->page->records[i];
		if (r->number <= f->number)
			continue;
		f->malformed += r->number % KVM_PV_PMU_NR_BRANCH_RECORDS != i;
		newest = max_t(uint64_t, newest, r->number);
		slots |= r->slots;
		look_at_record(f, r, in_loop);
	}
	f->number = newest;
	return slots;
}

static void guest_nmi(struct ex_regs *regs)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	struct found_branches *f = this_found(m);
	uint64_t bits;

	m->nmis++;
	if (!f->look)
		return;
	bits = __atomic_exchange_n(&area_header(m->area)->overflow, 0, __ATOMIC_SEQ_CST);
	m->overflows[0] += bits & 1;
	m->empty += !bits;
	bits &= f->slots;
	bits &= ~look_at_page(f, regs->rip >= f->loop.start && regs->rip < f->loop.end);
	f->missing += !!bits;
}

/* The requests that the COMMIT at the end of a loop finds. */
static void guest_stop_later(struct pv_pmu_mailbox *m, uint64_t mask)
{
	int i;

	for (i = 0; mask >> i; i++)
		if (mask & BIT(i))
			area_request(m->area, i)->flags &= ~KVM_PV_PMU_RUN;
}

/* COMMIT the running slots, run the loop, and stop the slots. */
uint64_t guest_run_branches(uint64_t mask, uint64_t loops)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t ret = kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, mask, 0, 0);

	guest_stop_later(m, mask);
	this_found(m)->loop.call(loops, mask);
	return ret;
}

/* The same with a SYNC when LOOPS_LEFT are left. */
uint64_t guest_run_with_sync(uint64_t mask, uint64_t loops)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t ret = kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, mask, 0, 0);

	this_found(m)->loop.call(loops - LOOPS_LEFT, 0);
	ret |= kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_SYNC, mask, 0, 0);
	guest_stop_later(m, mask);
	this_found(m)->loop.call(LOOPS_LEFT, mask);
	return ret;
}

/* The COMMIT at the end is for no slot, and fails at CPL 3. */
uint64_t guest_loop_branches(uint64_t loops, uint64_t unused)
{
	this_found(pv_pmu_guest_mailbox())->loop.call(loops, 0);
	return 0;
}

/* ---- the host */

struct found_branches *found_branches(struct kvm_vcpu *vcpu)
{
	struct found_branches *all = addr_gva2hva(vcpu->vm, (vm_vaddr_t)all_found);

	return &all[vcpu->id];
}

uint64_t branch_page_gpa(struct kvm_vcpu *vcpu)
{
	return PAGES_GPA + (2 * vcpu->id + 1) * PAGE_SIZE;
}

struct kvm_pv_pmu_branches *branch_page(struct kvm_vcpu *vcpu)
{
	return addr_gpa2hva(vcpu->vm, branch_page_gpa(vcpu));
}

struct kvm_pv_pmu_branch_record *newest_record(struct kvm_vcpu *vcpu)
{
	struct kvm_pv_pmu_branch_record *r = branch_page(vcpu)->records, *newest = r;
	int i;

	for (i = 1; i < KVM_PV_PMU_NR_BRANCH_RECORDS; i++)
		if (r[i].number > newest->number)
			newest = &r[i];
	return newest;
}

/* Change flags and size of the pages' memslot. Size 0 deletes the memslot. */
void set_branch_pages(struct kvm_vm *vm, uint32_t flags, uint64_t size)
{
	vm_set_user_memory_region(vm, PAGES_SLOT, flags, PAGES_GPA, size,
				  memslot2region(vm, PAGES_SLOT)->host_mem);
}

/* What must not be written is not zero. */
static void vm_init(struct kvm_vm *vm)
{
	struct kvm_pv_pmu_branches *pages;
	int i, j;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, PAGES_GPA, PAGES_SLOT, PAGES, 0);
	virt_map(vm, PAGES_GPA, PAGES_GPA, PAGES);
	pages = addr_gpa2hva(vm, PAGES_GPA);
	for (i = 0; i < PAGES; i += 2)
		memset(&pages[i], FILL, PAGE_SIZE);
	for (i = 1; i < PAGES; i += 2)
		for (j = 0; j < KVM_PV_PMU_NR_BRANCH_RECORDS; j++)
			memset(pages[i].records[j].pad, FILL, sizeof(pages[i].records[j].pad));
	vm_install_exception_handler(vm, NMI_VECTOR, guest_nmi);
}

static void vcpu_init(struct kvm_vcpu *vcpu, struct branch_loop loop)
{
	*found_branches(vcpu) = (struct found_branches) {
		.loop = loop, .page = (void *)branch_page_gpa(vcpu), .slots = BIT(0), .look = true,
	};
	pv_pmu_area_header(vcpu)->branches = branch_page_gpa(vcpu);
}

/* Each vCPU has its own loop, and its own page. */
struct kvm_vm *branch_vm_create(struct kvm_vcpu *vcpus[NR_VCPUS])
{
	struct kvm_vm *vm = pv_pmu_vm_create(vcpus);

	vm_init(vm);
	vcpu_init(vcpus[0], LOOP(guest_loop));
	vcpu_init(vcpus[1], LOOP(guest_other_loop));
	return vm;
}

/* Run the slots of the mask while the guest loops. */
void run_branches(struct kvm_vcpu *vcpu, uint64_t mask, uint64_t loops)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		if (mask & BIT(i))
			pv_pmu_set_running(vcpu, i, true);
	TEST_ASSERT_EQ(pv_pmu_call(vcpu, guest_run_branches, mask, loops), 0);
}

/*
 * Let slot 0 sample user mode. The NMI handler has no such branches, which allows for
 * small periods.
 */
void start_user_branches(struct kvm_vcpu *vcpu, uint64_t period, uint64_t level)
{
	struct kvm_pv_pmu_request r = *SAMPLING_BRANCHES(period, PERF_SAMPLE_BRANCH_ANY | level);

	r.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_request(vcpu, 0, &r);
	pv_pmu_commit(vcpu, BIT(0));
	ASSERT_STATUS(vcpu, 0, 0);
}

void run_user_branches(struct kvm_vcpu *vcpu, uint64_t loops)
{
	pv_pmu_set_user_mode(vcpu, true);
	pv_pmu_call(vcpu, guest_loop_branches, loops, 0);
	pv_pmu_set_user_mode(vcpu, false);
}

/* ---- checks */

void assert_well_formed(struct kvm_vcpu *vcpu)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	struct found_branches *f = found_branches(vcpu);

	TEST_ASSERT_EQ(f->malformed, 0);
	TEST_ASSERT_EQ(f->missing, 0);
	TEST_ASSERT_EQ(m->empty, 0);
}

void forget_records(struct kvm_vcpu *vcpu)
{
	struct found_branches *f = found_branches(vcpu);

	f->records = 0;
	f->first_nr = 0;
}

/*
 * The first stack since forget_records() began empty, and has the branches of a period at most.
 * An NMI that was pending has added the return to user space. A stack before the first one
 * was lost.
 */
void assert_began_empty(struct kvm_vcpu *vcpu, uint64_t period)
{
	struct found_branches *f = found_branches(vcpu);

	TEST_ASSERT(f->records, "there is no record");
	TEST_ASSERT(f->first_nr && f->first_nr <= period + 1,
		    "%lu branches in a period of %lu", f->first_nr, period);
}

/* There are some records. All are full of branches of the loop. */
void assert_loop(struct kvm_vcpu *vcpu)
{
	struct found_branches *f = found_branches(vcpu);

	assert_well_formed(vcpu);
	TEST_ASSERT(f->records, "there is no record");
	TEST_ASSERT_EQ(f->lost, 0);
	TEST_ASSERT_EQ(f->full, f->records);
	TEST_ASSERT(!f->strange, "%lu of %lu branches are not the loop's, the first %#lx to %#lx",
		    f->strange, f->branches, f->from, f->to);
	TEST_ASSERT_EQ(f->branches, (f->records - f->outside) * ENTRIES);
}

/* Each overflow came with its record. */
void assert_record_each(struct kvm_vcpu *vcpu)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, 0);
	struct found_branches *f = found_branches(vcpu);

	ASSERT_STATUS(vcpu, 0, 0);
	TEST_ASSERT_EQ(f->outside, 0);
	TEST_ASSERT_EQ(f->records, r->overflows);
	TEST_ASSERT_EQ(f->of_slots, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->nmis, r->overflows);
}

/* Nothing is written but the records, and not the end of these. */
void assert_nothing_else_written(struct kvm_vm *vm)
{
	const struct kvm_pv_pmu_branches *pages = addr_gpa2hva(vm, PAGES_GPA);
	uint8_t fill[PAGE_SIZE];
	int i, j;

	memset(fill, FILL, sizeof(fill));
	for (i = 0; i < PAGES; i++) {
		if (!(i & 1)) {
			TEST_ASSERT(!memcmp(&pages[i], fill, PAGE_SIZE),
				    "the host wrote beside the page, to page %d", i);
			continue;
		}
		for (j = 0; j < KVM_PV_PMU_NR_BRANCH_RECORDS; j++)
			TEST_ASSERT(!memcmp(pages[i].records[j].pad, fill,
					    sizeof(pages[i].records[j].pad)),
				    "the host wrote to the end of record %d", j);
	}
}

void branch_test_init(void)
{
	pv_pmu_test_init();
	__TEST_REQUIRE(!access(GUEST_BRANCHES, R_OK),
		       "KVM gives guests no branch stacks: kvm_amd.lbrv is off, or the CPU has no LBR virtualization");
}
