/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The paravirtual PMU: what a vCPU of a KVM guest and its host share.
 *
 * Each vCPU names one page of its memory, the area, to MSR_KVM_PV_PMU. In a slot
 * of it the guest declares an event; the hypercall KVM_HC_PV_PMU makes the host
 * take note; the host reports the count in the same slot. See
 * Documentation/virt/kvm/x86/pv-pmu.rst.
 */
#ifndef _UAPI_ASM_X86_KVM_PV_PMU_H
#define _UAPI_ASM_X86_KVM_PV_PMU_H

#include <linux/const.h>
#include <linux/types.h>

/* MSR_KVM_PV_PMU: bits 63:12 are those of the area's address, 11:1 are zero. */
#define KVM_PV_PMU_ENABLED		_BITULL(0)
#define KVM_PV_PMU_RESERVED_MASK	0xffeULL

/*
 * KVM_HC_PV_PMU(op, mask): each bit of the mask is a slot. Returns 0, or
 * -KVM_EOPNOTSUPP for an op that is none of these, -KVM_EINVAL for a bit that is
 * no slot, -KVM_EFAULT if there is no area, or not any more.
 */
#define KVM_PV_PMU_OP_COMMIT		0	/* apply the requests, report all slots that run */
#define KVM_PV_PMU_OP_SYNC		1	/* report the slots of the mask */

#define KVM_PV_PMU_VERSION		1
#define KVM_PV_PMU_NR_SLOTS		31

/* kvm_pv_pmu_header.features */
#define KVM_PV_PMU_FEATURE_RAW		_BITULL(0)	/* events of PERF_TYPE_RAW */
#define KVM_PV_PMU_FEATURE_SAMPLE	_BITULL(1)	/* KVM_PV_PMU_SAMPLE */
#define KVM_PV_PMU_FEATURE_FREQ		_BITULL(2)	/* KVM_PV_PMU_FREQ */
#define KVM_PV_PMU_FEATURE_RDPMC	_BITULL(3)	/* rdpmc_* of a report */
#define KVM_PV_PMU_FEATURE_BRANCH_STACK	_BITULL(4)	/* branch_sample_type */

/**
 * struct kvm_pv_pmu_header - the first 128 bytes of an area
 * @version:	KVM_PV_PMU_VERSION; by the host, when the area is enabled
 * @nr_slots:	KVM_PV_PMU_NR_SLOTS; by the host, when the area is enabled
 * @features:	KVM_PV_PMU_FEATURE_*; by the host, when the area is enabled
 * @cookie:	by the guest, before it enables the area: any number but zero. The
 *		host looks at it before it writes, and writes no more once it is
 *		another one: the page serves something else.
 * @cookie_echo: the cookie that the host has seen
 * @overflow:	a bit for each slot that has overflowed; set by the host before it
 *		injects an NMI, cleared by the guest, both atomically
 * @reserved:	zero; by the host
 */
struct kvm_pv_pmu_header {
	__u32 version;
	__u32 nr_slots;
	__u64 features;
	__u64 cookie;
	__u64 cookie_echo;
	__u64 overflow;
	__u64 reserved[11];
};

/* kvm_pv_pmu_request.flags; other bits are zero */
#define KVM_PV_PMU_OPEN			_BITUL(0)	/* there is an event */
#define KVM_PV_PMU_RUN			_BITUL(1)	/* count */
#define KVM_PV_PMU_SAMPLE		_BITUL(2)	/* overflow, see sample_period */
#define KVM_PV_PMU_FREQ			_BITUL(3)	/* by sample_freq instead */
#define KVM_PV_PMU_EXCLUDE_USER		_BITUL(4)	/* not at CPL 3 */
#define KVM_PV_PMU_EXCLUDE_KERNEL	_BITUL(5)	/* not at CPL 0 to 2 */
#define KVM_PV_PMU_PINNED		_BITUL(6)	/* always on a counter, or -EBUSY */

/**
 * struct kvm_pv_pmu_request - what the guest declares; written by it alone
 * @type:	PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE or PERF_TYPE_RAW
 * @flags:	KVM_PV_PMU_OPEN and so on
 * @config:	as perf_event_attr.config of that type; of PERF_TYPE_RAW, an event
 *		select of the host's CPU, the event, unit mask, edge, invert and
 *		counter mask bits alone
 * @config1:	as perf_event_attr.config1 of PERF_TYPE_RAW; else zero
 * @sample_period: events from one overflow to the next; zero without
 *		KVM_PV_PMU_SAMPLE
 * @sample_freq: with KVM_PV_PMU_FREQ: overflows a second
 * @branch_sample_type: zero without KVM_PV_PMU_FEATURE_BRANCH_STACK
 * @reserved:	zero
 *
 * An event that differs from the one that was committed before it in this slot,
 * in more than KVM_PV_PMU_RUN and @sample_period, is a new one: its report starts
 * at zero.
 */
struct kvm_pv_pmu_request {
	__u32 type;
	__u32 flags;
	__u64 config;
	__u64 config1;
	union {
		__u64 sample_period;
		__u64 sample_freq;
	};
	__u64 branch_sample_type;
	__u64 reserved[3];
};

/**
 * struct kvm_pv_pmu_report - the host's report on a slot; only the host writes
 * @seq:	odd while the host writes, and another even number afterwards
 * @status:	0, or a negative errno: the event does not count
 * @count:	events since it was opened; 64 bits, never decreasing
 * @time_enabled: ns that the event ran since it was opened, in the time of the
 *		vCPU's thread
 * @time_running: the part of @time_enabled with a counter of the host
 * @overflows:	overflows since it was opened
 * @last_period: events from the last overflow but one to the last
 * @rdpmc_offset: @count is the counter's value plus this offset
 * @rdpmc_index: the counter, plus one; zero if the counter cannot be read
 * @rdpmc_width: bits of the counter, whose value is to be sign-extended
 * @throttled:	times that the host held back the overflows since it was opened,
 *		because there were too many
 *
 * All fields are zero if no event is open.
 */
struct kvm_pv_pmu_report {
	__u32 seq;
	__s32 status;
	__u64 count;
	__u64 time_enabled;
	__u64 time_running;
	__u64 overflows;
	__u64 last_period;
	__u64 rdpmc_offset;
	__u16 rdpmc_index;
	__u16 rdpmc_width;
	__u32 throttled;
};

struct kvm_pv_pmu_slot {
	struct kvm_pv_pmu_request request;
	struct kvm_pv_pmu_report report;
};

struct kvm_pv_pmu_area {
	struct kvm_pv_pmu_header header;
	struct kvm_pv_pmu_slot slots[KVM_PV_PMU_NR_SLOTS];
};

#endif /* _UAPI_ASM_X86_KVM_PV_PMU_H */
