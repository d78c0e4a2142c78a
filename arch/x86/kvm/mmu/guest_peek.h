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

/* A page table of the guest, and what the entries that lead to it allow. */
struct kvm_peek_table {
	struct kvm_peek_page page;
	u16 offset;	/* of the table in its page */
	bool user;
	bool exec;
};

/* The tables that lead to the address looked up last. */
struct kvm_peek_walk {
	gva_t gva;
	int level;	/* of the lowest of them */
	struct kvm_peek_table tables[PT64_ROOT_MAX_LEVEL];
};

struct kvm_guest_peek {
	struct kvm_vcpu *vcpu;
	struct kvm_memslots *slots;
	unsigned long irqflags;
	int srcu_idx;
	bool user;
	u8 va_bits;	/* of the guest's linear addresses; 0 for 32 bits */
	unsigned int lookups_left;

	/* the memslot, and the entry for 2M in the host's page tables, used last */
	struct kvm_memory_slot *slot;
	unsigned long pmd_hva;
	pmd_t *pmdp;
	pmd_t pmd;

	/* the page read last */
	gva_t gva;
	struct kvm_peek_page page;

	/* the range of addresses that was last found to be code */
	gva_t text;
	unsigned long text_size;

	struct kvm_peek_walk data_walk;
	struct kvm_peek_walk text_walk;
};

bool kvm_guest_peek_start(struct kvm_guest_peek *peek, struct kvm_vcpu *vcpu,
			  bool user, unsigned int max_lookups);
bool kvm_guest_peek(struct kvm_guest_peek *peek, gva_t gva, void *dst,
		    unsigned int len);
bool kvm_guest_peek_find_text(struct kvm_guest_peek *peek, gva_t gva);
void kvm_guest_peek_switch(struct kvm_guest_peek *peek, bool user);
void kvm_guest_peek_end(struct kvm_guest_peek *peek);

/**
 * kvm_guest_peek_is_text - is there code at an address of the running guest?
 * @peek:	the reader's state
 * @gva:	the linear address
 *
 * Returns false if the page is not executable, as far as the guest's paging mode can
 * tell, or not of the kind that is read.
 */
static inline bool kvm_guest_peek_is_text(struct kvm_guest_peek *peek, gva_t gva)
{
	return gva - peek->text < peek->text_size || kvm_guest_peek_find_text(peek, gva);
}

#endif /* __KVM_X86_MMU_GUEST_PEEK_H */
