/* SPDX-License-Identifier: GPL-2.0 */
/* The guest's side of the paravirtual PMU: when it has to let go of its areas. */
#ifndef _ASM_X86_KVM_PV_PMU_GUEST_H
#define _ASM_X86_KVM_PV_PMU_GUEST_H

#ifdef CONFIG_KVM_GUEST_PV_PMU
void kvm_pv_pmu_guest_suspend(void);
void kvm_pv_pmu_guest_resume(void);
void kvm_pv_pmu_guest_shutdown(void);
void kvm_pv_pmu_guest_crash(void);
#else
static inline void kvm_pv_pmu_guest_suspend(void) { }
static inline void kvm_pv_pmu_guest_resume(void) { }
static inline void kvm_pv_pmu_guest_shutdown(void) { }
static inline void kvm_pv_pmu_guest_crash(void) { }
#endif

#endif /* _ASM_X86_KVM_PV_PMU_GUEST_H */
