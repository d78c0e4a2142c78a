/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of the tests of branch stacks. The fixture also checks that the host has
 * neither warned, nor written anything beside the records.
 */
#ifndef SELFTEST_KVM_PV_PMU_BRANCHES_HARNESS_H
#define SELFTEST_KVM_PV_PMU_BRANCHES_HARNESS_H

#include "kvm_test_harness.h"
#include "pv_pmu_branches.h"
#include "test_util.h"

FIXTURE(branches) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	uint64_t faults;
};

FIXTURE_SETUP(branches)
{
	self->faults = pv_pmu_host_faults();
	self->vm = branch_vm_create(self->vcpus);
	self->vcpu = self->vcpus[0];
}

FIXTURE_TEARDOWN(branches)
{
	assert_nothing_else_written(self->vm);
	kvm_vm_free(self->vm);
	TEST_ASSERT(pv_pmu_host_faults() == self->faults, "the host has warned or oopsed");
}

#endif /* SELFTEST_KVM_PV_PMU_BRANCHES_HARNESS_H */
