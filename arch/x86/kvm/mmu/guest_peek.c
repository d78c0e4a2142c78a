// SPDX-License-Identifier: GPL-2.0
/*
 * Read-only, NMI-safe reads of guest virtual memory.
 *
 * KVM's own walkers of guest page tables act for the guest: they set accessed and dirty
 * bits, queue faults and fault pages in. A profiler's peek at a stack must not do any of
 * this, hence a walker of its own. The walkers share KVM's knowledge of the guest's paging
 * mode and reserved bits.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <asm/asm.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "smm.h"
#include "spte.h"
#include "x86.h"
#include "guest_peek.h"

#define GPTE32_LEVEL_BITS	10
#define GPTE64_LEVEL_BITS	9

/* What a walk finds. */
struct kvm_peek_leaf {
	u64 gpte;
	int level;
	int bits;	/* of an address, for each level */
	bool user;
	bool exec;
};

/* Bits 16:13 of a 4M page's entry are bits 35:32 of its address. */
#define GPTE32_PSE36_MASK	GENMASK_ULL(16, 13)
#define GPTE32_PSE36_SHIFT	(32 - 13)

/*
 * A page of the host can be read if its entry lets user space read it, as the guest may do
 * then, and if the page is ordinary memory. The special bit marks what is mapped without
 * struct page, such as the BARs of assigned devices. Devices that have struct page are in
 * ZONE_DEVICE.
 */
static bool peek_page_set(struct kvm_peek_page *page, const void *entryp,
			  unsigned long entry, unsigned long pfn)
{
	const unsigned long mask = _PAGE_PRESENT | _PAGE_USER | _PAGE_SPECIAL |
				   _PAGE_DEVMAP;

	if ((entry & mask) != (_PAGE_PRESENT | _PAGE_USER))
		return false;

	if (is_zone_device_page(pfn_to_page(pfn)) || PageHWPoison(pfn_to_page(pfn)))
		return false;

	page->kva = pfn_to_kaddr(pfn);
	page->entryp = entryp;
	page->entry = entry;
	return true;
}

static bool peek_pmd(const pmd_t *pmdp, pmd_t pmd, unsigned long hva,
		     struct kvm_peek_page *page)
{
	pte_t *ptep, pte;

	if (pmd_leaf(pmd))
		return peek_page_set(page, pmdp, pmd_val(pmd), pmd_pfn(pmd) +
				     (hva >> PAGE_SHIFT) % (PMD_SIZE / PAGE_SIZE));

	ptep = pte_offset_kernel(&pmd, hva);
	pte = READ_ONCE(*ptep);
	return peek_page_set(page, ptep, pte_val(pte), pte_pfn(pte));
}

/*
 * Look @hva up in the host's page tables, as lockless GUP does: with IRQs off, no page
 * table is freed during the walk. Unlike GUP, take no reference to the page: NMI context
 * must not drop the last one. Instead, kvm_peek_page_read() checks that the page is still
 * mapped. Use the entry for 2M in @known again while the entry is unchanged.
 */
static bool peek_hva(struct kvm_guest_peek *peek, unsigned long hva,
		     struct kvm_peek_pmd *known, struct kvm_peek_page *page)
{
	unsigned long pfn_in_table = hva >> PAGE_SHIFT;
	pgd_t pgd;
	p4d_t p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;

	if ((hva ^ known->hva) < PMD_SIZE &&
	    pmd_val(READ_ONCE(*known->pmdp)) == pmd_val(known->pmd))
		return peek_pmd(known->pmdp, known->pmd, hva, page);

	pgd = READ_ONCE(*pgd_offset(peek->vcpu->kvm->mm, hva));
	if (pgd_none(pgd))
		return false;

	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (!p4d_present(p4d))
		return false;

	pudp = pud_offset(&p4d, hva);
	pud = READ_ONCE(*pudp);
	if (!pud_present(pud))
		return false;
	if (pud_leaf(pud))
		return peek_page_set(page, pudp, pud_val(pud), pud_pfn(pud) +
				     pfn_in_table % (PUD_SIZE / PAGE_SIZE));

	pmdp = pmd_offset(&pud, hva);
	pmd = READ_ONCE(*pmdp);
	if (!pmd_present(pmd))
		return false;

	*known = (struct kvm_peek_pmd) { .hva = hva & PMD_MASK, .pmdp = pmdp, .pmd = pmd };
	return peek_pmd(pmdp, pmd, hva, page);
}

/*
 * Find the slot of @gfn. Slots that are gone, KVM's own slots, and slots with memory that
 * is private to the guest do not match.
 */
static struct kvm_memory_slot *peek_slot(struct kvm_guest_peek *peek, gfn_t gfn)
{
	struct kvm_memory_slot *slot = peek->slot;

	if (slot && gfn - slot->base_gfn < slot->npages)
		return slot;

	slot = __gfn_to_memslot(peek->slots, gfn);
	if (!kvm_is_visible_memslot(slot) || kvm_slot_can_be_private(slot))
		return NULL;

	peek->slot = slot;
	return slot;
}

/* Find the page of guest physical memory that is @gfn. */
static bool peek_gfn(struct kvm_guest_peek *peek, gfn_t gfn, struct kvm_peek_pmd *known,
		     struct kvm_peek_page *page)
{
	struct kvm_memory_slot *slot;

	if (!peek->lookups_left)
		return false;

	peek->lookups_left--;
	slot = peek_slot(peek, gfn);
	return slot && peek_hva(peek, __gfn_to_hva_memslot(slot, gfn), known, page);
}

static bool is_pdpte(struct kvm_mmu *mmu, int level)
{
	return level == PT32E_ROOT_LEVEL &&
	       mmu->cpu_role.base.level == PT32E_ROOT_LEVEL;
}

static bool is_usable_gpte(struct kvm_mmu *mmu, u64 gpte, int level)
{
	struct rsvd_bits_validate *rsvd = &mmu->guest_rsvd_check;

	if (!(gpte & PT_PRESENT_MASK))
		return false;

	/*
	 * In a PDPTE, the page size bit is reserved. The accessed bit is reserved, too, but
	 * QEMU's emulation of the CPU sets it.
	 */
	if (is_pdpte(mmu, level))
		return !(gpte & rsvd->rsvd_bits_mask[0][level - 1] & ~PT_ACCESSED_MASK);

	return !__is_rsvd_bits_set(rsvd, gpte, level);
}

static bool is_leaf_gpte(struct kvm_mmu *mmu, u64 gpte, int level)
{
	if (level == PG_LEVEL_4K)
		return true;

	if (mmu->cpu_role.base.has_4_byte_gpte && !mmu->cpu_role.ext.cr4_pse)
		return false;

	return !is_pdpte(mmu, level) && (gpte & PT_PAGE_SIZE_MASK);
}

/**
 * kvm_guest_peek_root - get the root of the running guest's page tables
 * @vcpu:	the vCPU that this CPU has run until now, which has paging on and is not nested
 *
 * Returns the guest-physical address of the highest table: CR3 without its other fields.
 */
gpa_t kvm_guest_peek_root(struct kvm_vcpu *vcpu)
{
	switch (vcpu->arch.walk_mmu->cpu_role.base.level) {
	case PT32_ROOT_LEVEL:
		return kvm_read_cr3(vcpu) & GENMASK_ULL(31, 12);
	case PT32E_ROOT_LEVEL:
		return kvm_read_cr3(vcpu) & GENMASK_ULL(31, 5);
	default:
		return kvm_read_cr3(vcpu) & __PT_BASE_ADDR_MASK;
	}
}

static bool peek_root(struct kvm_guest_peek *peek)
{
	struct kvm_mmu *mmu = peek->vcpu->arch.walk_mmu;
	gpa_t gpa = kvm_guest_peek_root(peek->vcpu);
	int level = mmu->cpu_role.base.level;
	struct kvm_peek_table *root = &peek->data_walk.tables[level - 1];

	if (!peek_gfn(peek, gpa_to_gfn(gpa), &peek->table_pmd, &root->page))
		return false;

	root->offset = offset_in_page(gpa);
	root->user = true;
	root->exec = true;
	peek->data_walk.level = level;
	peek->text_walk.level = level;
	peek->text_walk.tables[level - 1] = *root;
	return true;
}

/* The lowest table of the last walk that leads to @gva as well */
static int peek_lowest_table(struct kvm_mmu *mmu, const struct kvm_peek_walk *walk,
			     gva_t gva, int bits)
{
	int level = walk->level;

	while (level < mmu->cpu_role.base.level &&
	       (gva ^ walk->gva) >> (PAGE_SHIFT + level * bits))
		level++;
	return level;
}

/*
 * Code is executable. With page table isolation, Linux forbids its kernel to execute user
 * space, in the highest table: ignore NX there.
 */
static bool is_exec_gpte(struct kvm_guest_peek *peek, u64 gpte, int level)
{
	return !(gpte & PT64_NX_MASK) ||
	       (peek->user && level == peek->vcpu->arch.walk_mmu->cpu_role.base.level);
}

/*
 * Walk the guest's page tables in its memory, with those of the last walk that lead to @gva
 * as well. For PAE, read the PDPTEs in memory, too: KVM cannot get those of the CPU without
 * sleeping. Return the entry of the page, and its level.
 */
static bool peek_walk(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk, gva_t gva,
		      struct kvm_peek_leaf *leaf)
{
	struct kvm_mmu *mmu = peek->vcpu->arch.walk_mmu;
	bool small = mmu->cpu_role.base.has_4_byte_gpte;
	int bits = small ? GPTE32_LEVEL_BITS : GPTE64_LEVEL_BITS;
	unsigned int size = small ? sizeof(u32) : sizeof(u64);
	struct kvm_peek_table *table, *next;
	int level;
	u64 gpte;

	/* tables of 32-bit modes have no entries above 4G */
	if (peek->va_bits ? !__is_canonical_address(gva, peek->va_bits) : upper_32_bits(gva))
		return false;

	level = peek_lowest_table(mmu, walk, gva, bits);
	walk->gva = gva;
	for (;; level--) {
		walk->level = level;
		table = &walk->tables[level - 1];
		gpte = 0;
		if (!kvm_peek_page_read(&table->page, table->offset +
				    __PT_INDEX(gva, level, bits) * size, &gpte, size) ||
		    !is_usable_gpte(mmu, gpte, level))
			return false;

		leaf->user = table->user && (gpte & PT_USER_MASK || is_pdpte(mmu, level));
		leaf->exec = table->exec && is_exec_gpte(peek, gpte, level);
		if (is_leaf_gpte(mmu, gpte, level))
			break;

		next = &walk->tables[level - 2];
		if (!peek_gfn(peek, gpa_to_gfn(gpte & __PT_BASE_ADDR_MASK),
			      &peek->table_pmd, &next->page))
			return false;
		next->offset = 0;
		next->user = leaf->user;
		next->exec = leaf->exec;
	}
	leaf->gpte = gpte;
	leaf->level = level;
	leaf->bits = bits;
	return leaf->user == peek->user;
}

static gfn_t leaf_gfn(const struct kvm_peek_leaf *leaf, gva_t gva)
{
	gpa_t gpa = leaf->gpte & __PT_LVL_ADDR_MASK(__PT_BASE_ADDR_MASK, leaf->level, leaf->bits);

	gpa |= gva & __PT_LVL_OFFSET_MASK(__PT_BASE_ADDR_MASK, leaf->level, leaf->bits);
	if (leaf->bits == GPTE32_LEVEL_BITS && leaf->level > PG_LEVEL_4K)
		gpa |= (leaf->gpte & GPTE32_PSE36_MASK) << GPTE32_PSE36_SHIFT;
	return gpa_to_gfn(gpa);
}

static bool peek_translate(struct kvm_guest_peek *peek, gva_t gva)
{
	struct kvm_peek_leaf leaf __uninitialized;

	if (peek->gva == gva && peek->page.kva)
		return true;

	peek->page.kva = NULL;
	if (!peek_walk(peek, &peek->data_walk, gva, &leaf) ||
	    !peek_gfn(peek, leaf_gfn(&leaf, gva), &peek->page_pmd, &peek->page))
		return false;

	peek->gva = gva;
	return true;
}

/* kvm_guest_peek() outside the known page */
bool kvm_guest_peek_pages(struct kvm_guest_peek *peek, gva_t gva, void *dst,
			  unsigned int len)
{
	unsigned int offset, n;

	for (; len; gva += n, dst += n, len -= n) {
		offset = offset_in_page(gva);
		n = min_t(unsigned int, len, PAGE_SIZE - offset);
		if (!peek_translate(peek, gva - offset) ||
		    !kvm_peek_page_read(&peek->page, offset, dst, n))
			return false;
	}
	return true;
}

/*
 * Copy words within one page. Returns false if one could not be read. A loop around
 * __get_kernel_nofault() would take three or four instructions for each word. After a
 * fault, @words is the number of words left.
 */
static bool peek_page_copy(const struct kvm_peek_page *page, unsigned int offset, u64 *dst,
			   unsigned long words)
{
	const u64 *src = page->kva + offset;

	asm volatile("1: rep movsq\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "+c" (words), "+S" (src), "+D" (dst) : : "memory");

	return !words && kvm_peek_page_was_mapped(page);
}

/**
 * kvm_guest_peek_copy - copy virtual memory of the running guest, as far as it is there
 * @peek:	the reader's state
 * @gva:	the linear address, a multiple of 8
 * @dst:	where to
 * @len:	how much, a multiple of 8
 *
 * Returns how much was copied, all of it or up to the end of a page.
 */
unsigned int kvm_guest_peek_copy(struct kvm_guest_peek *peek, gva_t gva, void *dst,
				 unsigned int len)
{
	unsigned int offset, n, copied = 0;

	while (copied < len) {
		offset = offset_in_page(gva + copied);
		n = min_t(unsigned int, len - copied, PAGE_SIZE - offset);
		if (!peek_translate(peek, gva + copied - offset) ||
		    !peek_page_copy(&peek->page, offset, dst + copied, n / sizeof(u64)))
			break;
		copied += n;
	}
	return copied;
}

/*
 * Can KVM read the registers and the stack? Not if the guest hides either from the host.
 * Not in SMM, which has memory of its own. Not in a nested guest, whose page tables need
 * another walk. With paging off, only firmware and boot code run.
 */
static bool is_guest_readable(struct kvm_vcpu *vcpu)
{
	return !vcpu->arch.guest_state_protected &&
	       !kvm_arch_has_private_mem(vcpu->kvm) &&
	       !kvm_x86_call(has_encrypted_memory)(vcpu->kvm) &&
	       !is_guest_mode(vcpu) && !is_smm(vcpu) && is_paging(vcpu);
}

void kvm_guest_peek_end(struct kvm_guest_peek *peek)
{
	__acquire(&peek->vcpu->kvm->srcu);
	__srcu_read_unlock(&peek->vcpu->kvm->srcu, peek->srcu_idx);
	pagefault_enable();
	local_irq_restore(peek->irqflags);
}

static void peek_forget(struct kvm_guest_peek *peek)
{
	peek->gva = 0;
	peek->page.kva = NULL;
	peek->text = 0;
	peek->text_size = 0;
}

/**
 * kvm_guest_peek_start - get ready to read virtual memory of the running guest
 * @peek:	the reader's state, to be ended by kvm_guest_peek_end()
 * @vcpu:	the vCPU that this CPU has run until now
 * @user:	read user pages only; if false, supervisor pages only
 * @max_lookups: how many pages of guest memory may be looked up, page tables included,
 *		which bounds the work
 *
 * IRQs are off until the end, even in a caller that had them on. Returns false,
 * with nothing to end, if this guest's memory cannot be read.
 */
bool kvm_guest_peek_start(struct kvm_guest_peek *peek, struct kvm_vcpu *vcpu,
			  bool user, unsigned int max_lookups)
{
	if (!is_guest_readable(vcpu))
		return false;

	local_irq_save(peek->irqflags);
	pagefault_disable();

	/*
	 * A vCPU in guest mode is no SRCU reader, so become one. __srcu_read_lock() is a
	 * per-CPU increment, which an NMI on x86 may do amidst another one. The checks of
	 * srcu_read_lock() do not know this. Without the checks, lockdep does not know that
	 * the lock is held, and that memslots may be dereferenced.
	 */
	peek->srcu_idx = __srcu_read_lock(&vcpu->kvm->srcu);
	__release(&vcpu->kvm->srcu);	/* for sparse: not in this function */
	peek->slots = rcu_dereference_raw(vcpu->kvm->memslots[0]);

	peek->vcpu = vcpu;
	peek->user = user;
	peek->lookups_left = max_lookups;
	peek->va_bits = is_long_mode(vcpu) ? vcpu_virt_addr_bits(vcpu) : 0;
	peek->slot = NULL;
	/* matches no address of user space */
	peek->page_pmd.hva = ULONG_MAX;
	peek->table_pmd.hva = ULONG_MAX;
	peek_forget(peek);
	if (peek_root(peek))
		return true;

	kvm_guest_peek_end(peek);
	return false;
}

/**
 * kvm_guest_peek_find_text - is there code at an address of the running guest?
 * @peek:	the reader's state
 * @gva:	the linear address
 *
 * Returns false if the page is not executable, as far as the guest's paging mode can
 * tell, or is not of the kind (user or supervisor) that @peek reads.
 */
bool kvm_guest_peek_find_text(struct kvm_guest_peek *peek, gva_t gva)
{
	struct kvm_peek_leaf leaf __uninitialized;

	if (!peek_walk(peek, &peek->text_walk, gva, &leaf) || !leaf.exec)
		return false;

	peek->text_size = 1ul << __PT_LEVEL_SHIFT(leaf.level, leaf.bits);
	peek->text = gva & -peek->text_size;
	/* address 0 has no code, whatever the page */
	if (!peek->text)
		peek->text_size = 0;
	return true;
}

/* Go on with user pages (@user), or with supervisor pages. */
void kvm_guest_peek_switch(struct kvm_guest_peek *peek, bool user)
{
	peek->user = user;
	peek_forget(peek);
}
