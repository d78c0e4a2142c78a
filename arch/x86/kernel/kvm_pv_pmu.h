/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _X86_KERNEL_KVM_PV_PMU_H
#define _X86_KERNEL_KVM_PV_PMU_H

#include <linux/perf_event.h>

/* The clock of an active event's total_time_running, as perf has last read it */
#ifdef CONFIG_CGROUP_PERF
static inline u64 pv_pmu_event_time(struct perf_event *event)
{
	if (event->cgrp)
		return per_cpu_ptr(event->cgrp->info, event->cpu)->time;
	return event->ctx->time;
}
#else
static inline u64 pv_pmu_event_time(struct perf_event *event)
{
	return event->ctx->time;
}
#endif

#endif /* _X86_KERNEL_KVM_PV_PMU_H */
