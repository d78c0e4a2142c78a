// SPDX-License-Identifier: GPL-2.0
/*
 * Overflows: the host sets a slot's bit in the header and injects an NMI. Each event on the
 * slot gets a sample.
 *
 * The host adapts the period to a frequency. The next event on a slot goes on with what is
 * left of the period, and gets the weight of an overflow that found no event, unless the
 * period starts anew.
 */
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/nmi.h>
#include <linux/perf_event.h>
#include <linux/sched/clock.h>

#include <asm/hardirq.h>
#include <asm/paravirt.h>

#include "kvm.h"

/* An NMI may come for an overflow of a slot that no event has any more. */
void pv_sample_expect_nmi(struct pv_pmu_cpu *cpuc)
{
	WRITE_ONCE(cpuc->nmi_until, jiffies + PV_PMU_KEEP);
}

/*
 * perf wants no more samples for now: after too many in a tick, until the next tick; or
 * after PERF_EVENT_IOC_REFRESH, until perf disables the event, which is about to happen.
 */
static void pv_sample_hold(struct pv_pmu_cpu *cpuc, struct pv_pmu_event *pv)
{
	if (perf_event_is_throttled(pv->event))
		pv->held_at = local_clock();
	WRITE_ONCE(pv->event->hw.state, PERF_HES_STOPPED);
	WRITE_ONCE(cpuc->touched, true);
	irq_work_queue(&cpuc->recommit);
}

/*
 * The time in which an event is throttled is lost, for the members of the slot's group as
 * well. No time is lost if the slot kept running for another event.
 */
void pv_sample_account_hold(struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	struct pv_pmu_event *pv = to_pv_pmu_event(event), *user;
	unsigned int member;
	u64 now, held;

	if (!pv->held_at)
		return;

	now = local_clock();
	held = cpuc->running & BIT(event->hw.idx) ? 0 : now - pv->held_at;
	pv->held_at = now;
	pv->held += held;
	for_each_set_bit(member, &cpuc->slots[event->hw.idx].members, KVM_PV_PMU_NR_SLOTS) {
		for (user = cpuc->slots[member].users; user; user = user->next)
			user->held += held;
	}
}

static void pv_sample_recommit(struct irq_work *work)
{
	pv_slots_commit(this_cpu_ptr(&pv_pmu_cpu));
}

/* The host stops the event until the host's next tick: let perf tell the user. */
static int pv_sample_throttle(struct perf_event *event)
{
	perf_event_throttle(event);
	return perf_event_account_interrupt(event);
}

static void pv_sample_event(struct pv_pmu_cpu *cpuc, struct pv_pmu_event *pv, u64 period,
			    bool throttled, struct pt_regs *regs)
{
	struct perf_event *event = pv->event;
	struct perf_sample_data data;
	int stop;

	pv_pmu_update(event);
	event->hw.last_period = period;
	perf_sample_data_init(&data, 0, period);
	if (has_branch_stack(event))
		pv_branch_save(cpuc, event, &data);
	stop = perf_event_overflow(event, &data, regs);
	if (!stop && throttled)
		stop = pv_sample_throttle(event);
	if (stop)
		pv_sample_hold(cpuc, pv);
}

static void pv_sample_slot(struct pv_pmu_cpu *cpuc, unsigned int nr, struct pt_regs *regs)
{
	struct pv_pmu_slot *slot = &cpuc->slots[nr];
	struct pv_pmu_overflows seen = slot->seen, now;
	struct pv_pmu_event *user;

	/* until the first commit, the report is another event's */
	if (!(READ_ONCE(cpuc->committed) & BIT(nr)))
		return;

	now = pv_slot_value(cpuc, nr).overflows;
	if (now.period_sum == seen.period_sum)
		return;

	for (user = READ_ONCE(slot->users); user; user = READ_ONCE(user->next)) {
		if (READ_ONCE(user->event->hw.state) & PERF_HES_STOPPED)
			continue;
		pv_sample_event(cpuc, user, now.period_sum - seen.period_sum,
				now.throttled != seen.throttled, regs);
		slot->seen = now;
	}
}

static int pv_sample_nmi(unsigned int cmd, struct pt_regs *regs)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	int cpu = smp_processor_id();
	unsigned long slots = 0;
	unsigned int slot;
	u64 took, steal;

	if (cpuc->area && READ_ONCE(cpuc->area->header.overflow))
		slots = xchg(&cpuc->area->header.overflow, 0);
	if (!slots)
		return time_before(jiffies, READ_ONCE(cpuc->nmi_until)) ? NMI_HANDLED : NMI_DONE;

	took = sched_clock();
	steal = paravirt_steal_clock(cpu);
	pv_sample_expect_nmi(cpuc);
	inc_irq_stat(apic_perf_irqs);
	cpuc->in_overflow = true;
	if (cpuc->branch.slots)
		pv_branch_latch(cpuc);
	for_each_set_bit(slot, &slots, KVM_PV_PMU_NR_SLOTS)
		pv_sample_slot(cpuc, slot, regs);
	cpuc->in_overflow = false;

	/* time the host took for something else is not the handler's */
	steal = paravirt_steal_clock(cpu) - steal;
	took = sched_clock() - took;
	perf_sample_event_took(took - min(steal, took));
	return NMI_HANDLED;
}

NOKPROBE_SYMBOL(pv_sample_nmi);

void pv_sample_init_cpu(struct pv_pmu_cpu *cpuc)
{
	cpuc->recommit = IRQ_WORK_INIT_HARD(pv_sample_recommit);
	cpuc->nmi_until = jiffies;
}

int __init pv_sample_init(void)
{
	return register_nmi_handler(NMI_LOCAL, pv_sample_nmi, 0, "kvm_pv_pmu");
}

void __init pv_sample_exit(void)
{
	unregister_nmi_handler(NMI_LOCAL, "kvm_pv_pmu");
}
