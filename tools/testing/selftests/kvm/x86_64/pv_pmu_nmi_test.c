// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test how an overflow of the paravirtual PMU reaches the guest when an NMI cannot be
 * delivered at once.
 *
 *  - The guest blocks NMIs: all overflows of the time are one NMI, afterwards.
 *  - An event overflows in the NMI handler, before the handler looks at the bits, or
 *    after that: no overflow is lost, and no NMI finds no bit.
 *  - The NMI is lost: the next overflow raises another.
 *  - The vCPU is halted when the overflow can be delivered: the NMI ends the HLT.
 *  - A nested guest runs: its hypervisor gets the NMI, or the nested guest does.
 */
#include <pthread.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "svm_util.h"
#include "test_util.h"

#define LONG_PERIOD	20000

static void set_nmi(struct kvm_vcpu *vcpu, bool masked, bool pending)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	events.nmi.injected = 0;
	events.nmi.masked = masked;
	events.nmi.pending = pending;
	vcpu_events_set(vcpu, &events);
}

static bool is_nmi_pending(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	return events.nmi.pending;
}

/* Have slot 0 overflow at least three times while the guest blocks NMIs. */
static void overflow_without_nmi(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, SAMPLING(INSTRUCTIONS, LONG_PERIOD));
	pv_pmu_commit(vcpu, BIT(0));
	set_nmi(vcpu, true, false);
	pv_pmu_spin(vcpu, 2 * LONG_PERIOD);
	TEST_ASSERT(pv_pmu_report(vcpu, 0)->overflows >= 3, "%llu overflows",
		    pv_pmu_report(vcpu, 0)->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->nmis, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(vcpu)->overflow, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_stat(vcpu, "pv_pmu_nmis"), 1);
	TEST_ASSERT(is_nmi_pending(vcpu), "no NMI is pending");
}

TEST_F(pv_pmu, nmis_blocked)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);

	overflow_without_nmi(self->vcpu);
	set_nmi(self->vcpu, false, true);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT_EQ(m->nmis, 1);
	TEST_ASSERT_EQ(m->overflows[0], 1);
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(self->vcpu)->overflow, 0);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->period_sum,
		       pv_pmu_report(self->vcpu, 0)->overflows * LONG_PERIOD);
}

/* User space takes away the NMI. The guest has not seen the bit. */
TEST_F(pv_pmu, nmi_lost)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t lost;

	overflow_without_nmi(self->vcpu);
	set_nmi(self->vcpu, false, false);
	pv_pmu_sync(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(m->nmis, 0);

	lost = r->overflows;
	pv_pmu_spin(self->vcpu, 2 * LONG_PERIOD);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(r->overflows >= lost + 3, "%llu overflows after %lu", r->overflows, lost);
	TEST_ASSERT_EQ(m->nmis, r->overflows - lost);
	TEST_ASSERT_EQ(m->overflows[0], m->nmis);
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_nmis"), m->nmis + 1);
	TEST_ASSERT_EQ(pv_pmu_area_header(self->vcpu)->overflow, 0);
}

/* Slot 0 overflows, and half a period later, in the NMI handler, so does slot 1. */
static void overflow_in_handler(struct kvm_vcpu *vcpu)
{
	int i;

	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, SAMPLING(INSTRUCTIONS, LONG_PERIOD));
	pv_pmu_request(vcpu, 1, SAMPLING(INSTRUCTIONS, LONG_PERIOD * 3 / 2));
	pv_pmu_count(vcpu, 3, LONG_PERIOD * 11 / 20);
	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(pv_pmu_report(vcpu, i)->overflows, 1);
		TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->overflows[i], 1);
	}
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(vcpu)->overflow, 0);
}

TEST_F(pv_pmu, before_the_handler_looks)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);

	m->loops_before = LONG_PERIOD * 3 / 8;
	overflow_in_handler(self->vcpu);
	TEST_ASSERT_EQ(m->nmis, 1);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_nmis"), 1);
}

/* The report of the second overflow is older than its NMI. */
TEST_F(pv_pmu, after_the_handler_has_looked)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);

	m->loops_after = LONG_PERIOD * 3 / 8;
	overflow_in_handler(self->vcpu);
	TEST_ASSERT_EQ(m->nmis, 2);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_nmis"), 2);
	ASSERT_COUNT(m->counts[1], LONG_PERIOD * 3 / 2);
}

/* ---- a halted vCPU */

/* Overflow, halt, and return the number of NMIs that the guest had. */
static uint64_t guest_halt(uint64_t loops, uint64_t unused)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b\n\t"
		     "hlt"
		     : "+r"(loops) : : "memory");
	return pv_pmu_guest_mailbox()->nmis;
}

/*
 * The area's memory is away when the event overflows, and comes back when the vCPU has
 * halted.
 */
TEST_F(pv_pmu, halted)
{
	struct pv_pmu_thread t = { self->vcpu, guest_halt, LONG_PERIOD };
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	struct timespec end;
	pthread_t pthread;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, LONG_PERIOD));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_memslot(self->vm, 0, 0);
	pv_pmu_thread_start(&pthread, &t);
	usleep(100000);
	TEST_ASSERT_EQ(m->nmis, 0);

	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 5;
	TEST_ASSERT(!pthread_timedjoin_np(pthread, NULL, &end), "the vCPU sleeps on");
	TEST_ASSERT_EQ(t.ret, 1);
	/* a slow host may wake the vCPU once more in between */
	TEST_ASSERT(pv_pmu_stat(self->vcpu, "halt_wakeup") >= 1, "the vCPU did not sleep");
	TEST_ASSERT_EQ(m->overflows[0], 1);
	TEST_ASSERT_EQ(m->empty, 0);
}

/* ---- a nested guest */

#define NESTED_LOOPS	100000

static uint64_t nested_stack[512];

static void nested_spin(struct svm_test_data *svm)
{
	uint64_t loops = NESTED_LOOPS;

	asm volatile("1: dec %0\n\t"
		     "jnz 1b\n\t"
		     "vmmcall"
		     : "+r"(loops));
}

/* Run the nested guest to its end, and return how many NMIs were exits. */
static uint64_t guest_nested(uint64_t address, uint64_t intercept)
{
	struct svm_test_data *svm = (void *)address;
	struct vmcb_control_area *control = &svm->vmcb->control;
	uint64_t exits = 0;

	generic_svm_setup(svm, nested_spin, &nested_stack[ARRAY_SIZE(nested_stack)]);
	if (intercept)
		control->intercept |= BIT_ULL(INTERCEPT_NMI);
	for (;;) {
		run_guest(svm->vmcb, svm->vmcb_gpa);
		stgi();
		if (control->exit_code != SVM_EXIT_NMI)
			break;
		exits++;
	}
	GUEST_ASSERT_EQ(control->exit_code, SVM_EXIT_VMMCALL);
	return exits;
}

static void test_nested(struct kvm_vcpu *vcpu, bool intercept)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, 0);
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	vm_vaddr_t svm;
	uint64_t exits;

	vcpu_alloc_svm(vcpu->vm, &svm);
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, SAMPLING(INSTRUCTIONS, LONG_PERIOD));
	pv_pmu_commit(vcpu, BIT(0));
	exits = pv_pmu_call(vcpu, guest_nested, svm, intercept);
	pv_pmu_stop(vcpu, 0);
	TEST_ASSERT(r->overflows >= 2 * NESTED_LOOPS / LONG_PERIOD, "%llu overflows",
		    r->overflows);
	ASSERT_COUNT(r->overflows, r->count / LONG_PERIOD);
	TEST_ASSERT_EQ(m->nmis, r->overflows);
	TEST_ASSERT_EQ(m->overflows[0], r->overflows);
	TEST_ASSERT_EQ(m->empty, 0);
	if (intercept)
		TEST_ASSERT(exits >= 2 * NESTED_LOOPS / LONG_PERIOD, "%lu exits", exits);
	else
		TEST_ASSERT_EQ(exits, 0);
}

TEST_F(pv_pmu, nested_guest_exits)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "no SVM");
	test_nested(self->vcpu, true);
}

TEST_F(pv_pmu, nested_guest_takes_nmis)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "no SVM");
	test_nested(self->vcpu, false);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
