/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The paravirtual PMU: what a vCPU of a KVM guest and its host share.
 *
 * Each vCPU names one page of its memory, the area, to MSR_KVM_PV_PMU. The guest
 * declares events in the slots of the area. The hypercall KVM_HC_PV_PMU makes the
 * host act on the declarations. The host reports counts in the same slots. See
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
 * -KVM_EOPNOTSUPP for an unknown op, -KVM_EINVAL for a bit without a slot,
 * -KVM_EFAULT if there is no area, or its memory is not there.
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
#define KVM_PV_PMU_FEATURE_GROUP	_BITULL(5)	/* kvm_pv_pmu_request.group */
#define KVM_PV_PMU_FEATURE_PINNED	_BITULL(6)	/* KVM_PV_PMU_PINNED */

/* kvm_pv_pmu_header.pmu, bits 63:32: the vendor whose event numbers are valid */
#define KVM_PV_PMU_VENDOR_INTEL		1
#define KVM_PV_PMU_VENDOR_AMD		2	/* and Hygon */

/**
 * struct kvm_pv_pmu_header - the first 128 bytes of an area
 * @version:	KVM_PV_PMU_VERSION
 * @nr_slots:	KVM_PV_PMU_NR_SLOTS
 * @features:	KVM_PV_PMU_FEATURE_*
 * @cookie_echo: the cookie that the host has seen
 * @pmu:	the host's PMU: bits 63:32 are KVM_PV_PMU_VENDOR_*, bits 31:0 are
 *		EAX of CPUID leaf 1 without the stepping (bits 3:0). A raw config
 *		means the same event as long as @pmu is the same.
 * @nr_counters: counters of the host's CPU: more events than this take turns
 * @generation:	changes when a VMM has restored the area, maybe on another host:
 *		@features, @pmu and @nr_counters may have changed
 * @overflow:	a bit for each slot that has overflowed; set by the host before it
 *		injects an NMI, cleared by the guest, both atomically
 * @branch_types: with KVM_PV_PMU_FEATURE_BRANCH_STACK: the bits PERF_SAMPLE_BRANCH_*
 *		that kvm_pv_pmu_request.branch_sample_type may have
 * @nr_branches: likewise: branches that a stack holds at most
 * @reserved_host: zero, until a feature of the host says otherwise
 * @cookie:	any number but zero, set before the area is enabled. The host compares
 *		@cookie before each of its writes. If @cookie has changed, the page
 *		serves another purpose, and the host disables the area.
 * @branches:	zero, or the guest physical address of a page for branch stacks,
 *		struct kvm_pv_pmu_branches. The host looks at @branches before it writes
 *		a stack, and writes nothing to an address that is not a page's, is the
 *		area's, or is not there.
 * @reserved_guest: zero, until a feature that the guest uses gives them a meaning,
 *		such as the address of a further buffer
 *
 * The host writes the first 64 bytes and nothing else of the header: all but
 * @overflow when the area is enabled or restored. The guest writes the last 64
 * bytes, and clears bits of @overflow.
 */
struct kvm_pv_pmu_header {
	__u32 version;
	__u32 nr_slots;
	__u64 features;
	__u64 cookie_echo;
	__u64 pmu;
	__u32 nr_counters;
	__u32 generation;
	__u64 overflow;
	__u64 branch_types;
	__u32 nr_branches;
	__u32 reserved_host;
	__u64 cookie;
	__u64 branches;
	__u64 reserved_guest[6];
};

/* kvm_pv_pmu_request.flags; other bits are zero */
#define KVM_PV_PMU_OPEN			_BITUL(0)	/* there is an event */
#define KVM_PV_PMU_RUN			_BITUL(1)	/* count */
#define KVM_PV_PMU_SAMPLE		_BITUL(2)	/* overflow, see sample_period */
#define KVM_PV_PMU_FREQ			_BITUL(3)	/* by sample_freq instead */
#define KVM_PV_PMU_EXCLUDE_USER		_BITUL(4)	/* not at CPL 1 to 3 */
#define KVM_PV_PMU_EXCLUDE_KERNEL	_BITUL(5)	/* not at CPL 0 */
#define KVM_PV_PMU_PINNED		_BITUL(6)	/* always on a counter, or -EBUSY */

/**
 * struct kvm_pv_pmu_request - a declared event; written by the guest alone
 * @type:	PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE or PERF_TYPE_RAW
 * @flags:	KVM_PV_PMU_OPEN and so on
 * @config:	as perf_event_attr.config of that type; of PERF_TYPE_RAW, an event
 *		select of the host's CPU, the event, unit mask, edge, invert and
 *		counter mask bits alone
 * @config1:	as perf_event_attr.config1 of PERF_TYPE_RAW; else zero
 * @sample_period: events from one overflow to the next; zero without
 *		KVM_PV_PMU_SAMPLE
 * @sample_freq: with KVM_PV_PMU_FREQ: overflows a second
 * @branch_sample_type: zero without KVM_PV_PMU_FEATURE_BRANCH_STACK; else bits of
 *		kvm_pv_pmu_header.branch_types: each overflow comes with a branch stack, see
 *		struct kvm_pv_pmu_branch_record. Zero without KVM_PV_PMU_SAMPLE.
 * @group:	zero, or the slot of the group's leader, plus one: this event counts
 *		only while the leader does. A leader is open, and in no group.
 * @restart:	with KVM_PV_PMU_SAMPLE: if it differs from the one that was committed
 *		before it, the period starts anew, as it does with another @sample_period
 * @reserved:	zero
 *
 * An event that differs from the one that was committed before it in this slot,
 * in more than KVM_PV_PMU_RUN, @sample_period and @restart, is a new one: its report
 * starts at zero.
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
	__u32 group;
	__u32 restart;
	__u64 reserved[2];
};

/* kvm_pv_pmu_report.rdpmc_index - 1: bit 15 stands for bit 30 of ECX */
#define KVM_PV_PMU_RDPMC_FIXED		0x8000

/**
 * struct kvm_pv_pmu_report - the host's report on a slot; only the host writes
 * @seq:	odd while the host writes, and another even number afterwards
 * @status:	0, or a negative errno: the event does not count
 * @count:	events since it was opened; 64 bits, never decreasing
 * @time_enabled: ns that the event ran since it was opened, in the time of the
 *		vCPU's thread
 * @time_running: the part of @time_enabled with a counter of the host
 * @overflows:	overflows since it was opened
 * @period_sum:	the sum of the periods of these overflows: each overflow stands
 *		for as many events as its period
 * @rdpmc_offset: see @rdpmc_index
 * @rdpmc_index: zero if the guest cannot read the counter; else the counter's
 *		number plus one. The number without KVM_PV_PMU_RDPMC_FIXED is bits 14:0
 *		of RDPMC's ECX; KVM_PV_PMU_RDPMC_FIXED is bit 30 of ECX. As long as
 *		@seq does not change, the event's count is the value that RDPMC
 *		returns, sign-extended from @rdpmc_width bits, plus @rdpmc_offset, while
 *		@count is the count when the report was written, and the event gains as
 *		much time running as time enabled.
 * @rdpmc_width: bits of the counter
 * @throttled:	times that the host held back the overflows since it was opened,
 *		because there were too many
 *
 * All fields but @seq are zero if no event is open.
 */
struct kvm_pv_pmu_report {
	__u32 seq;
	__s32 status;
	__u64 count;
	__u64 time_enabled;
	__u64 time_running;
	__u64 overflows;
	__u64 period_sum;
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

/* kvm_pv_pmu_branch.flags */
#define KVM_PV_PMU_BRANCH_MISPREDICTED	_BITUL(0)
#define KVM_PV_PMU_BRANCH_PREDICTED	_BITUL(1)
#define KVM_PV_PMU_BRANCH_SPEC_SHIFT	2		/* bits 3:2: PERF_BR_SPEC_* */
#define KVM_PV_PMU_BRANCH_SPEC_MASK	0xcU

/**
 * struct kvm_pv_pmu_branch - a branch that was taken
 * @from:	address of the branch, or of the instruction that was fused with it
 * @to:		where it went
 * @flags:	KVM_PV_PMU_BRANCH_*
 * @reserved:	zero
 */
struct kvm_pv_pmu_branch {
	__u64 from;
	__u64 to;
	__u32 flags;
	__u32 reserved;
};

#define KVM_PV_PMU_MAX_BRANCHES		32

/* kvm_pv_pmu_branch_record.flags */
#define KVM_PV_PMU_BRANCHES_LOST	_BITUL(0)	/* the stack was not recorded */

/**
 * struct kvm_pv_pmu_branch_record - the branch stack of an overflow
 * @seq:	odd while the host writes, and another even number afterwards
 * @flags:	KVM_PV_PMU_BRANCHES_LOST
 * @slots:	the slots with a @branch_sample_type that have overflowed
 * @number:	greater than that of any record before, since the area was enabled
 * @nr:		number of @branches that are valid
 * @reserved:	zero
 * @branches:	the newest first. The kinds of branches are those of all running slots
 *		with a branch_sample_type, and of the host's own events: a guest drops
 *		what it has not asked for.
 *
 * The host writes the record before it sets the slots' bits in
 * kvm_pv_pmu_header.overflow. A stack begins with the first branch after the last COMMIT
 * that named a slot with a branch_sample_type, or later. It has no branches of the host,
 * or of a nested guest.
 */
struct kvm_pv_pmu_branch_record {
	__u32 seq;
	__u32 flags;
	__u64 slots;
	__u64 number;
	__u32 nr;
	__u32 reserved[9];
	struct kvm_pv_pmu_branch branches[KVM_PV_PMU_MAX_BRANCHES];
	__u64 pad[24];
};

#define KVM_PV_PMU_NR_BRANCH_RECORDS	4

/**
 * struct kvm_pv_pmu_branches - the page of kvm_pv_pmu_header.branches
 * @records:	record number N is in records[N % KVM_PV_PMU_NR_BRANCH_RECORDS]
 */
struct kvm_pv_pmu_branches {
	struct kvm_pv_pmu_branch_record records[KVM_PV_PMU_NR_BRANCH_RECORDS];
};

/*
 * KVM_CAP_X86_PV_PMU: KVM_CHECK_EXTENSION returns the bits that KVM_ENABLE_CAP on
 * the VM takes as args[0], before it has a vCPU: what its guest may have.
 */
#define KVM_PV_PMU_POLICY_EVENTS	_BITULL(0)	/* the paravirtual PMU */
#define KVM_PV_PMU_POLICY_RAW		_BITULL(1)	/* raw events */
#define KVM_PV_PMU_POLICY_PINNED	_BITULL(2)	/* pinned events */
#define KVM_PV_PMU_POLICY_BRANCHES	_BITULL(3)	/* branch stacks */

#endif /* _UAPI_ASM_X86_KVM_PV_PMU_H */
