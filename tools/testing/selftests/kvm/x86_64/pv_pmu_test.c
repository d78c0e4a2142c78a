// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the paravirtual PMU (KVM_FEATURE_PV_PMU) from both of its ends: the test
 * writes what a guest declares, the guest makes the calls, and both look at what
 * the host reports.
 *
 *  - Counts, overflows and NMIs are exact: of instructions, of branches, at one
 *    privilege level alone, with the period changed on the way, on two vCPUs, on
 *    another thread, while the host takes the counters away.
 *  - Each status comes of what it is for, and the event does not count.
 *  - The area is written while it is one, and never after: it is disabled, named
 *    again, reset, its cookie is another one, its memory is gone or read-only.
 *    What is written is dirty.
 *  - Counting goes on in another VM that has the memory and the MSR.
 *  - Without the feature bit there is neither the MSR nor the hypercall.
 *  - What a hostile guest may say, its host's PMU and its host survive; that
 *    includes a million of random commits while its memory comes and goes.
 *
 * Counts are compared exactly if the CPU's own counter of instructions is exact
 * for a guest, as perf_event_open() sees it; if not, they may be a bit above.
 */
#include <linux/capability.h>
#include <linux/kvm_para.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <asm/kvm_para.h>
#include <asm/kvm_pv_pmu.h>

#include "apic.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "pmu.h"
#include "processor.h"
#include "test_util.h"

#define NR_VCPUS	2
#define NR_SLOTS	KVM_PV_PMU_NR_SLOTS
#define ALL_SLOTS	((1ull << NR_SLOTS) - 1)

/* Two areas for each vCPU, at the same virtual as physical address. */
#define AREA_SLOT	1
#define AREA_GPA	0x10000000ul
#define AREAS		(2 * NR_VCPUS)
#define READONLY_SLOT	2
#define READONLY_GPA	0x20000000ul
#define HOLE_GPA	0x80000000ul
#define COOKIE		0xc00c1e

/* those of the library, and two more */
#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define USER_CS		(0x28 | 3)
#define USER_DS		(0x30 | 3)

#define LOOPS		10000
#define PERIOD		5000

/* What the code between the two hypercalls of pv_pmu_guest_count() does. */
#define INSTRUCTIONS(loops)	(2 * (loops) + 3)
#define BRANCHES(loops)		(loops)

/* One for each vCPU, in its GS segment. */
struct pv_pmu_mailbox {
	struct pv_pmu_mailbox *self;
	uint64_t (*fn)(uint64_t a, uint64_t b);
	uint64_t a, b;
	struct kvm_pv_pmu_area *area;
	bool look;		/* whether NMIs take the overflow bits */
	uint64_t nmis;
	uint64_t empty;		/* NMIs without an overflow bit */
	uint64_t overflows[NR_SLOTS];
};

static struct pv_pmu_mailbox pv_pmu_mailboxes[NR_VCPUS];

static bool pv_pmu_counts_are_exact;

/* ---- the guest */

static struct pv_pmu_mailbox *pv_pmu_guest_mailbox(void)
{
	struct pv_pmu_mailbox *m;

	asm volatile("mov %%gs:0, %0" : "=r"(m));
	return m;
}

static void guest_main(void)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();

	for (;;)
		GUEST_SYNC1(m->fn(m->a, m->b));
}

static void guest_nmi(struct ex_regs *regs)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t bits;
	int i;

	m->nmis++;
	if (!m->look)
		return;
	bits = __atomic_exchange_n(&m->area->header.overflow, 0, __ATOMIC_SEQ_CST);
	if (!bits)
		m->empty++;
	for (i = 0; i < NR_SLOTS; i++)
		m->overflows[i] += bits >> i & 1;
}

static uint64_t guest_wrmsr(uint64_t val, uint64_t unused)
{
	return wrmsr_safe(MSR_KVM_PV_PMU, val);
}

static uint64_t guest_rdmsr(uint64_t unused, uint64_t unused2)
{
	uint64_t val;
	uint8_t vector = rdmsr_safe(MSR_KVM_PV_PMU, &val);

	return vector ?: val;
}

static uint64_t guest_hypercall(uint64_t op, uint64_t mask)
{
	return kvm_hypercall(KVM_HC_PV_PMU, op, mask, 0, 0);
}

static uint64_t guest_spin(uint64_t loops, uint64_t unused)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b"
		     : "+r"(loops));
	return 0;
}

static uint64_t guest_read(uint64_t address, uint64_t unused)
{
	return READ_ONCE(*(uint64_t *)address);
}

#define STR(x)		#x
#define XSTR(x)		STR(x)

/* From one hypercall, with what is in %rax, to the next. */
#define SPIN								\
	"mov %%rax, %%r8\n\t"						\
	"1: dec %[loops]\n\t"						\
	"jnz 1b\n\t"							\
	"mov $" XSTR(KVM_HC_PV_PMU) ", %%eax\n\t"			\
	"mov $" XSTR(KVM_PV_PMU_OP_SYNC) ", %%ebx\n\t"

/* Commit, run a number of instructions and branches that is known, and sync. */
static uint64_t pv_pmu_guest_count(uint64_t mask, uint64_t loops)
{
	uint64_t op = KVM_PV_PMU_OP_COMMIT, ret = KVM_HC_PV_PMU;

	if (host_cpu_is_amd)
		asm volatile("vmmcall\n\t" SPIN "vmmcall\n\t"
			     "or %%r8, %%rax"
			     : "+a"(ret), [loops] "+D"(loops), "+b"(op)
			     : "c"(mask) : "r8", "memory");
	else
		asm volatile("vmcall\n\t" SPIN "vmcall\n\t"
			     "or %%r8, %%rax"
			     : "+a"(ret), [loops] "+D"(loops), "+b"(op)
			     : "c"(mask) : "r8", "memory");
	return ret;
}

/* ---- guests as the test sees them */

FIXTURE(pv_pmu) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	uint64_t faults;
};

static uint64_t read_number(const char *path)
{
	uint64_t n = 0;
	FILE *f = fopen(path, "r");

	if (f) {
		if (fscanf(f, "%lu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

/* Warnings and oopses of the host since its boot. */
static uint64_t pv_pmu_host_faults(void)
{
	return read_number("/sys/kernel/warn_count") +
	       read_number("/sys/kernel/oops_count");
}

static struct pv_pmu_mailbox *pv_pmu_mailbox(struct kvm_vcpu *vcpu)
{
	struct pv_pmu_mailbox *all = addr_gva2hva(vcpu->vm, (vm_vaddr_t)pv_pmu_mailboxes);

	return &all[vcpu->id];
}

static uint64_t pv_pmu_area_gpa(struct kvm_vcpu *vcpu, int nr)
{
	return AREA_GPA + (2 * vcpu->id + nr) * PAGE_SIZE;
}

static struct kvm_pv_pmu_area *other_area(struct kvm_vcpu *vcpu)
{
	return addr_gpa2hva(vcpu->vm, pv_pmu_area_gpa(vcpu, 1));
}

static struct kvm_pv_pmu_area *pv_pmu_area(struct kvm_vcpu *vcpu)
{
	return addr_gpa2hva(vcpu->vm, pv_pmu_area_gpa(vcpu, 0));
}

static struct kvm_pv_pmu_report *pv_pmu_report(struct kvm_vcpu *vcpu, int slot)
{
	return &pv_pmu_area(vcpu)->slots[slot].report;
}

/* What the area's memory is like: gone without a size. */
static void pv_pmu_set_memslot(struct kvm_vm *vm, uint32_t flags, uint64_t size)
{
	vm_set_user_memory_region(vm, AREA_SLOT, flags, AREA_GPA, size,
				  memslot2region(vm, AREA_SLOT)->host_mem);
}

static void set_user_segment(struct kvm_vm *vm, uint16_t selector, uint64_t desc)
{
	*(uint64_t *)(addr_gva2hva(vm, vm->arch.gdt) + (selector & ~7)) = desc;
}

static void vm_init(struct kvm_vm *vm)
{
	uint64_t *rsp0 = addr_gva2hva(vm, vm->arch.tss) + 4;

	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, AREA_GPA, AREA_SLOT,
				    AREAS, 0);
	virt_map(vm, AREA_GPA, AREA_GPA, AREAS);
	vm_install_exception_handler(vm, NMI_VECTOR, guest_nmi);
	/* for user mode, of one vCPU at a time */
	set_user_segment(vm, USER_CS, 0x00affb000000ffff);
	set_user_segment(vm, USER_DS, 0x00cff3000000ffff);
	*rsp0 = vm_vaddr_alloc_page(vm) + PAGE_SIZE;
}

static void vcpu_init(struct kvm_vcpu *vcpu)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	struct kvm_sregs sregs;

	m->self = &pv_pmu_mailboxes[vcpu->id];
	m->area = (void *)pv_pmu_area_gpa(vcpu, 0);
	m->look = true;
	vcpu_sregs_get(vcpu, &sregs);
	sregs.gs.base = (uint64_t)m->self;
	vcpu_sregs_set(vcpu, &sregs);
}

static struct kvm_vm *pv_pmu_vm_create(struct kvm_vcpu *vcpus[NR_VCPUS])
{
	struct kvm_vm *vm = vm_create_with_vcpus(NR_VCPUS, guest_main, vcpus);
	int i;

	vm_init(vm);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_init(vcpus[i]);
	return vm;
}

FIXTURE_SETUP(pv_pmu)
{
	self->faults = pv_pmu_host_faults();
	self->vm = pv_pmu_vm_create(self->vcpus);
	self->vcpu = self->vcpus[0];
}

FIXTURE_TEARDOWN(pv_pmu)
{
	kvm_vm_free(self->vm);
	TEST_ASSERT(pv_pmu_host_faults() == self->faults, "the host has found a fault in itself");
}

/* Have the guest call a function. */
static uint64_t pv_pmu_call(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
			    uint64_t a, uint64_t b)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	struct ucall uc;

	m->fn = fn;
	m->a = a;
	m->b = b;
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return uc.args[0];
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("unknown ucall %lu", uc.cmd);
	}
	return 0;
}

/* In user mode it runs with the kernel's page tables, all of them now the user's. */
static void open_to_user(struct kvm_vm *vm, uint64_t table, int level)
{
	uint64_t *entries = addr_gpa2hva(vm, table);
	int i;

	for (i = 0; i < 512; i++) {
		if (!(entries[i] & PTE_PRESENT_MASK))
			continue;
		entries[i] |= PTE_USER_MASK;
		if (level > 1 && !(entries[i] & PTE_LARGE_MASK))
			open_to_user(vm, PTE_GET_PA(entries[i]), level - 1);
	}
}

static void pv_pmu_set_user_mode(struct kvm_vcpu *vcpu, bool user)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	open_to_user(vcpu->vm, vcpu->vm->pgd, 4);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cs.selector = user ? USER_CS : KERNEL_CS;
	sregs.cs.dpl = user ? 3 : 0;
	sregs.ss = sregs.ds;
	sregs.ss.selector = user ? USER_DS : KERNEL_DS;
	sregs.ss.dpl = sregs.cs.dpl;
	vcpu_sregs_set(vcpu, &sregs);

	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= 0x3000;	/* IOPL 3, for the exit */
	vcpu_regs_set(vcpu, &regs);
}

/* Returns the vector of the fault, if there is one. */
static uint64_t pv_pmu_wrmsr(struct kvm_vcpu *vcpu, uint64_t val)
{
	return pv_pmu_call(vcpu, guest_wrmsr, val, 0);
}

static uint64_t pv_pmu_rdmsr(struct kvm_vcpu *vcpu)
{
	return pv_pmu_call(vcpu, guest_rdmsr, 0, 0);
}

static void pv_pmu_spin(struct kvm_vcpu *vcpu, uint64_t loops)
{
	pv_pmu_call(vcpu, guest_spin, loops, 0);
}

static void pv_pmu_enable(struct kvm_vcpu *vcpu)
{
	pv_pmu_area(vcpu)->header.cookie = COOKIE;
	TEST_ASSERT_EQ(pv_pmu_wrmsr(vcpu, pv_pmu_area_gpa(vcpu, 0) | KVM_PV_PMU_ENABLED), 0);
}

static void pv_pmu_request(struct kvm_vcpu *vcpu, int slot,
			   const struct kvm_pv_pmu_request *request)
{
	pv_pmu_area(vcpu)->slots[slot].request = *request;
}

#define REQUEST(...) (&(struct kvm_pv_pmu_request) { __VA_ARGS__ })

/* An event of PERF_TYPE_HARDWARE that runs. */
#define HARDWARE(event, ...)							\
	REQUEST(.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_##event,	\
		.flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN, ##__VA_ARGS__)

#define SAMPLING(event, period)							\
	REQUEST(.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_##event,	\
		.flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_SAMPLE,	\
		.sample_period = period)

static long pv_pmu_hypercall(struct kvm_vcpu *vcpu, uint64_t op, uint64_t mask)
{
	return pv_pmu_call(vcpu, guest_hypercall, op, mask);
}

static void pv_pmu_commit(struct kvm_vcpu *vcpu, uint64_t mask)
{
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_COMMIT, mask), 0);
}

static void pv_pmu_sync(struct kvm_vcpu *vcpu, uint64_t mask)
{
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_SYNC, mask), 0);
}

/* Commit, run a loop, sync. */
static void pv_pmu_count(struct kvm_vcpu *vcpu, uint64_t mask, uint64_t loops)
{
	TEST_ASSERT_EQ(pv_pmu_call(vcpu, pv_pmu_guest_count, mask, loops), 0);
}

/* Have an event not run any more, so that its count stays. */
static void pv_pmu_stop(struct kvm_vcpu *vcpu, int slot)
{
	pv_pmu_area(vcpu)->slots[slot].request.flags &= ~KVM_PV_PMU_RUN;
	pv_pmu_commit(vcpu, BIT(slot));
}

static bool pv_pmu_is_count(uint64_t n, uint64_t expected)
{
	if (pv_pmu_counts_are_exact)
		return n == expected;
	return n >= expected && n <= expected + expected / 100 + 1000;
}

#define ASSERT_COUNT(n, expected) do {						\
	uint64_t __n = (n), __expected = (expected);				\
										\
	TEST_ASSERT(pv_pmu_is_count(__n, __expected), #n " is %lu, not %lu",		\
		    __n, __expected);						\
} while (0)

#define ASSERT_STATUS(vcpu, slot, expected) do {				\
	int __slot = (slot), __expected = (expected);				\
	int __status = pv_pmu_report(vcpu, __slot)->status;				\
										\
	TEST_ASSERT(__status == __expected,					\
		    "the status of slot %d is %d, not %d",			\
		    __slot, __status, __expected);				\
} while (0)

static void pv_pmu_assert_untouched(const struct kvm_pv_pmu_area *area,
				    const struct kvm_pv_pmu_area *copy)
{
	const uint64_t *a = (const uint64_t *)area, *b = (const uint64_t *)copy;
	size_t i;

	for (i = 0; i < sizeof(*area) / sizeof(*a); i++)
		TEST_ASSERT(a[i] == b[i], "the host wrote %#lx over %#lx at offset %#zx",
			    a[i], b[i], i * sizeof(*a));
}

static void pv_pmu_assert_no_report(struct kvm_vcpu *vcpu, int slot)
{
	struct kvm_pv_pmu_report r = *pv_pmu_report(vcpu, slot), zero = {};

	r.seq = 0;
	TEST_ASSERT(!memcmp(&r, &zero, sizeof(r)), "slot %d has a report", slot);
}

static uint64_t pv_pmu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	int fd = vcpu_get_stats_fd(vcpu);
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc = NULL;
	uint64_t val = 0;
	int i;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (!strcmp(desc->name, name))
			break;
	}
	TEST_ASSERT(i < header.num_desc, "vCPUs have no statistic %s", name);
	read_stat_data(fd, &header, desc, &val, 1);
	free(descs);
	close(fd);
	return val;
}

static uint64_t pv_pmu_live_events(struct kvm_vcpu *vcpu)
{
	return pv_pmu_stat(vcpu, "pv_pmu_events");
}

static int pv_pmu_host_event_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
	attr->size = sizeof(*attr);
	attr->type = PERF_TYPE_HARDWARE;
	attr->config = PERF_COUNT_HW_INSTRUCTIONS;
	return syscall(__NR_perf_event_open, attr, pid, cpu, -1, 0);
}

/* What perf_event_open() of this thread says of a guest that spins. */
static uint64_t count_as_host(struct kvm_vcpu *vcpu, uint64_t loops)
{
	struct perf_event_attr attr = { .exclude_host = 1, .disabled = 1, .pinned = 1 };
	int fd = pv_pmu_host_event_open(&attr, 0, -1);
	uint64_t n;

	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("perf_event_open", fd));
	ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
	pv_pmu_spin(vcpu, loops);
	ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
	test_read(fd, &n, sizeof(n));
	close(fd);
	return n;
}

static bool host_counts_are_exact(void)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm = pv_pmu_vm_create(vcpus);
	uint64_t few, many;

	/* the first call has other instructions before and after it */
	count_as_host(vcpus[0], LOOPS);
	few = count_as_host(vcpus[0], LOOPS);
	many = count_as_host(vcpus[0], 11 * LOOPS);
	kvm_vm_free(vm);

	if (many - few == 2 * 10 * LOOPS)
		return true;
	pr_info("%u instructions of a guest count as %lu: no count can be exact\n",
		2 * 10 * LOOPS, many - few);
	return false;
}

/* ---- discovery, the MSR */

TEST_F(pv_pmu, discovery)
{
	const struct kvm_msr_list *list = kvm_get_msr_index_list();
	bool found = false;
	int i;

	for (i = 0; i < list->nmsrs; i++)
		found |= list->indices[i] == MSR_KVM_PV_PMU;
	TEST_ASSERT(found, "KVM_GET_MSR_INDEX_LIST has no MSR_KVM_PV_PMU");

	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), 0);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), 0);
}

TEST_F(pv_pmu, header)
{
	struct kvm_pv_pmu_header *header = &pv_pmu_area(self->vcpu)->header;
	uint64_t msr = pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED;
	int i;

	memset(header, 0xff, sizeof(*header));
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(header->version, KVM_PV_PMU_VERSION);
	TEST_ASSERT_EQ(header->nr_slots, KVM_PV_PMU_NR_SLOTS);
	TEST_ASSERT_EQ(header->cookie, COOKIE);
	TEST_ASSERT_EQ(header->cookie_echo, COOKIE);
	TEST_ASSERT_EQ(header->overflow, 0);
	for (i = 0; i < ARRAY_SIZE(header->reserved); i++)
		TEST_ASSERT_EQ(header->reserved[i], 0);
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_SAMPLE, "no sampling");
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_FREQ, "no sampling by frequency");

	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), msr);
	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), msr);
}

static void pv_pmu_assert_wrmsr_faults(struct kvm_vcpu *vcpu, uint64_t val)
{
	uint64_t vector = pv_pmu_wrmsr(vcpu, val);

	TEST_ASSERT(vector == GP_VECTOR, "writing %#lx gives exception %#lx", val, vector);
}

TEST_F(pv_pmu, msr_reserved_bits)
{
	uint64_t gpa = pv_pmu_area_gpa(self->vcpu, 0);
	int bit;

	pv_pmu_enable(self->vcpu);
	for (bit = 1; bit < 12; bit++) {
		pv_pmu_assert_wrmsr_faults(self->vcpu, gpa | BIT(bit) | KVM_PV_PMU_ENABLED);
		pv_pmu_assert_wrmsr_faults(self->vcpu, gpa | BIT(bit));
		TEST_ASSERT_EQ(_vcpu_set_msr(self->vcpu, MSR_KVM_PV_PMU, gpa | BIT(bit)), 0);
	}
	/* what faults changes nothing */
	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), gpa | KVM_PV_PMU_ENABLED);
	pv_pmu_commit(self->vcpu, 0);
}

TEST_F(pv_pmu, msr_no_memory)
{
	static const uint64_t addresses[] = {
		HOLE_GPA, APIC_DEFAULT_GPA, 1ull << 51, 1ull << 62, -1ull << 12,
	};
	uint64_t *cookie;
	int i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++)
		pv_pmu_assert_wrmsr_faults(self->vcpu, addresses[i] | KVM_PV_PMU_ENABLED);

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, READONLY_GPA,
				    READONLY_SLOT, 1, KVM_MEM_READONLY);
	cookie = addr_gpa2hva(self->vm, READONLY_GPA) +
		 offsetof(struct kvm_pv_pmu_header, cookie);
	*cookie = COOKIE;
	pv_pmu_assert_wrmsr_faults(self->vcpu, READONLY_GPA | KVM_PV_PMU_ENABLED);
	TEST_ASSERT_EQ(cookie[1], 0);
}

TEST_F(pv_pmu, msr_no_cookie)
{
	struct kvm_pv_pmu_area copy = {};

	pv_pmu_assert_wrmsr_faults(self->vcpu, pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* ---- the hypercall */

TEST_F(pv_pmu, hypercall_bad_arguments)
{
	int bit;

	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 0), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 0), -KVM_EFAULT);

	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, 2, 0), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, -1, 0), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, 1ull << 32, 0), -KVM_EOPNOTSUPP);
	for (bit = NR_SLOTS; bit < 64; bit++) {
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, BIT_ULL(bit)),
			       -KVM_EINVAL);
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, BIT_ULL(bit)),
			       -KVM_EINVAL);
	}
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, ALL_SLOTS), 0);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, ALL_SLOTS), 0);
}

TEST_F(pv_pmu, hypercall_of_user)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	copy = *pv_pmu_area(self->vcpu);

	pv_pmu_set_user_mode(self->vcpu, true);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EPERM);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_EPERM);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);

	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_commit(self->vcpu, 1);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

static void assert_absent(struct kvm_vcpu *vcpu)
{
	pv_pmu_assert_wrmsr_faults(vcpu, 0);
	pv_pmu_assert_wrmsr_faults(vcpu, pv_pmu_area_gpa(vcpu, 0) | KVM_PV_PMU_ENABLED);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(vcpu), GP_VECTOR);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_ENOSYS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_ENOSYS);
}

TEST_F(pv_pmu, feature_off)
{
	struct kvm_pv_pmu_area copy = { .header.cookie = COOKIE };

	*pv_pmu_area(self->vcpu) = copy;
	vcpu_clear_cpuid_feature(self->vcpu, X86_FEATURE_KVM_PV_PMU);
	assert_absent(self->vcpu);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

TEST_F(pv_pmu, feature_off_enforced)
{
	pv_pmu_area(self->vcpu)->header.cookie = COOKIE;
	vcpu_enable_cap(self->vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
	vcpu_clear_cpuid_feature(self->vcpu, X86_FEATURE_KVM_PV_PMU);
	assert_absent(self->vcpu);
}

TEST_F(pv_pmu, feature_on_enforced)
{
	vcpu_enable_cap(self->vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
	pv_pmu_enable(self->vcpu);
	pv_pmu_commit(self->vcpu, 0);
}

/* ---- counting */

TEST_F(pv_pmu, counts)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint32_t seq;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 30, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0) | BIT(30), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 30, 0);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 30)->count, BRANCHES(LOOPS));
	TEST_ASSERT(r->time_running, "the event ran for no time");
	TEST_ASSERT_EQ(r->time_running, r->time_enabled);
	TEST_ASSERT_EQ(r->overflows | r->last_period | r->throttled, 0);
	TEST_ASSERT_EQ(r->rdpmc_index, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 2);

	seq = r->seq;
	TEST_ASSERT(!(seq & 1), "the sequence count of a finished report is odd");
	pv_pmu_sync(self->vcpu, BIT(0));
	TEST_ASSERT(!(r->seq & 1) && r->seq != seq, "the sequence count went from %u to %u",
		    seq, r->seq);
}

TEST_F(pv_pmu, reports_what_it_is_asked_for)
{
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, 3);
	pv_pmu_sync(self->vcpu, BIT(1));
	n = pv_pmu_report(self->vcpu, 1)->count;
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	TEST_ASSERT(n, "no count");

	/* a commit reports all that run */
	pv_pmu_commit(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count > n, "slot 0 is left behind");
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count > n, "slot 1 is left behind");
}

TEST_F(pv_pmu, stops_and_goes_on)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = KVM_PV_PMU_OPEN));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(r->count, 0);
	TEST_ASSERT_EQ(r->time_enabled, 0);

	pv_pmu_area(self->vcpu)->slots[0].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));

	pv_pmu_stop(self->vcpu, 0);
	n = r->count;
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_sync(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(r->count, n);

	pv_pmu_area(self->vcpu)->slots[0].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, n + INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

TEST_F(pv_pmu, closes)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(3), LOOPS);

	/* what is not open need not be valid */
	pv_pmu_request(self->vcpu, 3, REQUEST(.type = -1, .flags = (uint32_t)~KVM_PV_PMU_OPEN,
					      .reserved[2] = 1));
	pv_pmu_commit(self->vcpu, BIT(3));
	pv_pmu_assert_no_report(self->vcpu, 3);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);

	pv_pmu_request(self->vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(3), LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 3)->count, INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, another_event_starts_at_zero)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_request(self->vcpu, 0, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, BRANCHES(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

TEST_F(pv_pmu, privilege_levels)
{
	const uint32_t user = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_EXCLUDE_KERNEL;
	const uint32_t kernel = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_EXCLUDE_USER;
	uint64_t n[2];

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = user));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = kernel));
	pv_pmu_request(self->vcpu, 2, HARDWARE(INSTRUCTIONS, .flags = user | kernel));
	pv_pmu_count(self->vcpu, 7, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 2)->count, 0);

	/* the same call twice, so that all but the loops cancels out */
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_sync(self->vcpu, 7);
	n[0] = pv_pmu_report(self->vcpu, 0)->count;
	n[1] = pv_pmu_report(self->vcpu, 1)->count;
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 2 * LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_sync(self->vcpu, 7);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count - 2 * n[0], 2 * LOOPS);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count - n[1] < LOOPS,
		    "the count of the kernel has the user's loops");
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 2)->count, 0);
}

/* ---- what cannot be counted */

static void pv_pmu_assert_refused(struct kvm_vcpu *vcpu,
				  const struct kvm_pv_pmu_request *bad, int status)
{
	uint64_t n = pv_pmu_report(vcpu, 0)->count;

	/* beside one that is fine, and in place of one that was */
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(vcpu, 3);
	ASSERT_STATUS(vcpu, 1, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 2);

	pv_pmu_stop(vcpu, 0);
	n = pv_pmu_report(vcpu, 0)->count;
	pv_pmu_area(vcpu)->slots[0].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_request(vcpu, 1, bad);
	pv_pmu_count(vcpu, 3, LOOPS);
	TEST_ASSERT(pv_pmu_report(vcpu, 1)->status == status,
		    "type %u, flags %#x, config %#llx, config1 %#llx, period %#llx: status %d, not %d",
		    bad->type, bad->flags, bad->config, bad->config1, bad->sample_period,
		    pv_pmu_report(vcpu, 1)->status, status);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 1)->count, 0);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 1)->overflows, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 1);
	ASSERT_STATUS(vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 0)->count, n + INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, unknown_events)
{
	static const uint32_t types[] = {
		PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_BREAKPOINT,
		PERF_TYPE_MAX, 100, -1,
	};
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		pv_pmu_assert_refused(self->vcpu, HARDWARE(CPU_CYCLES, .type = types[i]), -ENOENT);
}

/* Of the caches that perf knows, a CPU has events for some. */
TEST_F(pv_pmu, cache_events)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr), .type = PERF_TYPE_HW_CACHE, .exclude_host = 1,
	};
	int fd, refused = 0;

	pv_pmu_enable(self->vcpu);
	for (attr.config = 0; attr.config < PERF_COUNT_HW_CACHE_MAX; attr.config++) {
		fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
		if (fd >= 0) {
			close(fd);
			pv_pmu_request(self->vcpu, 0, HARDWARE(CPU_CYCLES, .type = attr.type,
							       .config = attr.config));
			pv_pmu_commit(self->vcpu, BIT(0));
			ASSERT_STATUS(self->vcpu, 0, 0);
		} else {
			refused++;
			pv_pmu_assert_refused(self->vcpu, HARDWARE(CPU_CYCLES, .type = attr.type,
								   .config = attr.config), -errno);
		}
	}
	TEST_ASSERT(refused, "the CPU has an event for all reads of all caches");
}

TEST_F(pv_pmu, malformed_requests)
{
	const uint32_t run = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN;
	const uint32_t sample = run | KVM_PV_PMU_SAMPLE;
	const struct kvm_pv_pmu_request bad[] = {
		*HARDWARE(CPU_CYCLES, .flags = run | BIT(7)),
		*HARDWARE(CPU_CYCLES, .flags = run | BIT(31)),
		*HARDWARE(CPU_CYCLES, .reserved[0] = 1),
		*HARDWARE(CPU_CYCLES, .reserved[1] = 1ull << 63),
		*HARDWARE(CPU_CYCLES, .reserved[2] = 1),
		*HARDWARE(CPU_CYCLES, .branch_sample_type = PERF_SAMPLE_BRANCH_ANY),
		*HARDWARE(CPU_CYCLES, .sample_period = PERIOD),
		*HARDWARE(CPU_CYCLES, .flags = sample),
		*HARDWARE(CPU_CYCLES, .flags = sample, .sample_period = 1ull << 63),
		*HARDWARE(CPU_CYCLES, .flags = sample, .sample_period = -1),
		*HARDWARE(CPU_CYCLES, .flags = run | KVM_PV_PMU_FREQ, .sample_freq = 1000),
		*HARDWARE(CPU_CYCLES, .flags = sample | KVM_PV_PMU_FREQ),
		*HARDWARE(CPU_CYCLES, .config1 = 1),
		*HARDWARE(MAX),
		*HARDWARE(CPU_CYCLES, .config = -1),
		*HARDWARE(CPU_CYCLES, .config = 1ull << 32),
		*HARDWARE(CPU_CYCLES, .type = PERF_TYPE_HW_CACHE, .config = 1ull << 32),
		*HARDWARE(CPU_CYCLES, .type = PERF_TYPE_HW_CACHE, .config1 = 1),
	};
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		pv_pmu_assert_refused(self->vcpu, &bad[i], -EINVAL);
}

/* Instructions, by number: Intel's and AMD's CPUs have the same one. */
#define RAW_INSTRUCTIONS	RAW_EVENT(0xc0, 0)

#define RAW(...) HARDWARE(CPU_CYCLES, .type = PERF_TYPE_RAW, ##__VA_ARGS__)

TEST_F(pv_pmu, raw_events)
{
	static const uint64_t refused[] = {
		ARCH_PERFMON_EVENTSEL_USR, ARCH_PERFMON_EVENTSEL_OS,
		ARCH_PERFMON_EVENTSEL_INT, ARCH_PERFMON_EVENTSEL_ANY,
		ARCH_PERFMON_EVENTSEL_ENABLE, 1ull << 63,
	};
	int i;

	pv_pmu_enable(self->vcpu);
	if (!(pv_pmu_area(self->vcpu)->header.features & KVM_PV_PMU_FEATURE_RAW)) {
		pv_pmu_assert_refused(self->vcpu, RAW(.config = RAW_INSTRUCTIONS), -EOPNOTSUPP);
		SKIP(return, "the host grants no raw events");
	}
	pv_pmu_request(self->vcpu, 0, RAW(.config = RAW_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));

	for (i = 0; i < ARRAY_SIZE(refused); i++)
		pv_pmu_assert_refused(self->vcpu, RAW(.config = RAW_INSTRUCTIONS | refused[i]),
				      -EINVAL);
}

static void set_filter(struct kvm_vm *vm, uint32_t action, uint32_t n, uint64_t event)
{
	struct {
		struct kvm_pmu_event_filter filter;
		uint64_t events[1];
	} f = { .filter = { .action = action, .nevents = n }, .events = { event } };

	vm_ioctl(vm, KVM_SET_PMU_EVENT_FILTER, &f.filter);
}

TEST_F(pv_pmu, event_filter)
{
	pv_pmu_enable(self->vcpu);
	set_filter(self->vm, KVM_PMU_EVENT_DENY, 1, RAW_INSTRUCTIONS);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, RAW(.config = RAW_INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 2, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 7, LOOPS);
	ASSERT_STATUS(self->vcpu, 0, -EOPNOTSUPP);
	ASSERT_STATUS(self->vcpu, 1, -EOPNOTSUPP);
	ASSERT_STATUS(self->vcpu, 2, 0);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 2)->count, BRANCHES(LOOPS));

	/* another filter, another status, be it asked for again or not */
	set_filter(self->vm, KVM_PMU_EVENT_ALLOW, 1, RAW_INSTRUCTIONS);
	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 7), 0);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_STATUS(self->vcpu, 2, -EOPNOTSUPP);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count >= INSTRUCTIONS(LOOPS), "%llu instructions",
		    pv_pmu_report(self->vcpu, 0)->count);
}

/* ---- what the host grants */

#define PARAMETER(name)	"/sys/module/kvm/parameters/" name
#define PARANOID	"/proc/sys/kernel/perf_event_paranoid"

static bool write_string(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, val, strlen(val)) == strlen(val);
	close(fd);
	return ok;
}

static void read_string(const char *path, char *val, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, val, size - 1);

	TEST_ASSERT(n >= 0, "%s cannot be read", path);
	val[n] = 0;
	val[strcspn(val, "\n")] = 0;
	close(fd);
}

FIXTURE(pv_pmu_policy) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	char old[16];
};

/*
 * A setting of the host, which goes back when the test ends, however it does. A
 * parameter that can only be set at boot is tested if it was.
 */
FIXTURE_VARIANT(pv_pmu_policy) {
	const char *path;
	const char *val;
	void (*test)(struct kvm_vcpu *vcpu);
};

FIXTURE_SETUP(pv_pmu_policy)
{
	read_string(variant->path, self->old, sizeof(self->old));
}

FIXTURE_TEARDOWN_PARENT(pv_pmu_policy)
{
	write_string(variant->path, self->old);
}

static void set_capability(int cap, bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	TEST_ASSERT(!syscall(__NR_capget, &header, data), "capget failed");
	data[cap / 32].effective &= ~BIT(cap % 32);
	if (on)
		data[cap / 32].effective |= BIT(cap % 32);
	TEST_ASSERT(!syscall(__NR_capset, &header, data), "capset failed");
}

static void test_max_events(struct kvm_vcpu *vcpu)
{
	int i;

	pv_pmu_enable(vcpu);
	for (i = 0; i < 4; i++)
		pv_pmu_request(vcpu, i, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(vcpu, 0xf, LOOPS);
	for (i = 0; i < 4; i++) {
		ASSERT_STATUS(vcpu, i, i < 2 ? 0 : -ENOSPC);
		ASSERT_COUNT(pv_pmu_report(vcpu, i)->count, i < 2 ? INSTRUCTIONS(LOOPS) : 0);
	}
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 2);

	pv_pmu_request(vcpu, 0, REQUEST());
	pv_pmu_commit(vcpu, BIT(0));
	pv_pmu_count(vcpu, BIT(3), LOOPS);
	ASSERT_STATUS(vcpu, 3, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 3)->count, INSTRUCTIONS(LOOPS));
}

static void test_no_raw_events(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	TEST_ASSERT(!(pv_pmu_area(vcpu)->header.features & KVM_PV_PMU_FEATURE_RAW),
		    "the header tells of raw events");
	pv_pmu_assert_refused(vcpu, RAW(.config = RAW_INSTRUCTIONS), -EOPNOTSUPP);
}

static void test_paranoid(struct kvm_vcpu *vcpu)
{
	const uint32_t run = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN;

	pv_pmu_enable(vcpu);
	set_capability(CAP_PERFMON, false);
	set_capability(CAP_SYS_ADMIN, false);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = run | KVM_PV_PMU_EXCLUDE_USER));
	pv_pmu_request(vcpu, 2, HARDWARE(INSTRUCTIONS, .flags = run | KVM_PV_PMU_EXCLUDE_KERNEL));
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	ASSERT_STATUS(vcpu, 1, -EACCES);
	ASSERT_STATUS(vcpu, 2, 0);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 0)->count, 0);

	/* a refusal stands for a second */
	set_capability(CAP_PERFMON, true);
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	sleep(2);
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

static void test_very_paranoid(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	set_capability(CAP_SYS_ADMIN, false);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS,
					 .flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN |
					   KVM_PV_PMU_EXCLUDE_KERNEL));
	pv_pmu_count(vcpu, 3, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	ASSERT_STATUS(vcpu, 1, -EACCES);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 1)->count, 0);
}

static void test_no_pinned_events(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	pv_pmu_assert_refused(vcpu, HARDWARE(INSTRUCTIONS,
					     .flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN |
					       KVM_PV_PMU_PINNED), -EOPNOTSUPP);
}

FIXTURE_VARIANT_ADD(pv_pmu_policy, max_events) {
	PARAMETER("pv_pmu_max_events"), "2", test_max_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, no_raw_events) {
	PARAMETER("pv_pmu_raw"), "N", test_no_raw_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, no_pinned_events) {
	PARAMETER("pv_pmu_pinned"), "N", test_no_pinned_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, very_paranoid) {
	PARANOID, "3", test_very_paranoid
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, paranoid) {
	PARANOID, "2", test_paranoid
};

TEST_F(pv_pmu_policy, holds)
{
	uint64_t faults = pv_pmu_host_faults();

	if (strcmp(self->old, variant->val) && !write_string(variant->path, variant->val))
		SKIP(return, "%s cannot be set to %s", variant->path, variant->val);
	self->vm = pv_pmu_vm_create(self->vcpus);
	variant->test(self->vcpus[0]);
	kvm_vm_free(self->vm);
	TEST_ASSERT_EQ(pv_pmu_host_faults(), faults);
}

/* ---- the host takes its counters */

#define MAX_COUNTERS	64

/* Pinned events of the host on this CPU, until there is no counter left. */
static int take_counters(int fds[MAX_COUNTERS], int leave)
{
	struct perf_event_attr attr = { .pinned = 1 };
	uint64_t val;
	int n, i;

	for (n = 0; n < MAX_COUNTERS; n++) {
		fds[n] = pv_pmu_host_event_open(&attr, -1, 0);
		TEST_ASSERT(fds[n] >= 0, __KVM_SYSCALL_ERROR("perf_event_open", fds[n]));
		if (read(fds[n], &val, sizeof(val)) != sizeof(val))
			break;
	}
	for (i = n; i >= max(n - leave, 0); i--)
		close(fds[i]);
	return i + 1;
}

static void give_counters(int fds[MAX_COUNTERS], int n)
{
	while (n--)
		close(fds[n]);
}

TEST_F(pv_pmu, counters_taken)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	int fds[MAX_COUNTERS], n;
	uint64_t counted, running;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));
	pv_pmu_stop(self->vcpu, 0);
	counted = r->count;
	running = r->time_running;

	n = take_counters(fds, 0);
	pv_pmu_area(self->vcpu)->slots[0].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(r->count, counted);
	TEST_ASSERT_EQ(r->time_running, running);
	TEST_ASSERT(r->time_enabled > running, "time stood still");
	pv_pmu_stop(self->vcpu, 0);

	give_counters(fds, n);
	pv_pmu_area(self->vcpu)->slots[0].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, counted + INSTRUCTIONS(LOOPS));
	TEST_ASSERT(r->time_running > running, "the event ran for no time");
}

TEST_F(pv_pmu, counters_taken_pinned)
{
	const uint32_t pinned = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_PINNED;
	int fds[MAX_COUNTERS], n;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(self->vcpu);
	n = take_counters(fds, 1);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 1, -EBUSY);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 1)->count, 0);

	/* there is one again, when it is asked for again */
	give_counters(fds, n);
	pv_pmu_stop(self->vcpu, 1);
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_count(self->vcpu, BIT(1), LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, INSTRUCTIONS(LOOPS));
}

/* ---- sampling */

/* All overflows are reported, and each was looked at in one NMI. */
static void assert_overflows(struct kvm_vcpu *vcpu, int slot, uint64_t period)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, slot);

	ASSERT_STATUS(vcpu, slot, 0);
	ASSERT_COUNT(r->overflows, r->count / period);
	TEST_ASSERT_EQ(r->last_period, period);
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->overflows[slot], r->overflows);
}

TEST_F(pv_pmu, samples)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	assert_overflows(self->vcpu, 0, PERIOD);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= INSTRUCTIONS(10 * LOOPS) / PERIOD,
		    "%llu overflows", pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(m->nmis, pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area(self->vcpu)->header.overflow, 0);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_nmis"), m->nmis);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_overflows"), m->nmis);
}

TEST_F(pv_pmu, samples_not_looked_at)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	m->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	ASSERT_COUNT(r->overflows, r->count / PERIOD);
	TEST_ASSERT(r->overflows > 1, "too few overflows to tell");
	TEST_ASSERT_EQ(m->nmis, 1);
	TEST_ASSERT_EQ(pv_pmu_area(self->vcpu)->header.overflow, BIT(0));

	/* once it has looked there is one NMI again */
	pv_pmu_area(self->vcpu)->header.overflow = 0;
	pv_pmu_count(self->vcpu, 0, 10 * LOOPS);
	TEST_ASSERT_EQ(m->nmis, 2);
}

TEST_F(pv_pmu, samples_with_another_period)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n, overflows;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	n = r->count;
	overflows = r->overflows;
	TEST_ASSERT(overflows, "no overflow");

	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, 2 * PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	TEST_ASSERT(r->count > n + INSTRUCTIONS(10 * LOOPS), "the count is another one");
	TEST_ASSERT_EQ(r->last_period, 2 * PERIOD);
	n = (r->count - n) / (2 * PERIOD);
	TEST_ASSERT(r->overflows - overflows >= n - 1 && r->overflows - overflows <= n + 1,
		    "%llu overflows, not %lu", r->overflows - overflows, n);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);

	/* the same identity with a period that is none */
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, 1ull << 63));
	pv_pmu_commit(self->vcpu, BIT(0));
	ASSERT_STATUS(self->vcpu, 0, -EINVAL);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
}

TEST_F(pv_pmu, samples_by_frequency)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	struct kvm_pv_pmu_request freq = *SAMPLING(INSTRUCTIONS, 1000);

	freq.flags |= KVM_PV_PMU_FREQ;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &freq);
	pv_pmu_count(self->vcpu, BIT(0), 1000 * LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT(r->overflows, "no overflow");
	TEST_ASSERT(r->last_period > 1, "the period is still %llu", r->last_period);
	/* it starts with short periods, of which the guest sees some at once */
	TEST_ASSERT(pv_pmu_mailbox(self->vcpu)->overflows[0] &&
		    pv_pmu_mailbox(self->vcpu)->overflows[0] <= r->overflows,
		    "%lu overflows of %llu", pv_pmu_mailbox(self->vcpu)->overflows[0],
		    r->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);

	/* more than the host's limit */
	freq.sample_freq = 1ull << 40;
	pv_pmu_request(self->vcpu, 0, &freq);
	pv_pmu_commit(self->vcpu, BIT(0));
	ASSERT_STATUS(self->vcpu, 0, -EINVAL);
	pv_pmu_request(self->vcpu, 1, &freq);
	pv_pmu_commit(self->vcpu, BIT(1));
	ASSERT_STATUS(self->vcpu, 1, -EINVAL);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
}

TEST_F(pv_pmu, samples_of_user)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, PERIOD);

	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &user);
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 10 * LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_stop(self->vcpu, 0);
	assert_overflows(self->vcpu, 0, PERIOD);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= 2 * 10 * LOOPS / PERIOD,
		    "%llu overflows", pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* The smallest period that there is: the guest hurts itself, and gets on. */
TEST_F(pv_pmu, period_of_one)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, 1);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &user);
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 1000);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(r->overflows && r->overflows <= r->count, "%llu overflows in %llu events",
		    r->overflows, r->count);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

TEST_F(pv_pmu, all_slots_sample)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	uint64_t overflows = 0;
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < NR_SLOTS; i++)
		pv_pmu_request(self->vcpu, i, SAMPLING(INSTRUCTIONS, PERIOD + 100 * i));
	pv_pmu_count(self->vcpu, ALL_SLOTS, 1000 * LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), NR_SLOTS);
	for (i = 0; i < NR_SLOTS; i++)
		pv_pmu_area(self->vcpu)->slots[i].request.flags &= ~KVM_PV_PMU_RUN;
	pv_pmu_commit(self->vcpu, ALL_SLOTS);
	for (i = 0; i < NR_SLOTS; i++) {
		struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, i);

		ASSERT_STATUS(self->vcpu, i, 0);
		TEST_ASSERT(r->time_running <= r->time_enabled,
			    "slot %d ran for %llu of %llu ns", i, r->time_running, r->time_enabled);
		TEST_ASSERT(m->overflows[i] <= r->overflows, "slot %d: %lu overflows of %llu",
			    i, m->overflows[i], r->overflows);
		TEST_ASSERT(r->overflows <= r->count / (PERIOD + 100 * i) + 1,
			    "slot %d: %llu overflows in %llu", i, r->overflows, r->count);
		overflows += r->overflows;
	}
	TEST_ASSERT(overflows, "no overflow");
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area(self->vcpu)->header.overflow, 0);
}

/* ---- the area's life */

TEST_F(pv_pmu, disable)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu, 0), 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), 0);

	copy = *pv_pmu_area(self->vcpu);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_EFAULT);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu, 0), 0);
}

TEST_F(pv_pmu, same_area_again)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, another_area)
{
	struct kvm_pv_pmu_area *other = other_area(self->vcpu), copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	other->header.cookie = COOKIE + 1;
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu,
				    pv_pmu_area_gpa(self->vcpu, 1) | KVM_PV_PMU_ENABLED), 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(other->header.cookie_echo, COOKIE + 1);

	copy = *pv_pmu_area(self->vcpu);
	other->slots[0].request = *HARDWARE(INSTRUCTIONS);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(other->slots[0].report.count, INSTRUCTIONS(LOOPS));
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

TEST_F(pv_pmu, another_cookie)
{
	static const uint64_t cookies[] = { 0, COOKIE + 1 };
	struct kvm_pv_pmu_area copy;
	int i;

	for (i = 0; i < ARRAY_SIZE(cookies); i++) {
		pv_pmu_enable(self->vcpu);
		pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
		pv_pmu_commit(self->vcpu, BIT(0));

		pv_pmu_area(self->vcpu)->header.cookie = cookies[i];
		pv_pmu_area(self->vcpu)->header.overflow = 0;
		copy = *pv_pmu_area(self->vcpu);
		pv_pmu_mailbox(self->vcpu)->nmis = 0;
		pv_pmu_spin(self->vcpu, 10 * LOOPS);
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_EFAULT);
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
		vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU);
		pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
		TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->nmis, 0);
	}
}

/* An INIT, which KVM takes note of when it is asked for the state of the vCPU. */
TEST_F(pv_pmu, reset)
{
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_pv_pmu_area copy;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	vcpu_sregs_get(self->vcpu, &sregs);
	vcpu_regs_get(self->vcpu, &regs);
	copy = *pv_pmu_area(self->vcpu);

	vcpu_events_get(self->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.latched_init = 1;
	vcpu_events_set(self->vcpu, &events);
	vcpu_mp_state_get(self->vcpu, &mp_state);
	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);

	vcpu_sregs_set(self->vcpu, &sregs);
	vcpu_regs_set(self->vcpu, &regs);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* The VM ends while its events run. */
TEST_F(pv_pmu, vm_ends)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 3, LOOPS);
}

/* ---- the area's memory */

static uint64_t pv_pmu_dirty_areas(struct kvm_vm *vm)
{
	uint64_t bitmap = 0;

	kvm_vm_get_dirty_log(vm, AREA_SLOT, &bitmap);
	return bitmap;
}

TEST_F(pv_pmu, dirty_log)
{
	const uint64_t page = BIT((pv_pmu_area_gpa(self->vcpu, 0) - AREA_GPA) / PAGE_SIZE);

	vm_mem_region_set_flags(self->vm, AREA_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), 0);
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);

	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));

	/* what is brought up to date for a VMM that saves the vCPU */
	vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count > INSTRUCTIONS(LOOPS),
		    "reading the MSR has not brought the report up to date");

	/* the guest itself does not touch it in its NMIs now */
	pv_pmu_mailbox(self->vcpu)->look = false;
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_dirty_areas(self->vm);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->nmis, 1);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);

	vm_mem_region_set_flags(self->vm, AREA_SLOT, 0);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
}

TEST_F(pv_pmu, memory_gone)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_mailbox(self->vcpu)->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 3, LOOPS);

	copy = *pv_pmu_area(self->vcpu);
	pv_pmu_set_memslot(self->vm, 0, 0);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 3), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 3), -KVM_EFAULT);
	vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);

	/* back, and counted all the while */
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	pv_pmu_commit(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count >= copy.slots[1].report.count + 2 * LOOPS,
		    "the count has not gone on");
}

TEST_F(pv_pmu, memory_becomes_read_only)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);

	copy = *pv_pmu_area(self->vcpu);
	pv_pmu_set_memslot(self->vm, 0, 0);
	pv_pmu_set_memslot(self->vm, KVM_MEM_READONLY, AREAS * PAGE_SIZE);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_EFAULT);
	pv_pmu_assert_wrmsr_faults(self->vcpu, pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* The VMM has no memory where its memslot says it has. */
TEST_F(pv_pmu, memory_unmapped_in_the_host)
{
	void *areas = addr_gpa2hva(self->vm, AREA_GPA);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_mailbox(self->vcpu)->look = false;
	pv_pmu_commit(self->vcpu, BIT(0));

	TEST_ASSERT(!mprotect(areas, AREAS * PAGE_SIZE, PROT_NONE), "mprotect failed");
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	pv_pmu_assert_wrmsr_faults(self->vcpu, pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED);
	TEST_ASSERT(!mprotect(areas, AREAS * PAGE_SIZE, PROT_READ), "mprotect failed");
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);

	TEST_ASSERT(!mprotect(areas, AREAS * PAGE_SIZE, PROT_READ | PROT_WRITE),
		    "mprotect failed");
	pv_pmu_enable(self->vcpu);
	pv_pmu_commit(self->vcpu, BIT(0));
	ASSERT_STATUS(self->vcpu, 0, 0);
}

/* The table that maps the areas: the host does what it is asked, to the guest. */
TEST_F(pv_pmu, area_is_page_table)
{
	uint64_t *ptes = vm_get_page_table_entry(self->vm, AREA_GPA);
	uint64_t gpa = addr_hva2gpa(self->vm, ptes), pte = ptes[2];
	struct kvm_pv_pmu_area *area = (void *)ptes;

	/* an entry is the cookie */
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu, gpa | KVM_PV_PMU_ENABLED), 0);
	TEST_ASSERT_EQ(ptes[0], KVM_PV_PMU_VERSION | (uint64_t)NR_SLOTS << 32);
	TEST_ASSERT_EQ(ptes[2], pte);
	TEST_ASSERT_EQ(ptes[3], pte);

	area->slots[0].request = *HARDWARE(INSTRUCTIONS);
	pv_pmu_count(self->vcpu, ALL_SLOTS, LOOPS);
	ASSERT_COUNT(area->slots[0].report.count, INSTRUCTIONS(LOOPS));

	/* the area that was mapped there is where the header points to now */
	pv_pmu_mailbox(self->vcpu)->fn = guest_read;
	pv_pmu_mailbox(self->vcpu)->a = AREA_GPA;
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(self->vcpu->run->mmio.phys_addr, (uint64_t)NR_SLOTS << 32);
}

/* ---- two vCPUs, two threads */

struct pv_pmu_thread {
	struct kvm_vcpu *vcpu;
	uint64_t (*fn)(uint64_t a, uint64_t b);
	uint64_t a, b;
	uint64_t ret;
};

static void *thread_call(void *arg)
{
	struct pv_pmu_thread *t = arg;

	t->ret = pv_pmu_call(t->vcpu, t->fn, t->a, t->b);
	return NULL;
}

static void pv_pmu_thread_start(pthread_t *pthread, struct pv_pmu_thread *t)
{
	TEST_ASSERT(!pthread_create(pthread, NULL, thread_call, t), "no thread");
}

static uint64_t pv_pmu_call_in_thread(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
				      uint64_t a, uint64_t b)
{
	struct pv_pmu_thread t = { vcpu, fn, a, b };
	pthread_t pthread;

	pv_pmu_thread_start(&pthread, &t);
	pthread_join(pthread, NULL);
	return t.ret;
}

TEST_F(pv_pmu, two_vcpus)
{
	struct pv_pmu_thread t[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(self->vcpus[i]);
		pv_pmu_request(self->vcpus[i], 0, HARDWARE(INSTRUCTIONS));
		pv_pmu_request(self->vcpus[i], 1,
			       SAMPLING(BRANCH_INSTRUCTIONS, 100 * (i + 1) * LOOPS));
		t[i] = (struct pv_pmu_thread) {
			self->vcpus[i], pv_pmu_guest_count, 1, 1000 * (i + 1) * LOOPS
		};
	}
	for (i = 0; i < NR_VCPUS; i++)
		pv_pmu_thread_start(&pthreads[i], &t[i]);
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		TEST_ASSERT_EQ(t[i].ret, 0);
		ASSERT_COUNT(pv_pmu_report(self->vcpus[i], 0)->count,
			     INSTRUCTIONS(1000 * (i + 1) * LOOPS));
		pv_pmu_assert_no_report(self->vcpus[i], 1);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		t[i].a = 3;
		pv_pmu_thread_start(&pthreads[i], &t[i]);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		TEST_ASSERT_EQ(t[i].ret, 0);
		pv_pmu_stop(self->vcpus[i], 1);
		assert_overflows(self->vcpus[i], 1, 100 * (i + 1) * LOOPS);
		TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpus[i])->empty, 0);
	}
}

TEST_F(pv_pmu, two_vcpus_one_area)
{
	const uint64_t msr = pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED;
	struct pv_pmu_thread t[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i, round;

	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpus[1], msr), 0);
	pv_pmu_mailbox(self->vcpus[1])->area = pv_pmu_mailbox(self->vcpu)->area;
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, SAMPLING(INSTRUCTIONS, PERIOD));
	for (round = 0; round < 10; round++) {
		for (i = 0; i < NR_VCPUS; i++) {
			t[i] = (struct pv_pmu_thread) {
				self->vcpus[i], pv_pmu_guest_count, 3, 10 * LOOPS
			};
			pv_pmu_thread_start(&pthreads[i], &t[i]);
		}
		for (i = 0; i < NR_VCPUS; i++) {
			pthread_join(pthreads[i], NULL);
			TEST_ASSERT_EQ(t[i].ret, 0);
		}
	}

	/* the first goes on alone */
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpus[1], 0), 0);
	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, REQUEST());
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, BRANCHES(LOOPS));
}

TEST_F(pv_pmu, another_thread)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n;

	/* the same calls, all of them on this thread and then not */
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_call(self->vcpu, pv_pmu_guest_count, BIT(0), LOOPS);
	n = r->count;

	pv_pmu_enable(self->vcpu);
	pv_pmu_commit(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_call_in_thread(self->vcpu, pv_pmu_guest_count, BIT(0), LOOPS), 0);
	ASSERT_COUNT(r->count, n);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);

	/* and back, to where there was one before; that thread is gone */
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT(r->count > n + INSTRUCTIONS(LOOPS), "the count has not gone on");
	TEST_ASSERT(r->time_running && r->time_running <= r->time_enabled,
		    "ran for %llu of %llu ns", r->time_running, r->time_enabled);
}

TEST_F(pv_pmu, another_thread_samples)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_commit(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_call_in_thread(self->vcpu, pv_pmu_guest_count, 0, 10 * LOOPS), 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= 2 * 10 * LOOPS / PERIOD,
		    "%llu overflows", pv_pmu_report(self->vcpu, 0)->overflows);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->overflows[0],
		       pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* Have a slot, in any vCPU's area, be one event and another in turn, and none. */
static uint64_t guest_rewrite(uint64_t address, uint64_t times)
{
	struct kvm_pv_pmu_request *r = (void *)address;
	uint64_t i;

	for (i = 0; i < times; i++) {
		WRITE_ONCE(r->config, i % (PERF_COUNT_HW_MAX + 2));
		WRITE_ONCE(r->type, i % 7 ? PERF_TYPE_HARDWARE : i);
		WRITE_ONCE(r->flags, i % 5 ? KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN : i);
		WRITE_ONCE(r->sample_period, i % 11 ? 0 : PERIOD);
		WRITE_ONCE(r->reserved[i % 3], !(i % 13));
	}
	return 0;
}

static uint64_t guest_commit_often(uint64_t mask, uint64_t times)
{
	uint64_t ret = 0;

	while (times--)
		ret |= kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, mask, 0, 0);
	return ret;
}

TEST_F(pv_pmu, rewritten_during_commit)
{
	struct kvm_pv_pmu_area *area = (void *)pv_pmu_area_gpa(self->vcpu, 0);
	struct pv_pmu_thread t[] = {
		{ self->vcpus[0], guest_commit_often, 1, 10000 },
		{ self->vcpus[1], guest_rewrite, (uint64_t)&area->slots[0].request, 10000000 },
	};
	pthread_t pthreads[2];

	pv_pmu_enable(self->vcpu);
	pv_pmu_thread_start(&pthreads[0], &t[0]);
	pv_pmu_thread_start(&pthreads[1], &t[1]);
	pthread_join(pthreads[0], NULL);
	pthread_join(pthreads[1], NULL);
	TEST_ASSERT_EQ(t[0].ret, 0);

	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

/* ---- saved and restored */

/* The VM ends, its memory stays. */
static struct kvm_x86_state *save(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);

	kvm_vm_release(vcpu->vm);
	return state;
}

/* Another VM gets the memory and a vCPU. */
static struct kvm_vcpu *restore(struct kvm_vm *vm, struct kvm_x86_state *state)
{
	struct kvm_vcpu *vcpu = vm_recreate_with_one_vcpu(vm);

	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
	return vcpu;
}

TEST_F(pv_pmu, restores_counts)
{
	struct kvm_pv_pmu_report before, *r = pv_pmu_report(self->vcpu, 0);
	uint64_t stopped;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 30, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, ALL_SLOTS);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_stop(self->vcpu, 1);
	stopped = pv_pmu_report(self->vcpu, 1)->count;
	before = *r;

	self->vcpu = restore(self->vm, save(self->vcpu));
	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU),
		       pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	/* and what comes before and after the loops */
	TEST_ASSERT(r->count >= before.count + INSTRUCTIONS(LOOPS) &&
		    r->count <= before.count + INSTRUCTIONS(LOOPS) + 2000,
		    "%llu instructions, then %llu", before.count, r->count);
	TEST_ASSERT(r->seq != before.seq, "the sequence count stands still");
	TEST_ASSERT(r->time_enabled > before.time_enabled, "time has not gone on");
	TEST_ASSERT(r->time_running > before.time_running, "time has not gone on");
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 3);

	/* the one that did not run still does not, and can */
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 1)->count, stopped);
	pv_pmu_area(self->vcpu)->slots[1].request.flags |= KVM_PV_PMU_RUN;
	pv_pmu_count(self->vcpu, BIT(1), LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, stopped + INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, restores_samples)
{
	struct kvm_pv_pmu_report before, *r = pv_pmu_report(self->vcpu, 0);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	before = *r;
	self->vcpu = restore(self->vm, save(self->vcpu));
	pv_pmu_count(self->vcpu, 0, 10 * LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(r->overflows >= before.overflows + INSTRUCTIONS(10 * LOOPS) / PERIOD,
		    "%llu overflows, then %llu", before.overflows, r->overflows);
	TEST_ASSERT(r->count >= before.count + INSTRUCTIONS(10 * LOOPS),
		    "%llu events, then %llu", before.count, r->count);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->overflows[0], r->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* What the guest has not looked at yet gets one NMI, be it saved as well or not. */
static void test_restores_overflow(struct kvm_vcpu *vcpu, bool nmi_saved)
{
	struct kvm_vm *vm = vcpu->vm;
	struct kvm_x86_state *state;
	struct pv_pmu_mailbox *m;

	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 5, SAMPLING(INSTRUCTIONS, 1ull << 40));
	pv_pmu_commit(vcpu, BIT(5));
	state = save(vcpu);
	state->events.nmi.pending = nmi_saved;
	pv_pmu_area(vcpu)->header.overflow = BIT(5);
	vcpu = restore(vm, state);
	pv_pmu_count(vcpu, 0, LOOPS);
	m = pv_pmu_mailbox(vcpu);
	TEST_ASSERT_EQ(m->overflows[5], 1);
	TEST_ASSERT_EQ(m->nmis, 1);
	TEST_ASSERT_EQ(pv_pmu_area(vcpu)->header.overflow, 0);
}

TEST_F(pv_pmu, restores_overflow)
{
	test_restores_overflow(self->vcpu, false);
}

TEST_F(pv_pmu, restores_overflow_and_nmi)
{
	test_restores_overflow(self->vcpu, true);
}

TEST_F(pv_pmu, restores_without_memory)
{
	struct kvm_x86_state *state;
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	state = save(self->vcpu);
	copy = *pv_pmu_area(self->vcpu);

	self->vcpu = vm_recreate_with_one_vcpu(self->vm);
	pv_pmu_set_memslot(self->vm, 0, 0);
	vcpu_load_state(self->vcpu, state);
	kvm_x86_state_cleanup(state);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
}

TEST_F(pv_pmu, restores_another_cookie)
{
	struct kvm_x86_state *state;
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	state = save(self->vcpu);
	pv_pmu_area(self->vcpu)->header.cookie = COOKIE + 1;
	copy = *pv_pmu_area(self->vcpu);
	self->vcpu = restore(self->vm, state);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* What came from a host that could count it, and comes to one that cannot. */
TEST_F(pv_pmu, restores_nonsense)
{
	struct kvm_x86_state *state;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, BIT(0));
	state = save(self->vcpu);
	memset(pv_pmu_area(self->vcpu)->slots, 0xff, sizeof(pv_pmu_area(self->vcpu)->slots));
	pv_pmu_request(self->vcpu, 7, HARDWARE(CPU_CYCLES, .type = PERF_TYPE_TRACEPOINT));
	self->vcpu = restore(self->vm, state);
	pv_pmu_count(self->vcpu, 0, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	ASSERT_STATUS(self->vcpu, 0, -EINVAL);
	ASSERT_STATUS(self->vcpu, 7, -ENOENT);
}

/* ---- random */

#define RANDOM_COMMITS	500000	/* on each of the vCPUs */

static uint64_t guest_random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/*
 * Most are events that can be, in the first few slots, so that they run and
 * replace each other.
 */
static void guest_random_request(struct kvm_pv_pmu_request *r, uint64_t x)
{
	static const uint64_t periods[] = { 0, 20000, 1ull << 32, 1ull << 63 };
	bool sane = x >> 60;
	uint32_t flags;

	if (sane)
		flags = x >> 24 & 1 ? KVM_PV_PMU_OPEN | (x >> 25 & 0x3f) : 0;
	else
		flags = x >> 32;
	WRITE_ONCE(r->type, sane ? PERF_TYPE_HARDWARE : x >> 8 & 7);
	WRITE_ONCE(r->config, sane ? x >> 16 & 7 : x >> 12);
	WRITE_ONCE(r->config1, sane ? 0 : x >> 20 & 1);
	WRITE_ONCE(r->flags, flags);
	WRITE_ONCE(r->sample_period,
		   flags & KVM_PV_PMU_SAMPLE || !sane ? periods[x >> 34 & 3] : 0);
	WRITE_ONCE(r->reserved[1], !sane && !(x >> 40 & 7));
}

static uint64_t guest_random(uint64_t commits, uint64_t x)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t mask, op, ret;
	int slot;

	while (commits) {
		guest_random_next(&x);
		slot = x & 3 ? x >> 2 & 3 : (x >> 2) % NR_SLOTS;
		guest_random_request(&m->area->slots[slot].request, x);
		if (!(x >> 44 & 0xff)) {
			m->area->header.cookie = COOKIE;
			wrmsr_safe(MSR_KVM_PV_PMU, (uint64_t)m->area | KVM_PV_PMU_ENABLED);
		}
		if (!(x >> 44 & 0xfff))
			wrmsr_safe(MSR_KVM_PV_PMU, x);

		mask = x >> 56 & 0xf ? BIT(slot) : x & ALL_SLOTS;
		op = x >> 52 & 0xf ? KVM_PV_PMU_OP_COMMIT : x >> 48 & 3;
		ret = kvm_hypercall(KVM_HC_PV_PMU, op, mask, 0, 0);
		GUEST_ASSERT(!ret || ret == -KVM_EFAULT || ret == -KVM_EOPNOTSUPP);
		commits -= op == KVM_PV_PMU_OP_COMMIT;
	}
	return 0;
}

/* Its memory may be missing when the guest writes to it. */
static void *run_without_memory(void *arg)
{
	struct pv_pmu_thread *t = arg;
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(t->vcpu);
	struct ucall uc;

	m->fn = t->fn;
	m->a = t->a;
	m->b = t->b;
	do {
		vcpu_run(t->vcpu);
	} while (t->vcpu->run->exit_reason == KVM_EXIT_MMIO);
	TEST_ASSERT_KVM_EXIT_REASON(t->vcpu, KVM_EXIT_IO);
	if (get_ucall(t->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	__atomic_store_n(&t->ret, 0, __ATOMIC_RELEASE);
	return NULL;
}

static void disturb(struct kvm_vm *vm, unsigned int how)
{
	static const uint32_t flags[] = { 0, KVM_MEM_LOG_DIRTY_PAGES };
	void *areas = addr_gpa2hva(vm, AREA_GPA);

	switch (how % 4) {
	case 0:
		pv_pmu_set_memslot(vm, 0, 0);
		usleep(100);
		pv_pmu_set_memslot(vm, KVM_MEM_READONLY, AREAS * PAGE_SIZE);
		usleep(100);
		pv_pmu_set_memslot(vm, 0, 0);
		pv_pmu_set_memslot(vm, flags[how / 4 % 2], AREAS * PAGE_SIZE);
		break;
	case 1:
		pv_pmu_set_memslot(vm, KVM_MEM_LOG_DIRTY_PAGES, AREAS * PAGE_SIZE);
		pv_pmu_dirty_areas(vm);
		break;
	case 2:
		madvise(areas, AREAS * PAGE_SIZE, MADV_DONTNEED);
		break;
	case 3:
		pv_pmu_set_memslot(vm, 0, AREAS * PAGE_SIZE);
		break;
	}
}

TEST_F_TIMEOUT(pv_pmu, random_commits, 3600)
{
	pthread_t pthreads[NR_VCPUS];
	struct pv_pmu_thread t[NR_VCPUS];
	unsigned int how = 0;
	int i, running;

	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(self->vcpus[i]);
		t[i] = (struct pv_pmu_thread) {
			self->vcpus[i], guest_random, RANDOM_COMMITS, 0x123456789abcdef + i, 1
		};
		TEST_ASSERT(!pthread_create(&pthreads[i], NULL, run_without_memory, &t[i]),
			    "no thread");
	}
	do {
		disturb(self->vm, how++);
		usleep(20000);
		for (i = 0, running = 0; i < NR_VCPUS; i++)
			running += __atomic_load_n(&t[i].ret, __ATOMIC_ACQUIRE);
	} while (running);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(pthreads[i], NULL);

	/* all is as at the start for one who behaves */
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	memset(pv_pmu_area(self->vcpu), 0, PAGE_SIZE);
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, ALL_SLOTS, LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT(pv_pmu_stat(self->vcpu, "pv_pmu_commits") > RANDOM_COMMITS / 20,
		    "%lu commits", pv_pmu_stat(self->vcpu, "pv_pmu_commits"));
}

static void pv_pmu_test_init(void)
{
	__TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_PV_PMU),
		       "KVM offers no paravirtual PMU: it is not built in, kvm.pv_pmu is off, or the host has no PMU");

	pv_pmu_counts_are_exact = host_counts_are_exact();
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
