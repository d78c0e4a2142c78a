/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fixture of the tests of the paravirtual PMU. The fixture also checks that the
 * host has not warned during a test.
 */
#ifndef SELFTEST_KVM_PV_PMU_HARNESS_H
#define SELFTEST_KVM_PV_PMU_HARNESS_H

#include "kvm_test_harness.h"
#include "pv_pmu.h"
#include "test_util.h"

FIXTURE(pv_pmu) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	uint64_t faults;
};

FIXTURE_SETUP(pv_pmu)
{
	self->faults = pv_pmu_host_faults();
	self->vm = pv_pmu_vm_create(self->vcpus);
	self->vcpu = self->vcpus[0];
}

FIXTURE_TEARDOWN(pv_pmu)
{
	kvm_vm_free(self->vm);
	TEST_ASSERT(pv_pmu_host_faults() == self->faults,
		    "the host has warned or oopsed");
}

#endif /* SELFTEST_KVM_PV_PMU_HARNESS_H */
