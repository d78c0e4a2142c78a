// SPDX-License-Identifier: GPL-2.0
/*
 * Probe which events the host can count: open an event in a slot kept for probes.
 * Accepted requests are remembered until the areas are disabled.
 */
#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "kvm.h"

#define PV_PROBE_NR_ACCEPTED	64

static DEFINE_RAW_SPINLOCK(pv_probe_lock);
static struct kvm_pv_pmu_request pv_probe_accepted[PV_PROBE_NR_ACCEPTED];
static unsigned int pv_probe_next;

static bool pv_probe_is_accepted(const struct kvm_pv_pmu_request *request)
{
	bool is_accepted = false;
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&pv_probe_lock, flags);
	for (i = 0; i < PV_PROBE_NR_ACCEPTED && !is_accepted; i++)
		is_accepted = !memcmp(&pv_probe_accepted[i], request, sizeof(*request));
	raw_spin_unlock_irqrestore(&pv_probe_lock, flags);
	return is_accepted;
}

static void pv_probe_accept(const struct kvm_pv_pmu_request *request)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&pv_probe_lock, flags);
	pv_probe_accepted[pv_probe_next++ % PV_PROBE_NR_ACCEPTED] = *request;
	raw_spin_unlock_irqrestore(&pv_probe_lock, flags);
}

void pv_probe_forget(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&pv_probe_lock, flags);
	memset(pv_probe_accepted, 0, sizeof(pv_probe_accepted));
	raw_spin_unlock_irqrestore(&pv_probe_lock, flags);
}

/* Returns the status of the request in the slot for probes. */
static int pv_probe_ask(struct pv_pmu_cpu *cpuc, const struct kvm_pv_pmu_request *request)
{
	unsigned int slot = pv_probe_slot(cpuc);
	struct kvm_pv_pmu_request *declared = &cpuc->area->slots[slot].request;
	int status;

	*declared = *request;
	if (pv_area_call(cpuc, KVM_PV_PMU_OP_COMMIT, BIT(slot)))
		return -ENODEV;
	status = READ_ONCE(cpuc->area->slots[slot].report.status);

	memset(declared, 0, sizeof(*declared));
	pv_area_call(cpuc, KVM_PV_PMU_OP_COMMIT, BIT(slot));
	return status;
}

/* Can the host count the event? Returns 0, or a negative errno. */
int pv_probe(struct pv_pmu_cpu *cpuc, const struct kvm_pv_pmu_request *request)
{
	int status;

	lockdep_assert_irqs_disabled();

	if (pv_probe_is_accepted(request))
		return 0;

	status = pv_probe_ask(cpuc, request);
	switch (status) {
	case 0:
		pv_probe_accept(request);
		return 0;
	case -EAGAIN:
	case -EBUSY:
	case -ENOSPC:
		/* too many events at the moment */
		return 0;
	default:
		return IS_ERR_VALUE((long)status) ? status : -EINVAL;
	}
}

bool pv_probe_can_count(u32 type, u64 config)
{
	struct kvm_pv_pmu_request request = {
		.type	= type,
		.flags	= KVM_PV_PMU_OPEN,
		.config	= config,
	};
	struct pv_pmu_cpu *cpuc;
	bool can_count;

	pv_areas_get();
	scoped_guard(irqsave) {
		cpuc = this_cpu_ptr(&pv_pmu_cpu);
		can_count = !pv_area_on(cpuc) && !pv_probe(cpuc, &request);
	}
	pv_areas_put();
	return can_count;
}
