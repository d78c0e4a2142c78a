// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the host writes to the area of the paravirtual PMU only while the area
 * is in use.
 *
 *  - No write after the guest has disabled the area, registered the area again or
 *    elsewhere, or changed the cookie; nor after a reset, or the end of the VM.
 *  - No write after the VMM has removed, write-protected or unmapped the memory.
 *  - No write to a page of the next kernel, after a crash, kexec or reset, if a hypercall
 *    of the last kernel had failed.
 *  - A page that the host writes to is dirty.
 *  - When KVM_RUN has returned because the VMM stopped the vCPU, the reports are up
 *    to date. Reading the MSR writes nothing.
 *  - A guest that registers a page table as area hurts only the guest.
 */
#include <linux/perf_event.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

static struct kvm_pv_pmu_area *other_area(struct kvm_vcpu *vcpu)
{
	return addr_gpa2hva(vcpu->vm, pv_pmu_area_gpa(vcpu, 1));
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
	area_header(other)->cookie = COOKIE + 1;
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu,
				    pv_pmu_area_gpa(self->vcpu, 1) | KVM_PV_PMU_ENABLED), 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(area_header(other)->cookie_echo, COOKIE + 1);

	copy = *pv_pmu_area(self->vcpu);
	*area_request(other, 0) = *HARDWARE(INSTRUCTIONS);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(area_report(other, 0)->count, INSTRUCTIONS(LOOPS));
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

		pv_pmu_area_header(self->vcpu)->cookie = cookies[i];
		pv_pmu_area_header(self->vcpu)->overflow = 0;
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

/* Send an INIT. KVM handles the INIT when user space reads the vCPU's state. */
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

/* The VM ends while events run. */
TEST_F(pv_pmu, vm_ends)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 3, LOOPS);
}

/* ---- the area's memory */

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

	/* a VMM stops the vCPU, to save it: the host updates the reports, once */
	pv_pmu_stop_vcpu(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count > INSTRUCTIONS(LOOPS),
		    "the report is not updated when KVM_RUN returns -EINTR");
	pv_pmu_stop_vcpu(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), 0);

	/* the NMI handler leaves the area alone: only the host makes the page dirty */
	pv_pmu_mailbox(self->vcpu)->look = false;
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_dirty_areas(self->vm);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT(pv_pmu_mailbox(self->vcpu)->nmis, "no NMI for an overflow");
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), page);

	vm_mem_region_set_flags(self->vm, AREA_SLOT, 0);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
}

TEST_F(pv_pmu, reading_the_msr)
{
	struct kvm_pv_pmu_area copy;
	int i;

	vm_mem_region_set_flags(self->vm, AREA_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	pv_pmu_mailbox(self->vcpu)->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_dirty_areas(self->vm);
	copy = *pv_pmu_area(self->vcpu);
	for (i = 0; i < 1000; i++)
		vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
	TEST_ASSERT_EQ(pv_pmu_dirty_areas(self->vm), 0);
}

#define RING_ENTRIES	512

static int dirty_entries(struct kvm_vcpu *vcpu)
{
	const struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(vcpu);
	int i, n = 0;

	for (i = 0; i < RING_ENTRIES; i++)
		n += READ_ONCE(ring[i].flags) & KVM_DIRTY_GFN_F_DIRTY;
	return n;
}

/* A VMM reads the MSR, and stops the vCPU, more often than the dirty ring has entries. */
TEST_F(pv_pmu, dirty_ring)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu;
	int i, n;

	vm_enable_dirty_ring(vm, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	vcpu = pv_pmu_vm_finish(vm);
	vm_mem_region_set_flags(vm, AREA_SLOT, KVM_MEM_LOG_DIRTY_PAGES);
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(vcpu, BIT(0), LOOPS);
	pv_pmu_stop_vcpu(vcpu);
	n = dirty_entries(vcpu);
	TEST_ASSERT(n, "the ring has no entry");
	for (i = 0; i < 1000; i++) {
		vcpu_get_msr(vcpu, MSR_KVM_PV_PMU);
		pv_pmu_stop_vcpu(vcpu);
	}
	TEST_ASSERT_EQ(dirty_entries(vcpu), n);
	kvm_vm_free(vm);
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

	/* the memory is back, and the event has counted meanwhile */
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	pv_pmu_commit(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count >= area_report(&copy, 1)->count + 2 * LOOPS,
		    "the event has not counted without the memory");
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

/* The VMM has no writable memory behind the memslot. */
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

/* ---- another kernel, after a hypercall that failed */

static void areas_without_memslot(struct kvm_vm *vm, bool fail)
{
	pv_pmu_set_memslot(vm, 0, fail ? 0 : AREAS * PAGE_SIZE);
}

static void areas_unwritable(struct kvm_vm *vm, bool fail)
{
	TEST_ASSERT(!mprotect(addr_gpa2hva(vm, AREA_GPA), AREAS * PAGE_SIZE,
			      fail ? PROT_READ : PROT_READ | PROT_WRITE), "mprotect failed");
}

/* The kernel ends without a write to the MSR. */
static void end_by_crash(struct kvm_vcpu *vcpu)
{
}

static void end_by_kexec(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT_EQ(pv_pmu_wrmsr(vcpu, 0), 0);
}

static void end_by_reset(struct kvm_vcpu *vcpu)
{
	vcpu_set_msr(vcpu, MSR_KVM_PV_PMU, 0);
}

#define EXITS	100

/* Overwrite the page, first the cookie. Then exit often, and count the words that change. */
static uint64_t guest_next_kernel(uint64_t pattern, uint64_t exits)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t *words = (uint64_t *)m->area, changed = 0;
	uint32_t eax, ebx, ecx, edx;
	int i;

	WRITE_ONCE(area_header(m->area)->cookie, pattern);
	for (i = 0; i < PAGE_SIZE / sizeof(*words); i++)
		WRITE_ONCE(words[i], pattern);
	m->nmis = 0;
	while (exits--) {
		cpuid(0, &eax, &ebx, &ecx, &edx);
		for (i = 0; i < PAGE_SIZE / sizeof(*words); i++)
			changed += READ_ONCE(words[i]) != pattern;
	}
	return changed;
}

/* Exits, stops of the vCPU by the VMM, and time change nothing in the page. */
static void assert_page_is_the_guests(struct kvm_vcpu *vcpu, uint64_t pattern)
{
	struct kvm_pv_pmu_area copy;
	uint64_t *words = (uint64_t *)&copy;
	int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*words); i++)
		words[i] = pattern;
	TEST_ASSERT_EQ(pv_pmu_call(vcpu, guest_next_kernel, pattern, EXITS), 0);
	for (i = 0; i < 10; i++) {
		usleep(10000);
		pv_pmu_stop_vcpu(vcpu);
		pv_pmu_spin(vcpu, LOOPS);
	}
	pv_pmu_assert_untouched(pv_pmu_area(vcpu), &copy);
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->nmis, 0);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(vcpu), 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 0);
}

/* The memory is back when the next kernel starts, and that kernel uses the page. */
static void test_next_kernel(struct kvm_vcpu *vcpu, void (*fail)(struct kvm_vm *vm, bool fail),
			     void (*end)(struct kvm_vcpu *vcpu), uint64_t pattern)
{
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(vcpu, 3, LOOPS);

	fail(vcpu->vm, true);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_SYNC, 3), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_COMMIT, 3), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 2);
	end(vcpu);
	fail(vcpu->vm, false);
	assert_page_is_the_guests(vcpu, pattern);
}

TEST_F(pv_pmu, next_kernel_after_error)
{
	static void (*const fail[])(struct kvm_vm *vm, bool fail) = {
		areas_without_memslot, areas_unwritable
	};
	static void (*const end[])(struct kvm_vcpu *vcpu) = {
		end_by_crash, end_by_kexec, end_by_reset
	};
	int f, e;

	pv_pmu_mailbox(self->vcpu)->look = false;
	for (f = 0; f < ARRAY_SIZE(fail); f++) {
		for (e = 0; e < ARRAY_SIZE(end); e++) {
			test_next_kernel(self->vcpu, fail[f], end[e], 0);
			test_next_kernel(self->vcpu, fail[f], end[e], 0x5a5a5a5a5a5a5a5a);
		}
	}
}

static uint64_t guest_read(uint64_t address, uint64_t unused)
{
	return READ_ONCE(*(uint64_t *)address);
}

/* The page table of the areas is itself registered as area. */
TEST_F(pv_pmu, area_is_page_table)
{
	uint64_t *ptes = vm_get_page_table_entry(self->vm, AREA_GPA);
	uint64_t gpa = addr_hva2gpa(self->vm, ptes), pte;
	struct kvm_pv_pmu_area *area = (void *)ptes;

	/* a page table entry of no use serves as the cookie */
	pte = COOKIE << 12;
	ptes[8] = pte;
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpu, gpa | KVM_PV_PMU_ENABLED), 0);
	TEST_ASSERT_EQ(ptes[0], KVM_PV_PMU_VERSION | (uint64_t)NR_SLOTS << 32);
	TEST_ASSERT_EQ(ptes[2], pte);	/* cookie_echo */
	TEST_ASSERT_EQ(ptes[8], pte);	/* cookie */

	*area_request(area, 0) = *HARDWARE(INSTRUCTIONS);
	pv_pmu_count(self->vcpu, ALL_SLOTS, LOOPS);
	ASSERT_COUNT(area_report(area, 0)->count, INSTRUCTIONS(LOOPS));

	/* the header replaced the entry of the first area: version and nr_slots */
	pv_pmu_mailbox(self->vcpu)->fn = guest_read;
	pv_pmu_mailbox(self->vcpu)->a = AREA_GPA;
	vcpu_run(self->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(self->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(self->vcpu->run->mmio.phys_addr, (uint64_t)NR_SLOTS << 32);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
