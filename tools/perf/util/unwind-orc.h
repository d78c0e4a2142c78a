/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_UNWIND_ORC_H
#define __PERF_UNWIND_ORC_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

struct guest_dump;

/* The size of an entry of .orc_unwind, in all formats. */
#define ORC_RAW_SIZE	6

enum orc_format {
	ORC_FORMAT_4_14,
	ORC_FORMAT_6_3,
	ORC_FORMAT_6_4,
};

enum orc_type {
	ORC_UNDEFINED,		/* code without frames that can be followed */
	ORC_END,		/* where the calls of a kernel begin */
	ORC_CALL,
	ORC_REGS,		/* behind the frame are pt_regs */
	ORC_REGS_PARTIAL,	/* behind the frame are IP, CS, FLAGS, SP and SS */
};

enum orc_reg {
	ORC_REG_UNDEFINED,
	ORC_REG_PREV_SP,
	ORC_REG_DX,
	ORC_REG_DI,
	ORC_REG_BP,
	ORC_REG_SP,
	ORC_REG_R10,
	ORC_REG_R13,
	ORC_REG_BP_INDIRECT,
	ORC_REG_SP_INDIRECT,
};

/* How to find the caller from the code at ip, up to the ip of the next entry. */
struct orc_entry {
	u64 ip;
	s16 sp_offset;
	s16 bp_offset;
	u8 sp_reg;
	u8 bp_reg;
	u8 type;
	bool signal;		/* the code was interrupted: its IP is no return address */
};

struct orc_table {
	struct orc_entry *entries;
	size_t nr;
};

/* Why a chain ends. */
enum orc_result {
	ORC_RESULT_ROOT,	/* where the calls begin */
	ORC_RESULT_USER,	/* in user space, from which the kernel was entered */
	ORC_RESULT_UNDEFINED,	/* in code that cannot be followed */
	ORC_RESULT_NO_ENTRY,	/* in code without a table */
	ORC_RESULT_NOT_DUMPED,	/* at a word of the stack that is not in the sample */
	ORC_RESULT_BAD,		/* at what makes no sense */
	ORC_RESULT_FULL,	/* at the limit of frames */
};

/* The tables and the symbols of a kernel */
struct orc_kernel_ops {
	const struct orc_entry *(*find)(void *arg, u64 ip);
	bool (*is_text)(void *arg, u64 ip);
	bool (*is_thunk)(void *arg, u64 ip);
};

struct orc_chain {
	u64 *ips;		/* innermost first */
	unsigned int max;
	unsigned int nr;
	/* of ORC_RESULT_USER */
	u64 user_ip;
	u64 user_regs;		/* address of the pt_regs; 0 if the kernel has not saved all */
};

int orc_format__detect(const void *header, size_t size, const char *release);
void orc_entry__decode(struct orc_entry *entry, const u8 *raw, enum orc_format format);
void orc_table__sort(struct orc_table *table);
const struct orc_entry *orc_table__find(const struct orc_table *table, u64 ip);

enum orc_result orc_unwind(const struct orc_kernel_ops *ops, void *arg,
			   const struct guest_dump *dump, struct orc_chain *chain);

#endif /* __PERF_UNWIND_ORC_H */
