/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tests of the paravirtual PMU's branch stacks: guests that run known loops, and look at
 * the record of each overflow in their NMI handler.
 */
#ifndef SELFTEST_KVM_PV_PMU_BRANCHES_H
#define SELFTEST_KVM_PV_PMU_BRANCHES_H

#include "pv_pmu.h"
#include "test_util.h"

/* Each vCPU has a page for branches, between pages that nobody writes. */
#define PAGES_SLOT	2
#define PAGES_GPA	0x20000000ul
#define PAGES		(2 * NR_VCPUS + 1)
#define PAGES_SIZE	(PAGES * PAGE_SIZE)

/* More than the branches of the NMI handler, and a stack. */
#define BRANCH_PERIOD	1000
#define ENTRIES		16

/* The host has it if KVM gives guests branch stacks: the entries. */
#define GUEST_BRANCHES	"/sys/bus/event_source/devices/cpu/caps/guest_branches"

#define ANY	(PERF_SAMPLE_BRANCH_ANY | PERF_SAMPLE_BRANCH_USER | PERF_SAMPLE_BRANCH_KERNEL)

#define SAMPLING_BRANCHES(period, types)					\
	REQUEST(.type = PERF_TYPE_HARDWARE,					\
		.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS,			\
		.flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_SAMPLE,	\
		.sample_period = period, .branch_sample_type = types)

/* A loop with one branch, from @jnz to @start. The CPU may have fused @dec with it. */
struct branch_loop {
	void (*call)(uint64_t loops, uint64_t mask);	/* and then COMMIT @mask */
	uint64_t start, dec, jnz, end;
};

/* The labels of the loops in assembly */
#define GUEST_LOOP_LABELS(name)							\
	extern char name[], name##_dec[], name##_jnz[], name##_end[];		\
	void name##_call(uint64_t loops, uint64_t mask)

GUEST_LOOP_LABELS(guest_loop);
GUEST_LOOP_LABELS(guest_other_loop);

/* What the NMI handler of a vCPU looks for, and has found. */
struct found_branches {
	struct branch_loop loop;
	struct kvm_pv_pmu_branches *page;
	uint64_t slots;		/* those with branches */
	bool look;		/* at the page, and clear the overflow bits */

	uint64_t number;	/* of the newest record */
	uint64_t records;
	uint64_t of_slots;
	uint64_t missing;	/* overflows without a record */
	uint64_t outside;	/* records of an overflow outside of the loop: not looked at */
	uint64_t malformed;
	uint64_t lost;
	uint64_t full;
	uint64_t first_nr;	/* branches in the first record that has any */
	uint64_t branches;
	uint64_t strange;	/* branches that are not the loop's */
	uint64_t from, to;	/* the first of these */
};

uint64_t guest_run_branches(uint64_t mask, uint64_t loops);
uint64_t guest_loop_branches(uint64_t loops, uint64_t unused);
uint64_t guest_run_with_sync(uint64_t mask, uint64_t loops);
/* guest_run_with_sync() has so many loops left after the SYNC. */
#define LOOPS_LEFT	100

struct found_branches *found_branches(struct kvm_vcpu *vcpu);
uint64_t branch_page_gpa(struct kvm_vcpu *vcpu);
struct kvm_pv_pmu_branches *branch_page(struct kvm_vcpu *vcpu);
struct kvm_pv_pmu_branch_record *newest_record(struct kvm_vcpu *vcpu);
void set_branch_pages(struct kvm_vm *vm, uint32_t flags, uint64_t size);
struct kvm_vm *branch_vm_create(struct kvm_vcpu *vcpus[NR_VCPUS]);
void run_branches(struct kvm_vcpu *vcpu, uint64_t mask, uint64_t loops);
void start_user_branches(struct kvm_vcpu *vcpu, uint64_t period, uint64_t level);
void run_user_branches(struct kvm_vcpu *vcpu, uint64_t loops);
void forget_records(struct kvm_vcpu *vcpu);
void assert_began_empty(struct kvm_vcpu *vcpu, uint64_t period);
void assert_well_formed(struct kvm_vcpu *vcpu);
void assert_loop(struct kvm_vcpu *vcpu);
void assert_record_each(struct kvm_vcpu *vcpu);
void assert_nothing_else_written(struct kvm_vm *vm);
void branch_test_init(void);

#endif /* SELFTEST_KVM_PV_PMU_BRANCHES_H */
