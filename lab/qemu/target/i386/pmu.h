/*
 * Emulation of AMD's core performance counters and LBR stack under TCG.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Included by cpu.h.  x86_pmu_present() costs one test of env->pmu.  The
 * pointer is NULL when the CPU has no PMU, under other accelerators and in
 * user emulation.
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
    X86_ACCESS_STORE_BACK,      /* to the address of its load */
    X86_ACCESS_LOCKED,          /* atomic load and store */
};

/* The privilege modes that an event select can tell apart.  */
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

/*
 * VMRUN has loaded the guest's state and not yet injected an event; #VMEXIT has
 * saved the guest's state and not yet left guest mode.
 */
void x86_pmu_vmrun(CPUX86State *env);
void x86_pmu_vmexit(CPUX86State *env);

/* The vCPU enters or leaves translated code. */
void x86_pmu_exec_enter(CPUX86State *env);
void x86_pmu_exec_exit(CPUX86State *env);

/* Return false if @msr is not the PMU's; raise #GP for a refused value.  */
bool x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val,
                   uintptr_t retaddr);
bool x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr);
uint64_t x86_pmu_rdpmc(CPUX86State *env, uint32_t index);

/*
 * The current instruction traps instead of completing.  With @retaddr, icount
 * takes the instruction back.  In all other cases the instruction has been
 * counted, and the PMU subtracts it.
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
