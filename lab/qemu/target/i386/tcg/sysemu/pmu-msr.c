/*
 * Emulation of AMD's core performance counters under TCG: the registers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "tcg/helper-tcg.h"
#include "pmu-internal.h"

#define LEGACY_COUNTERS             4

/* Model-specific registers. */
#define MSR_GLOBAL_STATUS           0xc0000300
#define MSR_GLOBAL_CTL              0xc0000301
#define MSR_GLOBAL_STATUS_CLR       0xc0000302
#define MSR_GLOBAL_STATUS_SET       0xc0000303
#define MSR_LEGACY_CTL(n)           (0xc0010000 + (n))
#define MSR_LEGACY_CTR(n)           (0xc0010004 + (n))
#define MSR_PERF_CTL(n)             (0xc0010200 + 2 * (n))

/* Map @msr to the number of a counter and control or count, or to -1. */
static int counter_of_msr(uint32_t msr, bool *ctl)
{
    if (msr >= MSR_PERF_CTL(0) && msr < MSR_PERF_CTL(COUNTERS)) {
        *ctl = !(msr & 1);
        return (msr - MSR_PERF_CTL(0)) / 2;
    }
    if (msr >= MSR_LEGACY_CTL(0) && msr < MSR_LEGACY_CTL(LEGACY_COUNTERS)) {
        *ctl = true;
        return msr - MSR_LEGACY_CTL(0);
    }
    if (msr >= MSR_LEGACY_CTR(0) && msr < MSR_LEGACY_CTR(LEGACY_COUNTERS)) {
        *ctl = false;
        return msr - MSR_LEGACY_CTR(0);
    }
    return -1;
}

static bool rdmsr_global(X86PMUState *pmu, uint32_t msr, uint64_t *val)
{
    switch (msr) {
    case MSR_GLOBAL_STATUS:
        *val = pmu->global_status;
        return true;
    case MSR_GLOBAL_CTL:
        *val = pmu->global_ctl;
        return true;
    case MSR_GLOBAL_STATUS_CLR:
    case MSR_GLOBAL_STATUS_SET:
        *val = 0;
        return true;
    default:
        return false;
    }
}

bool x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val,
                   uintptr_t retaddr)
{
    X86PMUState *pmu = env->pmu;
    bool ctl;
    int i = counter_of_msr(msr, &ctl);

    if (i >= 0) {
        pmu_sync(env);
        *val = ctl ? pmu->ctl[i] : pmu->ctr[i];
        return true;
    }
    if (has_global(env) && msr == MSR_GLOBAL_STATUS) {
        pmu_sync(env);
    }
    return (has_global(env) && rdmsr_global(pmu, msr, val)) ||
           (has_lbr(env) && pmu_lbr_get(pmu, msr, val));
}

static bool wrmsr_counter(X86PMUState *pmu, uint32_t msr, uint64_t val)
{
    bool ctl;
    int i = counter_of_msr(msr, &ctl);

    if (i < 0) {
        return false;
    }
    if (ctl) {
        pmu->ctl[i] = val & CTL_IMPLEMENTED;
        pmu->rate[i] = pmu_decode_event(val);
    } else {
        pmu->ctr[i] = val & (COUNTER_LIMIT - 1);
    }
    return true;
}

static bool wrmsr_global(CPUX86State *env, uint32_t msr, uint64_t val,
                         uintptr_t retaddr)
{
    X86PMUState *pmu = env->pmu;
    uint64_t status = ALL_COUNTERS;

    if (has_freeze(env)) {
        status |= STATUS_LBR_FROZEN | STATUS_PMC_FROZEN;
    }
    switch (msr) {
    case MSR_GLOBAL_STATUS:
        raise_exception_err_ra(env, EXCP0D_GPF, 0, retaddr);
    case MSR_GLOBAL_CTL:
        pmu->global_ctl = val & ALL_COUNTERS;
        return true;
    case MSR_GLOBAL_STATUS_CLR:
        pmu->global_status &= ~val;
        return true;
    case MSR_GLOBAL_STATUS_SET:
        pmu->global_status |= val & status;
        return true;
    default:
        return false;
    }
}

bool x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr)
{
    pmu_sync(env);
    if (wrmsr_counter(env->pmu, msr, val) ||
        (has_global(env) && wrmsr_global(env, msr, val, retaddr)) ||
        (has_lbr(env) && pmu_lbr_wrmsr(env, msr, val, retaddr))) {
        pmu_update_config(env);
        return true;
    }
    return false;
}

uint64_t x86_pmu_rdpmc(CPUX86State *env, uint32_t index)
{
    pmu_sync(env);
    return env->pmu->ctr[index];
}
