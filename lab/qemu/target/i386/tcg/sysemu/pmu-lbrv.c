/*
 * Emulation of AMD's branch records under TCG: LBR virtualization of SVM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See "Last Branch Record Virtualization" in AMD64 Architecture Programmer's
 * Manual volume 2, section 15.23, and the layout of the VMCB in appendix B.
 * VMCB offset B8h, bit 0, enables it for one VMRUN and the #VMEXIT that follows:
 *
 *                                           VMRUN               #VMEXIT
 * DebugCtl, last branch, last interrupt,    host's saved,       guest's saved,
 * DebugExtnCtl                              guest's loaded      host's loaded
 * LBR stack, LBR_SELECT                     guest's loaded      guest's saved
 *
 * The host finds the guest's stack and LBR_SELECT in its registers.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "pmu-internal.h"

#define LBR_CTL_ENABLE              (1u << 0)

#define SAVED(field)                offsetof(struct vmcb, save.field)

QEMU_BUILD_BUG_ON(SAVED(dbgctl) != 0x400 + 0x270);
QEMU_BUILD_BUG_ON(SAVED(dbgextnctl) != 0x400 + 0x298);
QEMU_BUILD_BUG_ON(SAVED(lbr_stack) != 0x400 + 0x670);
QEMU_BUILD_BUG_ON(SAVED(lbr_select) != 0x400 + 0x770);

typedef struct Place {
    uint32_t msr;
    uint32_t offset;
} Place;

static const Place both_ways[] = {
    { MSR_DEBUGCTL,     SAVED(dbgctl) },
    { MSR_BR_FROM,      SAVED(br_from) },
    { MSR_BR_TO,        SAVED(br_to) },
    { MSR_INT_FROM,     SAVED(last_excp_from) },
    { MSR_INT_TO,       SAVED(last_excp_to) },
    { MSR_DBG_EXTN_CFG, SAVED(dbgextnctl) },
};

static void save(CPUX86State *env, hwaddr area, uint32_t msr, uint32_t offset)
{
    uint64_t val = 0;

    pmu_lbr_get(env->pmu, msr, &val);
    x86_stq_phys(env_cpu(env), area + offset, val);
}

static void load(CPUX86State *env, hwaddr area, uint32_t msr, uint32_t offset)
{
    pmu_lbr_set(env, msr, x86_ldq_phys(env_cpu(env), area + offset));
}

static void save_both_ways(CPUX86State *env, hwaddr area)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(both_ways); i++) {
        save(env, area, both_ways[i].msr, both_ways[i].offset);
    }
}

static void load_both_ways(CPUX86State *env, hwaddr area)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(both_ways); i++) {
        load(env, area, both_ways[i].msr, both_ways[i].offset);
    }
}

/* The VMCB has the records in the order of their MSRs: From and To in turns. */
static void save_stack(CPUX86State *env, hwaddr area)
{
    int i;

    for (i = 0; i < 2 * LBR_DEPTH; i++) {
        save(env, area, MSR_LBR_FROM(0) + i, SAVED(lbr_stack) + 8 * i);
    }
    save(env, area, MSR_LBR_SELECT, SAVED(lbr_select));
}

static void load_stack(CPUX86State *env, hwaddr area)
{
    int i;

    for (i = 0; i < 2 * LBR_DEPTH; i++) {
        load(env, area, MSR_LBR_FROM(0) + i, SAVED(lbr_stack) + 8 * i);
    }
    load(env, area, MSR_LBR_SELECT, SAVED(lbr_select));
}

void x86_pmu_vmrun(CPUX86State *env)
{
    hwaddr ctl = env->vm_vmcb + offsetof(struct vmcb, control.lbr_ctl);

    if (!has_lbrv(env) ||
        !(x86_ldl_phys(env_cpu(env), ctl) & LBR_CTL_ENABLE)) {
        return;
    }
    pmu_sync(env);
    save_both_ways(env, env->vm_hsave);
    load_both_ways(env, env->vm_vmcb);
    load_stack(env, env->vm_vmcb);
    env->pmu->lbr_switched = true;
    pmu_update_config(env);
}

void x86_pmu_vmexit(CPUX86State *env)
{
    if (!env->pmu->lbr_switched) {
        return;
    }
    /* An overflow in the guest freezes the guest's stack. */
    pmu_sync(env);
    save_both_ways(env, env->vm_vmcb);
    save_stack(env, env->vm_vmcb);
    load_both_ways(env, env->vm_hsave);
    env->pmu->lbr_switched = false;
    pmu_update_config(env);
}
