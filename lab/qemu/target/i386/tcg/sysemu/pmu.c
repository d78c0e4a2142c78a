/*
 * Emulation of AMD's core performance counters and LBR stack under TCG.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Implements the counters of "Performance Monitoring" and the branch records
 * of "Debug and Performance Resources" in AMD64 Architecture Programmer's
 * Manual volume 2, chapter 13: six 48-bit counters (CPUID PerfCtrExtCore),
 * global control and status (PerfMonV2), a stack of 16 branch records
 * (LbrExtV2), and freezing on an interrupt (LbrAndPmcFreeze).
 *
 * With -icount, the time and the cycles are the number of instructions
 * executed.  pmu_sync() adds the instructions since the last sync to the
 * active counters.  A sync is needed before the set of active counters can
 * change: on access to a register, on a change of CPL, on a switch between
 * host and guest, and at the end of a run of the vCPU.  Between two syncs,
 * counting costs nothing.
 *
 * Overflow costs nothing either.  A vCPU runs with a budget of instructions.
 * The PMU cuts the budget down to the distance of the nearest overflow: the
 * run ends at the overflow, without skid.
 *
 * Without -icount, translated code counts its instructions one by one while a
 * counter is active.  An overflow is noticed at the end of the translation
 * block.
 *
 * Helpers count branches and accesses to memory.  Translated code calls a
 * helper only if hflags says that a counter or the LBR wants the event.  TLB
 * fills are counted in x86_cpu_tlb_fill().
 *
 * docs/system/i386/pmu.rst lists the events, exact ones and models.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "hw/i386/apic.h"
#include "migration/vmstate.h"
#include "qemu/main-loop.h"
#include "sysemu/cpu-timers.h"
#include "tcg/helper-tcg.h"
#include "pmu-internal.h"

static bool counts_in_mode(CPUX86State *env, int i, unsigned mode)
{
    X86PMUState *pmu = env->pmu;
    uint64_t ctl = pmu->ctl[i];
    uint64_t who = ctl & (CTL_GUEST_ONLY | CTL_HOST_ONLY);

    if (!(ctl & CTL_EN) || (pmu->global_status & STATUS_PMC_FROZEN)) {
        return false;
    }
    if (has_global(env) && !(pmu->global_ctl & (1ULL << i))) {
        return false;
    }
    if (!(ctl & (mode & X86_PMU_MODE_USER ? CTL_USR : CTL_OS))) {
        return false;
    }
    if (!(env->efer & MSR_EFER_SVME) || !who ||
        who == (CTL_GUEST_ONLY | CTL_HOST_ONLY)) {
        return true;
    }
    return who == (mode & X86_PMU_MODE_GUEST ? CTL_GUEST_ONLY : CTL_HOST_ONLY);
}

/* --- Instructions executed since the last sync -------------------------- */

static int64_t budget_left(CPUState *cs)
{
    return cs->icount_extra + cpu_neg(cs)->icount_decr.u16.low;
}

/*
 * The number of instructions since the last sync.
 *
 * A fault takes back its instruction, and the budget grows again.  If a sync
 * has counted the instruction already, return 0 until the debt is paid.
 */
static uint64_t take_cycles(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;
    uint64_t n;

    if (icount_enabled()) {
        int64_t left = budget_left(env_cpu(env));

        if (left >= pmu->left) {
            return 0;
        }
        n = pmu->left - left;
        pmu->left = left;
    } else {
        n = env->pmu_insns;
        env->pmu_insns = 0;
    }
    return n;
}

/* The number of @cycles that completed an instruction. */
static uint64_t take_retired(CPUX86State *env, uint64_t cycles)
{
    X86PMUState *pmu = env->pmu;
    uint64_t idle = env->pmu_rep_cycles + pmu->unretired;
    uint64_t n = MIN(idle, cycles);

    env->pmu_rep_cycles = 0;
    pmu->unretired = idle - n;
    return cycles - n;
}

/* End the vCPU's run after @dist instructions at the latest. */
static void limit_run(CPUX86State *env, uint64_t dist)
{
    CPUState *cs = env_cpu(env);
    X86PMUState *pmu = env->pmu;
    int64_t excess, from_extra;

    if (!icount_enabled()) {
        pmu->deadline = dist;
        return;
    }
    excess = pmu->left - (int64_t)MIN(dist, INT64_MAX);
    if (excess <= 0) {
        return;
    }
    /* Move all three: their difference is the number executed so far. */
    from_extra = MIN(excess, cs->icount_extra);
    cs->icount_extra -= from_extra;
    cpu_neg(cs)->icount_decr.u16.low -= excess - from_extra;
    cs->icount_budget -= excess;
    pmu->left -= excess;
}

/* --- Counting ----------------------------------------------------------- */

static void overflow(CPUX86State *env, int i)
{
    X86PMUState *pmu = env->pmu;

    pmu->global_status |= 1ULL << i;
    if (!(pmu->ctl[i] & CTL_INT)) {
        return;
    }
    if (pmu->debugctl & DEBUGCTL_FREEZE_LBR) {
        pmu->global_status |= STATUS_LBR_FROZEN;
        pmu->lbr_on = pmu_lbr_enabled(pmu);
        pmu->frozen = true;
    }
    if (pmu->debugctl & DEBUGCTL_FREEZE_PMC) {
        pmu->global_status |= STATUS_PMC_FROZEN;
        pmu->frozen = true;
    }
    /*
     * The APIC must not be touched within a translation block.  End the run
     * after the current block: x86_pmu_exec_exit() raises the interrupt.
     */
    pmu->pmi_pending = true;
    cpu_exit(env_cpu(env));
}

static void counter_add(CPUX86State *env, int i, uint64_t n)
{
    X86PMUState *pmu = env->pmu;
    uint64_t sum = pmu->ctr[i] + n;

    pmu->ctr[i] = sum & (COUNTER_LIMIT - 1);
    if (sum >= COUNTER_LIMIT) {
        overflow(env, i);
    }
}

/* The counters in @active see the happenings in @events. */
static void happen(CPUX86State *env, uint32_t active, uint32_t events)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->global_status & STATUS_PMC_FROZEN) {
        return;
    }
    for (; active; active &= active - 1) {
        int i = ctz32(active);
        CounterRate *rate = &pmu->rate[i];

        if (!(rate->events & events)) {
            continue;
        }
        if (rate->per_event > 0) {
            counter_add(env, i, 1);
        } else {
            pmu->inverse[i]++;
        }
    }
}

/* Count a pending load: no store to the same address has followed. */
static void settle_load(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->load_pending) {
        pmu->load_pending = false;
        happen(env, pmu->active, HAPPENED_LOAD);
    }
}

void pmu_sync(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;
    uint64_t cycles = take_cycles(env);
    uint64_t retired = take_retired(env, cycles);
    uint32_t active;

    settle_load(env);
    if (!pmu->active) {
        pmu->unretired = 0;
        return;
    }
    if (!cycles) {
        return;
    }
    for (active = pmu->active; active; active &= active - 1) {
        int i = ctz32(active);
        CounterRate *rate = &pmu->rate[i];
        int64_t n = rate->per_cycle * cycles + rate->per_insn * retired -
                    pmu->inverse[i];

        pmu->inverse[i] = 0;
        if (n > 0) {
            counter_add(env, i, n);
        }
    }
}

/* End the run where the first of the active counters overflows. */
static void schedule_overflow(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;
    uint64_t dist = UINT64_MAX;
    uint32_t active;

    for (active = pmu->active; active; active &= active - 1) {
        int i = ctz32(active);

        /* No rate is above one for each cycle. */
        if (pmu->rate[i].per_cycle > 0 || pmu->rate[i].per_insn > 0) {
            dist = MIN(dist, COUNTER_LIMIT - pmu->ctr[i]);
        }
    }
    if (pmu->active) {
        limit_run(env, dist);
    }
}

static void enter_mode(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;
    uint32_t bits = 0;

    pmu->mode = x86_pmu_mode(env->hflags);
    pmu->active = pmu->active_in[pmu->mode];
    if (pmu->lbr_on || (pmu->wanted_in[pmu->mode] & HAPPENED_ANY_BRANCH)) {
        bits |= HF_PMU_BRANCH_MASK;
    }
    if (pmu->wanted_in[pmu->mode] & HAPPENED_ANY_ACCESS) {
        bits |= HF_PMU_ACCESS_MASK;
    }
    if (pmu->active && !icount_enabled()) {
        bits |= HF_PMU_INSN_MASK;
    }
    env->hflags &= ~(HF_PMU_BRANCH_MASK | HF_PMU_ACCESS_MASK |
                     HF_PMU_INSN_MASK);
    env->hflags |= bits;
    schedule_overflow(env);
}

/* A register has changed: compute the derived state again. */
void pmu_update_config(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;
    unsigned mode;
    int i;

    for (mode = 0; mode < X86_PMU_MODES; mode++) {
        pmu->active_in[mode] = 0;
        pmu->wanted_in[mode] = 0;
        for (i = 0; i < COUNTERS; i++) {
            if (counts_in_mode(env, i, mode)) {
                pmu->active_in[mode] |= 1u << i;
                pmu->wanted_in[mode] |= pmu->rate[i].events;
            }
        }
    }
    pmu->svme = env->efer & MSR_EFER_SVME;
    pmu->lbr_on = pmu_lbr_enabled(pmu);
    pmu->frozen = false;
    enter_mode(env);
}

void x86_pmu_mode_changed(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->svme != !!(env->efer & MSR_EFER_SVME)) {
        pmu_sync(env);
        pmu_update_config(env);
    } else if (pmu->mode != x86_pmu_mode(env->hflags)) {
        pmu_sync(env);
        enter_mode(env);
    }
}

void x86_pmu_unretire(CPUX86State *env, uintptr_t retaddr)
{
    if (!retaddr || !icount_enabled()) {
        env->pmu->unretired++;
    }
}

void x86_pmu_exec_enter(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    if (icount_enabled()) {
        pmu->left = budget_left(env_cpu(env));
    }
    schedule_overflow(env);
}

void x86_pmu_exec_exit(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    pmu_sync(env);
    if (pmu->frozen) {
        pmu_update_config(env);
    }
    if (pmu->pmi_pending) {
        pmu->pmi_pending = false;
        qemu_mutex_lock_iothread();
        apic_deliver_pmi(env_archcpu(env)->apic_state);
        qemu_mutex_unlock_iothread();
    }
}

/* Called at the start of a translation block, without -icount. */
void helper_pmu_check_overflow(CPUX86State *env)
{
    if (env->pmu && env->pmu_insns >= env->pmu->deadline) {
        pmu_sync(env);
        schedule_overflow(env);
    }
}

/* --- Branches ----------------------------------------------------------- */

static void branch(CPUX86State *env, target_ulong from, target_ulong to,
                   unsigned type, unsigned len, unsigned mode)
{
    static const uint32_t events_of[] = {
        [X86_BRANCH_JCC_NOT_TAKEN] = HAPPENED_BRANCH | HAPPENED_CONDITIONAL,
        [X86_BRANCH_JCC] =
            HAPPENED_BRANCH | HAPPENED_CONDITIONAL | HAPPENED_TAKEN,
        [X86_BRANCH_JMP_REL] = HAPPENED_BRANCH | HAPPENED_TAKEN,
        [X86_BRANCH_JMP_IND] = HAPPENED_BRANCH | HAPPENED_TAKEN,
        [X86_BRANCH_CALL_REL] = HAPPENED_BRANCH | HAPPENED_TAKEN,
        [X86_BRANCH_CALL_IND] = HAPPENED_BRANCH | HAPPENED_TAKEN,
        [X86_BRANCH_RET] = HAPPENED_BRANCH | HAPPENED_TAKEN | HAPPENED_RETURN,
        [X86_BRANCH_FAR] = HAPPENED_BRANCH | HAPPENED_TAKEN | HAPPENED_FAR,
    };
    X86PMUState *pmu = env->pmu;
    uint32_t mispredicted = 0;

    if (pmu->lbr_on || (pmu->wanted_in[mode] & HAPPENED_ANY_MISPREDICT)) {
        mispredicted = pmu_predict(pmu, from, to, type, len);
    }
    /* Record first: an overflow in happen() may freeze the stack. */
    if (pmu->lbr_on) {
        pmu_lbr_record(env, from, to, type, mispredicted != 0);
    }
    happen(env, pmu->active_in[mode], events_of[type] | mispredicted);
}

void helper_pmu_branch(CPUX86State *env, target_ulong from, target_ulong to,
                       uint32_t desc)
{
    if (env->pmu) {
        branch(env, from, to, extract32(desc, 0, X86_BRANCH_LEN_SHIFT),
               desc >> X86_BRANCH_LEN_SHIFT, env->pmu->mode);
    }
}

/* A far branch counts in @mode, the mode of its instruction. */
void helper_pmu_far_branch(CPUX86State *env, target_ulong from, uint32_t mode)
{
    if (env->pmu) {
        branch(env, from, env->eip, X86_BRANCH_FAR, 0, mode);
    }
}

/* An interrupt or exception counts in the mode of its handler. */
void x86_pmu_interrupted(CPUX86State *env, target_ulong from, bool is_hw)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->lbr_on || (pmu->wanted_in[pmu->mode] & HAPPENED_ANY_BRANCH)) {
        pmu_lbr_interrupted(pmu);
        branch(env, from, env->eip, X86_BRANCH_FAR, 0, pmu->mode);
    }
    if (is_hw && (pmu->wanted_in[pmu->mode] & HAPPENED_INTERRUPT)) {
        happen(env, pmu->active, HAPPENED_INTERRUPT);
    }
}

/* --- Memory accesses ---------------------------------------------------- */

void helper_pmu_access(CPUX86State *env, target_ulong addr, uint32_t type)
{
    X86PMUState *pmu = env->pmu;
    uint32_t events = 0;

    if (!pmu) {
        return;
    }
    if (type == X86_ACCESS_STORE_BACK) {
        pmu->load_pending = false;
    } else {
        settle_load(env);
        if (pmu->wanted_in[pmu->mode] & HAPPENED_ANY_CACHE) {
            events = pmu_cache_access(env, addr, type != X86_ACCESS_LOAD);
        }
    }
    switch (type) {
    case X86_ACCESS_LOAD:
        pmu->load_pending = true;
        break;
    case X86_ACCESS_STORE:
        events |= HAPPENED_STORE;
        break;
    default:
        events |= HAPPENED_LOAD_STORE;
        break;
    }
    if (events) {
        happen(env, pmu->active, events);
    }
}

/* --- TLB misses --------------------------------------------------------- */

void x86_pmu_tlb_fill(CPUX86State *env, MMUAccessType access_type,
                      uint64_t page_size)
{
    static const uint32_t data[] = {
        HAPPENED_DTLB_4K, HAPPENED_DTLB_2M, HAPPENED_DTLB_1G
    };
    static const uint32_t insn[] = {
        HAPPENED_ITLB_4K, HAPPENED_ITLB_2M, HAPPENED_ITLB_1G
    };
    X86PMUState *pmu = env->pmu;
    int size = page_size >= (1u << 30) ? 2 : page_size >= (1u << 21) ? 1 : 0;
    uint32_t event = access_type == MMU_INST_FETCH ? insn[size] : data[size];

    if (pmu->wanted_in[pmu->mode] & event) {
        happen(env, pmu->active, event);
    }
}

/* --- Life cycle --------------------------------------------------------- */

void x86_pmu_realize(X86CPU *cpu)
{
    if (cpu->env.features[FEAT_8000_0001_ECX] & CPUID_EXT3_PERFCORE) {
        cpu->env.pmu = g_new0(X86PMUState, 1);
    }
}

void x86_pmu_reset(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    memset(pmu, 0, sizeof(*pmu));
    /* Firmware enables all counters, for software without PerfMonV2. */
    pmu->global_ctl = ALL_COUNTERS;
    if (icount_enabled()) {
        pmu->left = budget_left(env_cpu(env));
    }
    pmu_update_config(env);
}

static int pmu_post_load(void *opaque, int version_id)
{
    X86PMUState *pmu = opaque;
    int i;

    if (pmu->lbr_top >= LBR_DEPTH) {
        return -EINVAL;
    }
    for (i = 0; i < COUNTERS; i++) {
        pmu->ctl[i] &= CTL_IMPLEMENTED;
        pmu->ctr[i] &= COUNTER_LIMIT - 1;
        pmu->rate[i] = pmu_decode_event(pmu->ctl[i]);
    }
    return 0;
}

static const VMStateDescription vmstate_pmu_state = {
    .name = "cpu/tcg_pmu/state",
    .version_id = 2,
    .minimum_version_id = 1,
    .post_load = pmu_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_UINT64_ARRAY(ctl, X86PMUState, COUNTERS),
        VMSTATE_UINT64_ARRAY(ctr, X86PMUState, COUNTERS),
        VMSTATE_UINT64(global_ctl, X86PMUState),
        VMSTATE_UINT64(global_status, X86PMUState),
        VMSTATE_UINT64(debugctl, X86PMUState),
        VMSTATE_UINT64(dbg_extn_cfg, X86PMUState),
        VMSTATE_UINT64(lbr_select, X86PMUState),
        VMSTATE_UINT64_ARRAY(lbr_from, X86PMUState, LBR_DEPTH),
        VMSTATE_UINT64_ARRAY(lbr_to, X86PMUState, LBR_DEPTH),
        VMSTATE_UINT32(lbr_top, X86PMUState),
        VMSTATE_BOOL(pmi_pending, X86PMUState),
        VMSTATE_UINT8_ARRAY(jcc, X86PMUState, JCC_ENTRIES),
        VMSTATE_UINT64_ARRAY(target, X86PMUState, TARGET_ENTRIES),
        VMSTATE_UINT64_ARRAY(returns, X86PMUState, RETURN_ENTRIES),
        VMSTATE_UINT32(returns_top, X86PMUState),
        VMSTATE_UINT64_V(br_from, X86PMUState, 2),
        VMSTATE_UINT64_V(br_to, X86PMUState, 2),
        VMSTATE_UINT64_V(int_from, X86PMUState, 2),
        VMSTATE_UINT64_V(int_to, X86PMUState, 2),
        VMSTATE_END_OF_LIST()
    }
};

static bool pmu_needed(void *opaque)
{
    X86CPU *cpu = opaque;

    return x86_pmu_present(&cpu->env);
}

/* A subsection of the CPU: its registers and EFER are loaded by now. */
static int pmu_cpu_post_load(void *opaque, int version_id)
{
    X86CPU *cpu = opaque;

    cpu->env.pmu->left = 0;
    pmu_update_config(&cpu->env);
    return 0;
}

const VMStateDescription vmstate_x86_pmu = {
    .name = "cpu/tcg_pmu",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = pmu_needed,
    .post_load = pmu_cpu_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_STRUCT_POINTER(env.pmu, X86CPU, vmstate_pmu_state,
                               X86PMUState),
        VMSTATE_END_OF_LIST()
    }
};
