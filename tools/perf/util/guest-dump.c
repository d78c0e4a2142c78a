// SPDX-License-Identifier: GPL-2.0
/*
 * The field PERF_SAMPLE_GUEST_STACK of a sample.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/perf_event.h>

#include "evsel.h"
#include "guest-dump.h"
#include "guest-record.h"
#include "perf_regs.h"

/* The most that the kernel copies of one stack */
#define MAX_STACK	((u32)16384)

bool evsel__dumps_guests(struct evsel *evsel)
{
	return evsel->core.attr.sample_type & PERF_SAMPLE_GUEST_STACK;
}

/*
 * --call-graph=dwarf: sample the stacks of guests as well as those of the host. An event
 * that does not sample the host has the stacks of guests alone.
 */
void evsel__config_guest_dump(struct evsel *evsel, u32 size)
{
	struct perf_event_attr *attr = &evsel->core.attr;

	if (!evsel__samples_guests(evsel))
		return;

	evsel__set_sample_bit(evsel, GUEST_STACK);
	attr->sample_regs_guest = arch__user_reg_mask();
	attr->sample_stack_guest = min(size, MAX_STACK);
	if (attr->exclude_host) {
		evsel__reset_sample_bit(evsel, REGS_USER);
		evsel__reset_sample_bit(evsel, STACK_USER);
		attr->sample_regs_user = 0;
		attr->sample_stack_user = 0;
	}
}

static bool take(const __u64 **array, const void *end, u64 words, const u64 **field)
{
	/* @array may be beyond the end: earlier fields are not checked */
	if ((const void *)*array > end ||
	    words > (size_t)(end - (const void *)*array) / sizeof(u64))
		return false;
	*field = (const u64 *)*array;
	*array += words;
	return true;
}

static bool take_one(const __u64 **array, const void *end, u64 *val)
{
	const u64 *field;

	if (!take(array, end, 1, &field))
		return false;
	*val = *field;
	return true;
}

/* Returns the end of the field, or NULL if it is not well-formed. */
const __u64 *guest_dump__parse(struct guest_dump *dump, u64 mask, const __u64 *array,
			       const void *end)
{
	struct guest_stack *stack;

	if (!take_one(&array, end, &dump->abi))
		return NULL;
	if (dump->abi) {
		dump->mask = mask;
		if (!take(&array, end, hweight64(mask), &dump->regs))
			return NULL;
	}
	if (!take_one(&array, end, &dump->nr) || dump->nr > GUEST_DUMP_STACKS)
		return NULL;

	for (stack = dump->stacks; stack < dump->stacks + dump->nr; stack++) {
		if (!take_one(&array, end, &stack->addr) ||
		    !take_one(&array, end, &stack->size) ||
		    stack->size % sizeof(u64) ||
		    !take(&array, end, stack->size / sizeof(u64), &stack->words))
			return NULL;
	}
	return array;
}

size_t guest_dump__size(const struct guest_dump *dump)
{
	size_t size = 2 * sizeof(u64);
	unsigned int i;

	if (dump->abi)
		size += hweight64(dump->mask) * sizeof(u64);
	for (i = 0; i < dump->nr; i++)
		size += 2 * sizeof(u64) + dump->stacks[i].size;
	return size;
}

__u64 *guest_dump__synthesize(const struct guest_dump *dump, __u64 *array)
{
	unsigned int i, nr = hweight64(dump->mask);

	*array++ = dump->abi;
	if (dump->abi) {
		memcpy(array, dump->regs, nr * sizeof(u64));
		array += nr;
	}
	*array++ = dump->nr;
	for (i = 0; i < dump->nr; i++) {
		*array++ = dump->stacks[i].addr;
		*array++ = dump->stacks[i].size;
		memcpy(array, dump->stacks[i].words, dump->stacks[i].size);
		array += dump->stacks[i].size / sizeof(u64);
	}
	return array;
}

void guest_dump__printf(const struct guest_dump *dump)
{
	unsigned int i;

	printf("... guest stacks: %" PRIu64 ", ABI %" PRIu64 "\n", dump->nr, dump->abi);
	for (i = 0; i < dump->nr; i++)
		printf(".... 0x%016" PRIx64 ": size %" PRIu64 "\n", dump->stacks[i].addr,
		       dump->stacks[i].size);
}

bool guest_dump__same(const struct guest_dump *dump, const struct guest_dump *other)
{
	const struct guest_stack *a, *b;
	unsigned int i;

	if (dump->abi != other->abi || dump->nr != other->nr)
		return false;
	if (dump->abi && (dump->mask != other->mask ||
			  memcmp(dump->regs, other->regs, hweight64(dump->mask) * sizeof(u64))))
		return false;
	for (i = 0; i < dump->nr; i++) {
		a = &dump->stacks[i];
		b = &other->stacks[i];
		if (a->addr != b->addr || a->size != b->size ||
		    memcmp(a->words, b->words, a->size))
			return false;
	}
	return true;
}

/* Registers are in the order of their bits. */
bool guest_dump__reg(const struct guest_dump *dump, int reg, u64 *val)
{
	if (!dump->abi || !(dump->mask & (1ULL << reg)))
		return false;
	*val = dump->regs[hweight64(dump->mask & ((1ULL << reg) - 1))];
	return true;
}

/* Bytes of any of the stacks */
bool guest_dump__read(const struct guest_dump *dump, u64 addr, void *to, size_t size)
{
	const struct guest_stack *stack;
	u64 offset;

	for (stack = dump->stacks; stack < dump->stacks + dump->nr; stack++) {
		offset = addr - stack->addr;
		if (stack->size >= size && offset <= stack->size - size) {
			memcpy(to, (const char *)stack->words + offset, size);
			return true;
		}
	}
	return false;
}

/* A word of any of the stacks, aligned or not */
bool guest_dump__word(const struct guest_dump *dump, u64 addr, u64 *val)
{
	return guest_dump__read(dump, addr, val, sizeof(*val));
}
