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
 * With -icount, time is the number of instructions executed, and so are the
 * cycles.  A counter is brought up to date ("synced") at the few points where
 * what it counts may change: access to it, a change of CPL, a switch between
 * host and guest, and the end of a run of the vCPU.  Between those points
 * counting costs nothing.  Overflow costs nothing either: the budget of
 * instructions with which the vCPU runs is cut down to the distance of the
 * nearest overflow, so that the run ends right there, without skid.
 *
 * Without -icount, translated code counts its instructions one by one, but
 * only while a counter needs it, and an overflow is noticed at the end of the
 * translation block.
 *
 * Branches and accesses to memory are counted by helpers which translated code
 * calls only while hflags says that a counter or the LBR wants it; TLB fills
 * where they occur.
 * See docs/system/i386/pmu.rst for what is counted and what is a model.
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

/* Model-specific registers. */
#define MSR_DEBUGCTL                0x000001d9
#define MSR_LBR_SELECT              0xc000010e
#define MSR_DBG_EXTN_CFG            0xc000010f
#define MSR_GLOBAL_STATUS           0xc0000300
#define MSR_GLOBAL_CTL              0xc0000301
#define MSR_GLOBAL_STATUS_CLR       0xc0000302
#define MSR_GLOBAL_STATUS_SET       0xc0000303
#define MSR_LEGACY_CTL(n)           (0xc0010000 + (n))
#define MSR_LEGACY_CTR(n)           (0xc0010004 + (n))
#define MSR_PERF_CTL(n)             (0xc0010200 + 2 * (n))
#define MSR_LBR_FROM(n)             (0xc0010300 + 2 * (n))

#define COUNTERS                    X86_PMU_COUNTERS
#define LEGACY_COUNTERS             4
#define LBR_DEPTH                   X86_PMU_LBR_DEPTH
#define COUNTER_LIMIT               (1ULL << 48)
#define ALL_COUNTERS                MAKE_64BIT_MASK(0, COUNTERS)

/* Event select register. */
#define CTL_USR                     (1ULL << 16)
#define CTL_OS                      (1ULL << 17)
#define CTL_EDGE                    (1ULL << 18)
#define CTL_INT                     (1ULL << 20)
#define CTL_EN                      (1ULL << 22)
#define CTL_INV                     (1ULL << 23)
#define CTL_GUEST_ONLY              (1ULL << 40)
#define CTL_HOST_ONLY               (1ULL << 41)
#define CTL_UNIT(ctl)               extract64(ctl, 8, 8)
#define CTL_CNTMASK(ctl)            extract64(ctl, 24, 8)
#define CTL_EVENT(ctl)              (extract64(ctl, 32, 4) << 8 | \
                                     extract64(ctl, 0, 8))
#define CTL_IMPLEMENTED             0x0000030fffd7ffffULL

/* Global status register. */
#define STATUS_LBR_FROZEN           (1ULL << 58)
#define STATUS_PMC_FROZEN           (1ULL << 59)

#define DEBUGCTL_FREEZE_LBR         (1ULL << 11)
#define DEBUGCTL_FREEZE_PMC         (1ULL << 12)
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

/* What can happen at one instruction, besides its completion. */
#define HAPPENED_BRANCH             (1u << 0)
#define HAPPENED_TAKEN              (1u << 1)
#define HAPPENED_CONDITIONAL        (1u << 2)
#define HAPPENED_FAR                (1u << 3)
#define HAPPENED_RETURN             (1u << 4)
#define HAPPENED_MISPREDICT         (1u << 5)
#define HAPPENED_TAKEN_MISPREDICT   (1u << 6)
#define HAPPENED_RETURN_MISPREDICT  (1u << 7)
#define HAPPENED_IND_MISPREDICT     (1u << 8)
#define HAPPENED_INTERRUPT          (1u << 9)
#define HAPPENED_DTLB_4K            (1u << 10)
#define HAPPENED_DTLB_2M            (1u << 11)
#define HAPPENED_DTLB_1G            (1u << 12)
#define HAPPENED_ITLB_4K            (1u << 13)
#define HAPPENED_ITLB_2M            (1u << 14)
#define HAPPENED_ITLB_1G            (1u << 15)
#define HAPPENED_LOAD               (1u << 16)
#define HAPPENED_STORE              (1u << 17)
#define HAPPENED_LOAD_STORE         (1u << 18)
#define HAPPENED_L1_LOAD_MISS       (1u << 19)
#define HAPPENED_L1_STORE_MISS      (1u << 20)
#define HAPPENED_L2_HIT             (1u << 21)
#define HAPPENED_L2_MISS            (1u << 22)

#define HAPPENED_ANY_MISPREDICT \
    (HAPPENED_MISPREDICT | HAPPENED_TAKEN_MISPREDICT | \
     HAPPENED_RETURN_MISPREDICT | HAPPENED_IND_MISPREDICT)
#define HAPPENED_ANY_BRANCH \
    (HAPPENED_BRANCH | HAPPENED_TAKEN | HAPPENED_CONDITIONAL | HAPPENED_FAR | \
     HAPPENED_RETURN | HAPPENED_ANY_MISPREDICT)

#define HAPPENED_ANY_CACHE \
    (HAPPENED_L1_LOAD_MISS | HAPPENED_L1_STORE_MISS | HAPPENED_L2_HIT | \
     HAPPENED_L2_MISS)
#define HAPPENED_ANY_ACCESS \
    (HAPPENED_LOAD | HAPPENED_STORE | HAPPENED_LOAD_STORE | \
     HAPPENED_ANY_CACHE)

/* The data caches: 32 KiB and 512 KiB, with eight lines of 64 bytes a set. */
#define LINE_SHIFT                  6
#define WAYS                        8
#define L1_SETS                     64
#define L2_SETS                     1024

/* The branch predictor. */
#define JCC_ENTRIES                 4096
#define TARGET_ENTRIES              1024
#define RETURN_ENTRIES              32

/*
 * What a counter adds: so much for each cycle, for each completed
 * instruction, and for each of the happenings in @events.
 */
typedef struct CounterRate {
    int8_t per_cycle;
    int8_t per_insn;
    int8_t per_event;
    uint32_t events;
} CounterRate;

/* The lines of a set, the one used last first. */
typedef struct CacheSet {
    uint64_t line[WAYS];
} CacheSet;

struct X86PMUState {
    /* Architectural state. */
    uint64_t ctl[COUNTERS];
    uint64_t ctr[COUNTERS];             /* as of the last sync */
    uint64_t global_ctl;
    uint64_t global_status;
    uint64_t debugctl;
    uint64_t dbg_extn_cfg;
    uint64_t lbr_select;
    uint64_t lbr_from[LBR_DEPTH];       /* a ring, the newest at lbr_top */
    uint64_t lbr_to[LBR_DEPTH];
    uint32_t lbr_top;
    bool pmi_pending;                   /* an interrupt is to be raised */

    /* Since the last sync. */
    uint64_t inverse[COUNTERS];         /* events of counters with CTL_INV */
    uint64_t unretired;                 /* trapped instructions */
    bool load_pending;                  /* see settle_load() */
    int64_t left;                       /* -icount: the rest of the budget */
    uint64_t deadline;                  /* else: instructions to overflow */

    /* Computed from the architectural state. */
    CounterRate rate[COUNTERS];
    uint32_t active_in[X86_PMU_MODES];  /* counters which count in a mode */
    uint32_t active;                    /* the same, for the current mode */
    uint32_t wanted_in[X86_PMU_MODES];  /* events that any of them counts */
    unsigned mode;
    bool svme;
    bool lbr_on;
    bool frozen;                        /* has frozen since exec_enter */

    /* The branch predictor: no part of the architectural state. */
    uint8_t jcc[JCC_ENTRIES];
    uint64_t target[TARGET_ENTRIES];
    uint64_t returns[RETURN_ENTRIES];
    uint32_t returns_top;

    /* Nor are the caches: they hold lines of host memory, no data. */
    CacheSet l1[L1_SETS];
    CacheSet l2[L2_SETS];
};

static bool has_global(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] & CPUID_8000_0022_EAX_PERFMON_V2;
}

static bool has_lbr(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] & CPUID_8000_0022_EAX_LBR_V2;
}

static bool has_freeze(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] &
           CPUID_8000_0022_EAX_LBR_PMC_FREEZE;
}

/* --- The events --------------------------------------------------------- */

static uint32_t dtlb_events(unsigned unit)
{
    /* Bits 3..0, hits in a second-level TLB, never occur: there is none. */
    return (unit & 0x10 ? HAPPENED_DTLB_4K : 0) |
           (unit & 0x40 ? HAPPENED_DTLB_2M : 0) |
           (unit & 0x80 ? HAPPENED_DTLB_1G : 0);
}

static uint32_t itlb_events(unsigned unit)
{
    return (unit & 0x01 ? HAPPENED_ITLB_4K : 0) |
           (unit & 0x02 ? HAPPENED_ITLB_2M : 0) |
           (unit & 0x04 ? HAPPENED_ITLB_1G : 0);
}

static uint32_t dispatch_events(unsigned unit)
{
    return (unit & 0x01 ? HAPPENED_LOAD : 0) |
           (unit & 0x02 ? HAPPENED_STORE : 0) |
           (unit & 0x04 ? HAPPENED_LOAD_STORE : 0);
}

/* Fills of the data cache, by their source: the second level, or memory. */
static uint32_t refill_events(unsigned unit)
{
    return (unit & 0x01 ? HAPPENED_L2_HIT : 0) |
           (unit & 0x08 ? HAPPENED_L2_MISS : 0);
}

/* Requests to the second level; instructions have no cache here. */
static uint32_t l2_request_events(unsigned unit)
{
    return (unit & 0x80 ? HAPPENED_L1_LOAD_MISS : 0) |
           (unit & 0x40 ? HAPPENED_L1_STORE_MISS : 0);
}

static uint32_t l2_status_events(unsigned unit)
{
    return (unit & 0x08 ? HAPPENED_L2_MISS : 0) |
           (unit & 0x70 ? HAPPENED_L2_HIT : 0);
}

/* What @ctl counts; nothing for an event that the emulator cannot see. */
static CounterRate decode_event(uint64_t ctl)
{
    static const CounterRate cycles = { .per_cycle = 1 };
    static const CounterRate nothing;
    CounterRate rate = { .per_event = 1 };

    switch (CTL_EVENT(ctl)) {
    case 0x029:
        rate.events = dispatch_events(CTL_UNIT(ctl));
        break;
    case 0x02c:
        rate.events = HAPPENED_INTERRUPT;
        break;
    case 0x040:
        rate.events = HAPPENED_LOAD | HAPPENED_STORE | HAPPENED_LOAD_STORE;
        break;
    case 0x043:
        rate.events = refill_events(CTL_UNIT(ctl));
        break;
    case 0x045:
        rate.events = dtlb_events(CTL_UNIT(ctl));
        break;
    case 0x060:
        rate.events = l2_request_events(CTL_UNIT(ctl));
        break;
    case 0x064:
        rate.events = l2_status_events(CTL_UNIT(ctl));
        break;
    case 0x076:
        rate = cycles;
        break;
    case 0x085:
        rate.events = itlb_events(CTL_UNIT(ctl));
        break;
    case 0x0c0:
        rate = (CounterRate){ .per_insn = 1 };
        break;
    case 0x0c2:
        rate.events = HAPPENED_BRANCH;
        break;
    case 0x0c3:
        rate.events = HAPPENED_MISPREDICT;
        break;
    case 0x0c4:
        rate.events = HAPPENED_TAKEN;
        break;
    case 0x0c5:
        rate.events = HAPPENED_TAKEN_MISPREDICT;
        break;
    case 0x0c6:
        rate.events = HAPPENED_FAR;
        break;
    case 0x0c8:
        rate.events = HAPPENED_RETURN;
        break;
    case 0x0c9:
        rate.events = HAPPENED_RETURN_MISPREDICT;
        break;
    case 0x0ca:
        rate.events = HAPPENED_IND_MISPREDICT;
        break;
    case 0x0d1:
        rate.events = HAPPENED_CONDITIONAL;
        break;
    default:
        return nothing;
    }
    if (ctl & CTL_EDGE) {
        return nothing;
    }

    /*
     * CNTMASK compares the number of events in one cycle.  An instruction
     * takes one cycle here, so that number is 0 or 1.
     */
    switch (CTL_CNTMASK(ctl)) {
    case 0:
        return rate;
    case 1:
        if (!(ctl & CTL_INV)) {
            return rate;
        }
        rate.per_insn = -rate.per_insn;
        rate.per_event = -rate.per_event;
        rate.per_cycle = 1 - rate.per_cycle;
        return rate;
    default:
        return ctl & CTL_INV ? cycles : nothing;
    }
}

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
 * The budget grows again when a fault takes back an instruction that a sync
 * has seen already: then this is 0 until the debt is paid.
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

/* Of @cycles, the number in which an instruction completed. */
static uint64_t take_retired(CPUX86State *env, uint64_t cycles)
{
    X86PMUState *pmu = env->pmu;
    uint64_t idle = env->pmu_rep_cycles + pmu->unretired;
    uint64_t n = MIN(idle, cycles);

    env->pmu_rep_cycles = 0;
    pmu->unretired = idle - n;
    return cycles - n;
}

/* End the vCPU's run @dist instructions from here, if not before. */
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
    /* All three move together: what was executed is their difference. */
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
        pmu->lbr_on = false;
        pmu->frozen = true;
    }
    if (pmu->debugctl & DEBUGCTL_FREEZE_PMC) {
        pmu->global_status |= STATUS_PMC_FROZEN;
        pmu->frozen = true;
    }
    /*
     * The APIC may be touched only between translation blocks: have the run
     * end with this one, and leave the rest to x86_pmu_exec_exit().
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

/* A load that no store to the same place has followed in its instruction. */
static void settle_load(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->load_pending) {
        pmu->load_pending = false;
        happen(env, pmu->active, HAPPENED_LOAD);
    }
}

static void sync_counters(CPUX86State *env)
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

/* Have the run end where the first of the active counters overflows. */
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

/* A register has changed: compute again what follows from them. */
static void update_config(CPUX86State *env)
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
    pmu->lbr_on = (pmu->dbg_extn_cfg & DBG_EXTN_CFG_LBRV2EN) &&
                  !(pmu->global_status & STATUS_LBR_FROZEN);
    pmu->frozen = false;
    enter_mode(env);
}

void x86_pmu_mode_changed(CPUX86State *env)
{
    X86PMUState *pmu = env->pmu;

    if (pmu->svme != !!(env->efer & MSR_EFER_SVME)) {
        sync_counters(env);
        update_config(env);
    } else if (pmu->mode != x86_pmu_mode(env->hflags)) {
        sync_counters(env);
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

    sync_counters(env);
    if (pmu->frozen) {
        update_config(env);
    }
    if (pmu->pmi_pending) {
        pmu->pmi_pending = false;
        qemu_mutex_lock_iothread();
        apic_deliver_pmi(env_archcpu(env)->apic_state);
        qemu_mutex_unlock_iothread();
    }
}

/* Without -icount, at the start of a translation block. */
void helper_pmu_check_overflow(CPUX86State *env)
{
    if (env->pmu && env->pmu_insns >= env->pmu->deadline) {
        sync_counters(env);
        schedule_overflow(env);
    }
}

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

/* An indirect branch goes where it went the last time. */
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

/* The events of a mispredicted branch; 0 if it was predicted right. */
static uint32_t predict(X86PMUState *pmu, target_ulong from, target_ulong to,
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

static bool lbr_selected(CPUX86State *env, unsigned type)
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
    /* By the CPL in which the branch ends, which is the current one. */
    uint32_t cpl = env->hflags & HF_CPL_MASK ? SELECT_USER : SELECT_KERNEL;

    return type != X86_BRANCH_JCC_NOT_TAKEN &&
           !(env->pmu->lbr_select & (kind[type] | cpl));
}

static void lbr_record(X86PMUState *pmu, target_ulong from, target_ulong to,
                       bool mispredicted)
{
    pmu->lbr_top = (pmu->lbr_top + 1) % LBR_DEPTH;
    pmu->lbr_from[pmu->lbr_top] =
        (from & ~LBR_FROM_MISPREDICT) |
        (mispredicted ? LBR_FROM_MISPREDICT : 0);
    pmu->lbr_to[pmu->lbr_top] = (to & LBR_TO_ADDRESS) | LBR_TO_VALID;
}

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
        mispredicted = predict(pmu, from, to, type, len);
    }
    /* Before counting: a counter that overflows may freeze the stack. */
    if (pmu->lbr_on && lbr_selected(env, type)) {
        lbr_record(pmu, from, to, mispredicted != 0);
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

/* A far branch counts in the mode in which it began. */
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
        branch(env, from, env->eip, X86_BRANCH_FAR, 0, pmu->mode);
    }
    if (is_hw && (pmu->wanted_in[pmu->mode] & HAPPENED_INTERRUPT)) {
        happen(env, pmu->active, HAPPENED_INTERRUPT);
    }
}

/* --- Memory accesses ---------------------------------------------------- */

/* True if @line was there.  It is the first of its set afterwards.  */
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

/* Where an access is satisfied.  Devices are not cached. */
static uint32_t cache_access(CPUX86State *env, target_ulong addr, bool store)
{
    X86PMUState *pmu = env->pmu;
    void *host = tlb_vaddr_to_host(env, addr, MMU_DATA_LOAD,
                                   cpu_mmu_index(env, false));
    /* A line has one place in host memory, whatever maps it in the guest. */
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
            events = cache_access(env, addr, type != X86_ACCESS_LOAD);
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

/* --- Registers ---------------------------------------------------------- */

/* The counter whose control (*ctl) or count register @msr is, or -1. */
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

/* The field of the LBR stack which @msr is, or NULL. */
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

static bool rdmsr_lbr(X86PMUState *pmu, uint32_t msr, uint64_t *val)
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

bool x86_pmu_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *val,
                   uintptr_t retaddr)
{
    X86PMUState *pmu = env->pmu;
    bool ctl;
    int i = counter_of_msr(msr, &ctl);

    if (i >= 0) {
        sync_counters(env);
        *val = ctl ? pmu->ctl[i] : pmu->ctr[i];
        return true;
    }
    if (has_global(env) && msr == MSR_GLOBAL_STATUS) {
        sync_counters(env);
    }
    return (has_global(env) && rdmsr_global(pmu, msr, val)) ||
           (has_lbr(env) && rdmsr_lbr(pmu, msr, val));
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
        pmu->rate[i] = decode_event(val);
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

static bool wrmsr_lbr(CPUX86State *env, uint32_t msr, uint64_t val)
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

bool x86_pmu_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr)
{
    sync_counters(env);
    if (wrmsr_counter(env->pmu, msr, val) ||
        (has_global(env) && wrmsr_global(env, msr, val, retaddr)) ||
        (has_lbr(env) && wrmsr_lbr(env, msr, val))) {
        update_config(env);
        return true;
    }
    return false;
}

/* False if there is no such counter. */
bool x86_pmu_rdpmc(CPUX86State *env, uint32_t index, uint64_t *val)
{
    if (index >= COUNTERS) {
        return false;
    }
    sync_counters(env);
    *val = env->pmu->ctr[index];
    return true;
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
    /* As firmware leaves it: software that knows no PerfMonV2 can count. */
    pmu->global_ctl = ALL_COUNTERS;
    if (icount_enabled()) {
        pmu->left = budget_left(env_cpu(env));
    }
    update_config(env);
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
        pmu->rate[i] = decode_event(pmu->ctl[i]);
    }
    return 0;
}

static const VMStateDescription vmstate_pmu_state = {
    .name = "cpu/tcg_pmu/state",
    .version_id = 1,
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
        VMSTATE_END_OF_LIST()
    }
};

static bool pmu_needed(void *opaque)
{
    X86CPU *cpu = opaque;

    return x86_pmu_present(&cpu->env);
}

/* Registers and EFER are there by now: this is a subsection of the CPU. */
static int pmu_cpu_post_load(void *opaque, int version_id)
{
    X86CPU *cpu = opaque;

    cpu->env.pmu->left = 0;
    update_config(&cpu->env);
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
