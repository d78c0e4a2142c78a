// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's side of the paravirtual PMU: perf events that the host counts.
 *
 * Each CPU shares a page with the host, its area, which has slots for events.
 * This driver declares events there, tells the host of all changes at once when
 * perf is done with the PMU (pmu_enable), and goes by what the host reports.
 *
 * A slot goes on counting when the event of perf's that it is for is stopped:
 * the next one of the same kind takes what is counted from then on, and those
 * that run at the same time share the slot. So a task switch changes nothing that
 * the host had to know; all that it takes is a fresh report (SYNC). A slot
 * without a user is closed when no event of its kind is left and another slot is
 * to be opened, or else after a while.
 *
 * What a CPU has is touched by this CPU alone, with interrupts disabled; all but
 * pv_pmu_slot.kind.
 */
#define pr_fmt(fmt) "kvm-guest: PV PMU: " fmt

#include <linux/cc_platform.h>
#include <linux/cleanup.h>
#include <linux/cpufeature.h>
#include <linux/cpuhotplug.h>
#include <linux/hrtimer.h>
#include <linux/init.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/kvm_para.h>
#include <linux/perf_event.h>
#include <linux/random.h>
#include <linux/set_memory.h>
#include <linux/slab.h>

#include <asm/hypervisor.h>
#include <asm/kvm_pv_pmu.h>
#include <asm/kvm_pv_pmu_guest.h>
#include <asm/msr.h>
#include <asm/perf_event.h>

#include "kvm_pv_pmu.h"

/* How long a slot without a user is kept: it may hold a counter of the host. */
#define PV_PMU_KEEP_MS		100

/**
 * struct pv_pmu_kind - what events have in common that can share a slot
 * @list:	in pv_pmu_kinds
 * @nr_events:	events of perf's that are of this kind
 * @type:	these are those of struct kvm_pv_pmu_request
 * @flags:	without KVM_PV_PMU_OPEN and KVM_PV_PMU_RUN
 * @config:	see @type
 * @config1:	see @type
 */
struct pv_pmu_kind {
	struct list_head list;
	unsigned int nr_events;
	u32 type;
	u32 flags;
	u64 config;
	u64 config1;
};

static DEFINE_MUTEX(pv_pmu_kinds_lock);
static LIST_HEAD(pv_pmu_kinds);

/**
 * struct pv_pmu_value - a slot's count, since some time in the past
 * @count:	events
 * @enabled:	ns during which the slot could have counted
 * @running:	ns during which the slot counted
 * @status:	0, or the errno for which the slot does not count
 */
struct pv_pmu_value {
	u64 count;
	u64 enabled;
	u64 running;
	int status;
};

/**
 * struct pv_pmu_event - an event's state beside struct hw_perf_event
 * @kind:	the kind of events to count
 * @last:	the slot's value at the last update, but for the count, which is
 *		hw.prev_count
 * @time:	perf's time at the last update
 */
struct pv_pmu_event {
	struct pv_pmu_kind *kind;
	struct pv_pmu_value last;
	u64 time;
};

/**
 * struct pv_pmu_slot - a CPU's state of a slot
 * @kind:	the kind of events to count; NULL if the slot is not open; set to NULL
 *		by the destruction of the kind's last event
 * @nr_users:	events that are added
 * @idle_since:	jiffies when the last user left
 * @base:	the count from before the host started over
 */
struct pv_pmu_slot {
	struct pv_pmu_kind *kind;
	unsigned int nr_users;
	unsigned long idle_since;
	struct pv_pmu_value base;
};

/**
 * struct pv_pmu_cpu - what a CPU has
 * @area:	shared with the host
 * @on:		the host has been told of the area
 * @txn_flags:	PERF_PMU_TXN_* of the transaction under way
 * @batch:	more will come: pmu_enable() is yet to follow, or a group is read
 * @fresh:	all reports have been brought up to date in this batch
 * @open:	slots that count
 * @dirty:	slots that are not as the host knows them
 * @max_open:	how many the host has let us open at once, since nothing was open
 * @slots:	what is known of each
 * @resched:	has perf find out that there are fewer slots than it took
 * @reaper:	closes slots that have been without a user for long
 */
struct pv_pmu_cpu {
	struct kvm_pv_pmu_area *area;
	bool on;
	bool batch;
	bool fresh;
	unsigned int txn_flags;
	unsigned long open;
	unsigned long dirty;
	unsigned int max_open;
	struct pv_pmu_slot slots[KVM_PV_PMU_NR_SLOTS];
	struct irq_work resched;
	struct hrtimer reaper;
};

static DEFINE_PER_CPU(struct pv_pmu_cpu, pv_pmu_cpu);
static struct pmu pv_pmu;

/* of the host, and the same on all CPUs: kvm_pv_pmu_header.features */
static u64 pv_pmu_features __ro_after_init;
/* the last slot; the lower slots are for events */
static unsigned int pv_pmu_probe_slot __ro_after_init;

static void pv_pmu_call(struct pv_pmu_cpu *cpu, unsigned int op, unsigned long slots)
{
	long err;

	if (!cpu->on || !slots)
		return;

	err = kvm_hypercall2(KVM_HC_PV_PMU, op, slots);
	if (unlikely(err)) {
		cpu->on = false;
		/* the scheduler's locks may be held */
		printk_deferred_once(pr_fmt("error %ld of the host, no more counts\n"), err);
	}
}

static void pv_pmu_commit(struct pv_pmu_cpu *cpu)
{
	pv_pmu_call(cpu, KVM_PV_PMU_OP_COMMIT, cpu->dirty);
	if (cpu->on)
		cpu->dirty = 0;
}

/* Bring the report of a slot up to date; in a batch all, as others will follow. */
static void pv_pmu_sync(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	if (cpu->fresh || cpu->dirty & BIT(slot))
		return;

	pv_pmu_call(cpu, KVM_PV_PMU_OP_SYNC,
		    cpu->batch ? cpu->open & ~cpu->dirty : BIT(slot));
	cpu->fresh = cpu->batch;
}

static struct pv_pmu_value pv_pmu_reported(struct kvm_pv_pmu_report *report)
{
	struct pv_pmu_value value;
	u32 seq;

	/* the barriers pair with the host's, around its writes */
	do {
		seq = READ_ONCE(report->seq);
		virt_rmb();	/* as above */
		value.status = READ_ONCE(report->status);
		value.count = READ_ONCE(report->count);
		value.enabled = READ_ONCE(report->time_enabled);
		value.running = READ_ONCE(report->time_running);
		virt_rmb();	/* as above */
	} while ((seq & 1) || seq != READ_ONCE(report->seq));

	return value;
}

static struct pv_pmu_value pv_pmu_value(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	struct pv_pmu_value value = cpu->slots[slot].base, reported;

	/*
	 * Until it is committed, the report is that of another event; and a host
	 * that has failed may not have finished it.
	 */
	if (cpu->dirty & BIT(slot) || unlikely(!cpu->on))
		return value;

	reported = pv_pmu_reported(&cpu->area->slots[slot].report);
	value.status = reported.status;
	value.count += reported.count;
	value.enabled += reported.enabled;
	value.running += reported.running;
	return value;
}

static void pv_pmu_declare(struct pv_pmu_cpu *cpu, unsigned int slot,
			   const struct pv_pmu_kind *kind, u32 flags)
{
	struct kvm_pv_pmu_request *request = &cpu->area->slots[slot].request;

	/* the other fields are always zero */
	request->type = kind->type;
	request->config = kind->config;
	request->config1 = kind->config1;
	request->flags = kind->flags | flags;
}

static void pv_pmu_withdraw(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	struct kvm_pv_pmu_request *request = &cpu->area->slots[slot].request;

	memset(request, 0, sizeof(*request));
}

static bool pv_pmu_declares(struct pv_pmu_cpu *cpu, unsigned int slot,
			    const struct pv_pmu_kind *kind)
{
	const struct kvm_pv_pmu_request *request = &cpu->area->slots[slot].request;

	return request->type == kind->type && request->config == kind->config &&
	       request->config1 == kind->config1 &&
	       request->flags == (kind->flags | KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN);
}

/* A slot that counts the kind, or did so for events that are gone by now. */
static int pv_pmu_find_slot(struct pv_pmu_cpu *cpu, struct pv_pmu_kind *kind)
{
	struct pv_pmu_kind *of_slot;
	unsigned int slot;

	for_each_set_bit(slot, &cpu->open, KVM_PV_PMU_NR_SLOTS) {
		of_slot = READ_ONCE(cpu->slots[slot].kind);
		if (of_slot == kind)
			return slot;
		if (!of_slot && pv_pmu_declares(cpu, slot, kind)) {
			WRITE_ONCE(cpu->slots[slot].kind, kind);
			return slot;
		}
	}
	return -ENOENT;
}

/*
 * May it be used for another kind? Not if it is dirty: if it came to be what it was
 * when it was committed, the host would see no change, and count on.
 */
static bool pv_pmu_is_idle(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	return !cpu->slots[slot].nr_users && !(cpu->dirty & BIT(slot));
}

static void pv_pmu_close_slot(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	pv_pmu_withdraw(cpu, slot);
	WRITE_ONCE(cpu->slots[slot].kind, NULL);
	cpu->open &= ~BIT(slot);
	cpu->dirty |= BIT(slot);
}

static bool pv_pmu_is_stale(const struct pv_pmu_slot *slot)
{
	return !READ_ONCE(slot->kind) ||
	       time_after_eq(jiffies, slot->idle_since + msecs_to_jiffies(PV_PMU_KEEP_MS));
}

/*
 * If the host has a limit, leave it to perf here who takes turns: have it schedule
 * its events again, now that there is no slot for those that are too many.
 */
static void pv_pmu_note_limit(struct pv_pmu_cpu *cpu)
{
	unsigned int slot, nr = hweight_long(cpu->open);

	for_each_set_bit(slot, &cpu->open, KVM_PV_PMU_NR_SLOTS)
		nr -= pv_pmu_value(cpu, slot).status == -ENOSPC;
	nr = max(nr, 1u);
	if (nr < hweight_long(cpu->open) && nr < cpu->max_open) {
		cpu->max_open = nr;
		irq_work_queue(&cpu->resched);
	}
}

static void pv_pmu_resched(struct irq_work *work)
{
	perf_pmu_resched(&pv_pmu);
}

/* Returns whether other slots without a user are kept for now. */
static bool pv_pmu_close_stale_slots(struct pv_pmu_cpu *cpu)
{
	unsigned int slot;
	bool kept = false;

	for_each_set_bit(slot, &cpu->open, KVM_PV_PMU_NR_SLOTS) {
		if (!pv_pmu_is_idle(cpu, slot))
			continue;
		if (pv_pmu_is_stale(&cpu->slots[slot]))
			pv_pmu_close_slot(cpu, slot);
		else
			kept = true;
	}
	return kept;
}

/*
 * Before new slots are opened, leave them the counters that nobody needs any more:
 * if they were closed in the same COMMIT, the host might be short of counters
 * halfway.
 */
static void pv_pmu_make_room(struct pv_pmu_cpu *cpu)
{
	if (!cpu->dirty) {
		pv_pmu_close_stale_slots(cpu);
		pv_pmu_commit(cpu);
	}
}

/* A slot that is not open, or else the slot without a user for longest */
static int pv_pmu_free_slot(struct pv_pmu_cpu *cpu)
{
	unsigned long unused = (BIT(pv_pmu_probe_slot) - 1) & ~(cpu->open | cpu->dirty);
	unsigned int slot;
	int oldest = -EAGAIN;

	if (unused && hweight_long(cpu->open) < cpu->max_open)
		return __ffs(unused);

	for_each_set_bit(slot, &cpu->open, KVM_PV_PMU_NR_SLOTS) {
		if (!pv_pmu_is_idle(cpu, slot))
			continue;
		if (oldest < 0 || time_before(cpu->slots[slot].idle_since,
					      cpu->slots[oldest].idle_since))
			oldest = slot;
	}
	return oldest;
}

static int pv_pmu_open_slot(struct pv_pmu_cpu *cpu, struct pv_pmu_kind *kind)
{
	int slot;

	pv_pmu_make_room(cpu);
	slot = pv_pmu_free_slot(cpu);
	if (slot < 0)
		return slot;

	/*
	 * If this guest were saved with the request of one event beside the report
	 * of another, the host that it is restored on would take them for one.
	 */
	if (cpu->open & BIT(slot)) {
		pv_pmu_close_slot(cpu, slot);
		pv_pmu_commit(cpu);
	}

	pv_pmu_declare(cpu, slot, kind, KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN);
	memset(&cpu->slots[slot].base, 0, sizeof(cpu->slots[slot].base));
	WRITE_ONCE(cpu->slots[slot].kind, kind);
	cpu->open |= BIT(slot);
	cpu->dirty |= BIT(slot);
	return slot;
}

static enum hrtimer_restart pv_pmu_reap(struct hrtimer *timer)
{
	struct pv_pmu_cpu *cpu = container_of(timer, struct pv_pmu_cpu, reaper);
	bool kept = true;

	/* timers of a CPU that goes offline move to another CPU */
	if (cpu != this_cpu_ptr(&pv_pmu_cpu))
		return HRTIMER_NORESTART;

	if (!cpu->batch) {
		kept = pv_pmu_close_stale_slots(cpu);
		pv_pmu_commit(cpu);
		if (!cpu->open)
			cpu->max_open = pv_pmu_probe_slot;
	}
	hrtimer_forward_now(timer, ms_to_ktime(PV_PMU_KEEP_MS));
	return kept ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

static void pv_pmu_reap_later(struct pv_pmu_cpu *cpu)
{
	if (!hrtimer_active(&cpu->reaper) && cpu_online(smp_processor_id()))
		hrtimer_start(&cpu->reaper, ms_to_ktime(PV_PMU_KEEP_MS),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

static bool pv_pmu_same_kind(const struct pv_pmu_kind *a, const struct pv_pmu_kind *b)
{
	return a->type == b->type && a->flags == b->flags &&
	       a->config == b->config && a->config1 == b->config1;
}

/* Ask the host whether it can count the kind: 0, or a negative errno. */
static int pv_pmu_probe(const struct pv_pmu_kind *kind)
{
	unsigned int slot = pv_pmu_probe_slot;
	struct pv_pmu_cpu *cpu;
	int status;

	guard(irqsave)();
	cpu = this_cpu_ptr(&pv_pmu_cpu);

	pv_pmu_declare(cpu, slot, kind, KVM_PV_PMU_OPEN);
	pv_pmu_call(cpu, KVM_PV_PMU_OP_COMMIT, BIT(slot));
	if (!cpu->on)
		return -ENODEV;
	status = pv_pmu_reported(&cpu->area->slots[slot].report).status;

	pv_pmu_withdraw(cpu, slot);
	pv_pmu_call(cpu, KVM_PV_PMU_OP_COMMIT, BIT(slot));

	/* now is not the time, or there are too many others: that is not for ever */
	if (status == -EBUSY || status == -ENOSPC)
		return 0;
	return status && !IS_ERR_VALUE((long)status) ? -EINVAL : status;
}

static struct pv_pmu_kind *pv_pmu_get_kind(const struct pv_pmu_kind *want)
{
	struct pv_pmu_kind *kind;
	int err;

	guard(mutex)(&pv_pmu_kinds_lock);
	list_for_each_entry(kind, &pv_pmu_kinds, list) {
		if (pv_pmu_same_kind(kind, want)) {
			kind->nr_events++;
			return kind;
		}
	}

	err = pv_pmu_probe(want);
	if (err)
		return ERR_PTR(err);

	kind = kmemdup(want, sizeof(*want), GFP_KERNEL);
	if (!kind)
		return ERR_PTR(-ENOMEM);
	kind->nr_events = 1;
	list_add(&kind->list, &pv_pmu_kinds);
	return kind;
}

/*
 * No event of this kind is left, so that no slot of it has a user. Tell the CPUs
 * that those slots may go, before the address is another kind's.
 */
static void pv_pmu_forget_kind(struct pv_pmu_kind *kind)
{
	struct pv_pmu_slot *slot;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct pv_pmu_slot *slots = per_cpu(pv_pmu_cpu, cpu).slots;

		for (slot = slots; slot < slots + KVM_PV_PMU_NR_SLOTS; slot++)
			if (READ_ONCE(slot->kind) == kind)
				cmpxchg(&slot->kind, kind, NULL);
	}
}

static void pv_pmu_put_kind(struct pv_pmu_kind *kind)
{
	guard(mutex)(&pv_pmu_kinds_lock);
	if (--kind->nr_events)
		return;

	list_del(&kind->list);
	pv_pmu_forget_kind(kind);
	kfree(kind);
}

static struct pv_pmu_event *to_pv_pmu_event(struct perf_event *event)
{
	return event->pmu_private;
}

/*
 * The host shares its counters. By the host's clock the event was on a counter for
 * a part of the time: account the same part of perf's time as running. Then perf
 * scales the count, and shows the percentage.
 */
static void pv_pmu_update_time(struct perf_event *event, const struct pv_pmu_value *value)
{
	struct pv_pmu_event *pv = to_pv_pmu_event(event);
	u64 enabled = value->enabled - pv->last.enabled;
	u64 running = value->running - pv->last.running;
	u64 now = pv_pmu_event_time(event);
	u64 elapsed = now - pv->time;

	/* some readers of an event do not have perf update its clock */
	if (!elapsed)
		return;

	if (value->status)
		event->total_time_running -= elapsed;
	else if (running < enabled)
		event->total_time_running -=
			mul_u64_u64_div_u64(elapsed, enabled - running, enabled);
	pv->last = *value;
	pv->time = now;
}

/* May be interrupted by itself, in an NMI. */
static void pv_pmu_update(struct perf_event *event)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);
	struct hw_perf_event *hwc = &event->hw;
	s64 last = local64_read(&hwc->prev_count);
	struct pv_pmu_value value;

	/* nothing is counted: account the time as time without a counter */
	if (unlikely(!cpu->on)) {
		value = to_pv_pmu_event(event)->last;
		value.status = -ENODEV;
		if (!in_nmi())
			pv_pmu_update_time(event, &value);
		return;
	}

	do {
		value = pv_pmu_value(cpu, hwc->idx);
	} while (!local64_try_cmpxchg(&hwc->prev_count, &last, value.count));

	local64_add(value.count - last, &event->count);
	if (!in_nmi())
		pv_pmu_update_time(event, &value);
}

static void pv_pmu_start(struct perf_event *event, int flags)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);
	struct pv_pmu_event *pv = to_pv_pmu_event(event);
	struct hw_perf_event *hwc = &event->hw;

	if (WARN_ON_ONCE(!(hwc->state & PERF_HES_STOPPED)))
		return;

	pv_pmu_sync(cpu, hwc->idx);
	pv->last = pv_pmu_value(cpu, hwc->idx);
	pv->time = pv_pmu_event_time(event);
	local64_set(&hwc->prev_count, pv->last.count);
	hwc->state = 0;
	perf_event_update_userpage(event);
}

static void pv_pmu_read(struct perf_event *event)
{
	struct hw_perf_event *hwc = &event->hw;

	if (hwc->state & PERF_HES_STOPPED)
		return;

	pv_pmu_sync(this_cpu_ptr(&pv_pmu_cpu), hwc->idx);
	pv_pmu_update(event);
}

/* The slot keeps counting: update now, even without PERF_EF_UPDATE. */
static void pv_pmu_stop(struct perf_event *event, int flags)
{
	pv_pmu_read(event);
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
}

static int pv_pmu_add(struct perf_event *event, int flags)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);
	struct pv_pmu_kind *kind = to_pv_pmu_event(event)->kind;
	int slot;

	if (!cpu->on)
		return -ENODEV;

	slot = pv_pmu_find_slot(cpu, kind);
	if (slot < 0)
		slot = pv_pmu_open_slot(cpu, kind);
	if (slot < 0)
		return slot;

	cpu->slots[slot].nr_users++;
	event->hw.idx = slot;
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
	if (flags & PERF_EF_START)
		pv_pmu_start(event, PERF_EF_RELOAD);
	return 0;
}

/* Keep the slot for the next event, unless it has failed: the next event tries again. */
static void pv_pmu_leave_slot(struct pv_pmu_cpu *cpu, unsigned int slot)
{
	if (--cpu->slots[slot].nr_users)
		return;

	if (pv_pmu_value(cpu, slot).status)
		pv_pmu_close_slot(cpu, slot);
	else
		cpu->slots[slot].idle_since = jiffies;
	pv_pmu_reap_later(cpu);
}

static void pv_pmu_del(struct perf_event *event, int flags)
{
	struct hw_perf_event *hwc = &event->hw;

	pv_pmu_stop(event, PERF_EF_UPDATE);
	pv_pmu_leave_slot(this_cpu_ptr(&pv_pmu_cpu), hwc->idx);
	hwc->idx = -1;
	perf_event_update_userpage(event);
}

static void pv_pmu_set_batch(struct pv_pmu_cpu *cpu, bool batch)
{
	cpu->batch = batch;
	cpu->fresh = false;
}

static void pv_pmu_disable(struct pmu *pmu)
{
	pv_pmu_set_batch(this_cpu_ptr(&pv_pmu_cpu), true);
}

static void pv_pmu_enable(struct pmu *pmu)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);

	if (cpu->dirty) {
		pv_pmu_commit(cpu);
		pv_pmu_note_limit(cpu);
	}
	pv_pmu_set_batch(cpu, false);
}

static void pv_pmu_start_txn(struct pmu *pmu, unsigned int flags)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);

	/* the request is in the batch of all events that are scheduled in */
	cpu->txn_flags = flags;
	if (flags & PERF_PMU_TXN_READ)
		pv_pmu_set_batch(cpu, true);
}

static void pv_pmu_cancel_txn(struct pmu *pmu)
{
	this_cpu_ptr(&pv_pmu_cpu)->txn_flags = 0;
}

static int pv_pmu_commit_txn(struct pmu *pmu)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);

	if (cpu->txn_flags & PERF_PMU_TXN_READ)
		pv_pmu_set_batch(cpu, false);
	cpu->txn_flags = 0;
	return 0;
}

static bool pv_pmu_has_amd_events(void)
{
	return boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	       boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;
}

/* The bits of a raw event select that name the event */
static u64 pv_pmu_raw_config(u64 config)
{
	return config & (pv_pmu_has_amd_events() ? AMD64_RAW_EVENT_MASK : X86_RAW_EVENT_MASK);
}

static void pv_pmu_event_destroy(struct perf_event *event)
{
	struct pv_pmu_event *pv = to_pv_pmu_event(event);

	pv_pmu_put_kind(pv->kind);
	kfree(pv);
}

/* The type and config for the host; -ENOENT for an event of another PMU. */
static int pv_pmu_set_config(struct pv_pmu_kind *kind, const struct perf_event *event)
{
	const struct perf_event_attr *attr = &event->attr;

	if (attr->type == event->pmu->type) {
		kind->type = PERF_TYPE_RAW;
		kind->config = pv_pmu_raw_config(attr->config);
		kind->config1 = attr->config1;
		return 0;
	}

	if (attr->type != PERF_TYPE_HARDWARE && attr->type != PERF_TYPE_HW_CACHE)
		return -ENOENT;

	kind->type = attr->type;
	kind->config = attr->config & PERF_HW_EVENT_MASK;
	return 0;
}

static int pv_pmu_set_flags(struct pv_pmu_kind *kind, const struct perf_event_attr *attr)
{
	if (attr->exclude_user)
		kind->flags |= KVM_PV_PMU_EXCLUDE_USER;
	if (attr->exclude_kernel)
		kind->flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	if (attr->pinned)
		kind->flags |= KVM_PV_PMU_PINNED;
	if (!attr->exclude_host)
		return 0;

	/* the host cannot tell our guests from us; if we have none there is no need */
	if (boot_cpu_has(X86_FEATURE_SVM) || boot_cpu_has(X86_FEATURE_VMX))
		return -EOPNOTSUPP;
	kind->flags |= KVM_PV_PMU_EXCLUDE_USER | KVM_PV_PMU_EXCLUDE_KERNEL;
	return 0;
}

/* A group with too many events would never be scheduled in. */
static bool pv_pmu_group_fits(struct perf_event *event)
{
	struct perf_event *leader = event->group_leader, *sibling;
	unsigned int nr = 1;

	if (leader == event)
		return true;

	nr += leader->pmu == event->pmu;
	for_each_sibling_event(sibling, leader)
		nr += sibling->pmu == event->pmu;
	return nr <= pv_pmu_probe_slot;
}

static int pv_pmu_event_init(struct perf_event *event)
{
	struct pv_pmu_kind want = { };
	struct pv_pmu_event *pv;
	int err;

	err = pv_pmu_set_config(&want, event);
	if (err)
		return err;
	if (is_sampling_event(event) || has_branch_stack(event) || event->attr.precise_ip)
		return -EOPNOTSUPP;
	err = pv_pmu_set_flags(&want, &event->attr);
	if (err)
		return err;
	if (!pv_pmu_group_fits(event))
		return -EINVAL;

	pv = kzalloc(sizeof(*pv), GFP_KERNEL);
	if (!pv)
		return -ENOMEM;
	pv->kind = pv_pmu_get_kind(&want);
	if (IS_ERR(pv->kind)) {
		err = PTR_ERR(pv->kind);
		kfree(pv);
		return err;
	}

	event->hw.idx = -1;
	/* the event may be read as soon as it is active, before it is added */
	event->hw.state = PERF_HES_STOPPED | PERF_HES_UPTODATE;
	event->pmu_private = pv;
	event->destroy = pv_pmu_event_destroy;
	return 0;
}

static int pv_pmu_cpu_on(struct pv_pmu_cpu *cpu)
{
	struct kvm_pv_pmu_header *header = &cpu->area->header;
	u64 cookie = get_random_u64() | 1;

	header->cookie = cookie;
	if (wrmsrl_safe(MSR_KVM_PV_PMU, __pa(cpu->area) | KVM_PV_PMU_ENABLED))
		return -ENODEV;

	if (READ_ONCE(header->version) != KVM_PV_PMU_VERSION ||
	    READ_ONCE(header->cookie_echo) != cookie ||
	    READ_ONCE(header->nr_slots) > KVM_PV_PMU_NR_SLOTS) {
		wrmsrl(MSR_KVM_PV_PMU, 0);
		return -ENODEV;
	}

	cpu->max_open = header->nr_slots - 1;
	cpu->on = true;
	return 0;
}

static void pv_pmu_cpu_off(struct pv_pmu_cpu *cpu)
{
	if (!cpu->on)
		return;

	cpu->on = false;
	wrmsrl(MSR_KVM_PV_PMU, 0);
}

/* Keep the counts so far; open the slots again. */
static void pv_pmu_suspend(struct pv_pmu_cpu *cpu)
{
	unsigned int slot;

	pv_pmu_call(cpu, KVM_PV_PMU_OP_SYNC, cpu->open & ~cpu->dirty);
	for_each_set_bit(slot, &cpu->open, KVM_PV_PMU_NR_SLOTS) {
		if (cpu->slots[slot].nr_users)
			cpu->slots[slot].base = pv_pmu_value(cpu, slot);
		else
			pv_pmu_close_slot(cpu, slot);
	}
	cpu->dirty = cpu->open;
	pv_pmu_cpu_off(cpu);
}

/* A CPU that fails here has no PMU. */
static void pv_pmu_resume(struct pv_pmu_cpu *cpu)
{
	if (cpu->area && !pv_pmu_cpu_on(cpu))
		pv_pmu_commit(cpu);
}

static int pv_pmu_cpu_prepare(unsigned int nr)
{
	struct pv_pmu_cpu *cpu = per_cpu_ptr(&pv_pmu_cpu, nr);
	unsigned long page;

	if (cpu->area)
		return 0;

	page = get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	/* leak the page: its encryption state is unknown */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT) && set_memory_decrypted(page, 1))
		return 0;

	cpu->resched = IRQ_WORK_INIT_HARD(pv_pmu_resched);
	hrtimer_init(&cpu->reaper, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	cpu->reaper.function = pv_pmu_reap;
	cpu->area = (struct kvm_pv_pmu_area *)page;
	return 0;
}

static int pv_pmu_cpu_starting(unsigned int nr)
{
	pv_pmu_resume(this_cpu_ptr(&pv_pmu_cpu));
	return 0;
}

static int pv_pmu_cpu_dying(unsigned int nr)
{
	pv_pmu_suspend(this_cpu_ptr(&pv_pmu_cpu));
	return 0;
}

void kvm_pv_pmu_guest_suspend(void)
{
	pv_pmu_suspend(this_cpu_ptr(&pv_pmu_cpu));
}

void kvm_pv_pmu_guest_resume(void)
{
	pv_pmu_resume(this_cpu_ptr(&pv_pmu_cpu));
}

void kvm_pv_pmu_guest_shutdown(void)
{
	pv_pmu_cpu_off(this_cpu_ptr(&pv_pmu_cpu));
}

/* Other CPUs are past being asked to do it; but the host looks at the cookies. */
void kvm_pv_pmu_guest_crash(void)
{
	struct kvm_pv_pmu_area *area;
	int cpu;

	kvm_pv_pmu_guest_shutdown();
	for_each_possible_cpu(cpu) {
		area = per_cpu(pv_pmu_cpu, cpu).area;
		if (area)
			WRITE_ONCE(area->header.cookie, 0);
	}
}

static ssize_t event_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "config:0-7%s\n", pv_pmu_has_amd_events() ? ",32-35" : "");
}
static DEVICE_ATTR_RO(event);
PMU_FORMAT_ATTR(umask,	"config:8-15");
PMU_FORMAT_ATTR(edge,	"config:18");
PMU_FORMAT_ATTR(inv,	"config:23");
PMU_FORMAT_ATTR(cmask,	"config:24-31");

static struct attribute *pv_pmu_format_attrs[] = {
	&dev_attr_event.attr,
	&format_attr_umask.attr,
	&format_attr_edge.attr,
	&format_attr_inv.attr,
	&format_attr_cmask.attr,
	NULL
};

static const struct attribute_group pv_pmu_format_group = {
	.name = "format",
	.attrs = pv_pmu_format_attrs,
};

/*
 * Generic events as raw ones, for perf's that want them in sysfs. This is not
 * what the host counts for the generic event, but means the same.
 */
enum { INTEL, AMD, ZEN1, ZEN2 };

static const u64 pv_pmu_raw_configs[][4] = {
	[PERF_COUNT_HW_CPU_CYCLES]		= { 0x003c, 0x0076, 0x0076, 0x0076 },
	[PERF_COUNT_HW_INSTRUCTIONS]		= { 0x00c0, 0x00c0, 0x00c0, 0x00c0 },
	[PERF_COUNT_HW_CACHE_REFERENCES]	= { 0x4f2e, 0x077d, 0xff60, 0xff60 },
	[PERF_COUNT_HW_CACHE_MISSES]		= { 0x412e, 0x077e, 0x0964, 0x0964 },
	[PERF_COUNT_HW_BRANCH_INSTRUCTIONS]	= { 0x00c4, 0x00c2, 0x00c2, 0x00c2 },
	[PERF_COUNT_HW_BRANCH_MISSES]		= { 0x00c5, 0x00c3, 0x00c3, 0x00c3 },
	[PERF_COUNT_HW_STALLED_CYCLES_FRONTEND]	= {	 0, 0x00d0, 0x0287, 0x00a9 },
	[PERF_COUNT_HW_STALLED_CYCLES_BACKEND]	= {	 0, 0x00d1, 0x0187,	 0 },
};

/* 0 if there is none */
static u64 pv_pmu_raw_config_of(unsigned int generic)
{
	const u64 *configs = pv_pmu_raw_configs[generic];

	if (!pv_pmu_has_amd_events())
		return configs[INTEL];
	if (boot_cpu_has(X86_FEATURE_ZEN1))
		return configs[ZEN1];
	return configs[boot_cpu_data.x86 < 0x17 ? AMD : ZEN2];
}

static bool pv_pmu_counts(u32 type, u64 config)
{
	struct pv_pmu_kind kind = { .type = type, .config = config };

	return !pv_pmu_probe(&kind);
}

static u64 pv_pmu_config_of_attr(struct device_attribute *attr)
{
	return pv_pmu_raw_config_of(container_of(attr, struct perf_pmu_events_attr, attr)->id);
}

static ssize_t pv_pmu_event_show(struct device *dev, struct device_attribute *attr, char *page)
{
	u64 config = pv_pmu_config_of_attr(attr);

	if (config >> 8)
		return sysfs_emit(page, "event=0x%02llx,umask=0x%02llx\n",
				  config & 0xff, config >> 8);
	return sysfs_emit(page, "event=0x%02llx\n", config);
}

static umode_t pv_pmu_event_visible(struct kobject *kobj, struct attribute *attr, int index)
{
	struct device_attribute *event = container_of(attr, struct device_attribute, attr);
	u64 config = pv_pmu_config_of_attr(event);

	return config && pv_pmu_counts(PERF_TYPE_RAW, config) ? attr->mode : 0;
}

#define PV_PMU_EVENT(_name, _id)						\
	(&((struct perf_pmu_events_attr[]) { {					\
		.attr = {							\
			.attr = { .name = _name, .mode = 0444 },		\
			.show = pv_pmu_event_show,				\
		},								\
		.id = PERF_COUNT_HW_##_id,					\
	} })[0].attr.attr)

static struct attribute *pv_pmu_event_attrs[] = {
	PV_PMU_EVENT("cpu-cycles", CPU_CYCLES),
	PV_PMU_EVENT("instructions", INSTRUCTIONS),
	PV_PMU_EVENT("cache-references", CACHE_REFERENCES),
	PV_PMU_EVENT("cache-misses", CACHE_MISSES),
	PV_PMU_EVENT("branch-instructions", BRANCH_INSTRUCTIONS),
	PV_PMU_EVENT("branch-misses", BRANCH_MISSES),
	PV_PMU_EVENT("stalled-cycles-frontend", STALLED_CYCLES_FRONTEND),
	PV_PMU_EVENT("stalled-cycles-backend", STALLED_CYCLES_BACKEND),
	NULL
};

static const struct attribute_group pv_pmu_events_group = {
	.name = "events",
	.attrs = pv_pmu_event_attrs,
	.is_visible = pv_pmu_event_visible,
};

static ssize_t pmu_name_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "kvm_pv\n");
}
static DEVICE_ATTR_RO(pmu_name);

/* Of precise events, 0 is none. */
static ssize_t max_precise_show(struct device *dev, struct device_attribute *attr, char *page)
{
	return sysfs_emit(page, "0\n");
}
static DEVICE_ATTR_RO(max_precise);

static struct attribute *pv_pmu_caps_attrs[] = {
	&dev_attr_pmu_name.attr,
	&dev_attr_max_precise.attr,
	NULL
};

static const struct attribute_group pv_pmu_caps_group = {
	.name = "caps",
	.attrs = pv_pmu_caps_attrs,
};

static const struct attribute_group *pv_pmu_attr_groups[] = {
	&pv_pmu_format_group,
	&pv_pmu_events_group,
	&pv_pmu_caps_group,
	NULL
};

static struct pmu pv_pmu = {
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
	.start_txn	= pv_pmu_start_txn,
	.commit_txn	= pv_pmu_commit_txn,
	.cancel_txn	= pv_pmu_cancel_txn,
};

static bool pv_pmu_off __initdata;
static bool pv_pmu_force __initdata;

static int __init pv_pmu_param(char *arg)
{
	if (!arg)
		return -EINVAL;
	pv_pmu_off = !strcmp(arg, "off");
	pv_pmu_force = !strcmp(arg, "force");
	return pv_pmu_off || pv_pmu_force ? 0 : -EINVAL;
}
early_param("kvm_pv_pmu", pv_pmu_param);

/* Does Linux count with a PMU of this machine, or KVM's emulation of one? */
static bool __init pv_pmu_have_hardware(void)
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
		nr += pv_pmu_counts(PERF_TYPE_HARDWARE, id);
	return nr;
}

/* Does the host do all of what its feature bit says? */
static int __init pv_pmu_try_host(struct pv_pmu_cpu *cpu)
{
	struct kvm_pv_pmu_header *header = &cpu->area->header;
	long err;

	if (pv_pmu_cpu_on(cpu)) {
		pr_warn("the host does not take the area\n");
		return -ENODEV;
	}

	pv_pmu_features = header->features;
	pv_pmu_probe_slot = header->nr_slots - 1;

	/* with hypercalls of Hyper-V's or Xen's kind, they are not KVM's to answer */
	err = kvm_hypercall2(KVM_HC_PV_PMU, KVM_PV_PMU_OP_SYNC, 0);
	if (err) {
		pr_warn("the host does not take the hypercall, error %ld\n", err);
		return -ENODEV;
	}
	return 0;
}

/* This CPU is prepared, and on. */
static int __init pv_pmu_setup_cpus(void)
{
	int err;

	err = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "x86/kvm_pv_pmu:prepare",
					pv_pmu_cpu_prepare, NULL);
	if (err < 0)
		return err;
	return cpuhp_setup_state_nocalls(CPUHP_AP_PERF_X86_KVM_PV_STARTING,
					 "x86/kvm_pv_pmu:starting",
					 pv_pmu_cpu_starting, pv_pmu_cpu_dying);
}

/* A hardware PMU keeps its name and the generic events. */
static int __init pv_pmu_register(bool hardware)
{
	if (!hardware)
		return perf_pmu_register(&pv_pmu, "cpu", PERF_TYPE_RAW);

	pv_pmu.capabilities |= PERF_PMU_CAP_EXTENDED_HW_TYPE;
	return perf_pmu_register(&pv_pmu, "kvm_pv", -1);
}

static int __init pv_pmu_bring_up(struct pv_pmu_cpu *cpu, bool hardware)
{
	unsigned int nr_generic;
	int err;

	err = pv_pmu_try_host(cpu);
	if (err)
		return err;

	nr_generic = pv_pmu_nr_generic();
	if (!nr_generic) {
		pr_info("the host counts nothing\n");
		return -ENODEV;
	}

	err = pv_pmu_setup_cpus();
	if (!err)
		err = pv_pmu_register(hardware);
	if (err) {
		pr_err("cannot be set up, error %d\n", err);
		return err;
	}

	pr_info("\"%s\", %u slots, %u of %u generic events, %s\n",
		pv_pmu.name, pv_pmu_probe_slot, nr_generic, PERF_COUNT_HW_MAX,
		pv_pmu_features & KVM_PV_PMU_FEATURE_RAW ? "raw events" : "no raw events");
	return 0;
}

static int __init pv_pmu_init(void)
{
	struct pv_pmu_cpu *cpu = this_cpu_ptr(&pv_pmu_cpu);
	bool hardware = pv_pmu_have_hardware();

	if (pv_pmu_off || !kvm_para_available() || !kvm_para_has_feature(KVM_FEATURE_PV_PMU))
		return 0;
	if (hardware && !pv_pmu_force) {
		pr_info("not used, there is a hardware PMU\n");
		return 0;
	}

	if (pv_pmu_cpu_prepare(smp_processor_id()) || !cpu->area)
		return 0;
	if (pv_pmu_bring_up(cpu, hardware)) {
		pv_pmu_cpu_off(cpu);
		/* leak the area: a host that failed may still write to it */
		cpu->area = NULL;
	}
	return 0;
}

/* After the hardware's, and before there are other CPUs and the watchdog */
early_initcall(pv_pmu_init);
