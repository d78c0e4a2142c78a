/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __KVM_X86_MMU_GUEST_PEEK_H
#define __KVM_X86_MMU_GUEST_PEEK_H

#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/uaccess.h>

/*
 * Reads of guest virtual memory from any context, NMI included. A read leaves no trace in
 * the guest: no accessed or dirty bit, no fault. In the host, a read takes no reference,
 * does not fault, and accesses ordinary memory alone.
 */

/* The host page behind a guest address, by its entry in the host's page tables */
struct kvm_peek_page {
	const void *kva;
	const unsigned long *entryp;	/* the entry */
	unsigned long entry;		/* its value when the entry was read */
};

/* A page table of the guest, and the entry that the last walk has followed */
struct kvm_peek_table {
	struct kvm_peek_page page;
	const void *gptep;	/* the entry, or NULL */
	u64 gpte;		/* its value */
	u16 offset;		/* of the table in its page */
	bool is_leaf;		/* the entry leads to no table */
	bool user;		/* the entry, and those of higher tables, allow user space */
	bool exec;		/* ... allow code */
};

/* An entry for 2M in the host's page tables, and the user space address of the 2M */
struct kvm_peek_pmd {
	unsigned long hva;
	pmd_t *pmdp;
	pmd_t pmd;
};

/* The tables that lead to the address looked up last. */
struct kvm_peek_walk {
	gva_t gva;
	unsigned long size;	/* of the page found, or 0 */
	u64 start;		/* the value of kvm_guest_peek.start at the last walk */
	int level;		/* of the lowest table whose entry was read since that start */
	struct kvm_peek_table tables[PT64_ROOT_MAX_LEVEL];

	/* the 4K that were read last, of the last page; the kva is NULL if there are none */
	gva_t page_gva;
	struct kvm_peek_page page;
};

struct kvm_guest_peek {
	struct kvm_vcpu *vcpu;
	struct kvm_memslots *slots;
	unsigned long irqflags;
	int srcu_idx;
	bool in_use;
	u64 start;	/* how many starts there were */
	bool user;
	struct kvm_peek_walk *data_walk;
	struct kvm_peek_walk *text_walk;
	unsigned int lookups_left;

	/* the page read last; its kva is NULL if there is none */
	gva_t gva;
	struct kvm_peek_page page;

	/* the range of addresses that was last found to be code; its size is 0 if none was */
	gva_t text;
	unsigned long text_size;

	/*
	 * What follows is kept from sample to sample: a vCPU has often the same stack and
	 * the same code. What was found is true while mmu_seq, generation and role are those
	 * of KVM.
	 */
	bool is_kept;	/* false: forget what was found at the next start */
	unsigned long mmu_seq;
	u64 generation;
	union kvm_cpu_role role;

	u8 va_bits;	/* of the guest's linear addresses; 0 for 32 bits */

	/* the memslot used last, and the entries for 2M used last: for pages, for tables */
	struct kvm_memory_slot *slot;
	struct kvm_peek_pmd page_pmd;
	struct kvm_peek_pmd table_pmd;

	/* the highest table, and the walks from there: to supervisor pages, and to user pages */
	gpa_t root;
	struct {
		struct kvm_peek_walk data;
		struct kvm_peek_walk text;
	} walks[2];
};

int kvm_guest_peek_create(struct kvm_vcpu *vcpu);
struct kvm_guest_peek *kvm_guest_peek_start(struct kvm_vcpu *vcpu, bool user,
					    unsigned int max_lookups);
bool kvm_guest_peek_find_page(struct kvm_guest_peek *peek, gva_t gva);
bool kvm_guest_peek_pages(struct kvm_guest_peek *peek, gva_t gva, void *dst,
			  unsigned int len);
unsigned int kvm_guest_peek_copy(struct kvm_guest_peek *peek, gva_t gva, void *dst,
				 unsigned int len);
bool kvm_guest_peek_find_text(struct kvm_guest_peek *peek, gva_t gva);
void kvm_guest_peek_switch(struct kvm_guest_peek *peek, bool user);
void kvm_guest_peek_end(struct kvm_guest_peek *peek);
gpa_t kvm_guest_peek_root(struct kvm_vcpu *vcpu);

/* Bits of the host's entries that change while a page stays mapped and can be read. */
#define KVM_PEEK_CHANGING_BITS	(_PAGE_RW | _PAGE_ACCESSED | _PAGE_DIRTY_BITS | \
				 _PAGE_SOFT_DIRTY | _PAGE_UFFD_WP)

/* Is the page still mapped? To be called after the page was read. */
static __always_inline bool kvm_peek_page_was_mapped(const struct kvm_peek_page *page)
{
	unsigned long changed;

	/* The read comes before the check, as unmapping comes before freeing. */
	smp_rmb();
	changed = READ_ONCE(*page->entryp) ^ page->entry;

	return !(changed & ~KVM_PEEK_CHANGING_BITS);
}

/*
 * Read words at @src, from the kernel's own mapping of the page. In an NMI, this mapping does not
 * depend on PKRU and CR3. The mapping has no devices. In a hole of the mapping (say, for
 * memfd_secret), the read fails. Then check that the page is still mapped by its entry:
 * otherwise the page may have been given to somebody else before the read.
 */
static __always_inline bool
kvm_peek_page_read(const struct kvm_peek_page *page, const void *src, void *dst, unsigned int len)
{
	if (len == 2 * sizeof(u64)) {
		/* a frame: the compiler would not unroll the loop */
		__get_kernel_nofault(dst, src, u64, fault);
		__get_kernel_nofault(dst + sizeof(u64), src + sizeof(u64), u64, fault);
		len = 0;
	}
	for (; len >= sizeof(u64); len -= sizeof(u64)) {
		__get_kernel_nofault(dst, src, u64, fault);
		src += sizeof(u64);
		dst += sizeof(u64);
	}
	if (len)
		__get_kernel_nofault(dst, src, u32, fault);

	return kvm_peek_page_was_mapped(page);
fault:
	return false;
}

/**
 * kvm_guest_peek - read virtual memory of the running guest
 * @peek:	the reader's state
 * @gva:	the linear address, a multiple of 4
 * @dst:	where to
 * @len:	how much, a multiple of 4
 *
 * Returns false if any byte cannot be read, or has no address in the guest's mode.
 */
static __always_inline bool kvm_guest_peek(struct kvm_guest_peek *peek, gva_t gva,
					   void *dst, unsigned int len)
{
	unsigned long offset = gva - peek->gva;

	if (unlikely(offset > PAGE_SIZE - len || !peek->page.kva)) {
		offset = offset_in_page(gva);
		if (offset > PAGE_SIZE - len)
			return kvm_guest_peek_pages(peek, gva, dst, len);
		if (!kvm_guest_peek_find_page(peek, gva - offset))
			return false;
	}
	return kvm_peek_page_read(&peek->page, peek->page.kva + offset, dst, len);
}

/**
 * kvm_guest_peek_is_known_text - was code found at an address of the running guest?
 * @peek:	the reader's state
 * @gva:	the linear address
 *
 * Returns true in the range for which kvm_guest_peek_find_text() last returned true, but
 * never in a page at address 0.
 */
static __always_inline bool
kvm_guest_peek_is_known_text(const struct kvm_guest_peek *peek, gva_t gva)
{
	return gva - peek->text < peek->text_size;
}

#endif /* __KVM_X86_MMU_GUEST_PEEK_H */
