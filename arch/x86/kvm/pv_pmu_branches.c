// SPDX-License-Identifier: GPL-2.0
/*
 * The paravirtual PMU, host side: branch stacks. The vCPU's branches are recorded while a
 * slot with a branch_sample_type runs (see kvm_x86_ops.set_branch_types). When such a slot
 * has overflowed, and before the guest is entered again, the stack is written to a page of
 * the guest. See Documentation/virt/kvm/x86/pv-pmu.rst.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/perf_event.h>
#include <linux/uaccess.h>

#include <asm/kvm_pv_pmu.h>

#include "x86.h"
#include "pv_pmu_event.h"

static bool __read_mostly pv_pmu_branches = true;
module_param(pv_pmu_branches, bool, 0644);
MODULE_PARM_DESC(pv_pmu_branches, "Let guests record branch stacks");

#define PV_PMU_BRANCH_TYPES							\
	(PERF_SAMPLE_BRANCH_PLM_ALL | PERF_SAMPLE_BRANCH_ANY |			\
	 PERF_SAMPLE_BRANCH_ANY_CALL | PERF_SAMPLE_BRANCH_ANY_RETURN |		\
	 PERF_SAMPLE_BRANCH_IND_CALL | PERF_SAMPLE_BRANCH_COND |		\
	 PERF_SAMPLE_BRANCH_IND_JUMP | PERF_SAMPLE_BRANCH_CALL)

/* kvm_pv_pmu_header.branch_types; 0 without the feature */
u64 pv_pmu_branch_types(const struct kvm_vcpu *vcpu)
{
	if (!kvm_caps.nr_branches || !READ_ONCE(pv_pmu_branches) ||
	    !(vcpu->kvm->arch.pv_pmu_policy & KVM_PV_PMU_POLICY_BRANCHES) ||
	    vcpu->arch.guest_state_protected)
		return 0;
	return PV_PMU_BRANCH_TYPES;
}

/* kvm_pv_pmu_header.nr_branches */
u32 pv_pmu_nr_branches(const struct kvm_vcpu *vcpu)
{
	return pv_pmu_branch_types(vcpu) ?
	       min_t(u32, kvm_caps.nr_branches, KVM_PV_PMU_MAX_BRANCHES) : 0;
}

/* As for perf_event_open(2), a request must name a kind of branches. */
int pv_pmu_check_branches(const struct kvm_vcpu *vcpu,
			  const struct kvm_pv_pmu_request *request)
{
	u64 types = request->branch_sample_type, allowed = pv_pmu_branch_types(vcpu);

	if (!types)
		return 0;
	if (!allowed)
		return -EOPNOTSUPP;
	if (types & ~allowed || !(types & ~PERF_SAMPLE_BRANCH_PLM_ALL) ||
	    !(types & PERF_SAMPLE_BRANCH_PLM_ALL) || !(request->flags & KVM_PV_PMU_SAMPLE))
		return -EINVAL;
	return 0;
}

/*
 * The branch stack is about to change. The stack of an overflow that the guest has not been
 * told of is lost.
 */
void pv_pmu_branches_wait(struct kvm_vcpu_pv_pmu *pv)
{
	pv->branches_are_late = pv->overflowed & pv->branch_slots;
}

/* Record the branches that running slots want. @committed slots begin with an empty stack. */
void pv_pmu_update_branches(struct kvm_vcpu_pv_pmu *pv, unsigned long committed)
{
	struct kvm_vcpu *vcpu = pv->slots[0].vcpu;
	u64 types = 0;
	int i;

	for_each_set_bit(i, &pv->branch_slots, KVM_PV_PMU_NR_SLOTS) {
		if (pv->slots[i].request.flags & KVM_PV_PMU_RUN)
			types |= pv->slots[i].request.branch_sample_type;
	}

	if (types == pv->branch_types && !(types && committed & pv->branch_slots))
		return;
	pv->branch_types = types;
	pv_pmu_branches_wait(pv);
	kvm_x86_call(set_branch_types)(vcpu, types);
}

static u32 pv_pmu_branch_flags(const struct perf_branch_entry *entry)
{
	return (entry->mispred ? KVM_PV_PMU_BRANCH_MISPREDICTED : 0) |
	       (entry->predicted ? KVM_PV_PMU_BRANCH_PREDICTED : 0) |
	       entry->spec << KVM_PV_PMU_BRANCH_SPEC_SHIFT;
}

/* @late: the guest has run on since the overflow, and the stack is lost. */
static void pv_pmu_fill_record(struct kvm_vcpu *vcpu, struct kvm_pv_pmu_branch_record *record,
			       bool late)
{
	struct perf_branch_entry *entries = vcpu->arch.pv_pmu->branch_entries;
	u64 select;
	int nr, i;

	nr = late ? -ENODATA : kvm_x86_call(get_branches)(vcpu, entries, &select);
	record->flags = nr < 0 ? KVM_PV_PMU_BRANCHES_LOST : 0;
	record->nr = max(nr, 0);
	for (i = 0; i < nr; i++) {
		record->branches[i] = (struct kvm_pv_pmu_branch){
			.from	= entries[i].from,
			.to	= entries[i].to,
			.flags	= pv_pmu_branch_flags(&entries[i]),
		};
	}
}

static int pv_pmu_write_record(const struct kvm_pv_pmu_branch_record *record,
			       struct kvm_pv_pmu_branch_record __user *to)
{
	const void *flags = &record->flags;
	void __user *to_flags = &to->flags;
	u32 seq;

	if (!user_access_begin(to, sizeof(*to)))
		return -EFAULT;

	unsafe_get_user(seq, &to->seq, fault);
	seq |= 1;
	unsafe_put_user(seq, &to->seq, fault);
	smp_wmb();	/* the guest's reads of seq before and after are its pair */
	unsafe_copy_to_user(to_flags, flags,
			    offsetof(typeof(*record), branches[record->nr]) -
			    offsetof(typeof(*record), flags), fault);
	smp_wmb();	/* as above */
	unsafe_put_user(seq + 1, &to->seq, fault);

	user_access_end();
	return 0;

fault:
	user_access_end();
	return -EFAULT;
}

/*
 * Write the stack of the slots that have overflowed. A guest without a page, or with a page
 * that cannot be written, gets no stack.
 */
void pv_pmu_write_branches(struct kvm_vcpu *vcpu, struct kvm_pv_pmu_area __user *area,
			   unsigned long slots)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_branch_record *record = &pv->branch_record;
	struct kvm_pv_pmu_branches __user *page;
	unsigned long hva;
	u64 gpa;

	slots &= pv->branch_slots;
	if (!slots || get_user(gpa, &area->header.branches))
		return;

	if (!gpa || offset_in_page(gpa) || gpa == pv->area.gpa)
		return;
	hva = gfn_to_hva(vcpu->kvm, gpa_to_gfn(gpa));
	if (kvm_is_error_hva(hva))
		return;

	page = (struct kvm_pv_pmu_branches __user *)hva;
	record->slots = slots;
	record->number = (u64)pv->generation << 40 | ++pv->nr_branch_records;
	pv_pmu_fill_record(vcpu, record, pv->branches_are_late);
	if (!pv_pmu_write_record(record, &page->records[record->number %
							KVM_PV_PMU_NR_BRANCH_RECORDS]))
		mark_page_dirty(vcpu->kvm, gpa_to_gfn(gpa));
}
