// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the paravirtual PMU continues in another VM with the same memory and
 * the saved state of the vCPU.
 *
 *  - Counts, overflows and times continue from the saved values.
 *  - A pending overflow bit raises one NMI, whether the saved state has an NMI or
 *    not.
 *  - The host does not write to the area without memory, or with another cookie.
 *    When the memory is there, the restore is made up for.
 *  - The generation changes. On another PMU a raw event does not count, also after a
 *    second restore; a generic event does.
 *  - A request that the new host cannot count gets a status.
 */
#include <linux/perf_event.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

/* End the VM, and keep the memory. */
static struct kvm_x86_state *save(struct kvm_vcpu *vcpu)
{
	struct kvm_x86_state *state = vcpu_save_state(vcpu);

	kvm_vm_release(vcpu->vm);
	return state;
}

/* Create another VM with the same memory and one vCPU. */
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
	/* the events also count code before and after the loops */
	TEST_ASSERT(r->count >= before.count + INSTRUCTIONS(LOOPS) &&
		    r->count <= before.count + INSTRUCTIONS(LOOPS) + 2000,
		    "%llu instructions before, %llu after", before.count, r->count);
	TEST_ASSERT(r->seq != before.seq, "the sequence count has not changed");
	TEST_ASSERT(r->time_enabled > before.time_enabled, "time_enabled has not grown");
	TEST_ASSERT(r->time_running > before.time_running, "time_running has not grown");
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 3);

	/* the stopped event is still stopped, and can run */
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 1)->count, stopped);
	pv_pmu_set_running(self->vcpu, 1, true);
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
		    "%llu overflows before, %llu after", before.overflows, r->overflows);
	TEST_ASSERT(r->count >= before.count + INSTRUCTIONS(10 * LOOPS),
		    "%llu events before, %llu after", before.count, r->count);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->overflows[0], r->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* A pending overflow bit raises one NMI, with or without an NMI in the saved state. */
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
	pv_pmu_area_header(vcpu)->overflow = BIT(5);
	vcpu = restore(vm, state);
	pv_pmu_count(vcpu, 0, LOOPS);
	m = pv_pmu_mailbox(vcpu);
	TEST_ASSERT_EQ(m->overflows[5], 1);
	TEST_ASSERT_EQ(m->nmis, 1);
	TEST_ASSERT_EQ(pv_pmu_area_header(vcpu)->overflow, 0);
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
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
	pv_pmu_count(self->vcpu, 0, LOOPS);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count >=
		    area_report(&copy, 0)->count + INSTRUCTIONS(LOOPS),
		    "the event does not go on counting when the memory is there");
}

TEST_F(pv_pmu, restores_on_another_pmu)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(self->vcpu);
	struct kvm_x86_state *state;
	uint32_t generation;
	uint64_t count;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .type = PERF_TYPE_RAW,
					       .config = 0xc0));
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	generation = header->generation;

	/* as if the area had been saved on another host */
	state = save(self->vcpu);
	header->pmu ^= 0x10;
	count = pv_pmu_report(self->vcpu, 1)->count;
	self->vcpu = restore(self->vm, state);
	pv_pmu_count(self->vcpu, 0, LOOPS);
	TEST_ASSERT(header->generation != generation, "the generation has not changed");
	ASSERT_STATUS(self->vcpu, 0, 0);
	pv_pmu_sync(self->vcpu, 3);
	ASSERT_STATUS(self->vcpu, 1, -ENODEV);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 1)->count, count);

	/* a COMMIT of the same event, and a second restore, change nothing */
	pv_pmu_commit(self->vcpu, 3);
	ASSERT_STATUS(self->vcpu, 1, -ENODEV);
	self->vcpu = restore(self->vm, save(self->vcpu));
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 1, -ENODEV);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 1)->count, count);

	/* closed and opened, the event is one of this host */
	pv_pmu_request(self->vcpu, 1, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(1));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .type = PERF_TYPE_RAW,
					       .config = 0xc0));
	pv_pmu_count(self->vcpu, BIT(1), LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, restores_another_cookie)
{
	struct kvm_x86_state *state;
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	state = save(self->vcpu);
	pv_pmu_area_header(self->vcpu)->cookie = COOKIE + 1;
	copy = *pv_pmu_area(self->vcpu);
	self->vcpu = restore(self->vm, state);
	pv_pmu_spin(self->vcpu, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EFAULT);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* The requests are invalid on the new host. */
TEST_F(pv_pmu, restores_nonsense)
{
	struct kvm_pv_pmu_area *area = pv_pmu_area(self->vcpu);
	struct kvm_x86_state *state;
	int i;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, BIT(0));
	state = save(self->vcpu);
	for (i = 0; i < NR_SLOTS; i++) {
		memset(area_request(area, i), 0xff, sizeof(struct kvm_pv_pmu_request));
		memset(area_report(area, i), 0xff, sizeof(struct kvm_pv_pmu_report));
	}
	pv_pmu_request(self->vcpu, 7, HARDWARE(CPU_CYCLES, .type = PERF_TYPE_TRACEPOINT));
	self->vcpu = restore(self->vm, state);
	pv_pmu_count(self->vcpu, 0, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	ASSERT_STATUS(self->vcpu, 0, -EINVAL);
	ASSERT_STATUS(self->vcpu, 7, -ENOENT);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
