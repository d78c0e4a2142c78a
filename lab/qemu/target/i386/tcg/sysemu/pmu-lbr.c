/*
 * Emulation of AMD's branch records under TCG: the LBR stack (LbrExtV2), and
 * the last branch and the last branch before an interrupt (DebugCtl).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "tcg/helper-tcg.h"
#include "pmu-internal.h"

#define DEBUGCTL_LBR                (1ULL << 0)
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
#define SELECT_IMPLEMENTED          0x1ffULL

#define LBR_FROM_MISPREDICT         (1ULL << 63)
#define LBR_TO_VALID                (1ULL << 63)
#define LBR_TO_ADDRESS              MAKE_64BIT_MASK(0, 61)

/* True while the stack records; LBR_SELECT filters the single branch. */
static bool stack_enabled(X86PMUState *pmu)
{
    return (pmu->dbg_extn_cfg & DBG_EXTN_CFG_LBRV2EN) &&
           !(pmu->global_status & STATUS_LBR_FROZEN);
}

bool pmu_lbr_enabled(X86PMUState *pmu)
{
    return stack_enabled(pmu) || (pmu->debugctl & DEBUGCTL_LBR);
}

static bool selected(CPUX86State *env, unsigned type)
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

static void push(X86PMUState *pmu, target_ulong from, target_ulong to,
                 bool mispredicted)
{
    pmu->lbr_top = (pmu->lbr_top + 1) % LBR_DEPTH;
    pmu->lbr_from[pmu->lbr_top] =
        (from & ~LBR_FROM_MISPREDICT) |
        (mispredicted ? LBR_FROM_MISPREDICT : 0);
    pmu->lbr_to[pmu->lbr_top] = (to & LBR_TO_ADDRESS) | LBR_TO_VALID;
}

void pmu_lbr_record(CPUX86State *env, target_ulong from, target_ulong to,
                    unsigned type, bool mispredicted)
{
    X86PMUState *pmu = env->pmu;

    if (stack_enabled(pmu) && selected(env, type)) {
        push(pmu, from, to, mispredicted);
    }
    if ((pmu->debugctl & DEBUGCTL_LBR) && type != X86_BRANCH_JCC_NOT_TAKEN) {
        pmu->br_from = from;
        pmu->br_to = to;
    }
}

/* An interrupt or exception: keep the last branch before it. */
void pmu_lbr_interrupted(X86PMUState *pmu)
{
    if (pmu->debugctl & DEBUGCTL_LBR) {
        pmu->int_from = pmu->br_from;
        pmu->int_to = pmu->br_to;
    }
}

/* --- Registers ----------------------------------------------------------- */

/* Map @msr to its field, or to NULL. */
static uint64_t *field_of_msr(X86PMUState *pmu, uint32_t msr)
{
    unsigned n;

    switch (msr) {
    case MSR_DEBUGCTL:
        return &pmu->debugctl;
    case MSR_BR_FROM:
        return &pmu->br_from;
    case MSR_BR_TO:
        return &pmu->br_to;
    case MSR_INT_FROM:
        return &pmu->int_from;
    case MSR_INT_TO:
        return &pmu->int_to;
    case MSR_LBR_SELECT:
        return &pmu->lbr_select;
    case MSR_DBG_EXTN_CFG:
        return &pmu->dbg_extn_cfg;
    case MSR_LBR_FROM(0) ... MSR_LBR_FROM(LBR_DEPTH) - 1:
        /* Number 0 is the newest record. */
        n = (pmu->lbr_top - (msr - MSR_LBR_FROM(0)) / 2) % LBR_DEPTH;
        return msr & 1 ? &pmu->lbr_to[n] : &pmu->lbr_from[n];
    default:
        return NULL;
    }
}

static uint64_t implemented_bits(CPUX86State *env, uint32_t msr)
{
    switch (msr) {
    case MSR_DEBUGCTL:
        return has_freeze(env) ? DEBUGCTL_IMPLEMENTED : DEBUGCTL_IMPLEMENTED &
               ~(DEBUGCTL_FREEZE_LBR | DEBUGCTL_FREEZE_PMC);
    case MSR_LBR_SELECT:
        return SELECT_IMPLEMENTED;
    case MSR_DBG_EXTN_CFG:
        return DBG_EXTN_CFG_LBRV2EN;
    default:
        return UINT64_MAX;
    }
}

bool pmu_lbr_get(X86PMUState *pmu, uint32_t msr, uint64_t *val)
{
    uint64_t *field = field_of_msr(pmu, msr);

    if (field) {
        *val = *field;
    }
    return field != NULL;
}

bool pmu_lbr_set(CPUX86State *env, uint32_t msr, uint64_t val)
{
    uint64_t *field = field_of_msr(env->pmu, msr);

    if (field) {
        *field = val & implemented_bits(env, msr);
    }
    return field != NULL;
}

/* WRMSR: four of the registers are read-only. */
bool pmu_lbr_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr)
{
    if (msr >= MSR_BR_FROM && msr <= MSR_INT_TO) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, retaddr);
    }
    return pmu_lbr_set(env, msr, val);
}
