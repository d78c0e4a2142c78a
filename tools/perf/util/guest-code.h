/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_CODE_H
#define __PERF_GUEST_CODE_H

/*
 * The calls in x86 code of guests.
 *
 * @code points to the instruction at a return address. The @size bytes before @code are
 * code of the same segment, and may be read.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/unaligned.h>

/* call rel32 */
#define CALL_OPCODE	0xe8
#define CALL_LEN	5

/* Is there a direct call before @code? */
static inline bool is_direct_call_before(const u8 *code, u64 size)
{
	return size >= CALL_LEN && code[-CALL_LEN] == CALL_OPCODE;
}

/* Where does the direct call before @code, of which the return address is @ret, lead to? */
static inline u64 call_target(const u8 *code, u64 ret)
{
	return ret + (s32)get_unaligned_le32(code - sizeof(s32));
}

/* The length of an indirect call with this ModRM byte, prefixes aside. */
static inline size_t indirect_call_len(u8 modrm)
{
	unsigned int mod = modrm >> 6, rm = modrm & 7;
	size_t sib = rm == 4;

	switch (mod) {
	case 0:
		return rm == 5 ? 6 : 2 + sib;
	case 1:
		return 3 + sib;
	case 2:
		return 6 + sib;
	default:
		return 2;
	}
}

/* Can the bytes before @code be an indirect call? */
static inline bool is_indirect_call_before(const u8 *code, u64 size)
{
	for (size_t len = 2; len <= 7 && len <= size; len++) {
		const u8 *call = code - len;

		if (call[0] == 0xff && ((call[1] >> 3) & 7) == 2 &&
		    indirect_call_len(call[1]) == len)
			return true;
	}
	return false;
}

#endif /* __PERF_GUEST_CODE_H */
