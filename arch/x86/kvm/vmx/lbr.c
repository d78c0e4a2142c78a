// SPDX-License-Identifier: GPL-2.0
/*
 * The branches that a guest takes, recorded in the CPU's LBR stack for the paravirtual PMU.
 *
 * VMX switches DebugCtl, which enables recording, but not the LBR stack and its filter. perf
 * switches both with the vCPU's thread as long as its guest LBR event is active, and keeps
 * its own events off them. So the stack is that of the vCPU, whatever the host does between
 * VM exit and VM entry with recording disabled. If an event of the host takes the LBRs away,
 * the event does not become active again before it is enabled again.
 *
 * A guest whose virtual PMU has LBRs uses them itself; its branches are not recorded here.
 * Neither are those of nested guests, and of code in System Management Mode.
 *
 * This has never run: it is compiled, and off unless asked for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/cpufeature.h>
#include <linux/irqflags.h>
#include <linux/kvm_host.h>
#include <linux/lockdep.h>
#include <linux/moduleparam.h>
#include <linux/perf_event.h>
#include <linux/smp.h>

#include <asm/msr-index.h>
#include <asm/perf_event.h>

#include "smm.h"
#include "vmx.h"
#include "x86_ops.h"

static bool __read_mostly pv_pmu_lbr;
module_param(pv_pmu_lbr, bool, 0444);
MODULE_PARM_DESC(pv_pmu_lbr, "Record branches for the paravirtual PMU by LBRs (never tried)");

#define VMX_LBR_DEBUGCTL	(DEBUGCTLMSR_LBR | DEBUGCTLMSR_FREEZE_LBRS_ON_PMI)

/* The entries for which users of kvm_x86_ops.get_branches have room */
#define VMX_MAX_BRANCHES	32

/* Is the LBR stack of this CPU the vCPU's, until interrupts are enabled? */
static bool vmx_owns_lbr(struct kvm_vcpu *vcpu)
{
	struct perf_event *event = to_vmx(vcpu)->pv_lbr.event;

	lockdep_assert_irqs_disabled();
	return !IS_ERR_OR_NULL(event) && event->state == PERF_EVENT_STATE_ACTIVE &&
	       event->oncpu == smp_processor_id();
}

static bool vmx_can_record(struct kvm_vcpu *vcpu)
{
	return vmx_owns_lbr(vcpu) && !is_guest_mode(vcpu) && !is_smm(vcpu) &&
	       !intel_pmu_lbr_is_enabled(vcpu);
}

/* Returns false if the stack is not the vCPU's. */
static bool vmx_reset_lbr(struct kvm_vcpu *vcpu, u64 select)
{
	guard(irq)();
	if (!vmx_owns_lbr(vcpu))
		return false;

	perf_intel_lbr_reset_guest(select);
	to_vmx(vcpu)->pv_lbr.select = select;
	return true;
}

/* Leave an empty stack: the next user of the LBRs may be an event of the host. */
static void vmx_stop_lbr(struct kvm_vcpu *vcpu)
{
	struct perf_event *event = to_vmx(vcpu)->pv_lbr.event;

	if (IS_ERR_OR_NULL(event))
		return;

	vmx_reset_lbr(vcpu, 0);
	perf_event_disable(event);
}

/*
 * kvm_x86_ops.set_branch_types: record what the paravirtual PMU wants, PERF_SAMPLE_BRANCH_*
 * or 0. The stack is empty afterwards. Called in process context, and by the vCPU's thread
 * unless @types is 0.
 */
static void vmx_set_branch_types(struct kvm_vcpu *vcpu, u64 types)
{
	struct vcpu_vmx_pv_lbr *lbr = &to_vmx(vcpu)->pv_lbr;
	int select = perf_intel_lbr_select(types);

	lbr->valid = false;
	if (!types || select < 0 || intel_pmu_lbr_is_enabled(vcpu)) {
		vmx_stop_lbr(vcpu);
		return;
	}

	/* An error stays, so that a guest cannot have the host try over and over again. */
	if (!lbr->event)
		lbr->event = intel_pmu_new_guest_lbr_event();
	if (IS_ERR(lbr->event))
		return;

	perf_event_enable(lbr->event);
	/* Without the LBRs now, the event must not get them with what the host has recorded. */
	if (!vmx_reset_lbr(vcpu, select))
		perf_event_disable(lbr->event);
}

/*
 * kvm_x86_ops.get_branches: the branches that were recorded until the last VM exit, the
 * newest first. Called by the vCPU's thread. Returns their number, or -ENODATA if none were
 * recorded, and in @select the filter.
 */
static int vmx_get_branches(struct kvm_vcpu *vcpu, struct perf_branch_entry *entries,
			    u64 *select)
{
	struct vcpu_vmx_pv_lbr *lbr = &to_vmx(vcpu)->pv_lbr;
	int nr;

	guard(irqsave)();
	if (!lbr->valid || !vmx_can_record(vcpu))
		return -ENODATA;

	nr = perf_intel_lbr_read_guest(entries, select);
	return *select == lbr->select ? nr : -ENODATA;
}

/*
 * kvm_x86_ops.release_branches: no slot of the paravirtual PMU has branches any more. Called
 * in process context, maybe by another thread than the vCPU's.
 */
static void vmx_release_branches(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx_pv_lbr *lbr = &to_vmx(vcpu)->pv_lbr;

	vmx_stop_lbr(vcpu);
	if (!IS_ERR_OR_NULL(lbr->event))
		perf_event_release_kernel(lbr->event);
	lbr->event = NULL;
}

/*
 * DebugCtl in the VMCS has the bits for recording only while the guest runs: neither the
 * guest, whose accesses KVM intercepts, nor a nested guest finds them. They are set again
 * after a PMI for which the CPU has cleared DEBUGCTLMSR_LBR.
 */
static fastpath_t vmx_vcpu_run_with_lbr(struct kvm_vcpu *vcpu, u64 run_flags)
{
	struct vcpu_vmx_pv_lbr *lbr = &to_vmx(vcpu)->pv_lbr;
	fastpath_t fastpath;
	u64 debugctl;

	lbr->valid = vmx_can_record(vcpu);
	if (likely(!lbr->valid))
		return vmx_vcpu_run(vcpu, run_flags);

	debugctl = vmx_guest_debugctl_read();
	vmx_guest_debugctl_write(vcpu, debugctl | VMX_LBR_DEBUGCTL);
	fastpath = vmx_vcpu_run(vcpu, run_flags);
	vmx_guest_debugctl_write(vcpu, debugctl);
	return fastpath;
}

/* Without the parameter, VM entries do not come through here. */
__init void vmx_setup_branches(void)
{
	struct x86_pmu_lbr lbr;

	if (!pv_pmu_lbr)
		return;

	x86_perf_get_lbr(&lbr);
	/* perf switches the LBRs of CPUs that have LBR call stacks, which all can freeze them. */
	if (cpu_feature_enabled(X86_FEATURE_ARCH_LBR) || !lbr.has_callstack ||
	    !lbr.nr || lbr.nr > VMX_MAX_BRANCHES) {
		pr_warn("pv_pmu_lbr is ignored: KVM cannot record branches by the LBRs of this CPU\n");
		return;
	}

	pr_warn("pv_pmu_lbr is on, and has never been tried on a CPU\n");
	kvm_caps.nr_branches = lbr.nr;
	vt_x86_ops.vcpu_run = vmx_vcpu_run_with_lbr;
	vt_x86_ops.set_branch_types = vmx_set_branch_types;
	vt_x86_ops.get_branches = vmx_get_branches;
	vt_x86_ops.release_branches = vmx_release_branches;
}
