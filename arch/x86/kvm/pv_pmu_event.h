/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The events of the paravirtual PMU: a slot of a vCPU's area, and the host's perf
 * event that counts for it. For pv_pmu.c, pv_pmu_event.c and pv_pmu_branches.c only.
 */
#ifndef __KVM_X86_PV_PMU_EVENT_H
#define __KVM_X86_PV_PMU_EVENT_H

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/ratelimit.h>

#include <asm/kvm_pv_pmu.h>

/**
 * struct pv_pmu_slot - what the host knows of a slot
 * @vcpu:	whose slot
 * @request:	a copy, which the guest cannot change after it was checked
 * @event:	counts; NULL if nothing is open, or if it cannot be counted
 * @status:	kvm_pv_pmu_report.status
 * @seq:	kvm_pv_pmu_report.seq
 * @start:	@event is to be started, if the request has KVM_PV_PMU_RUN
 * @foreign:	a raw event that was opened on a host with another PMU
 * @count:	what perf events before @event have counted for the same request
 * @time_enabled: see @count
 * @time_running: see @count
 * @overflows:	kvm_pv_pmu_report.overflows; written in NMI context, like all below
 * @period_sum:	kvm_pv_pmu_report.period_sum
 * @throttled:	kvm_pv_pmu_report.throttled
 * @throttled_at: the time running of @event when perf stopped it until the next tick, or 0
 * @held:	ns of the time running during which perf had stopped @event
 */
struct pv_pmu_slot {
	struct kvm_vcpu *vcpu;
	struct kvm_pv_pmu_request request;
	struct perf_event *event;
	int status;
	u32 seq;
	bool start;
	bool foreign;

	u64 count;
	u64 time_enabled;
	u64 time_running;

	u64 overflows;
	u64 period_sum;
	u32 throttled;
	u64 throttled_at;
	u64 held;
};

/**
 * struct kvm_vcpu_pv_pmu - the paravirtual PMU of a vCPU
 * @msr:	MSR_KVM_PV_PMU
 * @area:	where the area is in the address space of the VMM
 * @cookie:	the guest's
 * @generation:	kvm_pv_pmu_header.generation
 * @reported_at: vcpu->stat.exits when all reports were written, for a VMM
 * @restore:	take over what the area says, before the guest is entered
 * @reopen:	open all events anew, before the guest is entered
 * @overflowed:	slots whose overflow the guest has to be told
 * @burst_at:	the tick (in jiffies) of @burst
 * @burst:	overflows of all slots in this tick
 * @anchor:	an event that never counts. The first event of a task in the system
 *		has to wait for all CPUs: this one does, when the area is enabled.
 * @nr_events:	slots with a perf event
 * @members:	of these, the slots of members of a group
 * @branch_slots: of these, the slots with a branch_sample_type
 * @branch_types: the branches that are recorded: PERF_SAMPLE_BRANCH_*
 * @branches_are_late: the stack has changed since an overflow that the guest has not been
 *		told of; written in NMI context, too
 * @nr_branch_records: records written since the area was enabled
 * @opens:	limits the perf events that are opened in a time
 * @open_refused_until: until when (in jiffies) not to ask again whether the VMM may
 *		open events: each refusal may leave an audit record
 * @kernel_refused_until: likewise, whether it may count its guest's kernel
 * @branch_entries: for the record being written
 * @branch_record: likewise
 * @requests:	a copy of what is being committed
 * @slots:	the slots
 */
struct kvm_vcpu_pv_pmu {
	u64 msr;
	struct gfn_to_hva_cache area;
	u64 cookie;
	u32 generation;
	u64 reported_at;

	bool restore;
	bool reopen;
	unsigned long overflowed;
	unsigned long burst_at;
	unsigned int burst;

	struct perf_event *anchor;
	unsigned int nr_events;
	unsigned long members;
	unsigned long branch_slots;
	u64 branch_types;
	bool branches_are_late;
	u64 nr_branch_records;
	struct ratelimit_state opens;
	u64 open_refused_until;
	u64 kernel_refused_until;

	struct perf_branch_entry branch_entries[KVM_PV_PMU_MAX_BRANCHES];
	struct kvm_pv_pmu_branch_record branch_record;
	struct kvm_pv_pmu_request requests[KVM_PV_PMU_NR_SLOTS];
	struct pv_pmu_slot slots[KVM_PV_PMU_NR_SLOTS];
};

static inline bool pv_pmu_is_open(const struct pv_pmu_slot *slot)
{
	return slot->request.flags & KVM_PV_PMU_OPEN;
}

bool pv_pmu_host_has_pmu(void);
u64 pv_pmu_features(const struct kvm_vcpu *vcpu);
u32 pv_pmu_nr_counters(void);
u64 pv_pmu_id(void);

void pv_pmu_create_anchor(struct kvm_vcpu_pv_pmu *pv);
void pv_pmu_drop_anchor(struct kvm_vcpu_pv_pmu *pv);

void pv_pmu_close(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot);
void pv_pmu_commit_copies(struct kvm_vcpu_pv_pmu *pv, unsigned long mask);
void pv_pmu_open_all(struct kvm_vcpu_pv_pmu *pv);
void pv_pmu_reopen(struct kvm_vcpu_pv_pmu *pv);
void pv_pmu_read(const struct pv_pmu_slot *slot, struct kvm_pv_pmu_report *report);

u64 pv_pmu_branch_types(const struct kvm_vcpu *vcpu);
u32 pv_pmu_nr_branches(const struct kvm_vcpu *vcpu);
int pv_pmu_check_branches(const struct kvm_vcpu *vcpu,
			  const struct kvm_pv_pmu_request *request);
void pv_pmu_update_branches(struct kvm_vcpu_pv_pmu *pv, unsigned long committed);
void pv_pmu_branches_wait(struct kvm_vcpu_pv_pmu *pv);
void pv_pmu_write_branches(struct kvm_vcpu *vcpu, struct kvm_pv_pmu_area __user *area,
			   unsigned long slots);

#endif /* __KVM_X86_PV_PMU_EVENT_H */
