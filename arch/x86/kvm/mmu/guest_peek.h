/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_MMU_GUEST_PEEK_H
#define __KVM_X86_MMU_GUEST_PEEK_H

#include <linux/kvm_host.h>

/*
 * Reads of guest virtual memory from any context, NMI included, that leave no
 * trace: in the guest no accessed or dirty bit and no fault, in the host no
 * reference, no fault and no access to anything but ordinary memory.
 */

/* The host page behind a guest address, as its host entry said when it was read. */
struct kvm_peek_page {
	const void *kva;
	const unsigned long *entryp;	/* its entry in the host's page tables */
	unsigned long entry;		/* the entry's value */
};

struct kvm_guest_peek {
	struct kvm_vcpu *vcpu;
	struct kvm_memslots *slots;
	unsigned long irqflags;
	int srcu_idx;
	bool user;
	u8 va_bits;	/* of the guest's linear addresses; 0 for 32 bits */
	unsigned int translations_left;

	/* the page read last */
	gva_t gva;
	struct kvm_peek_page page;
};

bool kvm_guest_peek_start(struct kvm_guest_peek *peek, struct kvm_vcpu *vcpu,
			  bool user, unsigned int max_translations);
bool kvm_guest_peek(struct kvm_guest_peek *peek, gva_t gva, void *dst,
		    unsigned int len);
void kvm_guest_peek_switch(struct kvm_guest_peek *peek, bool user,
			   unsigned int max_translations);
void kvm_guest_peek_end(struct kvm_guest_peek *peek);

#endif /* __KVM_X86_MMU_GUEST_PEEK_H */
