/*
 * Emulation of AMD's core performance counters and LBR stack under TCG:
 * definitions for all source files of the PMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * pmu.c counts.  pmu-event.c decodes event selects, pmu-model.c predicts
 * branches and looks up caches, pmu-lbr.c keeps the branch records, pmu-lbrv.c
 * switches them between an SVM host and its guest, pmu-msr.c is the interface of
 * RDMSR, WRMSR and RDPMC.
 */

#ifndef I386_TCG_PMU_INTERNAL_H
#define I386_TCG_PMU_INTERNAL_H

#define COUNTERS                    X86_PMU_COUNTERS
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
#define CTL_IMPLEMENTED             0x0000030fffd7ffffULL

/* Global status register. */
#define STATUS_LBR_FROZEN           (1ULL << 58)
#define STATUS_PMC_FROZEN           (1ULL << 59)

/* Model-specific registers of the branch records. */
#define MSR_DEBUGCTL                0x000001d9
#define MSR_BR_FROM                 0x000001db
#define MSR_BR_TO                   0x000001dc
#define MSR_INT_FROM                0x000001dd
#define MSR_INT_TO                  0x000001de
#define MSR_LBR_SELECT              0xc000010e
#define MSR_DBG_EXTN_CFG            0xc000010f
#define MSR_LBR_FROM(n)             (0xc0010300 + 2 * (n))

#define DEBUGCTL_FREEZE_LBR         (1ULL << 11)
#define DEBUGCTL_FREEZE_PMC         (1ULL << 12)

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
#define WAYS                        8
#define L1_SETS                     64
#define L2_SETS                     1024

/* The branch predictor. */
#define JCC_ENTRIES                 4096
#define TARGET_ENTRIES              1024
#define RETURN_ENTRIES              32

/*
 * The amounts that a counter adds for a cycle, for a completed instruction,
 * and for a happening in @events.
 */
typedef struct CounterRate {
    int8_t per_cycle;
    int8_t per_insn;
    int8_t per_event;
    uint32_t events;
} CounterRate;

/* The lines of a set, the most recently used line first. */
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
    uint64_t br_from, br_to;            /* DebugCtl[LBR]: the last branch, */
    uint64_t int_from, int_to;          /* the last one before an interrupt */
    bool pmi_pending;                   /* an interrupt is to be raised */

    /* Since the last sync. */
    uint64_t inverse[COUNTERS];         /* events of counters with CTL_INV */
    uint64_t unretired;                 /* trapped instructions */
    bool load_pending;                  /* see settle_load() */
    int64_t left;                       /* icount: the rest of the budget */
    uint64_t deadline;                  /* no icount: insns to overflow */

    /* Computed from the architectural state. */
    CounterRate rate[COUNTERS];
    uint32_t active_in[X86_PMU_MODES];  /* counters that count in a mode */
    uint32_t active;                    /* the same, for the current mode */
    uint32_t wanted_in[X86_PMU_MODES];  /* events that these counters count */
    unsigned mode;
    bool svme;
    bool lbr_on;
    bool frozen;                        /* has frozen since exec_enter */

    /* Not saved: QEMU does not load a TCG CPU that is in an SVM guest. */
    bool lbr_switched;                  /* by VMRUN; #VMEXIT switches back */

    /* The branch predictor, not architectural state. */
    uint8_t jcc[JCC_ENTRIES];
    uint64_t target[TARGET_ENTRIES];
    uint64_t returns[RETURN_ENTRIES];
    uint32_t returns_top;

    /* The caches, not architectural: numbers of lines, no data. */
    CacheSet l1[L1_SETS];
    CacheSet l2[L2_SETS];
};

static inline bool has_global(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] & CPUID_8000_0022_EAX_PERFMON_V2;
}

static inline bool has_lbr(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] & CPUID_8000_0022_EAX_LBR_V2;
}

static inline bool has_lbrv(CPUX86State *env)
{
    return env->features[FEAT_SVM] & CPUID_SVM_LBRV;
}

static inline bool has_freeze(CPUX86State *env)
{
    return env->features[FEAT_8000_0022_EAX] &
           CPUID_8000_0022_EAX_LBR_PMC_FREEZE;
}

/* pmu.c */
void pmu_sync(CPUX86State *env);
void pmu_update_config(CPUX86State *env);

/* pmu-event.c */
CounterRate pmu_decode_event(uint64_t ctl);

/* pmu-model.c */
uint32_t pmu_predict(X86PMUState *pmu, target_ulong from, target_ulong to,
                     unsigned type, unsigned len);
uint32_t pmu_cache_access(CPUX86State *env, target_ulong addr, bool store);

/* pmu-lbr.c */
bool pmu_lbr_enabled(X86PMUState *pmu);
void pmu_lbr_record(CPUX86State *env, target_ulong from, target_ulong to,
                    unsigned type, bool mispredicted);
void pmu_lbr_interrupted(X86PMUState *pmu);
bool pmu_lbr_get(X86PMUState *pmu, uint32_t msr, uint64_t *val);
bool pmu_lbr_set(CPUX86State *env, uint32_t msr, uint64_t val);
bool pmu_lbr_wrmsr(CPUX86State *env, uint32_t msr, uint64_t val,
                   uintptr_t retaddr);

#endif /* I386_TCG_PMU_INTERNAL_H */
