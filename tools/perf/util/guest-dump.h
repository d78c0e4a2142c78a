/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_DUMP_H
#define __PERF_GUEST_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

struct evsel;

#define GUEST_DUMP_STACKS	3

/* PERF_SAMPLE_GUEST_STACK: registers and stacks of a guest, as they are in the record. */
struct guest_dump {
	u64 abi;		/* PERF_SAMPLE_REGS_ABI_NONE without registers */
	u64 mask;
	const u64 *regs;
	u64 nr;
	struct guest_stack {
		u64 addr;
		u64 size;	/* a multiple of 8 */
		const u64 *words;
	} stacks[GUEST_DUMP_STACKS];
};

void evsel__config_guest_dump(struct evsel *evsel, u32 size);
const __u64 *guest_dump__parse(struct guest_dump *dump, u64 mask, const __u64 *array,
			       const void *end);
size_t guest_dump__size(const struct guest_dump *dump);
__u64 *guest_dump__synthesize(const struct guest_dump *dump, __u64 *array);
void guest_dump__printf(const struct guest_dump *dump);
bool guest_dump__same(const struct guest_dump *dump, const struct guest_dump *other);
bool guest_dump__reg(const struct guest_dump *dump, int reg, u64 *val);
bool guest_dump__read(const struct guest_dump *dump, u64 addr, void *to, size_t size);
bool guest_dump__word(const struct guest_dump *dump, u64 addr, u64 *val);

#endif /* __PERF_GUEST_DUMP_H */
