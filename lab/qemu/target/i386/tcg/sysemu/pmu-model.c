/*
 * Emulation of AMD's core performance counters under TCG: the models of the
 * branch predictor and of the data caches.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "pmu-internal.h"

#define LINE_SHIFT                  6

/* --- Branches ----------------------------------------------------------- */

static unsigned predictor_index(target_ulong eip, unsigned entries)
{
    return (eip ^ (eip >> 12)) % entries;
}

/* A two-bit saturating counter for each conditional branch. */
static bool predict_jcc(X86PMUState *pmu, target_ulong from, bool taken)
{
    uint8_t *state = &pmu->jcc[predictor_index(from, JCC_ENTRIES)];
    bool predicted = *state >= 2;

    if (taken) {
        *state = MIN(*state + 1, 3);
    } else {
        *state = MAX(*state - 1, 0);
    }
    return predicted == taken;
}

/* Predict the last target of an indirect branch. */
static bool predict_target(X86PMUState *pmu, target_ulong from,
                           target_ulong to)
{
    uint64_t *target = &pmu->target[predictor_index(from, TARGET_ENTRIES)];
    bool right = *target == to;

    *target = to;
    return right;
}

static void push_return(X86PMUState *pmu, target_ulong to)
{
    pmu->returns_top = (pmu->returns_top + 1) % RETURN_ENTRIES;
    pmu->returns[pmu->returns_top] = to;
}

static bool predict_return(X86PMUState *pmu, target_ulong to)
{
    bool right = pmu->returns[pmu->returns_top] == to;

    pmu->returns_top = (pmu->returns_top - 1) % RETURN_ENTRIES;
    return right;
}

/* The events of a mispredicted branch; 0 for a right prediction. */
uint32_t pmu_predict(X86PMUState *pmu, target_ulong from, target_ulong to,
                     unsigned type, unsigned len)
{
    switch (type) {
    case X86_BRANCH_JCC_NOT_TAKEN:
        return predict_jcc(pmu, from, false) ? 0 : HAPPENED_MISPREDICT;
    case X86_BRANCH_JCC:
        return predict_jcc(pmu, from, true) ? 0 :
               HAPPENED_MISPREDICT | HAPPENED_TAKEN_MISPREDICT;
    case X86_BRANCH_CALL_REL:
        push_return(pmu, from + len);
        return 0;
    case X86_BRANCH_CALL_IND:
        push_return(pmu, from + len);
        /* fall through */
    case X86_BRANCH_JMP_IND:
        return predict_target(pmu, from, to) ? 0 :
               HAPPENED_MISPREDICT | HAPPENED_TAKEN_MISPREDICT |
               HAPPENED_IND_MISPREDICT;
    case X86_BRANCH_RET:
        return predict_return(pmu, to) ? 0 :
               HAPPENED_MISPREDICT | HAPPENED_TAKEN_MISPREDICT |
               HAPPENED_RETURN_MISPREDICT;
    default:
        return 0;
    }
}

/* --- Data caches -------------------------------------------------------- */

/* Return true on a hit.  In any case, make @line the first of its set.  */
static bool cache_lookup(CacheSet *set, uint64_t line)
{
    int i;

    for (i = 0; i < WAYS - 1 && set->line[i] != line; i++) {
        continue;
    }
    if (set->line[i] == line) {
        memmove(&set->line[1], &set->line[0], i * sizeof(line));
        set->line[0] = line;
        return true;
    }
    memmove(&set->line[1], &set->line[0], i * sizeof(line));
    set->line[0] = line;
    return false;
}

/* The events of an access to memory.  Devices are not cached. */
uint32_t pmu_cache_access(CPUX86State *env, target_ulong addr, bool store)
{
    X86PMUState *pmu = env->pmu;
    void *host = tlb_vaddr_to_host(env, addr, MMU_DATA_LOAD,
                                   cpu_mmu_index(env, false));
    /* Aliases in the guest share one line: use the host address. */
    uint64_t line = (uintptr_t)host >> LINE_SHIFT;
    uint32_t events;

    if (!host || cache_lookup(&pmu->l1[line % L1_SETS], line)) {
        return 0;
    }
    events = store ? HAPPENED_L1_STORE_MISS : HAPPENED_L1_LOAD_MISS;
    if (cache_lookup(&pmu->l2[line % L2_SETS], line)) {
        return events | HAPPENED_L2_HIT;
    }
    return events | HAPPENED_L2_MISS;
}
