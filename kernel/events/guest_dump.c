// SPDX-License-Identifier: GPL-2.0
/*
 * Registers and stacks of a guest in its samples (PERF_SAMPLE_GUEST_STACK).
 *
 * The size of a record is known before the record is written. So the dump is taken when
 * the sample is prepared, into memory of the event, and copied to the ring buffer from
 * there. No event that may have this bit samples in a context that another sample of the
 * same event can interrupt.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/perf_event.h>
#include <linux/perf_guest_dump.h>
#include <linux/perf_regs.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/static_call.h>
#include <linux/topology.h>

#include "internal.h"

/* The most that perf_event_open() accepts as the size of one stack. */
#define MAX_STACK_SIZE		SZ_16K

/*
 * What the rest of a sample needs, at most, of the fields that are prepared after the
 * dump: registers of the host, branches.
 */
#define MAX_LATER_FIELDS	SZ_4K

DEFINE_STATIC_CALL_NULL(__perf_guest_dump, *perf_guest_cbs->dump);

void perf_guest_dump_register(struct perf_guest_info_callbacks *cbs)
{
	if (cbs->dump)
		static_call_update(__perf_guest_dump, cbs->dump);
}

void perf_guest_dump_unregister(void)
{
	static_call_update(__perf_guest_dump, NULL);
}

/* Has KVM, or another hypervisor, a callback for dumps? */
static bool has_dump_callback(void)
{
	struct perf_guest_info_callbacks *cbs;

	guard(rcu)();
	cbs = rcu_dereference(perf_guest_cbs);
	return cbs && cbs->dump;
}

/*
 * Tracepoints, breakpoints and most events of software happen in the host. A sample of
 * theirs may interrupt another one of the same event.
 */
bool perf_attr_can_sample_guests(const struct perf_event_attr *attr)
{
	switch (attr->type) {
	case PERF_TYPE_TRACEPOINT:
	case PERF_TYPE_BREAKPOINT:
		return false;
	case PERF_TYPE_SOFTWARE:
		return attr->config == PERF_COUNT_SW_CPU_CLOCK ||
		       attr->config == PERF_COUNT_SW_TASK_CLOCK;
	default:
		return true;
	}
}

int perf_guest_dump_check_attr(const struct perf_event_attr *attr)
{
	if (!(attr->sample_type & PERF_SAMPLE_GUEST_STACK))
		return 0;

	if (attr->exclude_guest || !perf_attr_can_sample_guests(attr) ||
	    attr->sample_stack_guest > MAX_STACK_SIZE ||
	    !IS_ALIGNED(attr->sample_stack_guest, sizeof(u64)))
		return -EINVAL;
	if ((attr->sample_regs_guest & PERF_REG_EXTENDED_MASK) ||
	    perf_reg_validate(attr->sample_regs_guest))
		return -EINVAL;

	return has_dump_callback() ? 0 : -EOPNOTSUPP;
}

/* A PMU may make a tracepoint or a probe of an event of its own type. */
static bool is_trace_event(const struct perf_event *event)
{
#ifdef CONFIG_EVENT_TRACING
	return event->tp_event;
#else
	return false;
#endif
}

/* The memory belongs to the event, and is charged to who has opened it. */
int perf_guest_dump_alloc(struct perf_event *event)
{
	u32 size = event->attr.sample_stack_guest;

	if (!(event->attr.sample_type & PERF_SAMPLE_GUEST_STACK))
		return 0;
	if (is_trace_event(event))
		return -EINVAL;

	event->guest_dump = kvzalloc_node(struct_size(event->guest_dump, data,
						      PERF_GUEST_MAX_STACKS * (size_t)size),
					  GFP_KERNEL_ACCOUNT,
					  event->cpu < 0 ? NUMA_NO_NODE : cpu_to_node(event->cpu));
	if (!event->guest_dump)
		return -ENOMEM;
	event->guest_dump->max_size = size;
	return 0;
}

void perf_guest_dump_free(struct perf_event *event)
{
	kvfree(event->guest_dump);
}

/* Instead of a walk of frame pointers: a chain of the guest's IP, for an event with dumps. */
struct perf_callchain_entry *perf_guest_dump_callchain(struct perf_event *event)
{
	struct perf_guest_dump *dump = event->guest_dump;
	unsigned int state = perf_guest_state();

	if (!state)
		return NULL;

	dump->chain[0] = 2;
	dump->chain[1] = state & PERF_GUEST_USER ? PERF_CONTEXT_GUEST_USER :
						   PERF_CONTEXT_GUEST_KERNEL;
	dump->chain[2] = perf_guest_get_ip();
	static_assert(offsetof(struct perf_callchain_entry, ip) == sizeof(dump->chain[0]));
	return (struct perf_callchain_entry *)dump->chain;
}

static size_t regs_size(struct perf_event *event)
{
	return hweight64(event->attr.sample_regs_guest) * sizeof(u64);
}

/* Stacks end where the record must not grow any more: its size has 16 bits. */
static size_t limit_stacks(struct perf_guest_dump *dump, size_t room)
{
	const size_t header = sizeof(struct perf_guest_stack);
	size_t total = 0;
	unsigned int i;

	static_assert(sizeof(struct perf_guest_stack) == 2 * sizeof(u64));
	for (i = 0; i < dump->nr; i++) {
		dump->stacks[i].size = min_t(u64, dump->stacks[i].size,
					     room > total + header ?
					     rounddown(room - total - header, 8) : 0);
		total += header + dump->stacks[i].size;
	}
	return total;
}

/*
 * Prepare the field of a sample. @wanted is false for samples of the host. Afterwards
 * data->guest_dump is NULL unless the sample was taken in a guest.
 */
void perf_guest_dump_prepare(struct perf_sample_data *data, struct perf_event *event,
			     bool wanted)
{
	size_t used = perf_sample_data_size(data, event) + MAX_LATER_FIELDS;
	struct perf_guest_dump *dump = event->guest_dump;
	size_t size = 2 * sizeof(u64);

	data->guest_dump = NULL;
	if (wanted && dump && perf_guest_state()) {
		data->guest_dump = dump;
		dump->abi = PERF_SAMPLE_REGS_ABI_NONE;
		dump->nr = 0;
		static_call_cond(__perf_guest_dump)(dump);
		if (dump->abi != PERF_SAMPLE_REGS_ABI_NONE) {
			size += regs_size(event);
			used += size;
			size += limit_stacks(dump, U16_MAX - min_t(size_t, used, U16_MAX));
		}
	}
	data->dyn_size += size;
}

void perf_guest_dump_output(struct perf_output_handle *handle,
			    struct perf_sample_data *data, struct perf_event *event)
{
	struct perf_guest_dump *dump = data->guest_dump;
	static const u64 nothing[] = { PERF_SAMPLE_REGS_ABI_NONE, 0 };
	DECLARE_BITMAP(mask, 64);
	const u8 *from;
	unsigned int i;
	u64 val;

	if (!dump || dump->abi == PERF_SAMPLE_REGS_ABI_NONE) {
		perf_output_put(handle, nothing);
		return;
	}

	perf_output_put(handle, dump->abi);
	bitmap_from_u64(mask, event->attr.sample_regs_guest);
	for_each_set_bit(i, mask, 64) {
		val = perf_reg_value(&dump->regs, i);
		perf_output_put(handle, val);
	}
	perf_output_put(handle, dump->nr);
	for (i = 0, from = dump->data; i < dump->nr; i++, from += dump->max_size) {
		perf_output_put(handle, dump->stacks[i]);
		perf_output_copy(handle, from, dump->stacks[i].size);
	}
}
