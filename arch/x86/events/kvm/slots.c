// SPDX-License-Identifier: GPL-2.0
/*
 * The slots of a CPU's area: find, open, keep, commit, reap.
 *
 * The request is the key: an event takes an open slot with the same request. Events on the
 * CPU at the same time share a slot. A slot without a user is kept for the next event: a
 * task switch changes no request. A slot without a user goes on counting only if no other
 * slot lacks a counter, and is closed after a while.
 *
 * The wanted state is kept beside the committed state. A slot never goes from one event to
 * another in one commit. So the two states differ only in slots that are open, or running,
 * in one state alone.
 *
 * The slots of a group count together, as the events of perf's groups do. Only groups of
 * the same events share a group of slots.
 */
#include <linux/bitops.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "kvm.h"

/* Reads of a report before giving up: the host changes reports at exits alone. */
#define PV_SLOT_TRIES		16

/* The event's request: PERF_EVENT_IOC_PERIOD may have changed the period. */
static const struct kvm_pv_pmu_request *pv_slot_request(const struct perf_event *event)
{
	struct kvm_pv_pmu_request *request = &to_pv_pmu_event(event)->request;

	request->sample_period = event->attr.sample_period;
	return request;
}

static bool pv_slot_is_for(const struct pv_pmu_slot *slot, const struct perf_event *event,
			   u32 group)
{
	return slot->wanted.group == group &&
	       !memcmp(&slot->wanted, pv_slot_request(event),
		       offsetof(struct kvm_pv_pmu_request, group));
}

/* The slot of the group's leader, maybe @slot itself */
static unsigned int pv_slot_leader(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	u32 group = cpuc->slots[slot].wanted.group;

	return group ? group - 1 : slot;
}

struct pv_pmu_value pv_slot_value(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	const struct kvm_pv_pmu_report *report = &cpuc->area->slots[slot].report;
	const struct pv_pmu_value *base = &cpuc->slots[slot].base;
	unsigned int tries = PV_SLOT_TRIES;
	struct pv_pmu_value value = *base;
	u32 seq;

	/* until the first commit, the report is another event's */
	if (!(cpuc->committed & BIT(slot))) {
		value.status = cpuc->on ? 0 : -ENODEV;
		return value;
	}

	/* the barriers pair with the host's, around its writes */
	do {
		seq = READ_ONCE(report->seq);
		virt_rmb();	/* as above */
		value.status = READ_ONCE(report->status);
		value.count = base->count + READ_ONCE(report->count);
		value.enabled = base->enabled + READ_ONCE(report->time_enabled);
		value.running = base->running + READ_ONCE(report->time_running);
		value.overflows.period_sum = READ_ONCE(report->period_sum);
		value.overflows.throttled = READ_ONCE(report->throttled);
		virt_rmb();	/* as above */
	} while (((seq & 1) || seq != READ_ONCE(report->seq)) && --tries);

	return value;
}

static int pv_slot_status(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	if (!(cpuc->committed & BIT(slot)))
		return 0;
	return READ_ONCE(cpuc->area->slots[slot].report.status);
}

/* Slots without a user can count on if no other slot runs, or if all have a counter. */
static bool pv_slots_can_idle(const struct pv_pmu_cpu *cpuc, unsigned long idle)
{
	unsigned long slots = cpuc->used | idle;
	unsigned int slot;

	if (!cpuc->used || !idle)
		return true;
	if (hweight_long(slots) > READ_ONCE(cpuc->area->header.nr_counters) ||
	    time_before64(get_jiffies_64(), cpuc->contended_until))
		return false;

	for_each_set_bit(slot, &slots, KVM_PV_PMU_NR_SLOTS) {
		if (cpuc->slots[slot].wanted.flags & KVM_PV_PMU_PINNED)
			return false;
	}
	return true;
}

/* A used slot without a user of its own leads a group whose first event is gone. */
static bool pv_slot_is_started(const struct pv_pmu_slot *slot)
{
	const struct pv_pmu_event *user;

	if (!slot->users)
		return true;
	for (user = slot->users; user; user = user->next) {
		if (!(READ_ONCE(user->event->hw.state) & PERF_HES_STOPPED))
			return true;
	}
	return false;
}

/*
 * A sampling slot without a user must not run: nobody would take its overflows. A slot must
 * not run either if the NMI handler has stopped all its users.
 */
static unsigned long pv_slots_to_run(struct pv_pmu_cpu *cpuc)
{
	unsigned long idle = cpuc->running & cpuc->open & ~cpuc->used & ~cpuc->sampling;
	unsigned long run = (cpuc->used & ~cpuc->leaving) |
			    (pv_slots_can_idle(cpuc, idle) ? idle : 0);
	unsigned long sampling = run & cpuc->sampling;
	unsigned int slot;

	for_each_set_bit(slot, &sampling, KVM_PV_PMU_NR_SLOTS) {
		if (!pv_slot_is_started(&cpuc->slots[slot]))
			run &= ~BIT(slot);
		else if (!cpuc->slots[slot].users)
			pv_pmu_resched(cpuc);
	}
	return run;
}

static bool pv_slots_need_reaper(const struct pv_pmu_cpu *cpuc)
{
	return cpuc->open != cpuc->used || cpuc->retry;
}

/*
 * The host limits the number of events. Have perf schedule its events again: without a
 * slot for each event, perf lets events take turns.
 */
static void pv_slots_note_limit(struct pv_pmu_cpu *cpuc, unsigned int nr_refused)
{
	unsigned int nr = max(hweight_long(cpuc->open) - nr_refused, 1);

	if (nr_refused && nr < cpuc->max_open) {
		cpuc->max_open = nr;
		pv_pmu_resched(cpuc);
	}
}

static void pv_slots_look_at_status(struct pv_pmu_cpu *cpuc)
{
	const struct pv_pmu_slot *slot;
	unsigned int i, nr_refused = 0;

	cpuc->retry = 0;
	for_each_set_bit(i, &cpuc->open, KVM_PV_PMU_NR_SLOTS) {
		slot = &cpuc->slots[i];
		switch (pv_slot_status(cpuc, i)) {
		case -EAGAIN:
			/* members have failed with their leader */
			cpuc->retry |= BIT(i) | slot->members;
			break;
		case -ENOSPC:
			nr_refused++;
			break;
		case -EBUSY:
			/* pv_slot_get() will let the pinned event fail */
			if (slot->nr_users && slot->wanted.flags & KVM_PV_PMU_PINNED)
				pv_pmu_resched(cpuc);
			break;
		}
	}
	pv_slots_note_limit(cpuc, nr_refused);
}

static void pv_slot_declare(struct pv_pmu_cpu *cpuc, unsigned int slot, bool run)
{
	struct kvm_pv_pmu_request *request = &cpuc->area->slots[slot].request;

	if (!(cpuc->open & BIT(slot))) {
		memset(request, 0, sizeof(*request));
		return;
	}

	*request = cpuc->slots[slot].wanted;
	if (run)
		request->flags |= KVM_PV_PMU_RUN;
}

static void pv_slots_reap_later(struct pv_pmu_cpu *cpuc)
{
	if (pv_slots_need_reaper(cpuc) && !hrtimer_active(&cpuc->reaper) &&
	    pv_pmu_has_interrupts())
		hrtimer_start(&cpuc->reaper, ms_to_ktime(PV_PMU_KEEP_MS),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

/* Tell the host the wanted state. */
void pv_slots_commit(struct pv_pmu_cpu *cpuc)
{
	unsigned long run, mask;
	unsigned int slot;

	if (!cpuc->on)
		return;

	WRITE_ONCE(cpuc->touched, false);
	run = pv_slots_to_run(cpuc);
	mask = (cpuc->open ^ cpuc->committed) | (run ^ cpuc->running) | cpuc->retry |
	       cpuc->changed;
	for_each_set_bit(slot, &mask, KVM_PV_PMU_NR_SLOTS)
		pv_slot_declare(cpuc, slot, run & BIT(slot));
	if (mask & cpuc->sampling)
		pv_sample_expect_nmi(cpuc);
	if (mask && !pv_area_call(cpuc, KVM_PV_PMU_OP_COMMIT, mask)) {
		cpuc->committed = cpuc->open;
		cpuc->running = run;
		cpuc->changed = 0;
		if (mask & run & cpuc->branch.slots)
			cpuc->branch.task = current;
		pv_slots_look_at_status(cpuc);
	}
	pv_slots_reap_later(cpuc);
}

/*
 * Bring the report of a slot up to date before a user goes. For the last user of the only
 * slot that samples, commit: that stops the slot as well, and a task switch takes one exit
 * less.
 */
void pv_slot_leave(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	if ((cpuc->running & cpuc->used & cpuc->sampling) != BIT(slot) ||
	    cpuc->slots[slot].nr_users > 1) {
		pv_area_sync(cpuc, slot, false);
		return;
	}

	cpuc->leaving = BIT(slot);
	pv_slots_commit(cpuc);
	cpuc->leaving = 0;
}

/* Have the next commit name the running slots with branches: the host empties the stack. */
void pv_slots_empty_stack(struct pv_pmu_cpu *cpuc)
{
	unsigned long slots = cpuc->running & cpuc->branch.slots;

	cpuc->changed |= slots;
	cpuc->touched |= !!slots;
}

/* Close a slot, and if the slot is a leader's, the members' slots. None has a user. */
static void pv_slot_close(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	unsigned long slots = BIT(slot) | cpuc->slots[slot].members;
	unsigned int leader = pv_slot_leader(cpuc, slot);

	if (slots & cpuc->sampling)
		pv_sample_expect_nmi(cpuc);
	cpuc->open &= ~slots;
	cpuc->sampling &= ~slots;
	cpuc->branch.slots &= ~slots;
	cpuc->changed &= ~slots;
	cpuc->slots[leader].members &= ~BIT(slot);
}

static enum hrtimer_restart pv_slots_reap(struct hrtimer *timer)
{
	struct pv_pmu_cpu *cpuc = container_of(timer, struct pv_pmu_cpu, reaper);
	unsigned long idle;
	unsigned int slot;

	/* a CPU went offline, and its timer has moved here */
	if (cpuc != this_cpu_ptr(&pv_pmu_cpu))
		return HRTIMER_NORESTART;

	idle = cpuc->open & ~cpuc->used;
	for_each_set_bit(slot, &idle, KVM_PV_PMU_NR_SLOTS) {
		if (time_after_eq(jiffies, cpuc->slots[slot].idle_since + PV_PMU_KEEP))
			pv_slot_close(cpuc, slot);
	}
	pv_slots_commit(cpuc);
	if (!cpuc->open)
		cpuc->max_open = pv_probe_slot(cpuc);

	hrtimer_forward_now(timer, ms_to_ktime(PV_PMU_KEEP_MS));
	return pv_slots_need_reaper(cpuc) ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

/* Close at once the group that has been without a user for longest. */
static void pv_slots_evict(struct pv_pmu_cpu *cpuc)
{
	unsigned long idle = cpuc->open & ~cpuc->used;
	unsigned int slot, oldest = __ffs(idle);

	for_each_set_bit(slot, &idle, KVM_PV_PMU_NR_SLOTS) {
		if (time_before(cpuc->slots[slot].idle_since, cpuc->slots[oldest].idle_since))
			oldest = slot;
	}
	pv_slot_close(cpuc, oldest);
	pv_slots_commit(cpuc);
}

/*
 * Find a slot that is free for the host as well. Otherwise the guest could be saved with
 * one event's request beside another event's report, which a restore takes for one event's.
 */
static int pv_slot_free(const struct pv_pmu_cpu *cpuc)
{
	unsigned long slots = (BIT(pv_probe_slot(cpuc)) - 1) & ~(cpuc->open | cpuc->committed);

	if (!slots || hweight_long(cpuc->open) >= cpuc->max_open)
		return -EAGAIN;
	return __ffs(slots);
}

/* Start the period anew, maybe with another length. Earlier overflows are for no event. */
static void pv_slot_restart(struct pv_pmu_cpu *cpuc, unsigned int slot, u64 period)
{
	cpuc->slots[slot].wanted.sample_period = period;
	cpuc->slots[slot].wanted.restart++;
	cpuc->slots[slot].seen = pv_slot_value(cpuc, slot).overflows;
	cpuc->changed |= BIT(slot);
}

/* Change the period of a slot without a user: cheaper than another event of the host's */
static int pv_slot_recycle(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	unsigned long idle = cpuc->sampling & cpuc->committed & ~cpuc->used;
	const struct kvm_pv_pmu_request *request = pv_slot_request(event);
	struct kvm_pv_pmu_request wanted;
	unsigned int slot;

	for_each_set_bit(slot, &idle, KVM_PV_PMU_NR_SLOTS) {
		if (cpuc->slots[slot].members || pv_slot_status(cpuc, slot))
			continue;
		wanted = cpuc->slots[slot].wanted;
		wanted.sample_period = request->sample_period;
		wanted.restart = 0;
		if (!memcmp(&wanted, request, sizeof(wanted))) {
			pv_slot_restart(cpuc, slot, request->sample_period);
			return slot;
		}
	}
	return -ENOENT;
}

static int pv_slot_open(struct pv_pmu_cpu *cpuc, struct perf_event *event, u32 group)
{
	int slot = -ENOENT;

	if (is_sampling_event(event) && !group)
		slot = pv_slot_recycle(cpuc, event);
	if (slot >= 0)
		return slot;

	slot = pv_slot_free(cpuc);
	if (slot < 0 && cpuc->open & ~cpuc->used) {
		pv_slots_evict(cpuc);
		slot = pv_slot_free(cpuc);
	}
	if (slot < 0)
		return slot;

	cpuc->slots[slot] = (struct pv_pmu_slot){ .wanted = *pv_slot_request(event) };
	cpuc->slots[slot].wanted.group = group;
	if (group)
		cpuc->slots[group - 1].members |= BIT(slot);
	cpuc->open |= BIT(slot);
	if (is_sampling_event(event))
		cpuc->sampling |= BIT(slot);
	if (has_branch_stack(event)) {
		cpuc->branch.slots |= BIT(slot);
		/* records of the slot's former event are not for the new one */
		pv_branch_latch(cpuc);
	}
	return slot;
}

static bool pv_event_takes_part(const struct perf_event *event)
{
	return event->pmu == &pv_pmu && event->state > PERF_EVENT_STATE_OFF;
}

/* The first event of a group that takes part leads the slots: perf adds it first. */
static struct perf_event *pv_event_leader(struct perf_event *event)
{
	struct perf_event *leader = event->group_leader, *sibling;

	if (pv_event_takes_part(leader))
		return leader;

	for_each_sibling_event(sibling, leader) {
		if (pv_event_takes_part(sibling))
			return sibling;
	}
	return event;
}

static int pv_slot_find_member(const struct pv_pmu_cpu *cpuc, const struct perf_event *event,
			       unsigned int leader)
{
	unsigned int slot;

	for_each_set_bit(slot, &cpuc->slots[leader].members, KVM_PV_PMU_NR_SLOTS) {
		if (pv_slot_is_for(&cpuc->slots[slot], event, leader + 1))
			return slot;
	}
	return -ENOENT;
}

/* Has the slot a member for each event of this leader's group, and no others? */
static bool pv_slot_leads(const struct pv_pmu_cpu *cpuc, unsigned int slot,
			  const struct perf_event *leader)
{
	unsigned long members = cpuc->slots[slot].members;
	struct perf_event *sibling;
	int member;

	for_each_sibling_event(sibling, leader->group_leader) {
		if (sibling == leader || !pv_event_takes_part(sibling))
			continue;
		member = pv_slot_find_member(cpuc, sibling, slot);
		if (member < 0)
			return false;
		members &= ~BIT(member);
	}
	return !members;
}

/*
 * Open a failed group anew, unless the group is pinned: a pinned event without a counter
 * has failed for good. Returns the slot or a negative errno.
 */
static int pv_slot_check(struct pv_pmu_cpu *cpuc, unsigned int leader)
{
	struct pv_pmu_slot *slot = &cpuc->slots[leader];
	unsigned long slots = slot->members | BIT(leader);
	int status = 0;
	unsigned int i;

	for_each_set_bit(i, &slots, KVM_PV_PMU_NR_SLOTS)
		status = status ?: pv_slot_status(cpuc, i);
	if (likely(!status))
		return leader;

	if (!slot->nr_users)
		pv_slot_close(cpuc, leader);
	if (status == -EBUSY && slot->wanted.flags & KVM_PV_PMU_PINNED)
		return -EBUSY;
	return slot->nr_users ? leader : -ENOENT;
}

static int pv_slot_find_leader(struct pv_pmu_cpu *cpuc, const struct perf_event *event)
{
	unsigned int slot;

	for_each_set_bit_wrap(slot, &cpuc->open, KVM_PV_PMU_NR_SLOTS,
			      to_pv_pmu_event(event)->slot) {
		if (pv_slot_is_for(&cpuc->slots[slot], event, 0) &&
		    pv_slot_leads(cpuc, slot, event))
			return pv_slot_check(cpuc, slot);
	}
	return -ENOENT;
}

static void pv_slot_use(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	cpuc->slots[slot].nr_users++;
	cpuc->used |= BIT(slot);
	cpuc->touched = true;
}

static void pv_slot_unuse(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	cpuc->touched = true;
	if (--cpuc->slots[slot].nr_users)
		return;

	cpuc->used &= ~BIT(slot);
	cpuc->slots[slot].idle_since = jiffies;
	/* the host does not know the slot */
	if (!(cpuc->committed & BIT(slot)))
		pv_slot_close(cpuc, slot);
}

/* The NMI handler may walk the list in between. */
static void pv_slot_link(struct pv_pmu_slot *slot, struct pv_pmu_event *user)
{
	WRITE_ONCE(user->next, slot->users);
	WRITE_ONCE(slot->users, user);
}

static void pv_slot_unlink(struct pv_pmu_slot *slot, struct pv_pmu_event *user)
{
	struct pv_pmu_event **link = &slot->users;

	while (*link != user)
		link = &(*link)->next;
	WRITE_ONCE(*link, user->next);
}

/* A slot for an event that is added: its number, or a negative errno */
int pv_slot_get(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	struct perf_event *leader = pv_event_leader(event);
	u32 group = leader == event ? 0 : leader->hw.idx + 1;
	int slot;

	slot = group ? pv_slot_find_member(cpuc, event, group - 1) :
		       pv_slot_find_leader(cpuc, event);
	if (slot == -ENOENT)
		slot = pv_slot_open(cpuc, event, group);
	if (slot < 0)
		return slot;

	/* within a batch the slot runs on, and the branch stack is its last user's */
	if (has_branch_stack(event) && !cpuc->slots[slot].users)
		pv_slots_empty_stack(cpuc);
	pv_slot_use(cpuc, slot);
	if (group)
		pv_slot_use(cpuc, group - 1);
	to_pv_pmu_event(event)->slot = slot;
	pv_slot_link(&cpuc->slots[slot], to_pv_pmu_event(event));
	return slot;
}

void pv_slot_put(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	unsigned int slot = event->hw.idx, leader = pv_slot_leader(cpuc, slot);

	pv_slot_unlink(&cpuc->slots[slot], to_pv_pmu_event(event));
	pv_slot_unuse(cpuc, slot);
	if (leader != slot)
		pv_slot_unuse(cpuc, leader);
}

/* perf has set a period, maybe the same as before, of an event that is on a slot. */
void pv_slot_change_period(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	struct pv_pmu_slot *slot = &cpuc->slots[event->hw.idx];
	u64 period = pv_slot_request(event)->sample_period;

	if (!slot->users->next)
		pv_slot_restart(cpuc, event->hw.idx, period);
	else if (slot->wanted.sample_period != period)
		/* other events want the old period: find another slot */
		pv_pmu_resched(cpuc);
}

/* The host is about to forget all slots. Slots in use keep their counts. */
void pv_slots_detach(struct pv_pmu_cpu *cpuc)
{
	struct pv_pmu_value value;
	unsigned int slot;

	for_each_set_bit(slot, &cpuc->used, KVM_PV_PMU_NR_SLOTS) {
		value = pv_slot_value(cpuc, slot);
		/* in this order: with the bit set, an NMI adds the report to @base */
		cpuc->committed &= ~BIT(slot);
		barrier();	/* as above */
		cpuc->slots[slot].base = value;
		cpuc->slots[slot].seen = (struct pv_pmu_overflows){};
		cpuc->slots[slot].members &= cpuc->used;
	}

	if (cpuc->sampling)
		pv_sample_expect_nmi(cpuc);
	cpuc->open = cpuc->used;
	cpuc->sampling &= cpuc->used;
	cpuc->branch.slots &= cpuc->used;
	cpuc->committed = 0;
	cpuc->running = 0;
	cpuc->changed = 0;
	cpuc->retry = 0;
	for (slot = 0; slot < KVM_PV_PMU_NR_SLOTS; slot++)
		cpuc->area->slots[slot].request = (struct kvm_pv_pmu_request){};
}

void pv_slots_init(struct pv_pmu_cpu *cpuc)
{
	hrtimer_init(&cpuc->reaper, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	cpuc->reaper.function = pv_slots_reap;
}
