// SPDX-License-Identifier: GPL-2.0
/*
 * The slots of a CPU's area: which event has which slot, and what is wanted of the
 * host.
 *
 * The request is the key: an event takes a slot that is open with the same request.
 * Events that run at the same time share a slot, and a slot without a user is kept
 * for the next event. So a task switch changes nothing that the host had to know. A
 * slot without a user goes on counting only where no other slot lacks a counter for
 * it, and it is closed after a while.
 *
 * What is wanted is kept beside what was committed, which is what the area says. A
 * commit tells the host the difference.
 *
 * The slots of a group count together, as the events of perf's groups do. A group of
 * slots is shared only by groups of the same events.
 */
#include <linux/bitops.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "kvm.h"

/* Of the group of @slot: the slot of the leader, which may be @slot */
static unsigned int pv_slot_leader(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	u32 group = cpuc->slots[slot].wanted.group;

	return group ? group - 1 : slot;
}

/* The leader and the members of a group that is open */
static unsigned long pv_slots_of_group(const struct pv_pmu_cpu *cpuc, unsigned int leader)
{
	unsigned long group = 0;
	unsigned int slot;

	for_each_set_bit(slot, &cpuc->open, KVM_PV_PMU_NR_SLOTS) {
		if (pv_slot_leader(cpuc, slot) == leader)
			group |= BIT(slot);
	}
	return group;
}

struct pv_pmu_value pv_slot_value(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	struct pv_pmu_value value = cpuc->slots[slot].base, reported;

	/* until the first commit, the report is that of another event */
	if (!(cpuc->committed & BIT(slot))) {
		value.status = cpuc->on ? 0 : -ENODEV;
		return value;
	}

	reported = pv_area_reported(cpuc, slot);
	value.status = reported.status;
	value.count += reported.count;
	value.enabled += reported.enabled;
	value.running += reported.running;
	return value;
}

static int pv_slot_status(const struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	if (!(cpuc->committed & BIT(slot)))
		return 0;
	return READ_ONCE(cpuc->area->slots[slot].report.status);
}

/* The first status that is not 0 */
static int pv_slots_status(const struct pv_pmu_cpu *cpuc, unsigned long slots)
{
	unsigned int slot;
	int status = 0;

	for_each_set_bit(slot, &slots, KVM_PV_PMU_NR_SLOTS)
		status = status ?: pv_slot_status(cpuc, slot);
	return status;
}

/*
 * Slots without a user that count on: all of them if nothing else runs, or if there
 * are counters for all.
 */
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

static unsigned long pv_slots_to_run(const struct pv_pmu_cpu *cpuc)
{
	unsigned long idle = cpuc->running & cpuc->open & ~cpuc->used;

	return cpuc->used | (pv_slots_can_idle(cpuc, idle) ? idle : 0);
}

static bool pv_slots_need_reaper(const struct pv_pmu_cpu *cpuc)
{
	return cpuc->open != cpuc->used || cpuc->retry;
}

static void pv_slots_reap_later(struct pv_pmu_cpu *cpuc)
{
	if (pv_slots_need_reaper(cpuc) && !hrtimer_active(&cpuc->reaper) &&
	    pv_pmu_has_interrupts())
		hrtimer_start(&cpuc->reaper, ms_to_ktime(PV_PMU_KEEP_MS),
			      HRTIMER_MODE_REL_PINNED_HARD);
}

/*
 * If the host has a limit, leave it to perf here who takes turns: have it schedule
 * its events again, now that there is no slot for those that are too many.
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
	unsigned int slot, nr_refused = 0;

	cpuc->retry = 0;
	for_each_set_bit(slot, &cpuc->open, KVM_PV_PMU_NR_SLOTS) {
		switch (pv_slot_status(cpuc, slot)) {
		case -EAGAIN:
			cpuc->retry |= BIT(slot);
			break;
		case -ENOSPC:
			nr_refused++;
			break;
		case -EBUSY:
			/* pv_slot_get() will let the pinned event fail */
			if (cpuc->slots[slot].nr_users &&
			    cpuc->slots[slot].wanted.flags & KVM_PV_PMU_PINNED)
				pv_pmu_resched(cpuc);
			break;
		}
	}

	pv_slots_note_limit(cpuc, nr_refused);
	pv_slots_reap_later(cpuc);
}

/* Make the request of a slot what is wanted; returns whether that is a change. */
static bool pv_slot_declare(struct pv_pmu_cpu *cpuc, unsigned int slot, unsigned long run)
{
	struct kvm_pv_pmu_request *declared = &cpuc->area->slots[slot].request;
	struct kvm_pv_pmu_request wanted = {};

	if (cpuc->open & BIT(slot))
		wanted = cpuc->slots[slot].wanted;
	if (run & BIT(slot))
		wanted.flags |= KVM_PV_PMU_RUN;
	if (!memcmp(declared, &wanted, sizeof(wanted)))
		return false;

	*declared = wanted;
	return true;
}

/* Have the host do what is wanted. */
void pv_slots_commit(struct pv_pmu_cpu *cpuc)
{
	unsigned long slots = cpuc->open | cpuc->committed;
	unsigned long mask = cpuc->retry & cpuc->open, run;
	unsigned int slot;

	if (!cpuc->on || !slots)
		return;

	run = pv_slots_to_run(cpuc);
	for_each_set_bit(slot, &slots, KVM_PV_PMU_NR_SLOTS) {
		if (pv_slot_declare(cpuc, slot, run))
			mask |= BIT(slot);
	}
	if (!mask || pv_area_call(cpuc, KVM_PV_PMU_OP_COMMIT, mask))
		return;

	cpuc->committed = cpuc->open;
	cpuc->running = run;
	pv_slots_look_at_status(cpuc);
}

/* Close a slot, and with a leader's the members' slots. None of them has a user. */
static void pv_slot_close(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	cpuc->open &= ~(BIT(slot) | pv_slots_of_group(cpuc, slot));
}

static enum hrtimer_restart pv_slots_reap(struct hrtimer *timer)
{
	struct pv_pmu_cpu *cpuc = container_of(timer, struct pv_pmu_cpu, reaper);
	unsigned long idle;
	unsigned int slot;

	/* timers of a CPU that goes offline move to another CPU */
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

/* Close the group that has been without a user for longest, now. */
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
 * A slot with nothing in it, also for the host: if this guest were saved with the
 * request of one event beside the report of another, the host that it is restored on
 * would take them for one.
 */
static int pv_slot_free(const struct pv_pmu_cpu *cpuc)
{
	unsigned long slots = (BIT(pv_probe_slot(cpuc)) - 1) & ~(cpuc->open | cpuc->committed);

	if (!slots || hweight_long(cpuc->open) >= cpuc->max_open)
		return -EAGAIN;
	return __ffs(slots);
}

static int pv_slot_open(struct pv_pmu_cpu *cpuc, const struct kvm_pv_pmu_request *request)
{
	int slot = pv_slot_free(cpuc);

	if (slot < 0 && cpuc->open & ~cpuc->used) {
		pv_slots_evict(cpuc);
		slot = pv_slot_free(cpuc);
	}
	if (slot < 0)
		return slot;

	cpuc->slots[slot] = (struct pv_pmu_slot){ .wanted = *request };
	cpuc->open |= BIT(slot);
	return slot;
}

/* The request for an event. @group: as in the request */
void pv_slot_request(const struct perf_event *event, u32 group,
		     struct kvm_pv_pmu_request *request)
{
	*request = to_pv_pmu_event(event)->request;
	request->flags |= KVM_PV_PMU_OPEN;
	request->group = group;
	if (!group && event->group_leader->attr.pinned)
		request->flags |= KVM_PV_PMU_PINNED;
}

static bool pv_event_takes_part(const struct perf_event *event)
{
	return event->pmu == &pv_pmu && event->state > PERF_EVENT_STATE_OFF;
}

/* Of an event's group, the first that takes part leads the slots: perf adds it first. */
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
	struct kvm_pv_pmu_request request;
	unsigned int slot;

	pv_slot_request(event, leader + 1, &request);
	for_each_set_bit(slot, &cpuc->open, KVM_PV_PMU_NR_SLOTS) {
		if (!memcmp(&cpuc->slots[slot].wanted, &request, sizeof(request)))
			return slot;
	}
	return -ENOENT;
}

/* Has the slot a member for each event of this leader's group, and no others? */
static bool pv_slots_are_of(const struct pv_pmu_cpu *cpuc, unsigned int slot,
			    const struct perf_event *leader)
{
	unsigned long members = pv_slots_of_group(cpuc, slot) & ~BIT(slot);
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

static int pv_slot_find_leader(const struct pv_pmu_cpu *cpuc, const struct perf_event *event,
			       const struct kvm_pv_pmu_request *request)
{
	unsigned int slot;

	for_each_set_bit(slot, &cpuc->open, KVM_PV_PMU_NR_SLOTS) {
		if (!memcmp(&cpuc->slots[slot].wanted, request, sizeof(*request)) &&
		    pv_slots_are_of(cpuc, slot, event))
			return slot;
	}
	return -ENOENT;
}

/*
 * A group that has failed is opened anew. But an event that is pinned, and was without
 * a counter, has failed for good. Returns the slot or a negative errno.
 */
static int pv_slot_check(struct pv_pmu_cpu *cpuc, unsigned int leader)
{
	const struct pv_pmu_slot *slot = &cpuc->slots[leader];
	int status = pv_slots_status(cpuc, pv_slots_of_group(cpuc, leader));

	if (likely(!status))
		return leader;

	if (!slot->nr_users)
		pv_slot_close(cpuc, leader);
	if (status == -EBUSY && slot->wanted.flags & KVM_PV_PMU_PINNED)
		return -EBUSY;
	return slot->nr_users ? leader : -ENOENT;
}

static void pv_slot_use(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	cpuc->slots[slot].nr_users++;
	cpuc->used |= BIT(slot);
}

static void pv_slot_unuse(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	if (--cpuc->slots[slot].nr_users)
		return;

	cpuc->used &= ~BIT(slot);
	cpuc->slots[slot].idle_since = jiffies;
	/* the host need not know of it at all */
	if (!(cpuc->committed & BIT(slot)))
		pv_slot_close(cpuc, slot);
}

/* A slot for an event that is added: its number, or a negative errno */
int pv_slot_get(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	struct perf_event *leader = pv_event_leader(event);
	struct kvm_pv_pmu_request request;
	int slot;

	if (leader != event) {
		slot = pv_slot_find_member(cpuc, event, leader->hw.idx);
		pv_slot_request(event, leader->hw.idx + 1, &request);
	} else {
		pv_slot_request(event, 0, &request);
		slot = pv_slot_find_leader(cpuc, event, &request);
		if (slot >= 0)
			slot = pv_slot_check(cpuc, slot);
	}
	if (slot == -ENOENT)
		slot = pv_slot_open(cpuc, &request);
	if (slot < 0)
		return slot;

	pv_slot_use(cpuc, slot);
	if (leader != event)
		pv_slot_use(cpuc, leader->hw.idx);
	return slot;
}

void pv_slot_put(struct pv_pmu_cpu *cpuc, unsigned int slot)
{
	unsigned int leader = pv_slot_leader(cpuc, slot);

	pv_slot_unuse(cpuc, slot);
	if (leader != slot)
		pv_slot_unuse(cpuc, leader);
	pv_slots_reap_later(cpuc);
}

/* The host is to forget all slots. Those with users keep what was counted so far. */
void pv_slots_detach(struct pv_pmu_cpu *cpuc)
{
	struct pv_pmu_value value;
	unsigned int slot;

	for_each_set_bit(slot, &cpuc->used, KVM_PV_PMU_NR_SLOTS) {
		value = pv_slot_value(cpuc, slot);
		/* in this order, because an NMI adds @base and what was reported */
		cpuc->committed &= ~BIT(slot);
		cpuc->slots[slot].base = value;
	}

	cpuc->open = cpuc->used;
	cpuc->committed = 0;
	cpuc->running = 0;
	cpuc->retry = 0;
	for (slot = 0; slot < KVM_PV_PMU_NR_SLOTS; slot++)
		cpuc->area->slots[slot].request = (struct kvm_pv_pmu_request){};
}

void pv_slots_init(struct pv_pmu_cpu *cpuc)
{
	hrtimer_init(&cpuc->reaper, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	cpuc->reaper.function = pv_slots_reap;
}
