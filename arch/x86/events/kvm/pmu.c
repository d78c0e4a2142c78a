// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's side of the paravirtual PMU: the host counts events for perf.
 *
 * Each CPU shares a page with the host, the area, with slots for events. The driver
 * declares events in the slots. When perf is done with the PMU (pmu_enable), the
 * driver tells the host all changes at once. Counts are taken from the host's reports.
 */
#define pr_fmt(fmt) "kvm-guest: PV PMU: " fmt

#include <linux/cleanup.h>
#include <linux/cpufeature.h>
#include <linux/init.h>
#include <linux/kvm_para.h>
#include <linux/perf_event.h>
#include <linux/slab.h>

#include <asm/perf_event.h>

#include "kvm.h"

/*
 * The host shares its counters. By the host's clock the event was on a counter for
 * a part of the time: account the same part of perf's time as running. Then perf
 * scales the count, and shows the percentage.
 */
static void pv_pmu_account_time(struct perf_event *event, const struct pv_pmu_value *value)
{
	struct pv_pmu_event *pv = to_pv_pmu_event(event);
	u64 enabled, running = value->running - pv->last.running;
	u64 since;

	pv_sample_account_hold(this_cpu_ptr(&pv_pmu_cpu), event);
	enabled = value->enabled - pv->last.enabled + pv->held;
	/* The host's times stand still: the rest of perf's time is lost. */
	if (unlikely(value->status))
		enabled = perf_event_account_lost(event, pv->since, 0, 0) - pv->since;
	if (likely(running >= enabled))
		return;

	/* some readers of an event do not have perf advance its clock */
	since = perf_event_account_lost(event, pv->since, enabled - running, enabled);
	if (since == pv->since)
		return;
	if (!pv->held)
		this_cpu_write(pv_pmu_cpu.contended_until, get_jiffies_64() + PV_PMU_KEEP);
	pv->last = *value;
	pv->since = since;
	pv->held = 0;
}

/* An NMI may interrupt this function, and update the same event. */
void pv_pmu_update(struct perf_event *event)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	struct hw_perf_event *hwc = &event->hw;
	s64 last = local64_read(&hwc->prev_count);
	struct pv_pmu_value value;

	do {
		value = pv_slot_value(cpuc, hwc->idx);
	} while (!local64_try_cmpxchg(&hwc->prev_count, &last, value.count));

	local64_add(value.count - last, &event->count);
	if (in_nmi())
		return;

	pv_pmu_account_time(event, &value);
	if (value.status == -EBUSY && event->group_leader->attr.pinned)
		pv_pmu_resched(cpuc);
}

static void pv_pmu_start(struct perf_event *event, int flags)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	struct pv_pmu_event *pv = to_pv_pmu_event(event);
	struct hw_perf_event *hwc = &event->hw;

	/* throttled by an NMI between perf's stop and start: the tick starts once more */
	if (!(hwc->state & PERF_HES_STOPPED))
		return;

	if (hwc->state & PERF_HES_UPTODATE) {
		pv_area_sync(cpuc, hwc->idx, true);
		pv->last = pv_slot_value(cpuc, hwc->idx);
		pv->since = event->tstamp;
		pv->held = 0;
		pv->held_at = 0;
		local64_set(&hwc->prev_count, pv->last.count);
	}
	pv_sample_account_hold(cpuc, event);
	pv->held_at = 0;
	/* perf clears @period_left, which is not used otherwise, to start the period anew */
	if (is_sampling_event(event) && !local64_xchg(&hwc->period_left, 1))
		pv_slot_change_period(cpuc, event);
	WRITE_ONCE(hwc->state, 0);
	cpuc->touched = true;
}

static void pv_pmu_read(struct perf_event *event)
{
	struct hw_perf_event *hwc = &event->hw;

	if (hwc->state & PERF_HES_UPTODATE)
		return;

	pv_area_sync(this_cpu_ptr(&pv_pmu_cpu), hwc->idx, false);
	pv_pmu_update(event);
}

/*
 * perf stops an event to change its period, at each tick if there is a frequency, and
 * starts the event at once: the slot keeps counting, and there is no exit.
 */
static void pv_pmu_stop(struct perf_event *event, int flags)
{
	struct hw_perf_event *hwc = &event->hw;

	if (hwc->state & PERF_HES_STOPPED)
		return;

	pv_pmu_update(event);
	WRITE_ONCE(hwc->state, PERF_HES_STOPPED);
}

/* A raw config means nothing to the PMU of another host. */
static bool pv_pmu_host_knows(const struct pv_pmu_cpu *cpuc, const struct pv_pmu_event *pv)
{
	return pv->request.type != PERF_TYPE_RAW ||
	       pv->host == READ_ONCE(cpuc->area->header.pmu);
}

static int pv_pmu_add(struct perf_event *event, int flags)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	int slot, err;

	err = pv_area_on(cpuc);
	if (err)
		return err;
	if (!pv_pmu_host_knows(cpuc, to_pv_pmu_event(event)))
		return -ENODEV;

	slot = pv_slot_get(cpuc, event);
	if (slot < 0)
		return slot;

	event->hw.idx = slot;
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
	if (has_branch_stack(event))
		perf_sched_cb_inc(event->pmu);
	if (flags & PERF_EF_START)
		pv_pmu_start(event, PERF_EF_RELOAD);
	perf_event_update_userpage(event);
	return 0;
}

static void pv_pmu_del(struct perf_event *event, int flags)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	struct hw_perf_event *hwc = &event->hw;

	/* the slot may count, even if the NMI handler has stopped the event */
	if (!(hwc->state & PERF_HES_UPTODATE)) {
		pv_slot_leave(cpuc, hwc->idx);
		pv_pmu_update(event);
	}
	WRITE_ONCE(hwc->state, PERF_HES_STOPPED | PERF_HES_UPTODATE);
	pv_slot_put(cpuc, event);
	hwc->idx = -1;
	if (has_branch_stack(event))
		perf_sched_cb_dec(event->pmu);
}

/*
 * The branch stack has branches of another task, unless the start of an event of this task
 * has emptied the stack. pmu_enable() commits the change.
 */
static void pv_pmu_sched_task(struct perf_event_pmu_context *pmu_ctx, struct task_struct *task,
			      bool sched_in)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	if (sched_in && cpuc->branch.task != current)
		pv_slots_empty_stack(cpuc);
}

static void pv_pmu_set_batch(struct pv_pmu_cpu *cpuc, bool batch)
{
	cpuc->batch = batch;
	cpuc->fresh = 0;
}

static void pv_pmu_disable(struct pmu *pmu)
{
	lockdep_assert_irqs_disabled();
	pv_pmu_set_batch(this_cpu_ptr(&pv_pmu_cpu), true);
}

static void pv_pmu_enable(struct pmu *pmu)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	if (cpuc->touched || cpuc->retry)
		pv_slots_commit(cpuc);
	pv_pmu_set_batch(cpuc, false);
}

static void pv_pmu_start_txn(struct pmu *pmu, unsigned int flags)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	/* additions are in the batch from pmu_disable() to pmu_enable() */
	cpuc->txn_flags = flags;
	if (flags & PERF_PMU_TXN_READ)
		pv_pmu_set_batch(cpuc, true);
}

/* perf deletes the added events. */
static void pv_pmu_cancel_txn(struct pmu *pmu)
{
}

static int pv_pmu_commit_txn(struct pmu *pmu)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	if (cpuc->txn_flags & PERF_PMU_TXN_READ)
		pv_pmu_set_batch(cpuc, false);
	return 0;
}

/* Beside a hardware PMU, generic events are not for the paravirtual one. */
static bool pv_pmu_is_meant(const struct perf_event *event)
{
	u32 type = event->attr.type;

	if (type == pv_pmu.type)
		return true;
	return pv_pmu.type == PERF_TYPE_RAW &&
	       (type == PERF_TYPE_HARDWARE || type == PERF_TYPE_HW_CACHE);
}

static u64 pv_pmu_raw_mask(u64 host)
{
	return pv_pmu_has_amd_events(host) ? AMD64_RAW_EVENT_MASK : X86_RAW_EVENT_MASK;
}

static void pv_pmu_set_config(struct pv_pmu_event *pv, const struct perf_event_attr *attr)
{
	struct kvm_pv_pmu_request *request = &pv->request;

	if (attr->type == PERF_TYPE_HARDWARE || attr->type == PERF_TYPE_HW_CACHE) {
		request->type = attr->type;
		request->config = attr->config & PERF_HW_EVENT_MASK;
	} else {
		request->type = PERF_TYPE_RAW;
		request->config = attr->config & pv_pmu_raw_mask(pv->host);
		request->config1 = attr->config1;
	}
}

static void pv_pmu_set_period(struct pv_pmu_event *pv, const struct perf_event_attr *attr)
{
	if (!attr->sample_period)
		return;

	pv->request.flags |= KVM_PV_PMU_SAMPLE;
	if (attr->freq)
		pv->request.flags |= KVM_PV_PMU_FREQ;
	pv->request.sample_period = attr->sample_period;
}

static int pv_pmu_set_flags(struct pv_pmu_event *pv, const struct perf_event_attr *attr)
{
	struct kvm_pv_pmu_request *request = &pv->request;

	request->flags = KVM_PV_PMU_OPEN;
	pv_pmu_set_period(pv, attr);
	if (attr->exclude_user)
		request->flags |= KVM_PV_PMU_EXCLUDE_USER;
	if (attr->exclude_kernel)
		request->flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	if (!attr->exclude_host)
		return 0;

	/* the host cannot tell nested guests from this kernel */
	if (boot_cpu_has(X86_FEATURE_SVM) || boot_cpu_has(X86_FEATURE_VMX))
		return -EOPNOTSUPP;
	request->flags |= KVM_PV_PMU_EXCLUDE_USER | KVM_PV_PMU_EXCLUDE_KERNEL;
	return 0;
}

/* The number of this PMU's events in the group of an event that is being opened */
static unsigned int pv_pmu_nr_of_group(struct perf_event *event)
{
	struct perf_event *leader = event->group_leader, *sibling;
	unsigned int nr = 1;

	if (leader == event)
		return nr;

	nr += leader->pmu == event->pmu;
	for_each_sibling_event(sibling, leader)
		nr += sibling->pmu == event->pmu;
	return nr;
}

/* A larger group would never be scheduled in. */
static bool pv_pmu_group_fits(const struct pv_pmu_cpu *cpuc, unsigned int nr)
{
	const struct kvm_pv_pmu_header *header = &cpuc->area->header;

	return nr == 1 || ((READ_ONCE(header->features) & KVM_PV_PMU_FEATURE_GROUP) &&
			   nr <= READ_ONCE(header->nr_counters) && nr <= pv_probe_slot(cpuc));
}

static bool pv_pmu_can_sample(const struct pv_pmu_cpu *cpuc, const struct perf_event_attr *attr)
{
	u64 features = READ_ONCE(cpuc->area->header.features);

	return (features & KVM_PV_PMU_FEATURE_SAMPLE) &&
	       (!attr->freq || features & KVM_PV_PMU_FEATURE_FREQ);
}

/* Can the host count the event? Returns 0, or a negative errno. */
static int pv_pmu_try(struct perf_event *event, struct pv_pmu_event *pv)
{
	unsigned int nr = pv_pmu_nr_of_group(event);
	struct pv_pmu_cpu *cpuc;
	int err;

	guard(irqsave)();
	cpuc = this_cpu_ptr(&pv_pmu_cpu);
	err = pv_area_on(cpuc);
	if (err)
		return err;

	/* with -ENOENT, tools sample by the clock instead */
	if (is_sampling_event(event) && !pv_pmu_can_sample(cpuc, &event->attr))
		return -ENOENT;
	if (!pv_pmu_group_fits(cpuc, nr))
		return -EINVAL;
	/* the first event leads the host's group, even below a software leader */
	if (nr == 1 && event->group_leader->attr.pinned)
		pv->request.flags |= KVM_PV_PMU_PINNED;
	err = pv_branch_set_request(cpuc, event);
	if (err)
		return err;
	pv->host = READ_ONCE(cpuc->area->header.pmu);
	pv_pmu_set_config(pv, &event->attr);
	return pv_probe(cpuc, &pv->request);
}

static void pv_pmu_event_free(struct perf_event *event)
{
	kfree(to_pv_pmu_event(event));
}

static void pv_pmu_event_destroy(struct perf_event *event)
{
	pv_pmu_event_free(event);
	pv_areas_put();
}

static int pv_pmu_event_create(struct perf_event *event)
{
	struct pv_pmu_event *pv = kzalloc(sizeof(*pv), GFP_KERNEL);
	int err;

	if (!pv)
		return -ENOMEM;

	pv->event = event;
	event->pmu_private = pv;
	/* start with a whole period, even on a slot that has counted before */
	local64_set(&event->hw.period_left, 0);
	pv_areas_get();
	err = pv_pmu_set_flags(pv, &event->attr);
	if (!err)
		err = pv_pmu_try(event, pv);
	if (err) {
		pv_pmu_event_destroy(event);
		return err;
	}

	event->destroy = pv_pmu_event_destroy;
	return 0;
}

/*
 * The parent outlives the child, and holds the areas. The child goes on with the period
 * of its parent or siblings: tasks that live for less than a period are sampled as well.
 */
static int pv_pmu_event_inherit(struct perf_event *event)
{
	const struct pv_pmu_event *parent = to_pv_pmu_event(event->parent);
	struct pv_pmu_event *pv = kzalloc(sizeof(*pv), GFP_KERNEL);

	if (!pv)
		return -ENOMEM;

	pv->event = event;
	pv->request = parent->request;
	pv->host = parent->host;
	event->pmu_private = pv;
	event->destroy = pv_pmu_event_free;
	return 0;
}

static int pv_pmu_event_init(struct perf_event *event)
{
	const struct perf_event_attr *attr = &event->attr;

	if (!pv_pmu_is_meant(event))
		return -ENOENT;
	if (attr->precise_ip)
		return -EOPNOTSUPP;

	event->hw.idx = -1;
	/* perf may read an active event before the event is added */
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
	if (event->parent && event->parent->pmu == event->pmu)
		return pv_pmu_event_inherit(event);
	return pv_pmu_event_create(event);
}

struct pmu pv_pmu = {
	.task_ctx_nr	= perf_hw_context,
	.attr_groups	= pv_pmu_attr_groups,
	.pmu_enable	= pv_pmu_enable,
	.pmu_disable	= pv_pmu_disable,
	.event_init	= pv_pmu_event_init,
	.add		= pv_pmu_add,
	.del		= pv_pmu_del,
	.start		= pv_pmu_start,
	.stop		= pv_pmu_stop,
	.read		= pv_pmu_read,
	.sched_task	= pv_pmu_sched_task,
	.start_txn	= pv_pmu_start_txn,
	.commit_txn	= pv_pmu_commit_txn,
	.cancel_txn	= pv_pmu_cancel_txn,
};

static bool pv_pmu_is_off __initdata;
static bool pv_pmu_is_forced __initdata;

static int __init pv_pmu_param(char *arg)
{
	if (!arg)
		return -EINVAL;
	pv_pmu_is_off = !strcmp(arg, "off");
	pv_pmu_is_forced = !strcmp(arg, "force");
	return pv_pmu_is_off || pv_pmu_is_forced ? 0 : -EINVAL;
}
early_param("kvm_pv_pmu", pv_pmu_param);

/* Does Linux count with a PMU of this machine, or KVM's emulation of one? */
static bool __init pv_pmu_has_hardware(void)
{
	struct x86_pmu_capability cap;

	/* perf_get_x86_pmu_capability() warns on hybrid CPUs */
	if (boot_cpu_has(X86_FEATURE_HYBRID_CPU))
		return true;
	perf_get_x86_pmu_capability(&cap);
	return cap.num_counters_gp;
}

static unsigned int __init pv_pmu_nr_generic(void)
{
	unsigned int id, nr = 0;

	for (id = 0; id < PERF_COUNT_HW_MAX; id++)
		nr += pv_probe_can_count(PERF_TYPE_HARDWARE, id);
	return nr;
}

/* A hardware PMU keeps its name and the generic events. */
static int __init pv_pmu_register(bool has_hardware)
{
	if (has_hardware)
		return perf_pmu_register(&pv_pmu, "kvm_pv", -1);
	return perf_pmu_register(&pv_pmu, "cpu", PERF_TYPE_RAW);
}

/* Called between pv_areas_get() and pv_areas_put(). */
static void __init pv_pmu_bring_up(bool has_hardware)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	unsigned int nr_generic;
	int err;

	err = pv_areas_init();
	if (err)
		return;

	nr_generic = pv_pmu_nr_generic();
	if (!nr_generic) {
		pr_info("the host counts nothing\n");
		return;
	}

	err = pv_sample_init();
	if (!err) {
		err = pv_pmu_register(has_hardware);
		if (err)
			pv_sample_exit();
	}
	if (err) {
		pr_err("cannot be set up, error %d\n", err);
		return;
	}

	pr_info("\"%s\", %u slots, %u of %u generic events, %s\n",
		pv_pmu.name, pv_probe_slot(cpuc), nr_generic, PERF_COUNT_HW_MAX,
		READ_ONCE(cpuc->area->header.features) & KVM_PV_PMU_FEATURE_RAW ?
		"raw events" : "no raw events");
}

static int __init pv_pmu_init(void)
{
	bool has_hardware = pv_pmu_has_hardware();

	if (pv_pmu_is_off || !kvm_para_available() || !kvm_para_has_feature(KVM_FEATURE_PV_PMU))
		return 0;
	if (has_hardware && !pv_pmu_is_forced) {
		pr_info("not used, there is a hardware PMU\n");
		return 0;
	}

	pv_areas_get();
	pv_pmu_bring_up(has_hardware);
	pv_areas_put();
	return 0;
}

/* After the hardware's PMU, before the other CPUs and the watchdog */
early_initcall(pv_pmu_init);
