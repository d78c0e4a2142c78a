// SPDX-License-Identifier: GPL-2.0
/*
 * Follow the calls in an x86-64 kernel with its ORC tables, as the kernel itself does
 * (arch/x86/kernel/unwind_orc.c), in the registers and stacks of a sample.
 *
 * Only what the tables say counts. Where they end, the chain ends.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/kernel.h>
#include <linux/perf_event.h>

#include "../arch/x86/include/uapi/asm/perf_regs.h"
#include "guest-dump.h"
#include "unwind-orc.h"

/* Offsets of struct pt_regs */
#define PT_R13		16
#define PT_BP		32
#define PT_R10		56
#define PT_DX		96
#define PT_DI		112
#define PT_IP		128
#define PT_CS		136
#define PT_SP		152

/* ... and of the part of it that the CPU pushes, from IP */
#define IRET_CS		(PT_CS - PT_IP)
#define IRET_SP		(PT_SP - PT_IP)

#define HASH_SIZE	20

/*
 * .orc_header has a hash of the format's definition, by scripts/orc_hash.sh. A format that
 * is not known is not tried.
 */
static const struct {
	u8 hash[HASH_SIZE];
	enum orc_format format;
} known_hashes[] = {
	{ { 0xdb, 0x84, 0xae, 0xd4, 0x10, 0x3b, 0x31, 0xdd, 0x51, 0xe0,
	    0x17, 0xf8, 0xf7, 0x97, 0x83, 0xca, 0x98, 0x5c, 0x2c, 0x51 }, ORC_FORMAT_6_3 },
	{ { 0xfe, 0x5d, 0x32, 0xbf, 0x58, 0x1b, 0xd6, 0x3b, 0x2c, 0xa9,
	    0xa5, 0xc6, 0x5b, 0xa5, 0xa6, 0x25, 0xea, 0xb3, 0xfe, 0x24 }, ORC_FORMAT_6_4 },
};

/*
 * The format by .orc_header. Kernels have it since 6.5, and since 6.3.10 and 6.4; @header is
 * NULL in others, whose format follows from the @release. Returns -EINVAL if it is unknown.
 */
int orc_format__detect(const void *header, size_t size, const char *release)
{
	unsigned int major, minor;
	size_t i;

	if (header) {
		for (i = 0; i < ARRAY_SIZE(known_hashes); i++)
			if (size == HASH_SIZE && !memcmp(header, known_hashes[i].hash, size))
				return known_hashes[i].format;
		return -EINVAL;
	}

	if (!release || sscanf(release, "%u.%u", &major, &minor) != 2)
		return -EINVAL;
	if (major < 4 || (major == 4 && minor < 14))
		return -EINVAL;
	if (major < 6 || (major == 6 && minor < 3))
		return ORC_FORMAT_4_14;
	if (major == 6 && minor == 3)
		return ORC_FORMAT_6_3;
	return -EINVAL;
}

static u16 le16_at(const u8 *p)
{
	return p[0] | p[1] << 8;
}

/* Before 6.4, entries without a stack pointer have a bit that tells the end. */
static void decode_old(struct orc_entry *entry, u16 bits, bool end)
{
	const unsigned int type = bits >> 8 & 3;

	if (entry->sp_reg == ORC_REG_UNDEFINED)
		entry->type = end ? ORC_END : ORC_UNDEFINED;
	else
		entry->type = type < 3 ? ORC_CALL + type : ORC_UNDEFINED;
}

void orc_entry__decode(struct orc_entry *entry, const u8 *raw, enum orc_format format)
{
	u16 bits = le16_at(raw + 4);

	entry->sp_offset = le16_at(raw);
	entry->bp_offset = le16_at(raw + 2);
	entry->sp_reg = bits & 15;
	entry->bp_reg = bits >> 4 & 15;
	switch (format) {
	case ORC_FORMAT_4_14:
		decode_old(entry, bits, bits >> 10 & 1);
		entry->signal = entry->type == ORC_REGS || entry->type == ORC_REGS_PARTIAL;
		break;
	case ORC_FORMAT_6_3:
		decode_old(entry, bits, bits >> 11 & 1);
		entry->signal = bits >> 10 & 1;
		break;
	case ORC_FORMAT_6_4:
	default:
		entry->type = bits >> 8 & 7;
		entry->signal = bits >> 11 & 1;
	}
}

/* Of two entries for one address, the real one counts, not the end of the code before. */
static int compare_entries(const void *a, const void *b)
{
	const struct orc_entry *x = a, *y = b;

	if (x->ip != y->ip)
		return x->ip < y->ip ? -1 : 1;
	return (x->type != ORC_UNDEFINED) - (y->type != ORC_UNDEFINED);
}

void orc_table__sort(struct orc_table *table)
{
	qsort(table->entries, table->nr, sizeof(*table->entries), compare_entries);
}

/* The last entry at or below ip. The caller knows where the code ends. */
const struct orc_entry *orc_table__find(const struct orc_table *table, u64 ip)
{
	size_t low = 0, high = table->nr, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (table->entries[mid].ip <= ip)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? &table->entries[low - 1] : NULL;
}

/* Where a set of registers is. */
struct saved_regs {
	enum { REGS_NONE, REGS_OF_SAMPLE, REGS_ON_STACK, REGS_IRET } where;
	u64 at;
};

struct orc_state {
	const struct guest_dump *dump;
	u64 ip;
	u64 sp;
	u64 bp;
	bool signal;
	struct saved_regs regs;		/* if the code was interrupted */
	struct saved_regs prev;		/* full ones, before partial ones */
	u64 cs;
	enum orc_result result;
};

static bool orc_stop(struct orc_state *state, enum orc_result result)
{
	state->result = result;
	return false;
}

static bool read_word(struct orc_state *state, u64 addr, u64 *val)
{
	return guest_dump__word(state->dump, addr, val) ||
	       orc_stop(state, ORC_RESULT_NOT_DUMPED);
}

/* Registers of the code that was interrupted, which is at ip. Returns 0, 1 or -1. */
static int get_reg(struct orc_state *state, int sample_reg, unsigned int pt_offset, u64 *val)
{
	const struct saved_regs *regs = state->regs.where == REGS_IRET ? &state->prev :
									 &state->regs;

	switch (regs->where) {
	case REGS_OF_SAMPLE:
		return guest_dump__reg(state->dump, sample_reg, val);
	case REGS_ON_STACK:
		return read_word(state, regs->at + pt_offset, val) ? 1 : -1;
	case REGS_NONE:
	case REGS_IRET:
	default:
		return 0;
	}
}

static bool need_reg(struct orc_state *state, int sample_reg, unsigned int pt_offset, u64 *val)
{
	int ret = get_reg(state, sample_reg, pt_offset, val);

	if (!ret)
		return orc_stop(state, ORC_RESULT_BAD);
	return ret > 0;
}

/* The stack pointer of the caller, or where the registers are that were saved. */
static bool frame_address(struct orc_state *state, const struct orc_entry *entry, u64 *addr)
{
	switch (entry->sp_reg) {
	case ORC_REG_SP:
		*addr = state->sp + entry->sp_offset;
		return true;
	case ORC_REG_BP:
		*addr = state->bp + entry->sp_offset;
		return true;
	case ORC_REG_SP_INDIRECT:
		if (!read_word(state, state->sp, addr))
			return false;
		*addr += entry->sp_offset;
		return true;
	case ORC_REG_BP_INDIRECT:
		return read_word(state, state->bp + entry->sp_offset, addr);
	case ORC_REG_R10:
		return need_reg(state, PERF_REG_X86_R10, PT_R10, addr);
	case ORC_REG_R13:
		return need_reg(state, PERF_REG_X86_R13, PT_R13, addr);
	case ORC_REG_DI:
		return need_reg(state, PERF_REG_X86_DI, PT_DI, addr);
	case ORC_REG_DX:
		return need_reg(state, PERF_REG_X86_DX, PT_DX, addr);
	default:
		return orc_stop(state, ORC_RESULT_BAD);
	}
}

static bool step_to_caller(struct orc_state *state, u64 addr)
{
	state->sp = addr;
	state->regs.where = REGS_NONE;
	state->prev.where = REGS_NONE;
	return read_word(state, addr - sizeof(u64), &state->ip);
}

/* @iret is the address of IP, CS, FLAGS, SP and SS. */
static bool step_to_interrupted(struct orc_state *state, u64 iret)
{
	return read_word(state, iret, &state->ip) &&
	       read_word(state, iret + IRET_CS, &state->cs) &&
	       read_word(state, iret + IRET_SP, &state->sp);
}

static bool step_by_type(struct orc_state *state, const struct orc_entry *entry, u64 addr)
{
	switch (entry->type) {
	case ORC_CALL:
		return step_to_caller(state, addr);
	case ORC_REGS:
		state->regs = (struct saved_regs) { REGS_ON_STACK, addr };
		state->prev.where = REGS_NONE;
		return step_to_interrupted(state, addr + PT_IP);
	case ORC_REGS_PARTIAL:
		if (state->regs.where != REGS_IRET)
			state->prev = state->regs;
		state->regs = (struct saved_regs) { REGS_IRET, addr };
		return step_to_interrupted(state, addr);
	default:
		return orc_stop(state, ORC_RESULT_BAD);
	}
}

static bool find_bp(struct orc_state *state, const struct orc_entry *entry, u64 addr)
{
	u64 bp;
	int ret;

	switch (entry->bp_reg) {
	case ORC_REG_UNDEFINED:
		ret = get_reg(state, PERF_REG_X86_BP, PT_BP, &bp);
		if (ret > 0)
			state->bp = bp;
		return ret >= 0;
	case ORC_REG_PREV_SP:
		return read_word(state, addr + entry->bp_offset, &state->bp);
	case ORC_REG_BP:
		return read_word(state, state->bp + entry->bp_offset, &state->bp);
	default:
		return orc_stop(state, ORC_RESULT_BAD);
	}
}

static const struct guest_stack *stack_of(const struct guest_dump *dump, u64 addr)
{
	unsigned int i;

	for (i = 0; i < dump->nr; i++)
		if (addr - dump->stacks[i].addr < dump->stacks[i].size)
			return &dump->stacks[i];
	return NULL;
}

/* Within a stack, callers are above what they call. */
static bool check_progress(struct orc_state *state, u64 sp)
{
	const struct guest_stack *stack = stack_of(state->dump, sp);

	if (stack && stack == stack_of(state->dump, state->sp) && state->sp <= sp)
		return orc_stop(state, ORC_RESULT_BAD);
	return true;
}

/* In the kernel's half, and no marker of call chains. */
static bool is_kernel_code(u64 ip)
{
	return (s64)ip < 0 && ip < PERF_CONTEXT_MAX;
}

static bool orc_step(struct orc_state *state, const struct orc_entry *entry)
{
	u64 addr, sp = state->sp;

	if (entry->type == ORC_UNDEFINED)
		return orc_stop(state, ORC_RESULT_UNDEFINED);
	if (entry->type == ORC_END)
		return orc_stop(state, ORC_RESULT_ROOT);

	if (!frame_address(state, entry, &addr) || !step_by_type(state, entry, addr))
		return false;
	if (entry->type != ORC_CALL && (state->cs & 3) == 3)
		return orc_stop(state, (s64)state->ip < 0 ? ORC_RESULT_BAD : ORC_RESULT_USER);
	if (!find_bp(state, entry, addr) || !check_progress(state, sp))
		return false;
	state->signal = entry->signal;
	return is_kernel_code(state->ip) || orc_stop(state, ORC_RESULT_BAD);
}

/*
 * Thunks stand in for indirect calls and for returns. Some have no entries of their own: where
 * the thunk goes to is on top of the stack.
 */
static const struct orc_entry *thunk_entry(const struct orc_entry *entry)
{
	static const struct orc_entry thunk = {
		.sp_reg = ORC_REG_SP, .sp_offset = sizeof(u64), .type = ORC_CALL,
	};

	if (!entry || entry->type == ORC_UNDEFINED || entry->type == ORC_END)
		return &thunk;
	return entry;
}

static bool orc_state__init(struct orc_state *state, const struct guest_dump *dump)
{
	*state = (struct orc_state) {
		.dump = dump, .signal = true, .regs.where = REGS_OF_SAMPLE,
	};
	return dump->abi == PERF_SAMPLE_REGS_ABI_64 &&
	       guest_dump__reg(dump, PERF_REG_X86_IP, &state->ip) &&
	       guest_dump__reg(dump, PERF_REG_X86_SP, &state->sp) &&
	       guest_dump__reg(dump, PERF_REG_X86_BP, &state->bp) &&
	       is_kernel_code(state->ip);
}

/* The IP of the sample, and its callers. A return address may be behind its function's end. */
enum orc_result orc_unwind(const struct orc_kernel_ops *ops, void *arg,
			   const struct guest_dump *dump, struct orc_chain *chain)
{
	const struct orc_entry *entry;
	struct orc_state state;
	bool in_thunk = true;

	chain->nr = 0;
	if (!orc_state__init(&state, dump))
		return ORC_RESULT_BAD;

	while (chain->nr < chain->max) {
		chain->ips[chain->nr++] = state.ip;
		entry = ops->find(arg, state.signal ? state.ip : state.ip - 1);
		in_thunk = in_thunk && ops->is_thunk(arg, state.ip);
		if (in_thunk)
			entry = thunk_entry(entry);
		if (!entry)
			return ORC_RESULT_NO_ENTRY;
		if (!orc_step(&state, entry)) {
			chain->user_ip = state.ip;
			chain->user_regs = state.regs.where == REGS_ON_STACK ? state.regs.at : 0;
			return state.result;
		}
		/* The tables are not right everywhere: what is no code is no caller. */
		if (!ops->is_text(arg, state.ip))
			return ORC_RESULT_BAD;
		/* A thunk may go to the start of a function, not only behind a call. */
		state.signal |= in_thunk;
	}
	return ORC_RESULT_FULL;
}
