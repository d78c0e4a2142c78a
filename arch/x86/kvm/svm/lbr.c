// SPDX-License-Identifier: GPL-2.0
/*
 * The branches that a guest takes, recorded for perf by LBR virtualization.
 *
 * With LBR_CTL_ENABLE in the VMCB, VMRUN and #VMEXIT switch DebugCtl and DebugExtnCtl; the
 * latter enables recording. VMRUN loads the guest's LBR stack and filter, #VMEXIT saves
 * both. So the stack is a part of the vCPU's state, and the host cannot disturb it. See
 * AMD64 Architecture Programmer's Manual volume 2, section 15.23 and appendix B.
 *
 * The branches of a vCPU are recorded while its paravirtual PMU, or an event of perf on the
 * physical CPU, asks for branches. Nested guests and guests with encrypted state have no
 * branches recorded.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/perf_event.h>
#include <linux/string.h>

#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/perf_event.h>
#include <asm/svm.h>

#include "kvm_emulate.h"
#include "smm.h"
#include "svm.h"

#define SVM_LBR_NR		ARRAY_SIZE(((struct vmcb_lbr_stack *)NULL)->records)

static struct vmcb_lbr_stack *svm_lbr_stack(struct vcpu_svm *svm)
{
	/* a nested guest has another VMCB, whose stack stays unused */
	return (void *)&svm->vmcb01.ptr->save + VMCB_LBR_STACK_OFFSET;
}

static bool svm_can_record(struct vcpu_svm *svm)
{
	return !is_guest_mode(&svm->vcpu) && !sev_es_guest(svm->vcpu.kvm);
}

/* How many branches of a vCPU can be recorded */
unsigned int svm_nr_branches(void)
{
	unsigned int nr = lbrv ? perf_amd_lbr_nr() : 0;

	return nr <= SVM_LBR_NR ? nr : 0;
}

/* Does the paravirtual PMU ask for branches, or did anybody before the last VM entry? */
bool svm_lbr_is_used(struct vcpu_svm *svm)
{
	return svm_can_record(svm) && (svm->lbr.select & svm->lbr.pv_select) != AMD_LBR_SELECT_NONE;
}

static void svm_lbr_empty(struct vcpu_svm *svm)
{
	memset(svm_lbr_stack(svm)->records, 0, sizeof(svm_lbr_stack(svm)->records));
	vmcb_mark_dirty(svm->vmcb01.ptr, VMCB_LBR);
}

/* Record branches with another filter, or none. Drop the old records: they have gaps. */
static void svm_set_lbr_select(struct vcpu_svm *svm, u64 select)
{
	bool on = select != AMD_LBR_SELECT_NONE;

	svm->lbr.select = select;
	svm_lbr_stack(svm)->select = select;
	svm->vmcb01.ptr->save.dbgextnctl = on ? DBG_EXTN_CFG_LBRV2EN : 0;
	svm_lbr_empty(svm);
	svm_update_lbrv(&svm->vcpu);
}

/* Branches before a reset do not lead to the code after the reset: drop them. */
void svm_reset_lbr(struct vcpu_svm *svm)
{
	if (sev_es_guest(svm->vcpu.kvm))
		return;

	svm->lbr.valid = false;
	svm_set_lbr_select(svm, AMD_LBR_SELECT_NONE);
}

/*
 * To be called before VMRUN with GIF cleared. No call is needed while LBR virtualization is
 * off and DebugCtl is the same for host and guest, as is the case while nobody wants
 * branches. Guests that use DebugCtl, guests with encrypted state, and hosts that use
 * DebugCtl for bus locks need the call without branches.
 *
 * As long as an event of perf records branches on the CPU, DebugCtl has
 * DEBUGCTLMSR_FREEZE_LBRS_ON_PMI set.
 */
void svm_load_lbr(struct vcpu_svm *svm)
{
	u64 host_debugctl = svm->vcpu.arch.host_debugctl;
	u64 select = svm->lbr.pv_select;
	bool switched;

	if (svm_nr_branches() && svm_can_record(svm)) {
		if (host_debugctl & DEBUGCTLMSR_FREEZE_LBRS_ON_PMI)
			select &= perf_amd_lbr_guest_select();
		/* Do not show the firmware's branches to the guest's kernel. */
		if (is_smm(&svm->vcpu))
			select = AMD_LBR_SELECT_NONE;
		if (select != svm->lbr.select)
			svm_set_lbr_select(svm, select);
		svm->lbr.valid = select != AMD_LBR_SELECT_NONE;
	}

	switched = svm->vmcb->control.virt_ext & LBR_CTL_ENABLE_MASK;
	perf_amd_lbr_enter_guest(switched);

	/*
	 * Hardware only context switches DEBUGCTL if LBR virtualization is
	 * enabled.  Manually load DEBUGCTL if necessary (and restore it after
	 * VM-Exit), as running with the host's DEBUGCTL can negatively affect
	 * guest state and can even be fatal, e.g. due to Bus Lock Detect.
	 */
	if (!switched && host_debugctl != svm->vmcb->save.dbgctl)
		update_debugctlmsr(svm->vmcb->save.dbgctl);
}

/* To be called after #VMEXIT with GIF cleared, if svm_load_lbr() was called before VMRUN. */
notrace void svm_put_lbr(struct vcpu_svm *svm)
{
	u64 host_debugctl = svm->vcpu.arch.host_debugctl;
	bool switched = svm->vmcb->control.virt_ext & LBR_CTL_ENABLE_MASK;

	if (!switched && host_debugctl != svm->vmcb->save.dbgctl)
		update_debugctlmsr(host_debugctl);
	perf_amd_lbr_leave_guest(switched);

	/* VMRUN has failed. How much of the stack was loaded before is not known. */
	if (unlikely(svm->vmcb->control.exit_code == SVM_EXIT_ERR) && svm->lbr.valid) {
		svm->lbr.valid = false;
		svm_lbr_empty(svm);
	}
}

/*
 * kvm_x86_ops.set_branch_types: record the branches that the paravirtual PMU wants,
 * PERF_SAMPLE_BRANCH_* or 0. The stack is empty afterwards.
 */
void svm_set_branch_types(struct kvm_vcpu *vcpu, u64 types)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	int select = types ? perf_amd_lbr_select(types) : AMD_LBR_SELECT_NONE;

	if (!svm_nr_branches() || sev_es_guest(vcpu->kvm))
		return;

	svm->lbr.pv_select = select < 0 ? AMD_LBR_SELECT_NONE : select;
	svm->lbr.valid = false;
	svm_lbr_empty(svm);
	svm_update_lbrv(vcpu);
}

/*
 * kvm_x86_ops.get_branches: the branches that were recorded until the last #VMEXIT, the
 * newest first. Called by the vCPU's thread, maybe in an NMI after #VMEXIT. Returns their
 * number, or -ENODATA if none were recorded, and in @select the filter.
 */
int svm_get_branches(struct kvm_vcpu *vcpu, struct perf_branch_entry *entries, u64 *select)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (!svm->lbr.valid || is_guest_mode(vcpu))
		return -ENODATA;

	*select = svm->lbr.select;
	return perf_amd_lbr_decode(svm_lbr_stack(svm)->records[0], svm_nr_branches(), entries);
}
