/*
 * Emulation of AMD's LBR stack (LbrExtV2) under TCG: the branch records.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "pmu-internal.h"

/* Model-specific registers. */
#define MSR_DEBUGCTL                0x000001d9
#define MSR_LBR_SELECT              0xc000010e
#define MSR_DBG_EXTN_CFG            0xc000010f
#define MSR_LBR_FROM(n)             (0xc0010300 + 2 * (n))

#define DEBUGCTL_IMPLEMENTED        0x000000000000187fULL

#define DBG_EXTN_CFG_LBRV2EN        (1ULL << 6)

/* LBR_SELECT: a set bit suppresses the records of its kind. */
#define SELECT_KERNEL               (1u << 0)
#define SELECT_USER                 (1u << 1)
#define SELECT_JCC                  (1u << 2)
#define SELECT_CALL_REL             (1u << 3)
#define SELECT_CALL_IND             (1u << 4)
#define SELECT_RET                  (1u << 5)
#define SELECT_JMP_IND              (1u << 6)
#define SELECT_JMP_REL              (1u << 7)
#define SELECT_FAR                  (1u << 8)
#define SELECT_IMPLEMENTED          0x1ffu

#define LBR_FROM_MISPREDICT         (1ULL << 63)
#define LBR_TO_VALID                (1ULL << 63)
#define LBR_TO_ADDRESS              MAKE_64BIT_MASK(0, 61)

/* True while recording is on; LBR_SELECT filters the single branch. */
bool pmu_lbr_enabled(X86PMUState *pmu)
{
    return (pmu->dbg_extn_cfg & DBG_EXTN_CFG_LBRV2EN) &&
           !(pmu->global_status & STATUS_LBR_FROZEN);
}

bool pmu_lbr_selected(CPUX86State *env, unsigned type)
{
    static const uint32_t kind[] = {
        [X86_BRANCH_JCC_NOT_TAKEN] = ~0u,       /* never recorded */
        [X86_BRANCH_JCC] = SELECT_JCC,
        [X86_BRANCH_JMP_REL] = SELECT_JMP_REL,
        [X86_BRANCH_JMP_IND] = SELECT_JMP_IND,
        [X86_BRANCH_CALL_REL] = SELECT_CALL_REL,
        [X86_BRANCH_CALL_IND] = SELECT_CALL_IND,
        [X86_BRANCH_RET] = SELECT_RET,
        [X86_BRANCH_FAR] = SELECT_FAR,
    };
    /* Filter by the CPL at the branch target: the current CPL. */
    uint32_t cpl = env->hflags & HF_CPL_MASK ? SELECT_USER : SELECT_KERNEL;

    return type != X86_BRANCH_JCC_NOT_TAKEN &&
           !(env->pmu->lbr_select & (kind[type] | cpl));
}

void pmu_lbr_record(X86PMUState *pmu, target_ulong from, target_ulong to,
                    bool mispredicted)
{
    pmu->lbr_top = (pmu->lbr_top + 1) % LBR_DEPTH;
    pmu->lbr_from[pmu->lbr_top] =
        (from & ~LBR_FROM_MISPREDICT) |
        (mispredicted ? LBR_FROM_MISPREDICT : 0);
    pmu->lbr_to[pmu->lbr_top] = (to & LBR_TO_ADDRESS) | LBR_TO_VALID;
}

/* Map @msr to a field of the LBR stack, or NULL. */
static uint64_t *lbr_of_msr(X86PMUState *pmu, uint32_t msr)
{
    unsigned n;

    if (msr < MSR_LBR_FROM(0) || msr >= MSR_LBR_FROM(LBR_DEPTH)) {
        return NULL;
    }
    /* Number 0 is the newest record. */
    n = (pmu->lbr_top - (msr - MSR_LBR_FROM(0)) / 2) % LBR_DEPTH;
    return msr & 1 ? &pmu->lbr_to[n] : &pmu->lbr_from[n];
}

bool pmu_lbr_rdmsr(X86PMUState *pmu, uint32_t msr, uint64_t *val)
{
    uint64_t *record = lbr_of_msr(pmu, msr);

    switch (msr) {
    case MSR_DEBUGCTL:
        *val = pmu->debugctl;
        return true;
    case MSR_LBR_SELECT:
        *val = pmu->lbr_select;
        return true;
    case MSR_DBG_EXTN_CFG:
        *val = pmu->dbg_extn_cfg;
        return true;
    default:
        if (record) {
            *val = *record;
        }
        return record != NULL;
    }
}

bool pmu_lbr_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val)
{
    X86PMUState *pmu = env->pmu;
    uint64_t freeze = DEBUGCTL_FREEZE_LBR | DEBUGCTL_FREEZE_PMC;
    uint64_t *record = lbr_of_msr(pmu, msr);

    switch (msr) {
    case MSR_DEBUGCTL:
        pmu->debugctl = val & (has_freeze(env) ? DEBUGCTL_IMPLEMENTED :
                               DEBUGCTL_IMPLEMENTED & ~freeze);
        return true;
    case MSR_LBR_SELECT:
        pmu->lbr_select = val & SELECT_IMPLEMENTED;
        return true;
    case MSR_DBG_EXTN_CFG:
        pmu->dbg_extn_cfg = val & DBG_EXTN_CFG_LBRV2EN;
        return true;
    default:
        if (record) {
            *record = val;
        }
        return record != NULL;
    }
}
