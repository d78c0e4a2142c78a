/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PERF_GUEST_DUMP_H
#define _LINUX_PERF_GUEST_DUMP_H

#include <linux/types.h>
#include <asm/ptrace.h>

/* Stacks that the guest has switched between: PERF_SAMPLE_GUEST_STACK is for 3. */
#define PERF_GUEST_MAX_STACKS	3

struct perf_callchain_entry;
struct perf_event;
struct perf_event_attr;
struct perf_guest_info_callbacks;
struct perf_output_handle;
struct perf_sample_data;

/* As in the sample, before the bytes. */
struct perf_guest_stack {
	u64 addr;
	u64 size;
};

/*
 * What the hypervisor tells of the guest that a sample was taken in. ->dump() leaves abi
 * at PERF_SAMPLE_REGS_ABI_NONE if it can tell nothing. The bytes of stack n begin at
 * data + n * max_size; their number is a multiple of 8, and at most max_size.
 */
struct perf_guest_dump {
	u64 chain[3];		/* a struct perf_callchain_entry for two entries */
	u64 abi;
	struct pt_regs regs;
	u64 nr;
	struct perf_guest_stack stacks[PERF_GUEST_MAX_STACKS];
	u32 max_size;
	u8 data[] __aligned(8);
};

#ifdef CONFIG_GUEST_PERF_EVENTS
void perf_guest_dump_register(struct perf_guest_info_callbacks *cbs);
void perf_guest_dump_unregister(void);
bool perf_attr_can_sample_guests(const struct perf_event_attr *attr);
int perf_guest_dump_check_attr(const struct perf_event_attr *attr);
int perf_guest_dump_alloc(struct perf_event *event);
void perf_guest_dump_free(struct perf_event *event);
struct perf_callchain_entry *perf_guest_dump_callchain(struct perf_event *event);
void perf_guest_dump_prepare(struct perf_sample_data *data, struct perf_event *event,
			     bool wanted);
void perf_guest_dump_output(struct perf_output_handle *handle,
			    struct perf_sample_data *data, struct perf_event *event);
#else
static inline bool perf_attr_can_sample_guests(const struct perf_event_attr *attr)
{
	return true;
}

#define perf_guest_dump_check_attr(attr)	\
	((attr)->sample_type & PERF_SAMPLE_GUEST_STACK ? -EOPNOTSUPP : 0)

static inline int perf_guest_dump_alloc(struct perf_event *event)
{
	return 0;
}

static inline void perf_guest_dump_free(struct perf_event *event)
{
}

static inline struct perf_callchain_entry *
perf_guest_dump_callchain(struct perf_event *event)
{
	return NULL;
}

static inline void perf_guest_dump_prepare(struct perf_sample_data *data,
					   struct perf_event *event, bool wanted)
{
	data->guest_dump = NULL;
}

static inline void perf_guest_dump_output(struct perf_output_handle *handle,
					  struct perf_sample_data *data,
					  struct perf_event *event)
{
}
#endif /* CONFIG_GUEST_PERF_EVENTS */

#endif /* _LINUX_PERF_GUEST_DUMP_H */
