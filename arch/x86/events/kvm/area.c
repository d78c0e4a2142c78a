// SPDX-License-Identifier: GPL-2.0
/*
 * The area of a CPU: its life cycle, and the hypercall.
 *
 * An enabled area costs the host something even if nothing is declared. So areas are
 * enabled only while events exist: the area of the current CPU with the first event,
 * the area of another CPU when an event is added there. A while after the last event
 * was destroyed, all areas are disabled.
 */
#define pr_fmt(fmt) "kvm-guest: PV PMU: " fmt

#include <linux/cc_platform.h>
#include <linux/cleanup.h>
#include <linux/cpuhotplug.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/kvm_para.h>
#include <linux/minmax.h>
#include <linux/random.h>
#include <linux/set_memory.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include <asm/kvm_pv_pmu_guest.h>
#include <asm/msr.h>

#include "kvm.h"

DEFINE_PER_CPU(struct pv_pmu_cpu, pv_pmu_cpu);

u64 pv_pmu_host __read_mostly;
unsigned int pv_pmu_host_branches __read_mostly;

/* Another kernel is about to start: the host must not write to its memory. */
static bool pv_areas_shut __read_mostly;

static atomic_t pv_areas_nr_users;

static void pv_area_set_msr(struct pv_pmu_cpu *cpuc, u64 data, u64 cookie)
{
	WRITE_ONCE(cpuc->area->header.cookie, cookie);
	/* the host may have lost the feature in a migration */
	wrmsrl_safe(MSR_KVM_PV_PMU, data);
}

static void pv_area_disable(struct pv_pmu_cpu *cpuc)
{
	if (!cpuc->on)
		return;

	pv_slots_detach(cpuc);
	cpuc->on = false;
	pv_area_set_msr(cpuc, 0, 0);
}

/*
 * Deferred work needs interrupts. Interrupts do not work while the CPU goes offline or
 * the system suspends.
 */
bool pv_pmu_has_interrupts(void)
{
	return cpu_online(smp_processor_id()) && system_state != SYSTEM_SUSPEND;
}

/* Have perf schedule its events again, soon. */
void pv_pmu_resched(struct pv_pmu_cpu *cpuc)
{
	if (pv_pmu_has_interrupts())
		irq_work_queue(&cpuc->resched);
}

static void pv_pmu_do_resched(struct irq_work *work)
{
	perf_pmu_resched(&pv_pmu);
}

static void pv_area_fail(struct pv_pmu_cpu *cpuc)
{
	pv_area_disable(cpuc);
	cpuc->retry_at = get_jiffies_64() + PV_PMU_KEEP;
}

int pv_area_call(struct pv_pmu_cpu *cpuc, unsigned int op, unsigned long slots)
{
	long err;

	if (!cpuc->on)
		return -ENODEV;

	err = kvm_hypercall2(KVM_HC_PV_PMU, op, slots);
	if (likely(!err))
		return 0;

	/* An NMI must not change the CPU's state: the next call finds the same error. */
	if (!in_nmi()) {
		/* the scheduler's locks may be held */
		printk_deferred_once(pr_fmt("error %ld of the host\n"), err);
		pv_area_fail(cpuc);
		pv_pmu_resched(cpuc);
	}
	return -ENODEV;
}

/*
 * Bring the report of a slot up to date. In a batch, calls for other slots will follow:
 * bring the reports of all slots in use up to date, and with @idle those of slots without a
 * user.
 */
void pv_area_sync(struct pv_pmu_cpu *cpuc, unsigned int slot, bool idle)
{
	unsigned long mask = cpuc->running & ~cpuc->fresh;
	bool batch = cpuc->batch && !in_nmi();

	/* before the NMI, the host has reported the slots that overflowed, and their groups */
	if (!(mask & BIT(slot)) || cpuc->in_overflow)
		return;

	if (!batch)
		mask = BIT(slot);
	else if (!idle)
		mask &= cpuc->used;
	if (!pv_area_call(cpuc, KVM_PV_PMU_OP_SYNC, mask) && batch)
		cpuc->fresh |= mask;
}

static bool pv_area_is_accepted(struct pv_pmu_cpu *cpuc)
{
	const struct kvm_pv_pmu_header *header = &cpuc->area->header;

	cpuc->nr_slots = READ_ONCE(header->nr_slots);
	return READ_ONCE(header->version) == KVM_PV_PMU_VERSION &&
	       READ_ONCE(header->cookie_echo) == cpuc->cookie &&
	       cpuc->nr_slots >= 2 && cpuc->nr_slots <= KVM_PV_PMU_NR_SLOTS;
}

static void pv_area_look_at_host(struct pv_pmu_cpu *cpuc)
{
	const struct kvm_pv_pmu_header *header = &cpuc->area->header;
	unsigned int nr_branches = 0;

	if (READ_ONCE(header->features) & KVM_PV_PMU_FEATURE_BRANCH_STACK)
		nr_branches = min(READ_ONCE(header->nr_branches), KVM_PV_PMU_MAX_BRANCHES);
	cpuc->generation = READ_ONCE(header->generation);
	WRITE_ONCE(pv_pmu_host, READ_ONCE(header->pmu));
	WRITE_ONCE(pv_pmu_host_branches, nr_branches);
}

/* The scheduler's locks may be held. Returns 0, or a negative errno. */
int pv_area_on(struct pv_pmu_cpu *cpuc)
{
	if (likely(cpuc->on)) {
		/* a VMM has restored the area, maybe on another host */
		if (unlikely(READ_ONCE(cpuc->area->header.generation) != cpuc->generation)) {
			pv_area_look_at_host(cpuc);
			pv_probe_forget();
		}
		return 0;
	}

	/* While a CPU goes offline, its area stays disabled. */
	if (!cpuc->area || READ_ONCE(pv_areas_shut) || !cpu_online(smp_processor_id()) ||
	    time_before64(get_jiffies_64(), cpuc->retry_at))
		return -ENODEV;

	cpuc->cookie += 2;	/* never zero */
	pv_area_set_msr(cpuc, __pa(cpuc->area) | KVM_PV_PMU_ENABLED, cpuc->cookie);
	cpuc->on = true;
	if (!pv_area_is_accepted(cpuc)) {
		pv_area_fail(cpuc);
		return -ENODEV;
	}

	pv_area_look_at_host(cpuc);
	pv_branch_forget(cpuc);
	cpuc->max_open = pv_probe_slot(cpuc);
	cpuc->contended_until = get_jiffies_64();
	return 0;
}

/* Take the last counts, and disable the area. */
void pv_area_off(struct pv_pmu_cpu *cpuc)
{
	if (cpuc->used)
		pv_area_call(cpuc, KVM_PV_PMU_OP_SYNC, cpuc->running);
	pv_area_disable(cpuc);
}

static bool pv_area_is_on(int cpu, void *unused)
{
	return READ_ONCE(per_cpu(pv_pmu_cpu, cpu).on);
}

static void pv_area_off_if_unused(void *unused)
{
	if (!atomic_read(&pv_areas_nr_users))
		pv_area_off(this_cpu_ptr(&pv_pmu_cpu));
}

static void pv_areas_off(struct work_struct *work)
{
	if (atomic_read(&pv_areas_nr_users))
		return;

	on_each_cpu_cond(pv_area_is_on, pv_area_off_if_unused, NULL, true);
	pv_probe_forget();
}

static DECLARE_DELAYED_WORK(pv_areas_off_work, pv_areas_off);

/* Areas may be enabled between get and put. */
void pv_areas_get(void)
{
	atomic_inc(&pv_areas_nr_users);
}

void pv_areas_put(void)
{
	if (atomic_dec_and_test(&pv_areas_nr_users))
		mod_delayed_work(system_wq, &pv_areas_off_work, PV_PMU_KEEP);
}

/* A page to be shared with the host; NULL if it cannot be shared, or an ERR_PTR() */
static void *pv_area_alloc_page(void)
{
	unsigned long page = get_zeroed_page(GFP_KERNEL);

	if (!page)
		return ERR_PTR(-ENOMEM);
	/* leak the page: its encryption state is unknown */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT) && set_memory_decrypted(page, 1))
		return NULL;
	return (void *)page;
}

/* Without the page, events have no branch stacks. */
static void pv_area_add_branches(struct pv_pmu_cpu *cpuc, struct kvm_pv_pmu_area *area)
{
	void *page = pv_area_alloc_page();

	if (IS_ERR_OR_NULL(page))
		return;
	cpuc->branch.page = page;
	area->header.branches = __pa(page);
}

static int pv_area_prepare(unsigned int cpu)
{
	struct pv_pmu_cpu *cpuc = per_cpu_ptr(&pv_pmu_cpu, cpu);
	struct kvm_pv_pmu_area *area;

	if (cpuc->area)
		return 0;

	area = pv_area_alloc_page();
	if (IS_ERR_OR_NULL(area))
		return PTR_ERR_OR_ZERO(area);

	pv_area_add_branches(cpuc, area);
	cpuc->cookie = get_random_u64() | 1;
	cpuc->retry_at = get_jiffies_64();
	cpuc->resched = IRQ_WORK_INIT_HARD(pv_pmu_do_resched);
	pv_slots_init(cpuc);
	pv_sample_init_cpu(cpuc);
	cpuc->area = area;
	return 0;
}

static int pv_area_dying(unsigned int cpu)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	pv_area_off(cpuc);
	/* timers have moved to another CPU */
	hrtimer_cancel(&cpuc->reaper);
	return 0;
}

void kvm_pv_pmu_guest_suspend(void)
{
	pv_area_off(this_cpu_ptr(&pv_pmu_cpu));
}

void kvm_pv_pmu_guest_resume(void)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	if (cpuc->used && !pv_area_on(cpuc))
		pv_slots_commit(cpuc);
}

void kvm_pv_pmu_guest_shutdown(void)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);

	WRITE_ONCE(pv_areas_shut, true);
	pv_area_disable(cpuc);
}

/*
 * The state of this CPU may be inconsistent. The other CPUs cannot clear their MSR:
 * clear all cookies, because the host checks the cookie before each write.
 */
void kvm_pv_pmu_guest_crash(void)
{
	struct kvm_pv_pmu_area *area;
	int cpu;

	WRITE_ONCE(pv_areas_shut, true);
	for_each_possible_cpu(cpu) {
		area = per_cpu(pv_pmu_cpu, cpu).area;
		if (area)
			WRITE_ONCE(area->header.cookie, 0);
	}
	if (this_cpu_read(pv_pmu_cpu.area))
		wrmsrl_safe(MSR_KVM_PV_PMU, 0);
}

/* Does the host keep the promise of its feature bit? Returns 0, or a negative errno. */
static int __init pv_area_try(struct pv_pmu_cpu *cpuc)
{
	guard(irqsave)();

	if (pv_area_on(cpuc)) {
		pr_warn("the host does not take the area\n");
		return -ENODEV;
	}
	/* a host that emulates Hyper-V or Xen may not answer KVM's hypercalls */
	return pv_area_call(cpuc, KVM_PV_PMU_OP_SYNC, 0);
}

/* Returns 0, or a negative errno: then no area is enabled. */
int __init pv_areas_init(void)
{
	struct pv_pmu_cpu *cpuc = this_cpu_ptr(&pv_pmu_cpu);
	int err;

	err = pv_area_prepare(smp_processor_id());
	if (!err)
		err = pv_area_try(cpuc);
	if (err)
		return err;

	err = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "x86/kvm_pv_pmu:prepare",
					pv_area_prepare, NULL);
	if (err >= 0)
		err = cpuhp_setup_state_nocalls(CPUHP_AP_PERF_X86_KVM_PV_STARTING,
						"x86/kvm_pv_pmu:starting",
						NULL, pv_area_dying);
	return min(err, 0);
}
