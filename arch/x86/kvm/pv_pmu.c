// SPDX-License-Identifier: GPL-2.0
/*
 * The paravirtual PMU, host side: a vCPU declares events in a page of its memory, the area,
 * and makes KVM_HC_PV_PMU hypercalls; perf events of the host, attached to the vCPU's
 * thread, count them (pv_pmu_event.c); their counts are reported in the same page. See
 * Documentation/virt/kvm/x86/pv-pmu.rst.
 *
 * There is no lock: the vCPU's thread, or a thread that holds vcpu->mutex in its place,
 * does everything but overflows. Overflows come in NMI context, mark the slot, and make a
 * request.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/uaccess.h>

#include "x86.h"
#include "pv_pmu.h"
#include "pv_pmu_event.h"
#include "trace.h"

static bool __read_mostly pv_pmu = true;
module_param(pv_pmu, bool, 0444);
MODULE_PARM_DESC(pv_pmu, "Let guests have the paravirtual PMU");

static unsigned int __read_mostly pv_pmu_max_opens = 128;
module_param(pv_pmu_max_opens, uint, 0644);
MODULE_PARM_DESC(pv_pmu_max_opens, "Events that a vCPU may open in 100 ms (0: no limit)");

#define PV_PMU_POLICIES	(KVM_PV_PMU_POLICY_EVENTS | KVM_PV_PMU_POLICY_RAW |	\
			 KVM_PV_PMU_POLICY_PINNED)

/* KVM_PV_PMU_POLICY_*: what a VM may have; 0 if this host has no paravirtual PMU */
u64 kvm_pv_pmu_policies(void)
{
	if (!pv_pmu || !pv_pmu_host_has_pmu())
		return 0;
	return PV_PMU_POLICIES | (kvm_caps.nr_branches ? KVM_PV_PMU_POLICY_BRANCHES : 0);
}

void kvm_pv_pmu_init_vm(struct kvm *kvm)
{
	kvm_pv_pmu_look_at_host();
	kvm->arch.pv_pmu_policy = kvm_pv_pmu_policies();
	kvm->arch.pv_pmu_max_events = KVM_PV_PMU_NR_SLOTS;
}

/* KVM_CAP_X86_PV_PMU, called with kvm->lock held. @max_events is 0 for no limit. */
int kvm_pv_pmu_set_policy(struct kvm *kvm, u64 policy, u64 max_events)
{
	if (policy & ~kvm_pv_pmu_policies() || max_events > KVM_PV_PMU_NR_SLOTS ||
	    kvm->created_vcpus)
		return -EINVAL;

	kvm->arch.pv_pmu_policy = policy;
	kvm->arch.pv_pmu_policy_is_set = true;
	kvm->arch.pv_pmu_max_events = max_events ?: KVM_PV_PMU_NR_SLOTS;
	return 0;
}

/* A VMM that disables the virtual PMU, and sets no policy, gets no paravirtual PMU either. */
void kvm_pv_pmu_vpmu_disabled(struct kvm *kvm)
{
	if (!kvm->arch.pv_pmu_policy_is_set)
		kvm->arch.pv_pmu_policy = 0;
}

static bool pv_pmu_is_enabled(struct kvm_vcpu_pv_pmu *pv)
{
	return pv && (pv->msr & KVM_PV_PMU_ENABLED);
}

/*
 * Locate the area in the address space of the VMM. The VMM may have moved or removed the
 * area since the last call.
 */
static struct kvm_pv_pmu_area __user *pv_pmu_map(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct gfn_to_hva_cache *ghc = &pv->area;
	gpa_t gpa = pv->msr & PAGE_MASK;

	if (kvm_memslots(vcpu->kvm)->generation != ghc->generation ||
	    ghc->gpa != gpa || !ghc->memslot) {
		if (kvm_gfn_to_hva_cache_init(vcpu->kvm, ghc, gpa,
					      sizeof(struct kvm_pv_pmu_area)))
			return NULL;
	}

	if (kvm_is_error_hva(ghc->hva) || !ghc->memslot)
		return NULL;

	return (struct kvm_pv_pmu_area __user *)ghc->hva;
}

static void pv_pmu_mark_dirty(struct kvm_vcpu *vcpu)
{
	struct gfn_to_hva_cache *ghc = &vcpu->arch.pv_pmu->area;

	mark_page_dirty_in_slot(vcpu->kvm, ghc->memslot, gpa_to_gfn(ghc->gpa));
}

static void pv_pmu_disable(struct kvm_vcpu_pv_pmu *pv)
{
	int i;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++)
		pv_pmu_close(pv, &pv->slots[i]);
	pv_pmu_update_branches(pv, 0);
	pv_pmu_drop_anchor(pv);
	pv->msr = 0;
	pv->restore = false;
	pv->reopen = false;
	pv->branches_are_late = false;
	pv->nr_branch_records = 0;
}

static int pv_pmu_copy_requests(struct kvm_vcpu_pv_pmu *pv,
				struct kvm_pv_pmu_area __user *area, unsigned long mask)
{
	int i;

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (copy_from_user(&pv->requests[i], &area->slots[i].request,
				   sizeof(pv->requests[i])))
			return -EFAULT;
	}
	return 0;
}

static int pv_pmu_write_report(const struct kvm_pv_pmu_report *report, u32 seq,
			       struct kvm_pv_pmu_report __user *to)
{
	const void *counts = &report->count;
	void __user *to_counts = &to->count;

	if (!user_access_begin(to, sizeof(*to)))
		return -EFAULT;

	unsafe_put_user(seq - 1, &to->seq, fault);
	smp_wmb();	/* the guest's reads of seq before and after are its pair */
	unsafe_put_user(report->status, &to->status, fault);
	unsafe_copy_to_user(to_counts, counts,
			    sizeof(*report) - offsetof(typeof(*report), count),
			    fault);
	smp_wmb();	/* as above */
	unsafe_put_user(seq, &to->seq, fault);

	user_access_end();
	return 0;

fault:
	user_access_end();
	return -EFAULT;
}

static int pv_pmu_report(struct kvm_vcpu *vcpu,
			 struct kvm_pv_pmu_area __user *area, unsigned long mask)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_report report;
	struct pv_pmu_slot *slot;
	int i, r = 0;

	if (!mask)
		return 0;

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		slot = &pv->slots[i];
		slot->seq += 2;
		pv_pmu_read(slot, &report);
		r = pv_pmu_write_report(&report, slot->seq, &area->slots[i].report);
		if (r)
			break;
	}

	pv_pmu_mark_dirty(vcpu);
	return r;
}

static unsigned long pv_pmu_slots_with(struct kvm_vcpu_pv_pmu *pv, u32 flag)
{
	unsigned long mask = 0;
	int i;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++) {
		if (pv->slots[i].request.flags & flag)
			__set_bit(i, &mask);
	}

	return mask;
}

/* Write the host's half of the header, without @overflow, which the guest writes as well. */
static int pv_pmu_write_header(struct kvm_vcpu *vcpu, struct kvm_pv_pmu_area __user *area)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_header header = {
		.version	= KVM_PV_PMU_VERSION,
		.nr_slots	= KVM_PV_PMU_NR_SLOTS,
		.features	= pv_pmu_features(vcpu),
		.cookie_echo	= pv->cookie,
		.pmu		= pv_pmu_id(),
		.nr_counters	= pv_pmu_nr_counters(),
		.generation	= pv->generation,
		.branch_types	= pv_pmu_branch_types(vcpu),
		.nr_branches	= pv_pmu_nr_branches(vcpu),
	};

	if (copy_to_user(&area->header, &header, offsetof(typeof(header), overflow)) ||
	    copy_to_user(&area->header.branch_types, &header.branch_types,
			 offsetof(typeof(header), cookie) -
			 offsetof(typeof(header), branch_types)))
		return -EFAULT;

	pv_pmu_mark_dirty(vcpu);
	return 0;
}

/* Will an NMI reach the guest, or does the guest's handler of NMIs still run? */
static bool pv_pmu_nmi_is_coming(struct kvm_vcpu *vcpu)
{
	return atomic_read(&vcpu->arch.nmi_queued) || vcpu->arch.nmi_injected ||
	       kvm_get_nr_pending_nmis(vcpu) || kvm_x86_call(get_nmi_mask)(vcpu);
}

static void pv_pmu_inject_nmi(struct kvm_vcpu *vcpu)
{
	kvm_inject_nmi(vcpu);
	++vcpu->stat.pv_pmu_nmis;
}

static void pv_pmu_restore_slot(struct pv_pmu_slot *slot, const struct kvm_pv_pmu_slot *image,
				bool other_pmu)
{
	slot->seq = image->report.seq & ~1;
	if (!(image->request.flags & KVM_PV_PMU_OPEN))
		return;

	slot->request = image->request;
	slot->foreign = image->request.type == PERF_TYPE_RAW &&
			(other_pmu || image->report.status == -ENODEV);
	slot->count = image->report.count;
	slot->time_enabled = image->report.time_enabled;
	slot->time_running = image->report.time_running;
	slot->overflows = image->report.overflows;
	slot->period_sum = image->report.period_sum;
	slot->throttled = image->report.throttled;
}

/*
 * User space has restored the MSR of a saved guest: open the events that are declared in
 * the area, and go on from the counts in the area. If the memory is not there yet,
 * kvm_pv_pmu_memslots_changed() requests another try.
 */
static void pv_pmu_restore(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area = pv_pmu_map(vcpu);
	struct kvm_pv_pmu_header header;
	struct kvm_pv_pmu_slot image;
	int i;

	if (!area || copy_from_user(&header, &area->header, sizeof(header)))
		return;

	pv->cookie = header.cookie;
	pv->generation = header.generation + 1;
	if (!header.cookie || header.cookie_echo != header.cookie ||
	    pv_pmu_write_header(vcpu, area)) {
		pv_pmu_disable(pv);
		return;
	}

	pv->restore = false;
	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++) {
		if (!copy_from_user(&image, &area->slots[i], sizeof(image)))
			pv_pmu_restore_slot(&pv->slots[i], &image, header.pmu != pv_pmu_id());
	}
	pv_pmu_create_anchor(pv);
	pv_pmu_open_all(pv);
	pv_pmu_report(vcpu, area, pv_pmu_slots_with(pv, KVM_PV_PMU_OPEN));

	/* The overflows may have been saved without their NMI. */
	if (header.overflow && !pv_pmu_nmi_is_coming(vcpu))
		pv_pmu_inject_nmi(vcpu);
}

/*
 * The area, or NULL if the area cannot be used. Missing memory may come back. Another
 * cookie means that a kernel that does not know of the area has taken over: disable the
 * area for good.
 */
static struct kvm_pv_pmu_area __user *pv_pmu_area(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;
	u64 cookie;

	if (!pv_pmu_is_enabled(pv) || pv->restore)
		return NULL;

	area = pv_pmu_map(vcpu);
	if (!area || get_user(cookie, &area->header.cookie))
		return NULL;

	if (cookie != pv->cookie) {
		pv_pmu_disable(pv);
		return NULL;
	}

	return area;
}

/* The slots of the mask, and all others of their groups */
static unsigned long pv_pmu_with_groups(const struct kvm_vcpu_pv_pmu *pv, unsigned long mask)
{
	unsigned long leaders = mask & ~pv->members, members = mask & pv->members;
	int i;

	for_each_set_bit(i, &members, KVM_PV_PMU_NR_SLOTS)
		leaders |= BIT(pv->slots[i].request.group - 1);
	for_each_set_bit(i, &pv->members, KVM_PV_PMU_NR_SLOTS) {
		if (leaders & BIT(pv->slots[i].request.group - 1))
			mask |= BIT(i);
	}
	return mask | leaders;
}

/* Tell the guest which of its events have overflowed. */
static void pv_pmu_deliver(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area = pv_pmu_area(vcpu);
	unsigned long overflowed;
	u64 pending;
	bool nmi;
	int r;

	if (!area) {
		pv_pmu_branches_wait(pv);
		return;
	}

	overflowed = xchg(&pv->overflowed, 0);
	if (pv_pmu_report(vcpu, area, pv_pmu_with_groups(pv, overflowed)) ||
	    get_user(pending, &area->header.overflow)) {
		r = -EFAULT;
		goto not_delivered;
	}

	if (unlikely(pv->branch_slots))
		pv_pmu_write_branches(vcpu, area, overflowed);
	r = __try_cmpxchg_user(&area->header.overflow, &pending,
			       pending | overflowed, fault);
	/* Another vCPU has changed the word, without a reason: try again, do not loop. */
	if (r > 0)
		kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	if (r)
		goto not_delivered;
	pv->branches_are_late = false;
	pv_pmu_mark_dirty(vcpu);

	/*
	 * If earlier overflows are pending, the guest sees the new ones with them, unless
	 * the NMI for the earlier ones was lost.
	 */
	nmi = !pending || !pv_pmu_nmi_is_coming(vcpu);
	if (nmi)
		pv_pmu_inject_nmi(vcpu);
	trace_kvm_pv_pmu_overflow(vcpu->vcpu_id, overflowed, nmi);
	return;

not_delivered:
	set_mask_bits(&pv->overflowed, 0, overflowed);
	if (r < 0)
		pv_pmu_branches_wait(pv);
}

static int pv_pmu_do_hypercall(struct kvm_vcpu *vcpu, u64 op, u64 mask)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;

	if (op > KVM_PV_PMU_OP_SYNC)
		return -KVM_EOPNOTSUPP;
	if (mask >> KVM_PV_PMU_NR_SLOTS)
		return -KVM_EINVAL;

	area = pv_pmu_area(vcpu);
	if (!area)
		return -KVM_EFAULT;

	if (op == KVM_PV_PMU_OP_COMMIT) {
		++vcpu->stat.pv_pmu_commits;
		if (pv_pmu_copy_requests(pv, area, mask))
			return -KVM_EFAULT;
		pv_pmu_commit_copies(pv, mask);
		mask |= pv_pmu_slots_with(pv, KVM_PV_PMU_RUN);
	} else {
		++vcpu->stat.pv_pmu_syncs;
	}

	return pv_pmu_report(vcpu, area, mask) ? -KVM_EFAULT : 0;
}

/* Returns the result of the hypercall for the guest; see asm/kvm_pv_pmu.h. */
int kvm_pv_pmu_hypercall(struct kvm_vcpu *vcpu, u64 op, u64 mask)
{
	int r = pv_pmu_do_hypercall(vcpu, op, mask);

	trace_kvm_pv_pmu_hypercall(vcpu->vcpu_id, op, mask, r);
	return r;
}

/* KVM_REQ_PV_PMU: the guest is about to be entered. */
void kvm_pv_pmu_handle_request(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	bool reopen;

	if (!pv_pmu_is_enabled(pv))
		return;

	reopen = xchg(&pv->reopen, false);
	if (pv->restore)
		pv_pmu_restore(vcpu);
	else if (reopen)
		pv_pmu_reopen(pv);

	if (pv->overflowed)
		pv_pmu_deliver(vcpu);
}

/*
 * KVM_RUN returns because user space wants the vCPU to stop, maybe to save it: write all
 * reports before the last of guest memory is saved. Write them once, until the guest runs
 * again.
 */
void kvm_pv_pmu_stopped(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;

	if (likely(!pv_pmu_is_enabled(pv)) || pv->reported_at == vcpu->stat.exits)
		return;

	area = pv_pmu_area(vcpu);
	if (!area || pv_pmu_report(vcpu, area, pv_pmu_slots_with(pv, KVM_PV_PMU_OPEN)))
		return;
	if (pv->overflowed)
		pv_pmu_deliver(vcpu);
	pv->reported_at = vcpu->stat.exits;
}

/* Of the reasons for KVM_REQ_PV_PMU, an overflow alone ends a HLT. */
bool kvm_pv_pmu_has_overflow(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	return pv_pmu_is_enabled(pv) && pv->overflowed;
}

/* Another thread runs the vCPU. perf events are attached to one thread: open them anew. */
int kvm_arch_vcpu_run_pid_change(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	if (pv_pmu_is_enabled(pv)) {
		pv->open_refused_until = 0;
		pv->kernel_refused_until = 0;
		pv->reopen = true;
		kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	}

	return 0;
}

/* The filter may forbid events that are open, or allow events that were refused. */
void kvm_pv_pmu_filter_changed(struct kvm *kvm)
{
	struct kvm_vcpu_pv_pmu *pv;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		pv = READ_ONCE(vcpu->arch.pv_pmu);
		if (!pv)
			continue;
		WRITE_ONCE(pv->reopen, true);
		kvm_make_request(KVM_REQ_PV_PMU, vcpu);
		kvm_vcpu_kick(vcpu);
	}
}

/* The memory that a restore or an overflow waits for may be there now. */
void kvm_pv_pmu_memslots_changed(struct kvm *kvm)
{
	struct kvm_vcpu_pv_pmu *pv;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		pv = READ_ONCE(vcpu->arch.pv_pmu);
		if (pv && (READ_ONCE(pv->restore) || READ_ONCE(pv->overflowed)))
			kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	}
}

static int pv_pmu_enable(struct kvm_vcpu *vcpu, u64 data)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;
	struct gfn_to_hva_cache ghc;
	u32 generation;
	u64 cookie;

	/* Check first: a write that fails here changes nothing. */
	if (kvm_gfn_to_hva_cache_init(vcpu->kvm, &ghc, data & PAGE_MASK,
				      sizeof(*area)) || !ghc.memslot)
		return -EFAULT;

	area = (struct kvm_pv_pmu_area __user *)ghc.hva;
	if (get_user(cookie, &area->header.cookie) ||
	    get_user(generation, &area->header.generation))
		return -EFAULT;
	if (!cookie)
		return -EINVAL;

	pv_pmu_disable(pv);
	pv->msr = data;
	pv->area = ghc;
	pv->cookie = cookie;
	pv->generation = generation + 1;
	if (put_user(0, &area->header.overflow) || pv_pmu_write_header(vcpu, area)) {
		pv_pmu_disable(pv);
		return -EFAULT;
	}
	pv_pmu_create_anchor(pv);

	return 0;
}

static struct kvm_vcpu_pv_pmu *pv_pmu_alloc(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = kzalloc(sizeof(*pv), GFP_KERNEL_ACCOUNT);
	int max_opens = min(READ_ONCE(pv_pmu_max_opens), INT_MAX);
	int i;

	if (!pv)
		return NULL;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++)
		pv->slots[i].vcpu = vcpu;
	ratelimit_state_init(&pv->opens, max_opens ? HZ / 10 : 0, max_opens);
	/* do not log that a guest meets the limit */
	ratelimit_set_flags(&pv->opens, RATELIMIT_MSG_ON_RELEASE);

	/* kvm_pv_pmu_filter_changed() may read the pointer at any time */
	smp_store_release(&vcpu->arch.pv_pmu, pv);
	return pv;
}

/* Returns 0, or 1 if the write is to fail. */
int kvm_pv_pmu_set_msr(struct kvm_vcpu *vcpu, u64 data, bool host_initiated)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	if (data & KVM_PV_PMU_RESERVED_MASK)
		return 1;

	if (!pv) {
		if (!(data & KVM_PV_PMU_ENABLED))
			return 0;
		pv = pv_pmu_alloc(vcpu);
		if (!pv)
			return 1;
	}

	if (!(data & KVM_PV_PMU_ENABLED)) {
		pv_pmu_disable(pv);
		return 0;
	}

	if (!host_initiated)
		return !!pv_pmu_enable(vcpu, data);

	/* Restore later, when the rest of the vCPU and its memory are there. */
	pv_pmu_disable(pv);
	pv->msr = data;
	pv->restore = true;
	kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	return 0;
}

u64 kvm_pv_pmu_get_msr(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.pv_pmu ? vcpu->arch.pv_pmu->msr : 0;
}

void kvm_pv_pmu_reset(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.pv_pmu)
		pv_pmu_disable(vcpu->arch.pv_pmu);
}

void kvm_pv_pmu_destroy(struct kvm_vcpu *vcpu)
{
	kvm_pv_pmu_reset(vcpu);
	kfree(vcpu->arch.pv_pmu);
	vcpu->arch.pv_pmu = NULL;
}
