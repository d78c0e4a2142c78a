/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest's driver of the paravirtual PMU: shared by all files.
 *
 * area.c	a CPU's area, its life cycle, the hypercall
 * slots.c	the slots of an area: find, open, keep, commit, reap
 * sample.c	overflows: the NMI, samples, throttling
 * branch.c	branch stacks of samples
 * probe.c	probes of the host for events
 * sysfs.c	the attributes of the PMU
 * pmu.c	perf's operations
 *
 * The state of a CPU is touched by this CPU alone, with interrupts disabled. The NMI
 * handler of sample.c and branch.c reads the state that it interrupts, and writes few
 * fields: they are marked "NMI".
 */
#ifndef _X86_EVENTS_KVM_H
#define _X86_EVENTS_KVM_H

#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>

#include <asm/kvm_pv_pmu.h>

/*
 * In ms: how long a slot without a user is kept open, an area without events is kept
 * enabled, and a failed area is left alone
 */
#define PV_PMU_KEEP_MS		100
#define PV_PMU_KEEP		msecs_to_jiffies(PV_PMU_KEEP_MS)

/**
 * struct pv_pmu_overflows - what the host has reported of a slot's overflows
 * @period_sum:	the sum of their periods
 * @throttled:	times that the host held them back
 */
struct pv_pmu_overflows {
	u64 period_sum;
	u32 throttled;
};

/**
 * struct pv_pmu_value - the count of a slot, since some time in the past
 * @count:	events
 * @enabled:	ns during which the slot could have counted
 * @running:	ns during which the slot counted
 * @status:	0, or the errno for which the slot does not count
 * @overflows:	since the host has opened the slot
 */
struct pv_pmu_value {
	u64 count;
	u64 enabled;
	u64 running;
	int status;
	struct pv_pmu_overflows overflows;
};

/**
 * struct pv_pmu_event - an event's state beside struct hw_perf_event
 * @event:	the event
 * @next:	the next event on the same slot
 * @request:	for the slot, but for the group
 * @host:	kvm_pv_pmu_header.pmu when @request was made
 * @last:	the slot's value when time was last accounted as lost, or at the start
 * @since:	perf's time of @last
 * @held_at:	when (local_clock()) the NMI handler stopped the event, or 0; NMI
 * @held:	ns that the event was stopped by the NMI handler, since @last
 * @slot:	the event's last slot
 */
struct pv_pmu_event {
	struct perf_event *event;
	struct pv_pmu_event *next;
	struct kvm_pv_pmu_request request;
	u64 host;
	struct pv_pmu_value last;
	u64 since;
	u64 held_at;
	u64 held;
	unsigned int slot;
};

/**
 * struct pv_pmu_slot - a CPU's state of a slot
 * @wanted:	the request, without KVM_PV_PMU_RUN
 * @members:	of a leader: the slots of the members
 * @users:	added events
 * @nr_users:	their number; for a leader's slot, the members' as well
 * @seen:	overflows that have become samples; NMI
 * @idle_since:	jiffies when the last user left
 * @base:	the value from before the area was last enabled
 */
struct pv_pmu_slot {
	struct kvm_pv_pmu_request wanted;
	unsigned long members;
	struct pv_pmu_event *users;
	unsigned int nr_users;
	struct pv_pmu_overflows seen;
	unsigned long idle_since;
	struct pv_pmu_value base;
};

/**
 * struct pv_pmu_branch_state - a CPU's state of branch stacks
 * @page:	shared with the host, or NULL
 * @slots:	the open slots with branch stacks
 * @task:	the task that ran when the host last emptied the stack, for comparison alone
 * @used:	@newest of the NMI before; NMI
 * @newest:	number of the newest record when the NMI took the overflows; NMI
 */
struct pv_pmu_branch_state {
	struct kvm_pv_pmu_branches *page;
	unsigned long slots;
	const struct task_struct *task;
	u64 used;
	u64 newest;
};

/**
 * struct pv_pmu_cpu - a CPU's state
 * @area:	shared with the host
 * @cookie:	for @area
 * @generation:	kvm_pv_pmu_header.generation, as last seen
 * @nr_slots:	kvm_pv_pmu_header.nr_slots
 * @on:		the area is enabled
 * @touched:	users of slots have come, gone, started or stopped since the last commit; NMI
 * @in_overflow: the NMI handler is at work; NMI
 * @batch:	more will come: pmu_enable() is yet to follow, or a group is read
 * @txn_flags:	PERF_PMU_TXN_* of the transaction under way
 * @open:	slots that are wanted
 * @used:	slots with users
 * @sampling:	slots with overflows, of @open
 * @committed:	slots that the host has open
 * @running:	slots that the host has running
 * @leaving:	the slot whose last user is about to go
 * @fresh:	slots whose reports have been brought up to date in this batch
 * @changed:	slots to be committed again, because their period has changed, or for an
 *		empty branch stack
 * @retry:	slots to be committed again, because the host said so
 * @max_open:	how many slots the host lets this CPU open at once
 * @retry_at:	when (in jiffies) to enable the area again after it has failed
 * @contended_until: until when (in jiffies) the host is short of counters
 * @nmi_until:	until when (in jiffies) an NMI without an overflow may be the host's; NMI
 * @slots:	the slots
 * @branch:	branch stacks
 * @resched:	has perf schedule its events again
 * @recommit:	stops the slots of events that the NMI handler has stopped
 * @reaper:	closes slots without a user
 */
struct pv_pmu_cpu {
	struct kvm_pv_pmu_area *area;
	u64 cookie;
	u32 generation;
	unsigned int nr_slots;
	bool on;
	bool touched;
	bool in_overflow;
	bool batch;
	unsigned int txn_flags;

	unsigned long open;
	unsigned long used;
	unsigned long sampling;
	unsigned long committed;
	unsigned long running;
	unsigned long leaving;
	unsigned long fresh;
	unsigned long changed;
	unsigned long retry;
	unsigned int max_open;

	u64 retry_at;
	u64 contended_until;
	unsigned long nmi_until;

	struct pv_pmu_slot slots[KVM_PV_PMU_NR_SLOTS];
	struct pv_pmu_branch_state branch;
	struct irq_work resched;
	struct irq_work recommit;
	struct hrtimer reaper;
};

DECLARE_PER_CPU(struct pv_pmu_cpu, pv_pmu_cpu);
extern struct pmu pv_pmu;

static inline struct pv_pmu_event *to_pv_pmu_event(const struct perf_event *event)
{
	return event->pmu_private;
}

/* The last slot is for probes. */
static inline unsigned int pv_probe_slot(const struct pv_pmu_cpu *cpuc)
{
	return cpuc->nr_slots - 1;
}

/* area.c */
bool pv_pmu_has_interrupts(void);
void pv_pmu_resched(struct pv_pmu_cpu *cpuc);
int pv_areas_init(void);
void pv_areas_get(void);
void pv_areas_put(void);
int pv_area_on(struct pv_pmu_cpu *cpuc);
void pv_area_off(struct pv_pmu_cpu *cpuc);
int pv_area_call(struct pv_pmu_cpu *cpuc, unsigned int op, unsigned long slots);
void pv_area_sync(struct pv_pmu_cpu *cpuc, unsigned int slot, bool idle);

/* slots.c */
void pv_slots_init(struct pv_pmu_cpu *cpuc);
int pv_slot_get(struct pv_pmu_cpu *cpuc, struct perf_event *event);
void pv_slot_put(struct pv_pmu_cpu *cpuc, struct perf_event *event);
void pv_slot_change_period(struct pv_pmu_cpu *cpuc, struct perf_event *event);
struct pv_pmu_value pv_slot_value(const struct pv_pmu_cpu *cpuc, unsigned int slot);
void pv_slots_commit(struct pv_pmu_cpu *cpuc);
void pv_slot_leave(struct pv_pmu_cpu *cpuc, unsigned int slot);
void pv_slots_empty_stack(struct pv_pmu_cpu *cpuc);
void pv_slots_detach(struct pv_pmu_cpu *cpuc);

/* sample.c */
void pv_sample_init_cpu(struct pv_pmu_cpu *cpuc);
int pv_sample_init(void);
void pv_sample_expect_nmi(struct pv_pmu_cpu *cpuc);
void pv_sample_account_hold(struct pv_pmu_cpu *cpuc, struct perf_event *event);
void pv_sample_exit(void);

/* branch.c */
int pv_branch_set_request(const struct pv_pmu_cpu *cpuc, struct perf_event *event);
void pv_branch_forget(struct pv_pmu_cpu *cpuc);
void pv_branch_latch(struct pv_pmu_cpu *cpuc);
void pv_branch_save(struct pv_pmu_cpu *cpuc, struct perf_event *event,
		    struct perf_sample_data *data);

/* probe.c */
int pv_probe(struct pv_pmu_cpu *cpuc, const struct kvm_pv_pmu_request *request);
bool pv_probe_can_count(u32 type, u64 config);
void pv_probe_forget(void);

/* pmu.c */
void pv_pmu_update(struct perf_event *event);

/* sysfs.c */
extern const struct attribute_group *pv_pmu_attr_groups[];

/* The host's PMU, as kvm_pv_pmu_header.pmu, of the area that was enabled last */
extern u64 pv_pmu_host;
/* The most branches that a stack of this PMU holds, or 0 without stacks */
extern unsigned int pv_pmu_host_branches;

static inline bool pv_pmu_has_amd_events(u64 host)
{
	return host >> 32 == KVM_PV_PMU_VENDOR_AMD;
}

#endif /* _X86_EVENTS_KVM_H */
