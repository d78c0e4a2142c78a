// SPDX-License-Identifier: GPL-2.0
/*
 * Branch stacks: for an overflow of an event with a branch stack, the host writes a record
 * of the branches before the overflow into a page of the CPU, and then reports the
 * overflow.
 *
 * The host cannot read the code of the guest's tasks, and records the kinds of branches
 * that any event of the CPU wants. The NMI handler looks at the code of the branches, and
 * drops those that the event does not want.
 */
#include <linux/bitops.h>
#include <linux/minmax.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>

#include <asm/barrier.h>

#include "../perf_event.h"
#include "kvm.h"

/* Reads of a record before giving up: the host changes records at exits alone. */
#define PV_BRANCH_TRIES		16

/* Not for the host: these concern the sample alone, or are ignored, as on bare AMD. */
#define PV_BRANCH_NOT_FOR_HOST	(PERF_SAMPLE_BRANCH_HV | PERF_SAMPLE_BRANCH_TYPE_SAVE |	\
				 PERF_SAMPLE_BRANCH_HW_INDEX | PERF_SAMPLE_BRANCH_PRIV_SAVE)

/* What the types of perf select. Events with another type are refused, as on bare AMD. */
static const int pv_branch_kinds[] = {
	[PERF_SAMPLE_BRANCH_USER_SHIFT]		= X86_BR_USER,
	[PERF_SAMPLE_BRANCH_KERNEL_SHIFT]	= X86_BR_KERNEL,
	[PERF_SAMPLE_BRANCH_ANY_SHIFT]		= X86_BR_ANY,
	[PERF_SAMPLE_BRANCH_ANY_CALL_SHIFT]	= X86_BR_ANY_CALL,
	[PERF_SAMPLE_BRANCH_ANY_RETURN_SHIFT]	= X86_BR_RET | X86_BR_IRET | X86_BR_SYSRET,
	[PERF_SAMPLE_BRANCH_IND_CALL_SHIFT]	= X86_BR_IND_CALL,
	[PERF_SAMPLE_BRANCH_COND_SHIFT]		= X86_BR_JCC,
	[PERF_SAMPLE_BRANCH_IND_JUMP_SHIFT]	= X86_BR_IND_JMP,
	[PERF_SAMPLE_BRANCH_CALL_SHIFT]		= X86_BR_CALL | X86_BR_ZERO_CALL,
};

/**
 * struct pv_branch_stack - a struct perf_branch_stack with its entries
 * @stack:	the number of @entries
 * @entries:	stack.entries
 */
struct pv_branch_stack {
	struct perf_branch_stack stack;
	struct perf_branch_entry entries[KVM_PV_PMU_MAX_BRANCHES];
};

/* The stack of the sample that the NMI handler is about to take */
static DEFINE_PER_CPU(struct pv_branch_stack, pv_branch_stack);

/* The types that an event on this CPU may have */
static u64 pv_branch_types(const struct pv_pmu_cpu *cpuc)
{
	const struct kvm_pv_pmu_header *header = &cpuc->area->header;
	u64 types = 0;
	int i;

	if (!cpuc->branch.page || !(READ_ONCE(header->features) & KVM_PV_PMU_FEATURE_BRANCH_STACK))
		return 0;

	for (i = 0; i < ARRAY_SIZE(pv_branch_kinds); i++) {
		if (pv_branch_kinds[i])
			types |= BIT_ULL(i);
	}
	return types & READ_ONCE(header->branch_types);
}

/* Complete the request for an event that is opened. Returns 0, or a negative errno. */
int pv_branch_set_request(const struct pv_pmu_cpu *cpuc, struct perf_event *event)
{
	u64 types = event->attr.branch_sample_type & ~PV_BRANCH_NOT_FOR_HOST;

	if (!has_branch_stack(event))
		return 0;
	if (!is_sampling_event(event) || types & ~pv_branch_types(cpuc))
		return -EOPNOTSUPP;

	to_pv_pmu_event(event)->request.branch_sample_type = types;
	return 0;
}

/* The area was enabled: numbers of records may start anew. */
void pv_branch_forget(struct pv_pmu_cpu *cpuc)
{
	struct pv_pmu_branch_state *state = &cpuc->branch;
	unsigned int i;

	if (!state->page)
		return;

	for (i = 0; i < KVM_PV_PMU_NR_BRANCH_RECORDS; i++)
		WRITE_ONCE(state->page->records[i].slots, 0);
	state->used = 0;
	state->newest = 0;
}

/*
 * The NMI handler has taken the overflows. Their records are newer than the last NMI's;
 * records of later overflows are for the next NMI. This CPU may lack the page, if the event
 * was opened on another CPU.
 */
void pv_branch_latch(struct pv_pmu_cpu *cpuc)
{
	struct pv_pmu_branch_state *state = &cpuc->branch;
	u64 newest = state->newest;
	unsigned int i;

	if (!state->page)
		return;

	for (i = 0; i < KVM_PV_PMU_NR_BRANCH_RECORDS; i++)
		newest = max(newest, READ_ONCE(state->page->records[i].number));
	state->used = state->newest;
	state->newest = newest;
}

/* The newest record for the slot that no earlier NMI has used, or NULL */
static const struct kvm_pv_pmu_branch_record *pv_branch_find(struct pv_pmu_cpu *cpuc,
							     unsigned int slot)
{
	const struct kvm_pv_pmu_branch_record *record, *found = NULL;
	const struct pv_pmu_branch_state *state = &cpuc->branch;
	u64 number, newest = state->used;

	for (record = state->page->records;
	     record < state->page->records + KVM_PV_PMU_NR_BRANCH_RECORDS; record++) {
		number = READ_ONCE(record->number);
		if (number <= newest || number > state->newest ||
		    !(READ_ONCE(record->slots) & BIT(slot)))
			continue;
		newest = number;
		found = record;
	}
	return found;
}

static void pv_branch_copy(struct perf_branch_entry *entry, const struct kvm_pv_pmu_branch *branch)
{
	u32 flags = READ_ONCE(branch->flags);

	*entry = (struct perf_branch_entry){
		.from		= READ_ONCE(branch->from),
		.to		= READ_ONCE(branch->to),
		.mispred	= !!(flags & KVM_PV_PMU_BRANCH_MISPREDICTED),
		.predicted	= !!(flags & KVM_PV_PMU_BRANCH_PREDICTED),
		.spec		= (flags & KVM_PV_PMU_BRANCH_SPEC_MASK) >>
				  KVM_PV_PMU_BRANCH_SPEC_SHIFT,
	};
}

/* Returns the number of entries: 0 if the record is LOST, or was overwritten by another. */
static unsigned int pv_branch_read(const struct pv_pmu_branch_state *state,
				   const struct kvm_pv_pmu_branch_record *record,
				   unsigned int slot, struct perf_branch_entry *entries)
{
	unsigned int tries = PV_BRANCH_TRIES, nr, i;
	bool is_valid;
	u32 seq;

	/* the barriers pair with the host's, around its writes */
	do {
		seq = READ_ONCE(record->seq);
		virt_rmb();	/* as above */
		is_valid = (READ_ONCE(record->slots) & BIT(slot)) &&
			   READ_ONCE(record->number) <= state->newest &&
			   !(READ_ONCE(record->flags) & KVM_PV_PMU_BRANCHES_LOST);
		nr = min(READ_ONCE(record->nr), KVM_PV_PMU_MAX_BRANCHES);
		for (i = 0; i < nr; i++)
			pv_branch_copy(&entries[i], &record->branches[i]);
		virt_rmb();	/* as above */
	} while (((seq & 1) || seq != READ_ONCE(record->seq)) && --tries);

	return tries && is_valid ? nr : 0;
}

/*
 * As amd_pmu_lbr_filter(). The code at the branches can be read: the NMI has interrupted
 * the task that took the branches.
 */
static bool pv_branch_is_wanted(struct perf_branch_entry *entry, int kinds, bool save_type)
{
	int offset, type;

	type = branch_type_fused(entry->from, entry->to, 0, &offset);
	if (type == X86_BR_NONE || (kinds & type) != type)
		return false;

	/* the CPU may have reported the instruction that it has fused with the branch */
	entry->from += offset;
	if (!(kinds & X86_BR_KERNEL) && kernel_ip(entry->from))
		return false;
	if (save_type)
		entry->type = common_branch_type(type);
	return true;
}

static unsigned int pv_branch_filter(struct perf_branch_entry *entries, unsigned int nr,
				     struct perf_event *event)
{
	unsigned long types = to_pv_pmu_event(event)->request.branch_sample_type;
	unsigned int i, nr_wanted = 0;
	int kinds = 0;

	for_each_set_bit(i, &types, ARRAY_SIZE(pv_branch_kinds))
		kinds |= pv_branch_kinds[i];
	for (i = 0; i < nr; i++) {
		if (pv_branch_is_wanted(&entries[i], kinds, branch_sample_type(event)))
			entries[nr_wanted++] = entries[i];
	}
	return nr_wanted;
}

/*
 * Add the branch stack to a sample, in the NMI of the overflow. Without a record, the stack
 * is empty. Filter a copy: the record may serve other events.
 */
void pv_branch_save(struct pv_pmu_cpu *cpuc, struct perf_event *event,
		    struct perf_sample_data *data)
{
	const struct kvm_pv_pmu_branch_record *record = NULL;
	struct pv_branch_stack *stack = this_cpu_ptr(&pv_branch_stack);
	unsigned int slot = event->hw.idx, nr = 0;

	if (likely(cpuc->branch.page))
		record = pv_branch_find(cpuc, slot);
	if (likely(record))
		nr = pv_branch_read(&cpuc->branch, record, slot, stack->entries);

	stack->stack.nr = pv_branch_filter(stack->entries, nr, event);
	stack->stack.hw_idx = 0;
	perf_sample_save_brstack(data, event, &stack->stack, NULL);
}
