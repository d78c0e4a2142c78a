// SPDX-License-Identifier: GPL-2.0
/*
 * The address space of a guest, for a sample that perf takes while the guest runs.
 *
 * CR3 of the vCPU is current from the VM exit on, see guest-callchain.rst. CR3 of a nested
 * guest is an address of the guest's own hypervisor, and means nothing to the host.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>

#include "mmu/guest_peek.h"
#include "smm.h"
#include "x86.h"

unsigned long kvm_arch_vcpu_mm(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.guest_state_protected || is_guest_mode(vcpu) || is_smm(vcpu) ||
	    !is_paging(vcpu))
		return 0;
	return kvm_guest_peek_root(vcpu);
}
