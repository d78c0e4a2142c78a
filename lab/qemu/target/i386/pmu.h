/*
 * Emulation of AMD's core performance counters and LBR stack under TCG.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Included by cpu.h: the gates here cost one test of env->pmu, which is NULL
 * when the CPU has no PMU, under other accelerators and in user emulation.
 */

#ifndef I386_PMU_H
#define I386_PMU_H

#include "sysemu/tcg.h"

#define X86_PMU_COUNTERS  6
#define X86_PMU_LBR_DEPTH 16

/* How a branch ended, in the descriptor of helper_pmu_branch().  */
enum {
    X86_BRANCH_JCC_NOT_TAKEN,
    X86_BRANCH_JCC,
    X86_BRANCH_JMP_REL,
    X86_BRANCH_JMP_IND,
    X86_BRANCH_CALL_REL,
    X86_BRANCH_CALL_IND,
    X86_BRANCH_RET,
    X86_BRANCH_FAR,
};
#define X86_BRANCH_LEN_SHIFT 8

/* What an instruction did to memory, for helper_pmu_access().  */
enum {
    X86_ACCESS_LOAD,
    X86_ACCESS_STORE,
    X86_ACCESS_STORE_BACK,      /* to where it has just loaded from */
    X86_ACCESS_LOCKED,          /* both at once */
};

/* The privilege modes which the event selects tell apart.  */
#define X86_PMU_MODE_USER   1
#define X86_PMU_MODE_GUEST  2
#define X86_PMU_MODES       4

static inline unsigned x86_pmu_mode(uint32_t hflags)
{
    return ((hflags & HF_CPL_MASK) ? X86_PMU_MODE_USER : 0) |
           ((hflags & HF_GUEST_MASK) ? X86_PMU_MODE_GUEST : 0);
}

static inline bool x86_pmu_has_counter(uint32_t index)
{
    return index < X86_PMU_COUNTERS;
}

#ifdef CONFIG_USER_ONLY
static inline bool x86_pmu_present(CPUX86State *env)
{
    return false;
}
#else
static inline bool x86_pmu_present(CPUX86State *env)
{
    return tcg_enabled() && unlikely(env->pmu != NULL);
}
#endif

void x86_pmu_realize(X86CPU *cpu);
void x86_pmu_reset(CPUX86State *env);

/* Bring the counters up to date, and follow a change of CPL, GUEST or SVME. */
void x86_pmu_mode_changed(CPUX86State *env);

/* Around the execution of translated code. */
void x86_pmu_exec_enter(CPUX86State *env);
void x86_pmu_exec_exit(CPUX86State *env);

/* True if @msr is the PMU's; raises #GP for a value that it refuses.  */
bool x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val,
                   uintptr_t retaddr);
bool x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr);
uint64_t x86_pmu_rdpmc(CPUX86State *env, uint32_t index);

/*
 * The current instruction traps instead of completing.  Under icount, one
 * that is taken back by way of @retaddr is no longer counted; the others are.
 */
void x86_pmu_unretire(CPUX86State *env, uintptr_t retaddr);

/* An exception or interrupt has been delivered, from @from. */
void x86_pmu_interrupted(CPUX86State *env, target_ulong from, bool is_hw);

/* The TLB was filled after a page walk. */
void x86_pmu_tlb_fill(CPUX86State *env, MMUAccessType access_type,
                      uint64_t page_size);

#ifndef CONFIG_USER_ONLY
extern const VMStateDescription vmstate_x86_pmu;
#endif

#endif /* I386_PMU_H */
