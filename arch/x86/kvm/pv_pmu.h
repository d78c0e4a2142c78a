/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host's half of the paravirtual PMU: events that a guest declares in its
 * memory are counted by perf events of the host. See
 * Documentation/virt/kvm/x86/pv-pmu.rst.
 */
#ifndef __KVM_X86_PV_PMU_H
#define __KVM_X86_PV_PMU_H

#include <linux/kvm_host.h>
#include <linux/kvm_para.h>

#include <asm/kvm_pv_pmu.h>

#include "cpuid.h"

#ifdef CONFIG_KVM_PV_PMU

/*
 * The VM's policy comes first. Unlike other features, this one needs its CPUID bit even if
 * user space does not enforce CPUID.
 */
static inline bool kvm_pv_pmu_guest_has(struct kvm_vcpu *vcpu)
{
	return (vcpu->kvm->arch.pv_pmu_policy & KVM_PV_PMU_POLICY_EVENTS) &&
	       (vcpu->arch.pv_cpuid.features & BIT(KVM_FEATURE_PV_PMU));
}

void kvm_pv_pmu_look_at_host(void);
void kvm_pv_pmu_init_vm(struct kvm *kvm);
u64 kvm_pv_pmu_policies(void);
int kvm_pv_pmu_set_policy(struct kvm *kvm, u64 policy, u64 max_events);
void kvm_pv_pmu_vpmu_disabled(struct kvm *kvm);

int kvm_pv_pmu_set_msr(struct kvm_vcpu *vcpu, u64 data, bool host_initiated);
u64 kvm_pv_pmu_get_msr(struct kvm_vcpu *vcpu);
int kvm_pv_pmu_hypercall(struct kvm_vcpu *vcpu, u64 op, u64 mask);
void kvm_pv_pmu_handle_request(struct kvm_vcpu *vcpu);
bool kvm_pv_pmu_has_overflow(struct kvm_vcpu *vcpu);
void kvm_pv_pmu_filter_changed(struct kvm *kvm);
void kvm_pv_pmu_memslots_changed(struct kvm *kvm);
void kvm_pv_pmu_stopped(struct kvm_vcpu *vcpu);
void kvm_pv_pmu_reset(struct kvm_vcpu *vcpu);
void kvm_pv_pmu_destroy(struct kvm_vcpu *vcpu);

#else

static inline bool kvm_pv_pmu_guest_has(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline u64 kvm_pv_pmu_policies(void)
{
	return 0;
}

static inline int kvm_pv_pmu_set_policy(struct kvm *kvm, u64 policy, u64 max_events)
{
	return -EINVAL;
}

static inline int kvm_pv_pmu_set_msr(struct kvm_vcpu *vcpu, u64 data,
				     bool host_initiated)
{
	return 1;
}

static inline u64 kvm_pv_pmu_get_msr(struct kvm_vcpu *vcpu)
{
	return 0;
}

static inline int kvm_pv_pmu_hypercall(struct kvm_vcpu *vcpu, u64 op, u64 mask)
{
	return -KVM_ENOSYS;
}

static inline bool kvm_pv_pmu_has_overflow(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvm_pv_pmu_look_at_host(void) {}
static inline void kvm_pv_pmu_init_vm(struct kvm *kvm) {}
static inline void kvm_pv_pmu_vpmu_disabled(struct kvm *kvm) {}
static inline void kvm_pv_pmu_handle_request(struct kvm_vcpu *vcpu) {}
static inline void kvm_pv_pmu_filter_changed(struct kvm *kvm) {}
static inline void kvm_pv_pmu_memslots_changed(struct kvm *kvm) {}
static inline void kvm_pv_pmu_stopped(struct kvm_vcpu *vcpu) {}
static inline void kvm_pv_pmu_reset(struct kvm_vcpu *vcpu) {}
static inline void kvm_pv_pmu_destroy(struct kvm_vcpu *vcpu) {}

#endif /* CONFIG_KVM_PV_PMU */

#endif /* __KVM_X86_PV_PMU_H */
