// SPDX-License-Identifier: GPL-2.0
/*
 * The paravirtual PMU, host side: which events a guest may have, and the perf events that
 * count them. See Documentation/virt/kvm/x86/pv-pmu.rst.
 *
 * There is no lock: the vCPU's thread, or a thread that holds vcpu->mutex in its place,
 * does everything but pv_pmu_overflow().
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/jiffies.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/nospec.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/tick.h>

#include <asm/kvm_pv_pmu.h>
#include <asm/msr.h>
#include <asm/perf_event.h>

#include "x86.h"
#include "pmu.h"
#include "pv_pmu.h"
#include "pv_pmu_event.h"

static unsigned int __read_mostly pv_pmu_max_events = KVM_PV_PMU_NR_SLOTS;
module_param(pv_pmu_max_events, uint, 0644);
MODULE_PARM_DESC(pv_pmu_max_events, "Events that a vCPU may have open at once");

static bool __read_mostly pv_pmu_raw = true;
module_param(pv_pmu_raw, bool, 0644);
MODULE_PARM_DESC(pv_pmu_raw, "Let guests count raw events of the host's CPU");

static bool __read_mostly pv_pmu_pinned;
module_param(pv_pmu_pinned, bool, 0644);
MODULE_PARM_DESC(pv_pmu_pinned, "Let guests have pinned events, which others wait for");

static unsigned int __read_mostly pv_pmu_max_sample_rate = 50000;
module_param(pv_pmu_max_sample_rate, uint, 0644);
MODULE_PARM_DESC(pv_pmu_max_sample_rate, "Overflows a second that a vCPU may have");

#define PV_PMU_KNOWN_FLAGS						\
	(KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_SAMPLE |		\
	 KVM_PV_PMU_FREQ | KVM_PV_PMU_EXCLUDE_USER |			\
	 KVM_PV_PMU_EXCLUDE_KERNEL | KVM_PV_PMU_PINNED)

static bool pv_pmu_has_amd_events(void)
{
	return boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	       boot_cpu_data.x86_vendor == X86_VENDOR_HYGON;
}

static u64 pv_pmu_raw_mask(void)
{
	return pv_pmu_has_amd_events() ? AMD64_RAW_EVENT_MASK : X86_RAW_EVENT_MASK;
}

static bool pv_pmu_allows(struct kvm *kvm, u64 policy, bool param)
{
	return param && (kvm->arch.pv_pmu_policy & policy);
}

/* An event with a frequency makes the tick run on all CPUs, on nohz_full CPUs as well. */
static bool pv_pmu_can_adapt_period(void)
{
	return !tick_nohz_full_enabled();
}

u64 pv_pmu_features(const struct kvm_vcpu *vcpu)
{
	u64 features = KVM_PV_PMU_FEATURE_SAMPLE | KVM_PV_PMU_FEATURE_GROUP;
	struct kvm *kvm = vcpu->kvm;

	if (pv_pmu_can_adapt_period())
		features |= KVM_PV_PMU_FEATURE_FREQ;
	if (pv_pmu_allows(kvm, KVM_PV_PMU_POLICY_RAW, pv_pmu_raw))
		features |= KVM_PV_PMU_FEATURE_RAW;
	if (pv_pmu_allows(kvm, KVM_PV_PMU_POLICY_PINNED, pv_pmu_pinned))
		features |= KVM_PV_PMU_FEATURE_PINNED;
	if (pv_pmu_branch_types(vcpu))
		features |= KVM_PV_PMU_FEATURE_BRANCH_STACK;
	return features;
}

u32 pv_pmu_nr_counters(void)
{
	struct x86_pmu_capability capability;

	perf_get_x86_pmu_capability(&capability);
	return capability.num_counters_gp + capability.num_counters_fixed;
}

u64 pv_pmu_id(void)
{
	u64 vendor = pv_pmu_has_amd_events() ? KVM_PV_PMU_VENDOR_AMD : KVM_PV_PMU_VENDOR_INTEL;

	return vendor << 32 | (cpuid_eax(1) & ~0xf);
}

struct pv_pmu_probe {
	struct perf_event *event;
	u64 eventsel;
	int err;
};

static void pv_pmu_read_eventsel(void *info)
{
	struct pv_pmu_probe *probe = info;

	if (probe->event->oncpu == smp_processor_id())
		probe->err = rdmsrl_safe(probe->event->hw.config_base, &probe->eventsel);
}

/*
 * A virtual PMU may silently drop the GuestOnly bit: read the bit back. Returns 0, or a
 * negative errno; -EBUSY if no counter is free for the test.
 */
static int pv_pmu_try_guest_only(void)
{
	struct perf_event_attr attr = {
		.type		= PERF_TYPE_HARDWARE,
		.size		= sizeof(attr),
		.config		= PERF_COUNT_HW_CPU_CYCLES,
		.pinned		= 1,
		.exclude_host	= 1,
	};
	struct pv_pmu_probe probe = { .err = -EBUSY };
	int cpu = raw_smp_processor_id();

	probe.event = perf_event_create_kernel_counter(&attr, cpu, NULL, NULL, NULL);
	if (IS_ERR(probe.event))
		return PTR_ERR(probe.event);

	smp_call_function_single(cpu, pv_pmu_read_eventsel, &probe, 1);
	perf_event_release_kernel(probe.event);
	if (probe.err)
		return probe.err;
	return probe.eventsel & AMD64_EVENTSEL_GUESTONLY ? 0 : -EOPNOTSUPP;
}

/* 0 if the PMU keeps the GuestOnly bit, or an errno; -EBUSY: not known yet */
static int __read_mostly pv_pmu_guest_only = -EBUSY;

/* Test the GuestOnly bit when KVM starts, and with each VM until the result is known. */
void kvm_pv_pmu_look_at_host(void)
{
	if (pv_pmu_has_amd_events() && READ_ONCE(pv_pmu_guest_only) == -EBUSY)
		WRITE_ONCE(pv_pmu_guest_only, pv_pmu_try_guest_only());
}

/* Does the host have a PMU that counts, and that can exclude the host from a count? */
bool pv_pmu_host_has_pmu(void)
{
	struct x86_pmu_capability capability;

	/* perf_get_x86_pmu_capability() warns on hybrid CPUs, whose PMUs differ */
	if (boot_cpu_has(X86_FEATURE_HYBRID_CPU))
		return false;

	perf_get_x86_pmu_capability(&capability);
	if (!capability.num_counters_gp)
		return false;

	if (boot_cpu_data.x86_vendor == X86_VENDOR_INTEL)
		return capability.version >= 2;	/* has IA32_PERF_GLOBAL_CTRL */
	return pv_pmu_has_amd_events() && !READ_ONCE(pv_pmu_guest_only);
}

/*
 * perf limits the overflows of each event in a tick. Limit the overflows of all events of
 * the vCPU together: beyond the limit, have perf stop each event that overflows once more
 * in this tick. Call this again when an event is started or gets another period: perf
 * forgets then that the event was stopped.
 */
static void pv_pmu_limit_overflows(struct kvm_vcpu_pv_pmu *pv, struct perf_event *event)
{
	unsigned long tick = jiffies;

	if (pv->burst_at == tick &&
	    pv->burst >= max(READ_ONCE(pv_pmu_max_sample_rate) / HZ, 1U))
		perf_event_throttle(event);
}

static void pv_pmu_count_overflow(struct kvm_vcpu_pv_pmu *pv, struct perf_event *event)
{
	unsigned long tick = jiffies;

	if (pv->burst_at != tick) {
		pv->burst_at = tick;
		pv->burst = 0;
	}
	pv->burst++;
	pv_pmu_limit_overflows(pv, event);
}

/* The event's time running */
static u64 pv_pmu_time_running(struct perf_event *event)
{
	u64 count, enabled, running;

	return perf_event_read_local(event, &count, &enabled, &running) ? 0 : running;
}

/*
 * The part of the event's time running in which perf has stopped the event, since the event
 * was throttled: a tick at most
 */
static u64 pv_pmu_held_now(const struct pv_pmu_slot *slot, u64 running)
{
	if (!slot->throttled_at || running < slot->throttled_at)
		return 0;
	return min(running - slot->throttled_at, TICK_NSEC);
}

/* Account the time in which perf has stopped the event, before perf starts the event again. */
static void pv_pmu_unthrottle(struct pv_pmu_slot *slot, struct perf_event *event)
{
	if (!slot->throttled_at)
		return;
	slot->held += pv_pmu_held_now(slot, pv_pmu_time_running(event));
	slot->throttled_at = 0;
}

/* Called in NMI context. The NMI has made the vCPU exit. */
static void pv_pmu_overflow(struct perf_event *event,
			    struct perf_sample_data *data, struct pt_regs *regs)
{
	struct pv_pmu_slot *slot = event->overflow_handler_context;
	struct kvm_vcpu *vcpu = slot->vcpu;
	struct kvm_vcpu_pv_pmu *pv = vcpu->arch.pv_pmu;

	slot->overflows++;
	slot->period_sum += data->period;
	pv_pmu_unthrottle(slot, event);
	/* perf has decided to stop the event until the next tick. */
	if (perf_event_is_throttled(event)) {
		slot->throttled++;
		slot->throttled_at = pv_pmu_time_running(event);
	}
	pv_pmu_count_overflow(pv, event);

	/* The guest chooses the period. That must not lower the host's maximum sample rate. */
	perf_sample_event_waive();

	/* An NMI that comes after the exit that it has caused may find another branch stack. */
	if (slot->request.branch_sample_type && !kvm_arch_pmi_in_guest(vcpu))
		pv->branches_are_late = true;

	++vcpu->stat.pv_pmu_overflows;
	set_bit(slot - pv->slots, &pv->overflowed);
	kvm_make_request(KVM_REQ_PV_PMU, vcpu);
}

static int pv_pmu_check_raw(struct kvm *kvm, u64 config)
{
	if (!pv_pmu_allows(kvm, KVM_PV_PMU_POLICY_RAW, pv_pmu_raw))
		return -EOPNOTSUPP;
	if (config & ~pv_pmu_raw_mask())
		return -EINVAL;
	/* Event select 0 is no event of Intel's: perf gives it meanings of its own. */
	if (!pv_pmu_has_amd_events() && !(config & ARCH_PERFMON_EVENTSEL_EVENT))
		return -EINVAL;
	return 0;
}

static int pv_pmu_check_type(struct kvm *kvm, const struct kvm_pv_pmu_request *request)
{
	switch (request->type) {
	case PERF_TYPE_RAW:
		return pv_pmu_check_raw(kvm, request->config);
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

static int pv_pmu_check_request(const struct kvm_vcpu *vcpu,
				const struct kvm_pv_pmu_request *request)
{
	struct kvm *kvm = vcpu->kvm;
	u32 flags = request->flags;
	bool sample = flags & KVM_PV_PMU_SAMPLE;
	int r;

	if (flags & ~PV_PMU_KNOWN_FLAGS || request->reserved[0] || request->reserved[1])
		return -EINVAL;
	if (!!request->sample_period != sample || request->sample_period >> 63 ||
	    (request->restart && !sample))
		return -EINVAL;

	/* The leader alone is pinned, as for perf_event_open(2). */
	if (flags & KVM_PV_PMU_PINNED && request->group)
		return -EINVAL;
	if (flags & KVM_PV_PMU_PINNED &&
	    !pv_pmu_allows(kvm, KVM_PV_PMU_POLICY_PINNED, pv_pmu_pinned))
		return -EOPNOTSUPP;

	if (flags & KVM_PV_PMU_FREQ && !sample)
		return -EINVAL;
	if (flags & KVM_PV_PMU_FREQ && !pv_pmu_can_adapt_period())
		return -EOPNOTSUPP;

	r = pv_pmu_check_branches(vcpu, request);
	return r ?: pv_pmu_check_type(kvm, request);
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

/* A guest cannot open what its VMM could not open. */
static int pv_pmu_check_permission(struct kvm_vcpu_pv_pmu *pv, bool kernel)
{
	int r = pv_pmu_ask(perf_allow_open, &pv->open_refused_until);

	if (!r && kernel)
		r = pv_pmu_ask(perf_allow_kernel, &pv->kernel_refused_until);
	return r;
}

static unsigned int pv_pmu_index(const struct kvm_vcpu_pv_pmu *pv,
				 const struct pv_pmu_slot *slot)
{
	return slot - pv->slots;
}

/* The leader of the slot's group: a perf event, NULL without a group, or -EINVAL */
static struct perf_event *pv_pmu_leader(struct kvm_vcpu_pv_pmu *pv,
					const struct pv_pmu_slot *slot)
{
	const struct pv_pmu_slot *leader;
	u32 group = slot->request.group;

	if (!group)
		return NULL;
	if (group > KVM_PV_PMU_NR_SLOTS)
		return ERR_PTR(-EINVAL);

	leader = &pv->slots[array_index_nospec(group - 1, KVM_PV_PMU_NR_SLOTS)];
	if (!leader->event || leader->request.group)
		return ERR_PTR(-EINVAL);
	return leader->event;
}

static struct perf_event *pv_pmu_create(struct kvm_vcpu_pv_pmu *pv,
					struct pv_pmu_slot *slot)
{
	const struct kvm_pv_pmu_request *request = &slot->request;
	struct perf_event *leader = pv_pmu_leader(pv, slot);
	u32 flags = request->flags;
	struct perf_event_attr attr = {
		.type		= request->type,
		.size		= sizeof(attr),
		.config		= request->config,
		.config1	= request->config1,
		.sample_period	= request->sample_period,
		/*
		 * pv_pmu_start_all() enables leaders. perf checks that the members that are
		 * enabled now fit.
		 */
		.disabled	= !leader || !(flags & KVM_PV_PMU_RUN),
		.freq		= !!(flags & KVM_PV_PMU_FREQ),
		.exclude_user	= !!(flags & KVM_PV_PMU_EXCLUDE_USER),
		.exclude_kernel	= !!(flags & KVM_PV_PMU_EXCLUDE_KERNEL),
		.pinned		= !!(flags & KVM_PV_PMU_PINNED),
		.exclude_host	= 1,
	};

	if (IS_ERR(leader))
		return leader;
	if (leader)
		return perf_event_create_kernel_sibling(&attr, leader, pv_pmu_overflow, slot);
	return perf_event_create_kernel_counter(&attr, -1, current, pv_pmu_overflow, slot);
}

/*
 * Set a new period, or frequency. The host's limit to frequencies may be below the guest's,
 * and changes with time: lower a frequency that is beyond the limit.
 */
static int pv_pmu_set_period(struct perf_event *event, u64 period)
{
	int r = perf_event_period(event, period);

	while (r == -EINVAL && event->attr.freq && period > 1) {
		period /= 2;
		r = perf_event_period(event, period);
	}
	return r;
}

/* Check what only the perf event tells. The caller releases an event that is not allowed. */
static int pv_pmu_check_event(const struct pv_pmu_slot *slot, struct perf_event *event)
{
	if (!kvm_pmu_eventsel_is_allowed(slot->vcpu->kvm, event->hw.config))
		return -EOPNOTSUPP;
	/* perf does not check the limit to frequencies when an event is created. */
	if (event->attr.freq)
		return pv_pmu_set_period(event, slot->request.sample_freq);
	return 0;
}

static unsigned int pv_pmu_limit(struct kvm *kvm)
{
	return min(READ_ONCE(pv_pmu_max_events), kvm->arch.pv_pmu_max_events);
}

static bool pv_pmu_wants_kernel(const struct kvm_pv_pmu_request *request)
{
	return !(request->flags & KVM_PV_PMU_EXCLUDE_KERNEL) ||
	       request->branch_sample_type & PERF_SAMPLE_BRANCH_KERNEL;
}

static int pv_pmu_open(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	struct kvm *kvm = slot->vcpu->kvm;
	struct perf_event *event;
	int r;

	r = pv_pmu_check_permission(pv, pv_pmu_wants_kernel(&slot->request));
	if (!r)
		r = pv_pmu_check_request(slot->vcpu, &slot->request);
	if (r)
		return r;
	if (slot->foreign)
		return -ENODEV;
	if (pv->nr_events >= pv_pmu_limit(kvm))
		return -ENOSPC;

	event = pv_pmu_create(pv, slot);
	if (IS_ERR(event))
		return PTR_ERR(event);

	r = pv_pmu_check_event(slot, event);
	if (r) {
		perf_event_release_kernel(event);
		return r;
	}

	slot->event = event;
	slot->start = !slot->request.group;
	if (slot->request.group)
		__set_bit(pv_pmu_index(pv, slot), &pv->members);
	if (slot->request.branch_sample_type)
		__set_bit(pv_pmu_index(pv, slot), &pv->branch_slots);
	slot->vcpu->stat.pv_pmu_events = ++pv->nr_events;
	cond_resched();
	return 0;
}

static void pv_pmu_release(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	u64 enabled, running;

	if (!slot->event)
		return;

	slot->count += perf_event_read_value(slot->event, &enabled, &running);
	slot->time_enabled += enabled;
	slot->time_running += running;
	slot->held += pv_pmu_held_now(slot, running);
	slot->throttled_at = 0;
	perf_event_release_kernel(slot->event);
	slot->event = NULL;
	__clear_bit(pv_pmu_index(pv, slot), &pv->members);
	if (__test_and_clear_bit(pv_pmu_index(pv, slot), &pv->branch_slots) && !pv->branch_slots)
		kvm_x86_call(release_branches)(slot->vcpu);
	slot->vcpu->stat.pv_pmu_events = --pv->nr_events;
}

/* Release members first: without the leader, perf would make each an event of its own. */
static void pv_pmu_release_group(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *leader)
{
	unsigned int group = pv_pmu_index(pv, leader) + 1;
	struct pv_pmu_slot *slot;

	for (slot = pv->slots; slot < pv->slots + KVM_PV_PMU_NR_SLOTS; slot++) {
		if (slot->event && slot->request.group == group) {
			pv_pmu_release(pv, slot);
			slot->status = -EINVAL;
		}
	}
	pv_pmu_release(pv, leader);
}

void pv_pmu_close(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot)
{
	pv_pmu_release_group(pv, slot);
	clear_bit(pv_pmu_index(pv, slot), &pv->overflowed);
	*slot = (struct pv_pmu_slot){ .vcpu = slot->vcpu, .seq = slot->seq };
}

void pv_pmu_drop_anchor(struct kvm_vcpu_pv_pmu *pv)
{
	if (pv->anchor)
		perf_event_release_kernel(pv->anchor);
	pv->anchor = NULL;
}

/*
 * Keep one event of the hardware open: to close the last one, and to open the next, would
 * release and reserve buffers of all CPUs. Counting does not depend on the anchor.
 */
void pv_pmu_create_anchor(struct kvm_vcpu_pv_pmu *pv)
{
	struct perf_event_attr attr = {
		.type		= PERF_TYPE_HARDWARE,
		.size		= sizeof(attr),
		.config		= PERF_COUNT_HW_CPU_CYCLES,
		.disabled	= 1,
		.exclude_kernel	= 1,
		.exclude_host	= 1,
	};
	struct perf_event *anchor;

	pv_pmu_drop_anchor(pv);
	/* each WRMSR of the guest creates an anchor: limit the rate */
	if (!__ratelimit(&pv->opens) || pv_pmu_check_permission(pv, false))
		return;

	anchor = perf_event_create_kernel_counter(&attr, -1, current, NULL, NULL);
	if (!IS_ERR(anchor))
		pv->anchor = anchor;
}

static bool pv_pmu_is_same_event(const struct kvm_pv_pmu_request *a,
				 const struct kvm_pv_pmu_request *b)
{
	struct kvm_pv_pmu_request c = *b;

	c.flags ^= (a->flags ^ b->flags) & KVM_PV_PMU_RUN;
	c.sample_period = a->sample_period;
	c.restart = a->restart;
	return !memcmp(a, &c, sizeof(c));
}

static void pv_pmu_stop(struct pv_pmu_slot *slot)
{
	pv_pmu_unthrottle(slot, slot->event);
	perf_event_disable(slot->event);
}

/* Change the period of an open event, or whether the event runs. */
static int pv_pmu_change(struct pv_pmu_slot *slot,
			 const struct kvm_pv_pmu_request *request)
{
	u32 changed = slot->request.flags ^ request->flags;
	int r;

	if (request->sample_period != slot->request.sample_period ||
	    request->restart != slot->request.restart) {
		pv_pmu_unthrottle(slot, slot->event);
		r = pv_pmu_set_period(slot->event, request->sample_period);
		if (r)
			return r;
		pv_pmu_limit_overflows(slot->vcpu->arch.pv_pmu, slot->event);
	}

	if (changed & KVM_PV_PMU_RUN) {
		slot->start = true;
		if (!(request->flags & KVM_PV_PMU_RUN))
			pv_pmu_stop(slot);
	}

	return 0;
}

static void pv_pmu_run(struct pv_pmu_slot *slot)
{
	perf_event_enable(slot->event);
	pv_pmu_limit_overflows(slot->vcpu->arch.pv_pmu, slot->event);
}

static void pv_pmu_start(struct pv_pmu_slot *slot)
{
	if (slot->event && slot->start && slot->request.flags & KVM_PV_PMU_RUN)
		pv_pmu_run(slot);
	slot->start = false;
}

/*
 * Start the members of a group before the leader: if the leader got a counter before the
 * members, its times would not be the group's.
 */
static void pv_pmu_start_all(struct kvm_vcpu_pv_pmu *pv)
{
	struct pv_pmu_slot *slot, *end = pv->slots + KVM_PV_PMU_NR_SLOTS;

	for (slot = pv->slots; slot < end; slot++) {
		if (slot->request.group)
			pv_pmu_start(slot);
	}
	for (slot = pv->slots; slot < end; slot++)
		pv_pmu_start(slot);
}

static void pv_pmu_commit_slot(struct kvm_vcpu_pv_pmu *pv, struct pv_pmu_slot *slot,
			       const struct kvm_pv_pmu_request *request)
{
	if (!pv_pmu_is_same_event(&slot->request, request))
		pv_pmu_close(pv, slot);

	if (slot->event) {
		slot->status = pv_pmu_change(slot, request);
		slot->request = *request;
		if (slot->status)
			pv_pmu_release_group(pv, slot);
	} else {
		slot->request = *request;
		slot->status = __ratelimit(&pv->opens) ? pv_pmu_open(pv, slot) : -EAGAIN;
	}
}

/*
 * Free counters first: an event that is started without a free counter would wait for its
 * turn. Open leaders before the members of their groups.
 */
void pv_pmu_commit_copies(struct kvm_vcpu_pv_pmu *pv, unsigned long mask)
{
	const struct kvm_pv_pmu_request *requests = pv->requests;
	unsigned long committed = mask;
	int i;

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (!(requests[i].flags & KVM_PV_PMU_OPEN)) {
			pv_pmu_close(pv, &pv->slots[i]);
			__clear_bit(i, &mask);
		} else if (pv->slots[i].event && !(requests[i].flags & KVM_PV_PMU_RUN)) {
			pv_pmu_stop(&pv->slots[i]);
		}
	}

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (!requests[i].group)
			pv_pmu_commit_slot(pv, &pv->slots[i], &requests[i]);
	}

	for_each_set_bit(i, &mask, KVM_PV_PMU_NR_SLOTS) {
		if (requests[i].group)
			pv_pmu_commit_slot(pv, &pv->slots[i], &requests[i]);
	}

	pv_pmu_start_all(pv);
	pv_pmu_update_branches(pv, committed);
}

/* Open all declared events, the leaders before the members of their groups. */
void pv_pmu_open_all(struct kvm_vcpu_pv_pmu *pv)
{
	struct pv_pmu_slot *slot, *end = pv->slots + KVM_PV_PMU_NR_SLOTS;

	for (slot = pv->slots; slot < end; slot++) {
		if (pv_pmu_is_open(slot) && !slot->request.group)
			slot->status = pv_pmu_open(pv, slot);
	}
	for (slot = pv->slots; slot < end; slot++) {
		if (pv_pmu_is_open(slot) && slot->request.group)
			slot->status = pv_pmu_open(pv, slot);
	}
	pv_pmu_start_all(pv);
	pv_pmu_update_branches(pv, pv->branch_slots);
}

/* Open all events anew, for the thread that runs the vCPU now, if they are allowed now. */
void pv_pmu_reopen(struct kvm_vcpu_pv_pmu *pv)
{
	int i;

	for (i = 0; i < KVM_PV_PMU_NR_SLOTS; i++)
		pv_pmu_release(pv, &pv->slots[i]);
	pv_pmu_create_anchor(pv);
	pv_pmu_open_all(pv);
}

void pv_pmu_read(const struct pv_pmu_slot *slot, struct kvm_pv_pmu_report *report)
{
	struct perf_event *event = slot->event;
	u64 count, enabled, running;

	*report = (struct kvm_pv_pmu_report){};
	if (!pv_pmu_is_open(slot))
		return;

	report->status = slot->status;
	report->count = slot->count;
	report->time_enabled = slot->time_enabled;
	report->time_running = slot->time_running;
	report->overflows = slot->overflows;
	report->period_sum = slot->period_sum;
	report->throttled = slot->throttled;

	if (!event)
		return;

	/* another thread's event, or a pinned event without a counter */
	if (perf_event_read_local(event, &count, &enabled, &running))
		count = perf_event_read_value(event, &enabled, &running);
	report->count += count;
	report->time_enabled += enabled;
	report->time_running += running;
	/* The event has no counter while perf has stopped it. */
	report->time_running -= min(report->time_running,
				    slot->held + pv_pmu_held_now(slot, running));
	if (event->state == PERF_EVENT_STATE_ERROR)
		report->status = -EBUSY;
}
