// SPDX-License-Identifier: GPL-2.0
/*
 * The paravirtual PMU, host side: a vCPU declares events in a page of its memory,
 * the area, and makes KVM_HC_PV_PMU hypercalls; perf events of the host, attached
 * to the vCPU's thread, count them; their counts are reported in the same page.
 * See Documentation/virt/kvm/x86/pv-pmu.rst.
 *
 * All is done by the vCPU's thread, or by one that holds vcpu->mutex in its place,
 * and there is no lock. Overflows come in NMI context: they leave a note in the
 * slot and make a request.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/perf_event.h>
#include <linux/uaccess.h>

#include <asm/kvm_pv_pmu.h>
#include <asm/perf_event.h>

#include "x86.h"
#include "pmu.h"
#include "pv_pmu.h"
#include "trace.h"

static bool __read_mostly pv_pmu = true;
module_param(pv_pmu, bool, 0444);
MODULE_PARM_DESC(pv_pmu, "Offer the paravirtual PMU to guests");

static unsigned int __read_mostly pv_pmu_max_events = KVM_PV_PMU_NR_SLOTS;
module_param(pv_pmu_max_events, uint, 0644);
MODULE_PARM_DESC(pv_pmu_max_events, "Events that a vCPU may have open at once");

static bool __read_mostly pv_pmu_raw = true;
module_param(pv_pmu_raw, bool, 0644);
MODULE_PARM_DESC(pv_pmu_raw, "Let guests count raw events of the host's CPU");

static bool __read_mostly pv_pmu_pinned = true;
module_param(pv_pmu_pinned, bool, 0644);
MODULE_PARM_DESC(pv_pmu_pinned, "Let guests have pinned events");

#define PV_PMU_KNOWN_FLAGS						\
	(KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_SAMPLE |		\
	 KVM_PV_PMU_FREQ | KVM_PV_PMU_EXCLUDE_USER |			\
	 KVM_PV_PMU_EXCLUDE_KERNEL | KVM_PV_PMU_PINNED)

struct pv_pmu_slot {
	struct kvm_vcpu *vcpu;
	/* A copy, which the guest cannot change after it was checked. */
	struct kvm_pv_pmu_request request;
	/* NULL if the guest has none open, or it cannot be counted. */
	struct perf_event *event;
	int status;
	u32 seq;

	/* What events before this one have counted for the same request. */
	u64 count;
	u64 time_enabled;
	u64 time_running;

	/* Written by the overflow handler. */
	u64 overflows;
	u64 last_period;
	u32 throttled;
};

struct kvm_vcpu_pv_pmu {
	u64 msr;
	struct gfn_to_hva_cache area;
	u64 cookie;
	unsigned int nr_events;

	/*
	 * Until when (in jiffies) not to ask again whether the VMM may open events,
	 * and count its guest's kernel: each time leaves an audit record.
	 */
	u64 open_refused_until;
	u64 kernel_refused_until;

	/* To be done before the guest is entered, see kvm_pv_pmu_handle_request(). */
	bool restore;
	bool reopen;
	unsigned long overflowed;

	/*
	 * The first event of a task in the system has to wait for all CPUs, while
	 * its guest may have interrupts disabled: keep one from the start.
	 */
	struct perf_event *anchor;
	struct pv_pmu_slot slots[KVM_PV_PMU_NR_SLOTS];
};

static bool pv_pmu_enabled(struct kvm_vcpu_pv_pmu *pv)
{
	return pv && (pv->msr & KVM_PV_PMU_ENABLED);
}

static bool pv_pmu_is_open(const struct pv_pmu_slot *slot)
{
	return slot->request.flags & KVM_PV_PMU_OPEN;
}

static u64 pv_pmu_features(void)
{
	return KVM_PV_PMU_FEATURE_SAMPLE | KVM_PV_PMU_FEATURE_FREQ |
	       (pv_pmu_raw ? KVM_PV_PMU_FEATURE_RAW : 0);
}

static u64 pv_pmu_raw_mask(void)
{
	if (boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	    boot_cpu_data.x86_vendor == X86_VENDOR_HYGON)
		return AMD64_RAW_EVENT_MASK;
	return X86_RAW_EVENT_MASK;
}

/*
 * Locate the area in the address space of the VMM, which may have moved or
 * removed it since the last time.
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

/* Called in NMI context; the vCPU has been made to exit by that. */
static void pv_pmu_overflow(struct perf_event *event,
			    struct perf_sample_data *data, struct pt_regs *regs)
{
	struct pv_pmu_slot *slot = event->overflow_handler_context;
	struct kvm_vcpu *vcpu = slot->vcpu;
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	slot->overflows++;
	slot->last_period = data->period;
	/* perf has decided to stop the event until the next tick. */
	if (event->hw.interrupts == ~0ULL)
		slot->throttled++;

	++vcpu->stat.pv_pmu_overflows;
	set_bit(slot - pv->slots, &pv->overflowed);
	kvm_make_request(KVM_REQ_PV_PMU, vcpu);
}

/* What can be said of a request without knowing the CPU. */
static int pv_pmu_check_request(const struct kvm_pv_pmu_request *request)
{
	bool sample = request->flags & KVM_PV_PMU_SAMPLE;

	if (request->flags & ~PV_PMU_KNOWN_FLAGS ||
	    request->branch_sample_type ||
	    memchr_inv(request->reserved, 0, sizeof(request->reserved)))
		return -EINVAL;

	if (request->flags & KVM_PV_PMU_PINNED && !pv_pmu_pinned)
		return -EOPNOTSUPP;
	if (request->flags & KVM_PV_PMU_FREQ && !sample)
		return -EINVAL;
	if (!!request->sample_period != sample || request->sample_period >> 63)
		return -EINVAL;

	switch (request->type) {
	case PERF_TYPE_RAW:
		if (!pv_pmu_raw)
			return -EOPNOTSUPP;
		return request->config & ~pv_pmu_raw_mask() ? -EINVAL : 0;
	case PERF_TYPE_HARDWARE:
		/* The upper half would select a PMU of a hybrid CPU. */
		if (request->config >= PERF_COUNT_HW_MAX)
			return -EINVAL;
		break;
	case PERF_TYPE_HW_CACHE:
		if (request->config >> 24)
			return -EINVAL;
		break;
	default:
		return -ENOENT;
	}

	return request->config1 ? -EINVAL : 0;
}

static int pv_pmu_ask(int (*allowed)(void), u64 *refused_until)
{
	int r;

	if (time_before64(get_jiffies_64(), *refused_until))
		return -EACCES;

	r = allowed();
	if (r)
		*refused_until = get_jiffies_64() + HZ;
	return r;
}

/* What user space could not have opened, its guest cannot. */
static int pv_pmu_check_permission(struct kvm_vcpu_pv_pmu *pv,
				   const struct perf_event_attr *attr)
{
	int r = pv_pmu_ask(perf_allow_open, &pv->open_refused_until);

	if (!r && !attr->exclude_kernel)
		r = pv_pmu_ask(perf_allow_kernel, &pv->kernel_refused_until);
	return r;
}

static struct perf_event *pv_pmu_create(struct kvm_vcpu_pv_pmu *pv,
					struct pv_pmu_slot *slot)
{
	const struct kvm_pv_pmu_request *request = &slot->request;
	u32 flags = request->flags;
	struct perf_event_attr attr = {
		.type		= request->type,
		.size		= sizeof(attr),
		.config		= request->config,
		.config1	= request->config1,
		.sample_period	= request->sample_period,
		.disabled	= !(flags & KVM_PV_PMU_RUN),
		.freq		= !!(flags & KVM_PV_PMU_FREQ),
		.exclude_user	= !!(flags & KVM_PV_PMU_EXCLUDE_USER),
		.exclude_kernel	= !!(flags & KVM_PV_PMU_EXCLUDE_KERNEL),
		.pinned		= !!(flags & KVM_PV_PMU_PINNED),
		.exclude_host	= 1,
	};
	struct perf_event *event;
	int r;

	r = pv_pmu_check_permission(pv, &attr);
	if (r)
		return ERR_PTR(r);

	event = perf_event_create_kernel_counter(&attr, -1, current,
						 pv_pmu_overflow, slot);
	if (IS_ERR(event))
		return event;

	if (!kvm_pmu_eventsel_is_allowed(slot->vcpu->kvm, event->hw.config))
		r = -EOPNOTSUPP;
	else if (attr.freq)
		/* has a limit that is not looked at when an event is created */
		r = perf_event_period(event, request->sample_freq);
	if (r) {
		perf_event_release_kernel(event);
		return ERR_PTR(r);
	}

	return event;
}

static int pv_pmu_open(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	struct perf_event *event;
	int r;

	r = pv_pmu_check_request(&slot->request);
	if (r)
		return r;

	if (pv->nr_events >= pv_pmu_max_events)
		return -ENOSPC;

	event = pv_pmu_create(pv, slot);
	if (IS_ERR(event))
		return PTR_ERR(event);

	slot->event = event;
	slot->vcpu->stat.pv_pmu_events = ++pv->nr_events;
	return 0;
}

/* Let go of the host's event, keep what it has counted. */
static void pv_pmu_release(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	u64 enabled, running;

	if (!slot->event)
		return;

	slot->count += perf_event_read_value(slot->event, &enabled, &running);
	slot->time_enabled += enabled;
	slot->time_running += running;
	perf_event_release_kernel(slot->event);
	slot->event = NULL;
	slot->vcpu->stat.pv_pmu_events = --pv->nr_events;
}

static void pv_pmu_close(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	pv_pmu_release(pv, slot);
	clear_bit(slot - pv->slots, &pv->overflowed);
	*slot = (struct pv_pmu_slot){ .vcpu = slot->vcpu, .seq = slot->seq };
}

static void pv_pmu_drop_anchor(struct kvm_vcpu_pv_pmu *pv)
{
	if (pv->anchor)
		perf_event_release_kernel(pv->anchor);
	pv->anchor = NULL;
}

static int pv_pmu_create_anchor(struct kvm_vcpu_pv_pmu *pv)
{
	struct perf_event_attr attr = {
		.type		= PERF_TYPE_SOFTWARE,
		.size		= sizeof(attr),
		.config		= PERF_COUNT_SW_DUMMY,
		.disabled	= 1,
		.exclude_kernel	= 1,
	};
	struct perf_event *anchor;

	anchor = perf_event_create_kernel_counter(&attr, -1, current, NULL, NULL);
	if (IS_ERR(anchor))
		return PTR_ERR(anchor);

	pv->anchor = anchor;
	return 0;
}

static void pv_pmu_disable(struct kvm_vcpu_pv_pmu *pv)
{
	int i;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++)
		pv_pmu_close(pv, &pv->slots[i]);
	pv_pmu_drop_anchor(pv);
	pv->msr = 0;
	pv->restore = false;
	pv->reopen = false;
}

static bool pv_pmu_same_event(const struct kvm_pv_pmu_request *a,
			      const struct kvm_pv_pmu_request *b)
{
	return a->type == b->type && a->config == b->config &&
	       a->config1 == b->config1 &&
	       a->branch_sample_type == b->branch_sample_type &&
	       !((a->flags ^ b->flags) & ~KVM_PV_PMU_RUN) &&
	       !memcmp(a->reserved, b->reserved, sizeof(a->reserved));
}

/* Change what can be changed of an event that has been opened. */
static int pv_pmu_change(struct pv_pmu_slot *slot,
			 const struct kvm_pv_pmu_request *request)
{
	u32 changed = slot->request.flags ^ request->flags;
	int r;

	if (request->sample_period != slot->request.sample_period) {
		r = perf_event_period(slot->event, request->sample_period);
		if (r)
			return r;
	}

	if (changed & KVM_PV_PMU_RUN) {
		if (request->flags & KVM_PV_PMU_RUN)
			perf_event_enable(slot->event);
		else
			perf_event_disable(slot->event);
	}

	return 0;
}

static void pv_pmu_commit_slot(struct kvm_vcpu_pv_pmu *pv,
			       struct pv_pmu_slot *slot,
			       const struct kvm_pv_pmu_request *request)
{
	if (!(request->flags & KVM_PV_PMU_OPEN)) {
		pv_pmu_close(pv, slot);
		return;
	}

	if (!pv_pmu_same_event(&slot->request, request))
		pv_pmu_close(pv, slot);

	if (slot->event) {
		slot->status = pv_pmu_change(slot, request);
		slot->request = *request;
		if (slot->status)
			pv_pmu_release(pv, slot);
	} else {
		slot->request = *request;
		slot->status = pv_pmu_open(pv, slot);
	}
}

static int pv_pmu_commit(struct kvm_vcpu_pv_pmu *pv,
			 struct kvm_pv_pmu_area __user *area, unsigned long mask)
{
	struct kvm_pv_pmu_request request;
	u32 flags;
	int i;

	/* Make room first. What becomes of the flags meanwhile makes no difference. */
	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (get_user(flags, &area->slots[i].request.flags))
			return -EFAULT;
		if (!(flags & KVM_PV_PMU_OPEN))
			pv_pmu_close(pv, &pv->slots[i]);
	}

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (copy_from_user(&request, &area->slots[i].request, sizeof(request)))
			return -EFAULT;
		pv_pmu_commit_slot(pv, &pv->slots[i], &request);
	}

	return 0;
}

static void pv_pmu_read(const struct pv_pmu_slot *slot,
			struct kvm_pv_pmu_report *report)
{
	struct perf_event *event = slot->event;
	u64 enabled, running;

	*report = (struct kvm_pv_pmu_report){};
	if (!pv_pmu_is_open(slot))
		return;

	report->status = slot->status;
	report->count = slot->count;
	report->time_enabled = slot->time_enabled;
	report->time_running = slot->time_running;
	report->overflows = slot->overflows;
	report->last_period = slot->last_period;
	report->throttled = slot->throttled;

	if (!event)
		return;

	report->count += perf_event_read_value(event, &enabled, &running);
	report->time_enabled += enabled;
	report->time_running += running;
	if (event->state == PERF_EVENT_STATE_ERROR)
		report->status = -EBUSY;
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

static int pv_pmu_write_header(struct kvm_vcpu *vcpu,
			       struct kvm_pv_pmu_area __user *area, u64 overflow)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_header header = {
		.version	= KVM_PV_PMU_VERSION,
		.nr_slots	= KVM_PV_PMU_NR_SLOTS,
		.features	= pv_pmu_features(),
		.cookie		= pv->cookie,
		.cookie_echo	= pv->cookie,
		.overflow	= overflow,
	};

	if (copy_to_user(&area->header, &header, sizeof(header)))
		return -EFAULT;

	pv_pmu_mark_dirty(vcpu);
	return 0;
}

/*
 * The NMI for overflows that the guest has not seen yet may have been saved along
 * with them, or it has come too late for that. Guests wonder about a second one.
 */
static bool pv_pmu_nmi_is_coming(struct kvm_vcpu *vcpu)
{
	return atomic_read(&vcpu->arch.nmi_queued) || vcpu->arch.nmi_injected ||
	       kvm_get_nr_pending_nmis(vcpu);
}

/*
 * User space has set the MSR to what it was when the guest was saved: open what
 * the area says was open, and go on counting from what it says was counted.
 */
static void pv_pmu_restore(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area = pv_pmu_map(vcpu);
	struct kvm_pv_pmu_header header;
	struct kvm_pv_pmu_slot image;
	struct pv_pmu_slot *slot;
	int i;

	if (!area || copy_from_user(&header, &area->header, sizeof(header)))
		return;

	pv->cookie = header.cookie;
	if (!header.cookie || header.cookie_echo != header.cookie ||
	    pv_pmu_create_anchor(pv) ||
	    pv_pmu_write_header(vcpu, area, header.overflow)) {
		pv_pmu_disable(pv);
		return;
	}

	pv->restore = false;
	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++) {
		if (copy_from_user(&image, &area->slots[i], sizeof(image)))
			continue;

		slot = &pv->slots[i];
		slot->seq = image.report.seq & ~1;
		if (!(image.request.flags & KVM_PV_PMU_OPEN))
			continue;

		slot->request = image.request;
		slot->count = image.report.count;
		slot->time_enabled = image.report.time_enabled;
		slot->time_running = image.report.time_running;
		slot->overflows = image.report.overflows;
		slot->last_period = image.report.last_period;
		slot->throttled = image.report.throttled;
		slot->status = pv_pmu_open(pv, slot);
	}
	pv_pmu_report(vcpu, area, pv_pmu_slots_with(pv, KVM_PV_PMU_OPEN));

	if (header.overflow && !pv_pmu_nmi_is_coming(vcpu))
		kvm_inject_nmi(vcpu);
}

/*
 * The area, if there is one that still is the guest's for this purpose. Memory
 * that is not there may come back; another cookie says that a kernel which does
 * not know of the area has taken over.
 */
static struct kvm_pv_pmu_area __user *pv_pmu_area(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;
	u64 cookie;

	if (!pv_pmu_enabled(pv) || pv->restore)
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

/* Count with events of the thread that now runs the vCPU, as is allowed now. */
static void pv_pmu_reopen(struct kvm_vcpu_pv_pmu *pv)
{
	int i;

	pv_pmu_drop_anchor(pv);
	pv_pmu_create_anchor(pv);	/* counting does not depend on it */

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++) {
		struct pv_pmu_slot *slot = &pv->slots[i];

		if (!pv_pmu_is_open(slot))
			continue;
		pv_pmu_release(pv, slot);
		slot->status = pv_pmu_open(pv, slot);
	}
}

/* Tell the guest which of its events have overflowed. */
static void pv_pmu_deliver(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area = pv_pmu_area(vcpu);
	unsigned long overflowed;
	u64 pending;
	int r;

	if (!area)
		return;

	overflowed = xchg(&pv->overflowed, 0);
	if (pv_pmu_report(vcpu, area, overflowed) ||
	    get_user(pending, &area->header.overflow))
		goto not_delivered;

	r = __try_cmpxchg_user(&area->header.overflow, &pending,
			       pending | overflowed, fault);
	/* Another vCPU is at it: it has no reason to, nor is there one to wait for it. */
	if (r > 0)
		kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	if (r)
		goto not_delivered;

	/* The guest will see these together with those that it has not seen yet. */
	if (!pending) {
		kvm_inject_nmi(vcpu);
		++vcpu->stat.pv_pmu_nmis;
	}
	trace_kvm_pv_pmu_overflow(vcpu->vcpu_id, overflowed, !pending);
	return;

not_delivered:
	set_mask_bits(&pv->overflowed, 0, overflowed);
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
		if (pv_pmu_commit(pv, area, mask))
			return -KVM_EFAULT;
		mask |= pv_pmu_slots_with(pv, KVM_PV_PMU_RUN);
	} else {
		++vcpu->stat.pv_pmu_syncs;
	}

	return pv_pmu_report(vcpu, area, mask) ? -KVM_EFAULT : 0;
}

/* Returns what the guest is to get; see asm/kvm_pv_pmu.h. */
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

	if (!pv_pmu_enabled(pv))
		return;

	reopen = xchg(&pv->reopen, false);
	if (pv->restore)
		pv_pmu_restore(vcpu);
	else if (reopen)
		pv_pmu_reopen(pv);

	if (pv->overflowed)
		pv_pmu_deliver(vcpu);
}

/* Of what is requested, this alone ends a HLT. */
bool kvm_pv_pmu_has_overflow(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	return pv_pmu_enabled(pv) && pv->overflowed;
}

/* perf events are attached to one thread. */
int kvm_arch_vcpu_run_pid_change(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	if (pv_pmu_enabled(pv)) {
		pv->open_refused_until = 0;
		pv->kernel_refused_until = 0;
		pv->reopen = true;
		kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	}

	return 0;
}

/* Some events may not be counted any more, or again. */
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

static int pv_pmu_enable(struct kvm_vcpu *vcpu, u64 data)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;
	struct gfn_to_hva_cache ghc;
	u64 cookie;

	/* A write that fails changes nothing. */
	if (kvm_gfn_to_hva_cache_init(vcpu->kvm, &ghc, data & PAGE_MASK,
				      sizeof(*area)) || !ghc.memslot)
		return -EFAULT;

	area = (struct kvm_pv_pmu_area __user *)ghc.hva;
	if (get_user(cookie, &area->header.cookie))
		return -EFAULT;
	if (!cookie)
		return -EINVAL;

	pv_pmu_disable(pv);
	pv->msr = data;
	pv->area = ghc;
	pv->cookie = cookie;
	if (pv_pmu_create_anchor(pv) || pv_pmu_write_header(vcpu, area, 0)) {
		pv_pmu_disable(pv);
		return -EFAULT;
	}

	return 0;
}

static struct kvm_vcpu_pv_pmu *pv_pmu_alloc(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_pv_pmu *pv = kzalloc(sizeof(*pv), GFP_KERNEL_ACCOUNT);
	int i;

	if (!pv)
		return NULL;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++)
		pv->slots[i].vcpu = vcpu;

	/* kvm_pv_pmu_filter_changed() may be looking */
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

	/* Not before all of the vCPU and its memory are there. */
	pv_pmu_disable(pv);
	pv->msr = data;
	pv->restore = true;
	kvm_make_request(KVM_REQ_PV_PMU, vcpu);
	return 0;
}

u64 kvm_pv_pmu_get_msr(struct kvm_vcpu *vcpu, bool host_initiated)
{
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;
	struct kvm_pv_pmu_area __user *area;

	if (!pv)
		return 0;

	/* The guest may be about to be saved: the area must say all there is. */
	if (host_initiated) {
		area = pv_pmu_area(vcpu);
		if (area)
			pv_pmu_report(vcpu, area,
				      pv_pmu_slots_with(pv, KVM_PV_PMU_OPEN));
		if (area && pv->overflowed)
			pv_pmu_deliver(vcpu);
	}

	return pv->msr;
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

/* A PMU that counts for the host can count for guests. */
bool kvm_pv_pmu_supported(void)
{
	struct x86_pmu_capability capability;

	if (!pv_pmu)
		return false;

	perf_get_x86_pmu_capability(&capability);
	return capability.num_counters_gp > 0;
}
