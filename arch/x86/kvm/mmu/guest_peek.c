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
				     (hva >> PAGE_SHIFT) % (PUD_SIZE / PAGE_SIZE));

	pmdp = pmd_offset(&pud, hva);
	pmd = READ_ONCE(*pmdp);
	if (!pmd_present(pmd))
		return false;

	if (!peek_pmd(pmdp, pmd, hva, page))
		return false;

	/*
	 * Keep only an entry that has led to a page: KVM is told before that page is
	 * unmapped, and the table is freed afterwards. An empty table may be freed without
	 * notice.
	 */
	*known = (struct kvm_peek_pmd) { .hva = hva & PMD_MASK, .pmdp = pmdp, .pmd = pmd };
	return true;
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

static __always_inline gpa_t peek_root(struct kvm_vcpu *vcpu)
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

/**
 * kvm_guest_peek_root - get the root of the running guest's page tables
 * @vcpu:	the vCPU that this CPU has run until now, which has paging on and is not nested
 *
 * Returns the guest-physical address of the highest table: CR3 without its other fields.
 */
gpa_t kvm_guest_peek_root(struct kvm_vcpu *vcpu)
{
	return peek_root(vcpu);
}

static void peek_set_root(struct kvm_peek_table *root, const struct kvm_peek_page *page, u16 offset)
{
	if (root->gptep)
		root->gptep += page->kva + offset - (root->page.kva + root->offset);
	root->page = *page;
	root->offset = offset;
}

/*
 * All walks begin at the root. An entry that is in two roots leads to the same table, so
 * that the lower tables are kept when the root changes.
 */
static bool peek_find_root(struct kvm_guest_peek *peek, gpa_t gpa)
{
	int level = peek->vcpu->arch.walk_mmu->cpu_role.base.level;
	struct kvm_peek_page page __uninitialized;
	u16 offset = offset_in_page(gpa);
	int user;

	if (!peek_gfn(peek, gpa_to_gfn(gpa), &peek->table_pmd, &page))
		return false;

	for (user = 0; user < ARRAY_SIZE(peek->walks); user++) {
		peek_set_root(&peek->walks[user].data.tables[level - 1], &page, offset);
		peek_set_root(&peek->walks[user].text.tables[level - 1], &page, offset);
	}
	peek->root = gpa;
	return true;
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
 * Follow an entry that is not the one that was followed last in the same table. Returns false
 * if the entry cannot be used.
 */
static noinline bool peek_gpte(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk,
			       int level, const void *gptep, u64 gpte)
{
	struct kvm_peek_table *table = &walk->tables[level - 1], *next;
	struct kvm_peek_table *higher = table + 1;
	struct kvm_mmu *mmu = peek->vcpu->arch.walk_mmu;
	bool is_root = level == mmu->cpu_role.base.level;

	table->gptep = NULL;
	walk->page.kva = NULL;
	if (!is_usable_gpte(mmu, gpte, level))
		return false;

	table->user = (is_root || higher->user) &&
		      (gpte & PT_USER_MASK || is_pdpte(mmu, level));
	table->exec = (is_root || higher->exec) && is_exec_gpte(peek, gpte, level);
	table->is_leaf = is_leaf_gpte(mmu, gpte, level);
	if (!table->is_leaf) {
		next = table - 1;
		if (!peek_gfn(peek, gpa_to_gfn(gpte & __PT_BASE_ADDR_MASK),
			      &peek->table_pmd, &next->page))
			return false;
		next->offset = 0;
		next->gptep = NULL;
	}
	table->gptep = gptep;
	table->gpte = gpte;
	return true;
}

/*
 * The lowest table that leads to @gva and was read in this sample, or else the highest table.
 * Mark the walk as one of this sample.
 */
static __always_inline int
peek_first_level(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk, gva_t gva, int bits)
{
	int root = peek->vcpu->arch.walk_mmu->cpu_role.base.level;
	int level = walk->level;

	if (walk->start != peek->start) {
		walk->start = peek->start;
		return root;
	}
	while (level < root && (gva ^ walk->gva) >> (PAGE_SHIFT + level * bits))
		level++;
	return level;
}

static __always_inline bool
peek_read_gpte(const struct kvm_peek_table *table, const void *gptep, u64 *gpte, int bits)
{
	unsigned int size = bits == GPTE32_LEVEL_BITS ? sizeof(u32) : sizeof(u64);

	*gpte = 0;
	return kvm_peek_page_read(&table->page, gptep, gpte, size);
}

/*
 * Repeat a walk that has found a page: all entries down to that of the page are known. Returns
 * NULL if an entry has changed, or cannot be read.
 */
static __always_inline const struct kvm_peek_table *
peek_again(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk, int bits)
{
	struct kvm_peek_table *table;
	u64 gpte;

	if (walk->start == peek->start)
		return &walk->tables[walk->level - 1];

	table = &walk->tables[peek->vcpu->arch.walk_mmu->cpu_role.base.level - 1];
	for (;; table--) {
		if (!peek_read_gpte(table, table->gptep, &gpte, bits) || gpte != table->gpte)
			return NULL;
		if (table->is_leaf)
			break;
	}
	walk->start = peek->start;
	return table;
}

static __always_inline const struct kvm_peek_table *
peek_tables(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk, gva_t gva, int bits)
{
	const struct kvm_peek_table *leaf;
	struct kvm_peek_table *table;
	const void *gptep;
	int level;
	u64 gpte;

	if (gva - walk->gva < walk->size) {
		leaf = peek_again(peek, walk, bits);
		if (leaf)
			return leaf;
	}

	/* tables of 32-bit modes have no entries above 4G */
	if (peek->va_bits ? !__is_canonical_address(gva, peek->va_bits) : upper_32_bits(gva))
		return NULL;

	level = peek_first_level(peek, walk, gva, bits);
	walk->gva = gva;
	walk->size = 0;
	for (;; level--) {
		walk->level = level;
		table = &walk->tables[level - 1];
		gptep = table->page.kva + table->offset +
			__PT_INDEX(gva, level, bits) * (PAGE_SIZE >> bits);
		if (!peek_read_gpte(table, gptep, &gpte, bits)) {
			peek->is_kept = false;
			return NULL;
		}
		if ((gpte != table->gpte || gptep != table->gptep) &&
		    !peek_gpte(peek, walk, level, gptep, gpte))
			return NULL;
		if (table->is_leaf)
			break;
	}
	walk->size = 1ul << __PT_LEVEL_SHIFT(level, bits);
	walk->gva = gva & -walk->size;
	return table;
}

/*
 * Walk the guest's page tables in its memory. Go on from those tables of the last walk that
 * lead to @gva, too. For PAE, read the PDPTEs in memory: KVM cannot get those of the CPU
 * without sleeping. Return the table with the entry of the page, or NULL.
 */
static const struct kvm_peek_table *
peek_walk(struct kvm_guest_peek *peek, struct kvm_peek_walk *walk, gva_t gva)
{
	const struct kvm_peek_table *leaf;

	/* The number of bits is constant, so that the loops become short code. */
	if (peek->vcpu->arch.walk_mmu->cpu_role.base.has_4_byte_gpte)
		leaf = peek_tables(peek, walk, gva, GPTE32_LEVEL_BITS);
	else
		leaf = peek_tables(peek, walk, gva, GPTE64_LEVEL_BITS);

	return leaf && leaf->user == peek->user ? leaf : NULL;
}

static gfn_t leaf_gfn(struct kvm_guest_peek *peek, int level, u64 gpte, gva_t gva)
{
	bool small = peek->vcpu->arch.walk_mmu->cpu_role.base.has_4_byte_gpte;
	int bits = small ? GPTE32_LEVEL_BITS : GPTE64_LEVEL_BITS;
	gpa_t gpa = gpte & __PT_LVL_ADDR_MASK(__PT_BASE_ADDR_MASK, level, bits);

	gpa |= gva & __PT_LVL_OFFSET_MASK(__PT_BASE_ADDR_MASK, level, bits);
	if (small && level > PG_LEVEL_4K)
		gpa |= (gpte & GPTE32_PSE36_MASK) << GPTE32_PSE36_SHIFT;
	return gpa_to_gfn(gpa);
}

/* Find the page at @gva, a multiple of the page size. */
bool kvm_guest_peek_find_page(struct kvm_guest_peek *peek, gva_t gva)
{
	struct kvm_peek_walk *walk = peek->data_walk;
	const struct kvm_peek_table *leaf;

	if (peek->gva == gva && peek->page.kva)
		return true;

	peek->page.kva = NULL;
	leaf = peek_walk(peek, walk, gva);
	if (!leaf)
		return false;

	if (walk->page_gva != gva || !walk->page.kva ||
	    !kvm_peek_page_was_mapped(&walk->page)) {
		walk->page.kva = NULL;
		if (!peek_gfn(peek, leaf_gfn(peek, walk->level, leaf->gpte, gva),
			      &peek->page_pmd, &walk->page))
			return false;
		walk->page_gva = gva;
	}
	peek->gva = gva;
	peek->page = walk->page;
	return true;
}

/* kvm_guest_peek() across pages */
bool kvm_guest_peek_pages(struct kvm_guest_peek *peek, gva_t gva, void *dst,
			  unsigned int len)
{
	unsigned int offset, n;

	for (; len; gva += n, dst += n, len -= n) {
		offset = offset_in_page(gva);
		n = min_t(unsigned int, len, PAGE_SIZE - offset);
		if (!kvm_guest_peek_find_page(peek, gva - offset) ||
		    !kvm_peek_page_read(&peek->page, peek->page.kva + offset, dst, n))
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
		if (!kvm_guest_peek_find_page(peek, gva + copied - offset) ||
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

/* Give a new vCPU its reader, vcpu->arch.guest_peek, to be freed with the vCPU. */
int kvm_guest_peek_create(struct kvm_vcpu *vcpu)
{
	struct kvm_guest_peek *peek;

	peek = kzalloc(sizeof(*peek), GFP_KERNEL_ACCOUNT);
	if (!peek)
		return -ENOMEM;

	peek->vcpu = vcpu;
	vcpu->arch.guest_peek = peek;
	return 0;
}

void kvm_guest_peek_end(struct kvm_guest_peek *peek)
{
	unsigned long irqflags = peek->irqflags;

	__acquire(&peek->vcpu->kvm->srcu);
	__srcu_read_unlock(&peek->vcpu->kvm->srcu, peek->srcu_idx);
	pagefault_enable();
	peek->in_use = false;
	local_irq_restore(irqflags);
}

/*
 * Read user pages if @user, else supervisor pages. Forget the last page and the last range
 * of code.
 */
void kvm_guest_peek_switch(struct kvm_guest_peek *peek, bool user)
{
	peek->user = user;
	peek->data_walk = &peek->walks[user].data;
	peek->text_walk = &peek->walks[user].text;
	peek->page.kva = NULL;
	peek->text_size = 0;
}

/* Lower tables are forgotten when the walk follows the entry in the highest table. */
static void peek_forget(struct kvm_peek_walk *walk, int root_level)
{
	walk->size = 0;
	walk->tables[root_level - 1].gptep = NULL;
}

/*
 * Keep what the last sample found, if it is true still, or else forget it.
 *
 * Memslots have another generation after each change. The host does not free or reuse the
 * page tables that lead to a page of a slot before KVM is told that the page is unmapped, in
 * kvm_mmu_invalidate_begin(). From the check on, page tables stay because IRQs are off. The
 * entries of the guest's tables, and the host's entry for each page, are read again.
 */
static void peek_keep(struct kvm_guest_peek *peek)
{
	union kvm_cpu_role role = peek->vcpu->arch.walk_mmu->cpu_role;
	struct kvm *kvm = peek->vcpu->kvm;
	bool is_stable = !READ_ONCE(kvm->mmu_invalidate_in_progress);
	unsigned long mmu_seq;
	int user;

	smp_rmb();	/* pairs with the one in kvm_mmu_invalidate_end() */
	mmu_seq = READ_ONCE(kvm->mmu_invalidate_seq);
	if (is_stable && peek->is_kept && mmu_seq == peek->mmu_seq &&
	    peek->slots->generation == peek->generation && role.as_u64 == peek->role.as_u64)
		return;

	peek->is_kept = is_stable;
	peek->mmu_seq = mmu_seq;
	peek->generation = peek->slots->generation;
	peek->role = role;

	peek->va_bits = is_long_mode(peek->vcpu) ? vcpu_virt_addr_bits(peek->vcpu) : 0;
	peek->slot = NULL;
	/* matches no address of user space */
	peek->page_pmd.hva = ULONG_MAX;
	peek->table_pmd.hva = ULONG_MAX;
	peek->root = INVALID_GPA;
	for (user = 0; user < ARRAY_SIZE(peek->walks); user++) {
		peek_forget(&peek->walks[user].data, role.base.level);
		peek_forget(&peek->walks[user].text, role.base.level);
	}
}

/**
 * kvm_guest_peek_start - get ready to read virtual memory of the running guest
 * @vcpu:	the vCPU that this CPU has run until now
 * @user:	read user pages only; if false, supervisor pages only
 * @max_lookups: how many pages of guest memory may be looked up, page tables included.
 *		Pages that the reader still knows are not counted: the last page of a
 *		walk, and the tables that lead there.
 *
 * IRQs are off until the end, even in a caller that had them on.
 *
 * Returns the reader, to be ended by kvm_guest_peek_end(), or NULL if this guest's memory
 * cannot be read.
 */
struct kvm_guest_peek *kvm_guest_peek_start(struct kvm_vcpu *vcpu, bool user,
					    unsigned int max_lookups)
{
	struct kvm_guest_peek *peek = vcpu->arch.guest_peek;
	unsigned long irqflags;
	gpa_t root;

	if (!is_guest_readable(vcpu))
		return NULL;

	local_irq_save(irqflags);
	/* Busy: a sample hit a breakpoint, or an NMI interrupted a breakpoint's sample. */
	if (peek->in_use) {
		local_irq_restore(irqflags);
		return NULL;
	}
	peek->in_use = true;
	peek->irqflags = irqflags;
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

	peek->start++;
	peek->lookups_left = max_lookups;
	kvm_guest_peek_switch(peek, user);
	peek_keep(peek);
	root = peek_root(vcpu);
	if (root == peek->root || peek_find_root(peek, root))
		return peek;

	kvm_guest_peek_end(peek);
	return NULL;
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
	struct kvm_peek_walk *walk = peek->text_walk;
	const struct kvm_peek_table *leaf;

	leaf = peek_walk(peek, walk, gva);
	if (!leaf || !leaf->exec)
		return false;

	peek->text = walk->gva;
	/* address 0 has no code, whatever the page */
	peek->text_size = walk->gva ? walk->size : 0;
	return true;
}
