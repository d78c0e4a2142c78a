/*
 * Emulation of AMD's core performance counters under TCG: the events.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "pmu-internal.h"

/* Fields of an event select. */
#define CTL_UNIT(ctl)               extract64(ctl, 8, 8)
#define CTL_CNTMASK(ctl)            extract64(ctl, 24, 8)
#define CTL_EVENT(ctl)              (extract64(ctl, 32, 4) << 8 | \
                                     extract64(ctl, 0, 8))

static uint32_t dtlb_events(unsigned unit)
{
    /* Bits 3..0 are hits in a second-level TLB, and no such TLB exists. */
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

/* Decode @ctl; an event that the emulator cannot see counts as nothing. */
CounterRate pmu_decode_event(uint64_t ctl)
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
     * takes one cycle here, so the number is 0 or 1.
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
