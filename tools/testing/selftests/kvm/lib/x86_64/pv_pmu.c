// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared by the tests of the paravirtual PMU: a guest that runs functions for the
 * test, the area of a vCPU, and checks of reports.
 */
#include <fcntl.h>
#include <linux/kvm_para.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "pv_pmu.h"
#include "test_util.h"

/* The library has the kernel's segments. User mode needs two more. */
#define KERNEL_CS	0x08
#define KERNEL_DS	0x10
#define USER_CS		(0x28 | 3)
#define USER_DS		(0x30 | 3)

static struct pv_pmu_mailbox pv_pmu_mailboxes[NR_VCPUS];

static bool pv_pmu_counts_are_exact;

/* ---- the guest */

struct pv_pmu_mailbox *pv_pmu_guest_mailbox(void)
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

static uint64_t guest_spin(uint64_t loops, uint64_t unused)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b"
		     : "+r"(loops));
	return 0;
}

static void guest_spin_once(uint64_t *loops)
{
	if (*loops)
		guest_spin(*loops, 0);
	*loops = 0;
}

static void guest_nmi(struct ex_regs *regs)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t bits;
	int i;

	m->nmis++;
	if (!m->look)
		return;
	for (i = 0; i < NR_SLOTS; i++)
		m->counts[i] = READ_ONCE(area_report(m->area, i)->count);
	guest_spin_once(&m->loops_before);
	bits = __atomic_exchange_n(&area_header(m->area)->overflow, 0, __ATOMIC_SEQ_CST);
	if (!bits)
		m->empty++;
	for (i = 0; i < NR_SLOTS; i++)
		m->overflows[i] += bits >> i & 1;
	guest_spin_once(&m->loops_after);
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

#define STR(x)		#x
#define XSTR(x)		STR(x)

/* Save the first hypercall's %rax, loop, and load the second hypercall's registers. */
#define SPIN								\
	"mov %%rax, %%r8\n\t"						\
	"1: dec %[loops]\n\t"						\
	"jnz 1b\n\t"							\
	"mov $" XSTR(KVM_HC_PV_PMU) ", %%eax\n\t"			\
	"mov $" XSTR(KVM_PV_PMU_OP_SYNC) ", %%ebx\n\t"

/* Commit, run INSTRUCTIONS(loops), sync. */
uint64_t pv_pmu_guest_count(uint64_t mask, uint64_t loops)
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

/* ---- the host */

static uint64_t read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	uint64_t n;

	TEST_ASSERT(f && fscanf(f, "%lu", &n) == 1, "%s cannot be read", path);
	fclose(f);
	return n;
}

/* Warnings and oopses since boot. */
uint64_t pv_pmu_host_faults(void)
{
	return read_number("/sys/kernel/warn_count") +
	       read_number("/sys/kernel/oops_count");
}

struct pv_pmu_mailbox *pv_pmu_mailbox(struct kvm_vcpu *vcpu)
{
	struct pv_pmu_mailbox *all = addr_gva2hva(vcpu->vm, (vm_vaddr_t)pv_pmu_mailboxes);

	return &all[vcpu->id];
}

uint64_t pv_pmu_area_gpa(struct kvm_vcpu *vcpu, int nr)
{
	return AREA_GPA + (2 * vcpu->id + nr) * PAGE_SIZE;
}

struct kvm_pv_pmu_area *pv_pmu_area(struct kvm_vcpu *vcpu)
{
	return addr_gpa2hva(vcpu->vm, pv_pmu_area_gpa(vcpu, 0));
}

struct kvm_pv_pmu_header *pv_pmu_area_header(struct kvm_vcpu *vcpu)
{
	return area_header(pv_pmu_area(vcpu));
}

struct kvm_pv_pmu_report *pv_pmu_report(struct kvm_vcpu *vcpu, int slot)
{
	return area_report(pv_pmu_area(vcpu), slot);
}

/* Change flags and size of the areas' memslot. Size 0 deletes the memslot. */
void pv_pmu_set_memslot(struct kvm_vm *vm, uint32_t flags, uint64_t size)
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
	/* user segments, and a stack for NMIs in user mode, of one vCPU at a time */
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

struct kvm_vm *pv_pmu_vm_create(struct kvm_vcpu *vcpus[NR_VCPUS])
{
	struct kvm_vm *vm = vm_create_with_vcpus(NR_VCPUS, guest_main, vcpus);
	int i;

	vm_init(vm);
	for (i = 0; i < NR_VCPUS; i++)
		vcpu_init(vcpus[i]);
	return vm;
}

/* Complete a VM that has been created by vm_create(1). */
struct kvm_vcpu *pv_pmu_vm_finish(struct kvm_vm *vm)
{
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, guest_main);

	vm_init(vm);
	vcpu_init(vcpu);
	return vcpu;
}

/* Run a function in the guest, and return its result. */
uint64_t pv_pmu_call(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
		     uint64_t a, uint64_t b)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	struct ucall *uc;

	m->fn = fn;
	m->a = a;
	m->b = b;
	/* vcpu_run() and get_ucall() stop the vCPU, which brings the reports up to date */
	TEST_ASSERT(!__vcpu_run(vcpu), KVM_IOCTL_ERROR(KVM_RUN, -1));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	uc = ucall_arch_get_ucall(vcpu);
	TEST_ASSERT(uc, "the guest has made no ucall");
	switch (uc->cmd) {
	case UCALL_SYNC:
		return uc->args[0];
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(*uc);
		break;
	default:
		TEST_FAIL("unknown ucall %lu", uc->cmd);
	}
	return 0;
}

static void *thread_call(void *arg)
{
	struct pv_pmu_thread *t = arg;

	t->ret = pv_pmu_call(t->vcpu, t->fn, t->a, t->b);
	return NULL;
}

void pv_pmu_thread_start(pthread_t *pthread, struct pv_pmu_thread *t)
{
	TEST_ASSERT(!pthread_create(pthread, NULL, thread_call, t), "pthread_create failed");
}

uint64_t pv_pmu_call_in_thread(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
			       uint64_t a, uint64_t b)
{
	struct pv_pmu_thread t = { vcpu, fn, a, b };
	pthread_t pthread;

	pv_pmu_thread_start(&pthread, &t);
	pthread_join(pthread, NULL);
	return t.ret;
}

/* Set the user bit in all page tables: kernel and user mode share the tables. */
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

void pv_pmu_set_user_mode(struct kvm_vcpu *vcpu, bool user)
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
	regs.rflags |= 0x3000;	/* IOPL 3: the ucall is an OUT */
	vcpu_regs_set(vcpu, &regs);
}

/* Return the vector of the exception, or 0. */
uint64_t pv_pmu_wrmsr(struct kvm_vcpu *vcpu, uint64_t val)
{
	return pv_pmu_call(vcpu, guest_wrmsr, val, 0);
}

uint64_t pv_pmu_rdmsr(struct kvm_vcpu *vcpu)
{
	return pv_pmu_call(vcpu, guest_rdmsr, 0, 0);
}

void pv_pmu_spin(struct kvm_vcpu *vcpu, uint64_t loops)
{
	pv_pmu_call(vcpu, guest_spin, loops, 0);
}

void pv_pmu_enable(struct kvm_vcpu *vcpu)
{
	pv_pmu_area_header(vcpu)->cookie = COOKIE;
	TEST_ASSERT_EQ(pv_pmu_wrmsr(vcpu, pv_pmu_area_gpa(vcpu, 0) | KVM_PV_PMU_ENABLED), 0);
}

void pv_pmu_request(struct kvm_vcpu *vcpu, int slot,
		    const struct kvm_pv_pmu_request *request)
{
	*area_request(pv_pmu_area(vcpu), slot) = *request;
}

void pv_pmu_set_running(struct kvm_vcpu *vcpu, int slot, bool running)
{
	struct kvm_pv_pmu_request *r = area_request(pv_pmu_area(vcpu), slot);

	if (running)
		r->flags |= KVM_PV_PMU_RUN;
	else
		r->flags &= ~KVM_PV_PMU_RUN;
}

long pv_pmu_hypercall(struct kvm_vcpu *vcpu, uint64_t op, uint64_t mask)
{
	return pv_pmu_call(vcpu, guest_hypercall, op, mask);
}

void pv_pmu_commit(struct kvm_vcpu *vcpu, uint64_t mask)
{
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_COMMIT, mask), 0);
}

void pv_pmu_sync(struct kvm_vcpu *vcpu, uint64_t mask)
{
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_SYNC, mask), 0);
}

/* Commit, run INSTRUCTIONS(loops), sync. */
void pv_pmu_count(struct kvm_vcpu *vcpu, uint64_t mask, uint64_t loops)
{
	TEST_ASSERT_EQ(pv_pmu_call(vcpu, pv_pmu_guest_count, mask, loops), 0);
}

/* Have KVM_RUN return without running the guest, as a VMM does to stop a vCPU. */
void pv_pmu_stop_vcpu(struct kvm_vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINTR, "KVM_RUN has not stopped");
	vcpu->run->immediate_exit = 0;
}

/* Stop an event. The report keeps the count. */
void pv_pmu_stop(struct kvm_vcpu *vcpu, int slot)
{
	pv_pmu_set_running(vcpu, slot, false);
	pv_pmu_commit(vcpu, BIT(slot));
}

uint64_t pv_pmu_dirty_areas(struct kvm_vm *vm)
{
	uint64_t bitmap = 0;

	kvm_vm_get_dirty_log(vm, AREA_SLOT, &bitmap);
	return bitmap;
}

bool pv_pmu_is_count(uint64_t n, uint64_t expected)
{
	if (pv_pmu_counts_are_exact)
		return n == expected;
	return n >= expected && n <= expected + expected / 100 + 1000;
}

void pv_pmu_assert_untouched(const struct kvm_pv_pmu_area *area,
			     const struct kvm_pv_pmu_area *copy)
{
	const uint64_t *a = (const uint64_t *)area, *b = (const uint64_t *)copy;
	size_t i;

	for (i = 0; i < sizeof(*area) / sizeof(*a); i++)
		TEST_ASSERT(a[i] == b[i], "the host wrote %#lx over %#lx at offset %#zx",
			    a[i], b[i], i * sizeof(*a));
}

void pv_pmu_assert_no_report(struct kvm_vcpu *vcpu, int slot)
{
	struct kvm_pv_pmu_report r = *pv_pmu_report(vcpu, slot), zero = {};

	r.seq = 0;
	TEST_ASSERT(!memcmp(&r, &zero, sizeof(r)), "the report of slot %d is not empty", slot);
}

void pv_pmu_assert_wrmsr_faults(struct kvm_vcpu *vcpu, uint64_t val)
{
	uint64_t vector = pv_pmu_wrmsr(vcpu, val);

	TEST_ASSERT(vector == GP_VECTOR,
		    "writing %#lx to the MSR raises exception %lu, want #GP", val, vector);
}

void pv_pmu_assert_refused(struct kvm_vcpu *vcpu,
			   const struct kvm_pv_pmu_request *bad, int status)
{
	uint64_t n;

	/* Slot 0 has a good event. The bad event replaces a good event in slot 1. */
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(vcpu, 3);
	ASSERT_STATUS(vcpu, 1, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 2);

	pv_pmu_stop(vcpu, 0);
	n = pv_pmu_report(vcpu, 0)->count;
	pv_pmu_set_running(vcpu, 0, true);
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

uint64_t pv_pmu_stat(struct kvm_vcpu *vcpu, const char *name)
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
	TEST_ASSERT(i < header.num_desc, "a vCPU has no statistic %s", name);
	read_stat_data(fd, &header, desc, &val, 1);
	free(descs);
	close(fd);
	return val;
}

uint64_t pv_pmu_live_events(struct kvm_vcpu *vcpu)
{
	return pv_pmu_stat(vcpu, "pv_pmu_events");
}

int pv_pmu_host_event_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
	attr->size = sizeof(*attr);
	attr->type = PERF_TYPE_HARDWARE;
	attr->config = PERF_COUNT_HW_INSTRUCTIONS;
	return syscall(__NR_perf_event_open, attr, pid, cpu, -1, 0);
}

/* Open pinned events of the host on this CPU until no counter is left. */
int pv_pmu_take_counters(int fds[MAX_COUNTERS], int leave)
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

void pv_pmu_give_counters(int fds[MAX_COUNTERS], int n)
{
	while (n--)
		close(fds[n]);
}

/* ---- settings of the host */

bool pv_pmu_write_setting(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, val, strlen(val)) == strlen(val);
	close(fd);
	return ok;
}

void pv_pmu_read_setting(const char *path, char *val, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, val, size - 1);

	TEST_ASSERT(n >= 0, "%s cannot be read", path);
	val[n] = 0;
	val[strcspn(val, "\n")] = 0;
	close(fd);
}

/* The objects of a slab cache that are in use, those waiting for RCU included */
uint64_t pv_pmu_slab_objects(const char *cache)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	char line[256], name[64];
	uint64_t n, found = 0;

	TEST_ASSERT(f, "/proc/slabinfo cannot be read");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %lu", name, &n) == 2 && !strcmp(name, cache))
			found = n;
	}
	fclose(f);
	return found;
}

/* ---- exact counts */

/* Count the instructions of a guest's loop with an event of the host. */
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

	/* The first call runs other code around the loop: do not use the count. */
	count_as_host(vcpus[0], LOOPS);
	few = count_as_host(vcpus[0], LOOPS);
	many = count_as_host(vcpus[0], 11 * LOOPS);
	kvm_vm_free(vm);

	if (many - few == 2 * 10 * LOOPS)
		return true;
	pr_info("the host counts %u instructions of a guest as %lu: counts are not exact\n",
		2 * 10 * LOOPS, many - few);
	return false;
}

void pv_pmu_test_init(void)
{
	__TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_PV_PMU),
		       "KVM offers no paravirtual PMU: it is not built in, kvm.pv_pmu is off, or the host has no PMU");

	pv_pmu_counts_are_exact = host_counts_are_exact();
}
