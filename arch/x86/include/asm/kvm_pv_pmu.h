/* SPDX-License-Identifier: GPL-2.0 */
/* The layout of the paravirtual PMU's area is ABI, for 32-bit guests as well. */
#ifndef _ASM_X86_KVM_PV_PMU_H
#define _ASM_X86_KVM_PV_PMU_H

#include <linux/build_bug.h>
#include <linux/stddef.h>

#include <uapi/asm/kvm_pv_pmu.h>

#define KVM_PV_PMU_ASSERT_OFFSET(type, field, offset) \
	static_assert(offsetof(struct kvm_pv_pmu_##type, field) == (offset))

KVM_PV_PMU_ASSERT_OFFSET(header, version, 0);
KVM_PV_PMU_ASSERT_OFFSET(header, nr_slots, 4);
KVM_PV_PMU_ASSERT_OFFSET(header, features, 8);
KVM_PV_PMU_ASSERT_OFFSET(header, cookie_echo, 16);
KVM_PV_PMU_ASSERT_OFFSET(header, pmu, 24);
KVM_PV_PMU_ASSERT_OFFSET(header, nr_counters, 32);
KVM_PV_PMU_ASSERT_OFFSET(header, generation, 36);
KVM_PV_PMU_ASSERT_OFFSET(header, overflow, 40);
KVM_PV_PMU_ASSERT_OFFSET(header, branch_types, 48);
KVM_PV_PMU_ASSERT_OFFSET(header, nr_branches, 56);
KVM_PV_PMU_ASSERT_OFFSET(header, reserved_host, 60);
KVM_PV_PMU_ASSERT_OFFSET(header, cookie, 64);
KVM_PV_PMU_ASSERT_OFFSET(header, branches, 72);
KVM_PV_PMU_ASSERT_OFFSET(header, reserved_guest, 80);
static_assert(sizeof(struct kvm_pv_pmu_header) == 128);

KVM_PV_PMU_ASSERT_OFFSET(request, type, 0);
KVM_PV_PMU_ASSERT_OFFSET(request, flags, 4);
KVM_PV_PMU_ASSERT_OFFSET(request, config, 8);
KVM_PV_PMU_ASSERT_OFFSET(request, config1, 16);
KVM_PV_PMU_ASSERT_OFFSET(request, sample_period, 24);
KVM_PV_PMU_ASSERT_OFFSET(request, sample_freq, 24);
KVM_PV_PMU_ASSERT_OFFSET(request, branch_sample_type, 32);
KVM_PV_PMU_ASSERT_OFFSET(request, group, 40);
KVM_PV_PMU_ASSERT_OFFSET(request, restart, 44);
KVM_PV_PMU_ASSERT_OFFSET(request, reserved, 48);
static_assert(sizeof(struct kvm_pv_pmu_request) == 64);

KVM_PV_PMU_ASSERT_OFFSET(report, seq, 0);
KVM_PV_PMU_ASSERT_OFFSET(report, status, 4);
KVM_PV_PMU_ASSERT_OFFSET(report, count, 8);
KVM_PV_PMU_ASSERT_OFFSET(report, time_enabled, 16);
KVM_PV_PMU_ASSERT_OFFSET(report, time_running, 24);
KVM_PV_PMU_ASSERT_OFFSET(report, overflows, 32);
KVM_PV_PMU_ASSERT_OFFSET(report, period_sum, 40);
KVM_PV_PMU_ASSERT_OFFSET(report, rdpmc_offset, 48);
KVM_PV_PMU_ASSERT_OFFSET(report, rdpmc_index, 56);
KVM_PV_PMU_ASSERT_OFFSET(report, rdpmc_width, 58);
KVM_PV_PMU_ASSERT_OFFSET(report, throttled, 60);
static_assert(sizeof(struct kvm_pv_pmu_report) == 64);

KVM_PV_PMU_ASSERT_OFFSET(slot, request, 0);
KVM_PV_PMU_ASSERT_OFFSET(slot, report, 64);
KVM_PV_PMU_ASSERT_OFFSET(area, header, 0);
KVM_PV_PMU_ASSERT_OFFSET(area, slots, 128);
static_assert(sizeof(struct kvm_pv_pmu_area) == 4096);

KVM_PV_PMU_ASSERT_OFFSET(branch, from, 0);
KVM_PV_PMU_ASSERT_OFFSET(branch, to, 8);
KVM_PV_PMU_ASSERT_OFFSET(branch, flags, 16);
KVM_PV_PMU_ASSERT_OFFSET(branch, reserved, 20);
static_assert(sizeof(struct kvm_pv_pmu_branch) == 24);

KVM_PV_PMU_ASSERT_OFFSET(branch_record, seq, 0);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, flags, 4);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, slots, 8);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, number, 16);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, nr, 24);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, reserved, 28);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, branches, 64);
KVM_PV_PMU_ASSERT_OFFSET(branch_record, pad, 832);
static_assert(sizeof(struct kvm_pv_pmu_branch_record) == 1024);
static_assert(sizeof(struct kvm_pv_pmu_branches) == 4096);

#undef KVM_PV_PMU_ASSERT_OFFSET

#endif /* _ASM_X86_KVM_PV_PMU_H */
