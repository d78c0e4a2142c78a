// SPDX-License-Identifier: GPL-2.0
/*
 * The ORC tables of a guest's kernel: formats, and the chains in samples made by hand.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/perf_event.h>

#include "../arch/x86/include/uapi/asm/perf_regs.h"
#include "debug.h"
#include "guest-dump.h"
#include "guest-unpack.h"
#include "tests.h"
#include "unwind-orc.h"

#define TEXT		0xffffffff81000000ULL
#define STACK		0xffffc90000004000ULL
#define IRQ_STACK	0xffffc90000008000ULL
#define MASK		0xff0fffULL
#define MAX_FRAMES	16

/* ---- formats */

static const struct {
	enum orc_format format;
	u8 raw[ORC_RAW_SIZE];
	struct orc_entry entry;
} formats[] = {
	/* SP 16, BP at CFA - 16, calls */
	{ ORC_FORMAT_4_14, { 16, 0, 0xf0, 0xff, 0x15, 0x00 },
	  { .sp_offset = 16, .bp_offset = -16, .sp_reg = ORC_REG_SP, .bp_reg = ORC_REG_PREV_SP,
	    .type = ORC_CALL } },
	{ ORC_FORMAT_6_3, { 16, 0, 0xf0, 0xff, 0x15, 0x00 },
	  { .sp_offset = 16, .bp_offset = -16, .sp_reg = ORC_REG_SP, .bp_reg = ORC_REG_PREV_SP,
	    .type = ORC_CALL } },
	{ ORC_FORMAT_6_4, { 16, 0, 0xf0, 0xff, 0x15, 0x02 },
	  { .sp_offset = 16, .bp_offset = -16, .sp_reg = ORC_REG_SP, .bp_reg = ORC_REG_PREV_SP,
	    .type = ORC_CALL } },
	/* pt_regs at SP: a signal without saying so, with, and with */
	{ ORC_FORMAT_4_14, { 0, 0, 0, 0, 0x05, 0x01 },
	  { .sp_reg = ORC_REG_SP, .type = ORC_REGS, .signal = true } },
	{ ORC_FORMAT_6_3, { 0, 0, 0, 0, 0x05, 0x05 },
	  { .sp_reg = ORC_REG_SP, .type = ORC_REGS, .signal = true } },
	{ ORC_FORMAT_6_3, { 0, 0, 0, 0, 0x05, 0x02 },
	  { .sp_reg = ORC_REG_SP, .type = ORC_REGS_PARTIAL } },
	{ ORC_FORMAT_6_4, { 0, 0, 0, 0, 0x05, 0x0b },
	  { .sp_reg = ORC_REG_SP, .type = ORC_REGS, .signal = true } },
	{ ORC_FORMAT_6_4, { 8, 0, 0, 0, 0x05, 0x0c },
	  { .sp_reg = ORC_REG_SP, .sp_offset = 8, .type = ORC_REGS_PARTIAL, .signal = true } },
	/* the end, and nothing */
	{ ORC_FORMAT_4_14, { 0, 0, 0, 0, 0x00, 0x04 }, { .type = ORC_END } },
	{ ORC_FORMAT_4_14, { 0, 0, 0, 0, 0x00, 0x00 }, { .type = ORC_UNDEFINED } },
	{ ORC_FORMAT_6_3, { 0, 0, 0, 0, 0x00, 0x08 }, { .type = ORC_END } },
	{ ORC_FORMAT_6_3, { 0, 0, 0, 0, 0x00, 0x04 }, { .type = ORC_UNDEFINED, .signal = true } },
	{ ORC_FORMAT_6_4, { 0, 0, 0, 0, 0x00, 0x01 }, { .type = ORC_END } },
	{ ORC_FORMAT_6_4, { 0, 0, 0, 0, 0x00, 0x00 }, { .type = ORC_UNDEFINED } },
};

static int test__formats(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	const struct orc_entry *want;
	struct orc_entry entry;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		memset(&entry, 0, sizeof(entry));
		orc_entry__decode(&entry, formats[i].raw, formats[i].format);
		want = &formats[i].entry;
		pr_debug("entry %zu\n", i);
		TEST_ASSERT_EQUAL("sp_offset", entry.sp_offset, want->sp_offset);
		TEST_ASSERT_EQUAL("bp_offset", entry.bp_offset, want->bp_offset);
		TEST_ASSERT_EQUAL("sp_reg", entry.sp_reg, want->sp_reg);
		TEST_ASSERT_EQUAL("bp_reg", entry.bp_reg, want->bp_reg);
		TEST_ASSERT_EQUAL("type", entry.type, want->type);
		TEST_ASSERT_EQUAL("signal", entry.signal, want->signal);
	}
	return TEST_OK;
}

static int test__detect(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	u8 hash[] = { 0xfe, 0x5d, 0x32, 0xbf, 0x58, 0x1b, 0xd6, 0x3b, 0x2c, 0xa9,
		      0xa5, 0xc6, 0x5b, 0xa5, 0xa6, 0x25, 0xea, 0xb3, 0xfe, 0x24 };
	const struct {
		const char *release;
		int format;
	} releases[] = {
		{ "4.13.0", -EINVAL }, { "4.14.0", ORC_FORMAT_4_14 },
		{ "6.1.0-47-amd64", ORC_FORMAT_4_14 }, { "6.2.16", ORC_FORMAT_4_14 },
		{ "6.3.1", ORC_FORMAT_6_3 }, { "6.12.1", -EINVAL }, { "next", -EINVAL },
		{ NULL, -EINVAL },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(releases); i++)
		TEST_ASSERT_EQUAL("release", orc_format__detect(NULL, 0, releases[i].release),
				  releases[i].format);
	TEST_ASSERT_EQUAL("hash", orc_format__detect(hash, sizeof(hash), "6.1.0"),
			  ORC_FORMAT_6_4);
	TEST_ASSERT_EQUAL("short hash", orc_format__detect(hash, 19, "6.12.0"), -EINVAL);
	hash[0]++;
	TEST_ASSERT_EQUAL("unknown hash", orc_format__detect(hash, sizeof(hash), "6.1.0"),
			  -EINVAL);
	return TEST_OK;
}

/* ---- chains */

/*
 * TEXT + 0x000: a function with a frame of 16 bytes
 * TEXT + 0x100: a function with a frame pointer
 * TEXT + 0x200: the entry of a system call: pt_regs
 * TEXT + 0x300: the entry of an interrupt: pt_regs
 * TEXT + 0x400: where a thread begins
 * TEXT + 0x500: the code that has switched to the stack of interrupts
 * TEXT + 0x600: a thunk
 * TEXT + 0x700: what the CPU pushes, at SP
 * TEXT + 0x800: a frame that R10 tells
 * TEXT + 0x900: no table
 */
static struct orc_entry entries[] = {
	{ TEXT + 0x900, 0, 0, ORC_REG_UNDEFINED, ORC_REG_UNDEFINED, ORC_UNDEFINED, false },
	{ TEXT + 0x000, 16, 0, ORC_REG_SP, ORC_REG_UNDEFINED, ORC_CALL, false },
	{ TEXT + 0x100, 16, -16, ORC_REG_BP, ORC_REG_PREV_SP, ORC_CALL, false },
	{ TEXT + 0x200, 0, 0, ORC_REG_SP, ORC_REG_UNDEFINED, ORC_REGS, true },
	{ TEXT + 0x300, 0, 0, ORC_REG_SP, ORC_REG_UNDEFINED, ORC_REGS, true },
	{ TEXT + 0x400, 0, 0, ORC_REG_UNDEFINED, ORC_REG_UNDEFINED, ORC_END, false },
	{ TEXT + 0x500, 8, 0, ORC_REG_SP_INDIRECT, ORC_REG_UNDEFINED, ORC_CALL, false },
	{ TEXT + 0x600, 0, 0, ORC_REG_UNDEFINED, ORC_REG_UNDEFINED, ORC_UNDEFINED, false },
	{ TEXT + 0x700, 0, 0, ORC_REG_SP, ORC_REG_UNDEFINED, ORC_REGS_PARTIAL, true },
	{ TEXT + 0x800, 0, 0, ORC_REG_R10, ORC_REG_UNDEFINED, ORC_CALL, false },
	/* the end of the code before 0x100, which the sorted table has before */
	{ TEXT + 0x100, 0, 0, ORC_REG_UNDEFINED, ORC_REG_UNDEFINED, ORC_UNDEFINED, false },
};

static struct orc_table table = { entries, ARRAY_SIZE(entries) };

static const struct orc_entry *find(void *arg __maybe_unused, u64 ip)
{
	return ip >= TEXT && ip < TEXT + 0x900 ? orc_table__find(&table, ip) : NULL;
}

static bool is_text(void *arg __maybe_unused, u64 ip)
{
	return ip >= TEXT && ip < TEXT + 0x20000;
}

static bool is_thunk(void *arg __maybe_unused, u64 ip)
{
	return ip - (TEXT + 0x600) < 32;
}

static const struct orc_kernel_ops ops = {
	.find = find, .is_text = is_text, .is_thunk = is_thunk,
};

#define WORDS	40

/* A sample, and the chain that it shall have. */
struct canned {
	const char *name;
	u64 ip, sp, bp, r10;
	u64 words[WORDS];	/* of the stack, from STACK */
	u64 irq_words[3];	/* of the stack of interrupts; the last one leads to the stack */
	enum orc_result result;
	u64 user_ip;
	u64 user_regs;
	u64 chain[MAX_FRAMES];	/* up to the first 0 */
};

/* Where in pt_regs: IP, CS, FLAGS, SP, SS are the last of 21 words. */
#define REGS_IP		16
#define REGS_CS		17
#define REGS_SP		19

static const struct canned canned[] = {
	{
		.name = "a system call",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = TEXT + 0x11, [3] = TEXT + 0x210,
			   [4 + REGS_IP] = 0x401000, [4 + REGS_CS] = 0x33 },
		.result = ORC_RESULT_USER, .user_ip = 0x401000,
		.user_regs = STACK + 4 * 8,
		.chain = { TEXT + 0x10, TEXT + 0x11, TEXT + 0x210 },
	}, {
		.name = "a thread, with a frame pointer",
		.ip = TEXT + 0x110, .sp = STACK, .bp = STACK + 16,
		.words = { [2] = STACK + 0x100, [3] = TEXT + 0x20, [5] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x110, TEXT + 0x20, TEXT + 0x401 },
	}, {
		.name = "a return address at the end of a function",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = TEXT + 0x100, [3] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x10, TEXT + 0x100, TEXT + 0x401 },
	}, {
		.name = "an interrupt in the kernel",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = TEXT + 0x310, [2 + REGS_IP] = TEXT + 0x000,
			   [2 + REGS_CS] = 0x10, [2 + REGS_SP] = STACK + 30 * 8,
			   [31] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x10, TEXT + 0x310, TEXT, TEXT + 0x401 },
	}, {
		.name = "the stack of interrupts",
		.ip = TEXT + 0x10, .sp = IRQ_STACK,
		.words = { [0] = TEXT + 0x30, [2] = TEXT + 0x401 },
		.irq_words = { 0, TEXT + 0x510, STACK },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x10, TEXT + 0x510, TEXT + 0x30, TEXT + 0x401 },
	}, {
		.name = "entry, before the registers are saved",
		.ip = TEXT + 0x700, .sp = STACK,
		.words = { TEXT + 0x10, 0x10, 0, STACK + 8 * 8, 0, [9] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x700, TEXT + 0x10, TEXT + 0x401 },
	}, {
		.name = "entry from user space",
		.ip = TEXT + 0x700, .sp = STACK,
		.words = { 0x7f0000001234, 0x33, 0, 0x7ffc00000000, 0x2b },
		.result = ORC_RESULT_USER, .user_ip = 0x7f0000001234,
		.chain = { TEXT + 0x700 },
	}, {
		.name = "a thunk",
		.ip = TEXT + 0x610, .sp = STACK,
		.words = { TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x610, TEXT + 0x401 },
	}, {
		.name = "a thunk that goes to the start of a function",
		.ip = TEXT + 0x610, .sp = STACK,
		.words = { TEXT + 0x000, [2] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x610, TEXT + 0x000, TEXT + 0x401 },
	}, {
		.name = "a thunk that calls another one",
		.ip = TEXT + 0x610, .sp = STACK,
		.words = { TEXT + 0x618, TEXT + 0x100 - 1, [3] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x610, TEXT + 0x618, TEXT + 0x0ff, TEXT + 0x401 },
	}, {
		.name = "a thunk that is none",
		.ip = TEXT + 0x640, .sp = STACK,
		.words = { TEXT + 0x401 },
		.result = ORC_RESULT_UNDEFINED,
		.chain = { TEXT + 0x640 },
	}, {
		.name = "a frame that a register tells",
		.ip = TEXT + 0x810, .sp = STACK, .r10 = STACK + 24,
		.words = { [2] = TEXT + 0x401 },
		.result = ORC_RESULT_ROOT,
		.chain = { TEXT + 0x810, TEXT + 0x401 },
	}, {
		.name = "a register that is not known any more",
		.ip = TEXT + 0x10, .sp = STACK, .r10 = STACK + 24,
		.words = { [1] = TEXT + 0x811 },
		.result = ORC_RESULT_BAD,
		.chain = { TEXT + 0x10, TEXT + 0x811 },
	}, {
		.name = "code without a table",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = TEXT + 0x10000, [3] = TEXT + 0x401 },
		.result = ORC_RESULT_NO_ENTRY,
		.chain = { TEXT + 0x10, TEXT + 0x10000 },
	}, {
		.name = "the end of the dump",
		.ip = TEXT + 0x10, .sp = STACK + (WORDS - 3) * 8,
		.words = { [WORDS - 2] = TEXT + 0x11 },
		.result = ORC_RESULT_NOT_DUMPED,
		.chain = { TEXT + 0x10, TEXT + 0x11 },
	}, {
		.name = "a marker instead of a return address",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = PERF_CONTEXT_GUEST_USER },
		.result = ORC_RESULT_BAD,
		.chain = { TEXT + 0x10 },
	}, {
		.name = "data instead of a return address",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = STACK + 0x40 },
		.result = ORC_RESULT_BAD,
		.chain = { TEXT + 0x10 },
	}, {
		.name = "user space instead of a return address",
		.ip = TEXT + 0x10, .sp = STACK,
		.words = { [1] = 0x401000 },
		.result = ORC_RESULT_BAD,
		.chain = { TEXT + 0x10 },
	}, {
		.name = "a stack that leads to itself",
		.ip = TEXT + 0x110, .sp = STACK + 64, .bp = STACK + 64,
		.words = { [8] = STACK, [9] = TEXT + 0x120, [0] = STACK + 64, [1] = TEXT + 0x110 },
		.result = ORC_RESULT_BAD,
		.chain = { TEXT + 0x110, TEXT + 0x120 },
	},
};

static int check_chain(const struct canned *c)
{
	u64 regs[20] = { [6] = c->bp, [7] = c->sp, [8] = c->ip, [14] = c->r10 };
	u64 ips[MAX_FRAMES];
	struct guest_dump dump = {
		.abi = PERF_SAMPLE_REGS_ABI_64, .mask = MASK, .regs = regs, .nr = 2,
		.stacks = {
			{ STACK, sizeof(c->words), c->words },
			{ IRQ_STACK, sizeof(c->irq_words), c->irq_words },
		},
	};
	struct orc_chain chain = { .ips = ips, .max = MAX_FRAMES };
	enum orc_result result = orc_unwind(&ops, NULL, &dump, &chain);
	unsigned int i;

	pr_debug("%s: %u frames, result %d\n", c->name, chain.nr, result);
	TEST_ASSERT_EQUAL("result", result, c->result);
	for (i = 0; i < MAX_FRAMES && c->chain[i]; i++) {
		TEST_ASSERT_VAL("frames", i < chain.nr);
		TEST_ASSERT_VAL("address", ips[i] == c->chain[i]);
	}
	TEST_ASSERT_EQUAL("frames", chain.nr, i);
	if (result == ORC_RESULT_USER) {
		TEST_ASSERT_VAL("user IP", chain.user_ip == c->user_ip);
		TEST_ASSERT_VAL("user registers", chain.user_regs == c->user_regs);
	}
	return TEST_OK;
}

static int test__chains(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	size_t i;

	orc_table__sort(&table);
	for (i = 0; i < ARRAY_SIZE(canned); i++)
		if (check_chain(&canned[i]) != TEST_OK)
			return TEST_FAIL;
	return TEST_OK;
}

/* A sample without registers, and a limit of frames. */
static int test__limits(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	u64 words[64], ips[MAX_FRAMES], regs[20] = { [7] = STACK, [8] = TEXT + 0x10 };
	struct guest_dump dump = {
		.abi = PERF_SAMPLE_REGS_ABI_64, .mask = MASK, .regs = regs, .nr = 1,
		.stacks = { { STACK, sizeof(words), words } },
	};
	struct orc_chain chain = { .ips = ips, .max = MAX_FRAMES };
	size_t i;

	orc_table__sort(&table);
	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = TEXT + 0x10;
	TEST_ASSERT_EQUAL("limit", orc_unwind(&ops, NULL, &dump, &chain), ORC_RESULT_FULL);
	TEST_ASSERT_EQUAL("frames", chain.nr, MAX_FRAMES);

	dump.abi = PERF_SAMPLE_REGS_ABI_32;
	TEST_ASSERT_EQUAL("32 bits", orc_unwind(&ops, NULL, &dump, &chain), ORC_RESULT_BAD);
	dump = (struct guest_dump) { .abi = PERF_SAMPLE_REGS_ABI_NONE };
	TEST_ASSERT_EQUAL("nothing", orc_unwind(&ops, NULL, &dump, &chain), ORC_RESULT_BAD);
	return TEST_OK;
}

/* ---- files that are none */

static int unpack_bytes(const u8 *data, size_t size)
{
	char path[] = "/tmp/perf-test-orc-XXXXXX", msg[256] = "";
	struct guest_image_data image;
	int fd = mkstemp(path), err;

	if (fd < 0)
		return 0;
	err = write(fd, data, size) == (ssize_t)size ?
	      guest_unpack(path, &image, msg, sizeof(msg)) : 0;
	close(fd);
	unlink(path);
	pr_debug("%zu bytes: %s\n", size, msg);
	if (!err)
		free(image.data);
	return err;
}

static int test__files(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	u8 image[0x1000] = { [0x1f1] = 1, [0x206] = 0x0f, [0x207] = 2 };
	u8 gzip[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0 };
	u8 elf[] = { 0x7f, 'E', 'L', 'F' };

	memcpy(image + 0x202, "HdrS", 4);
	/* a payload that is longer than the file */
	image[0x24c + 3] = 1;
	TEST_ASSERT_EQUAL("truncated", unpack_bytes(image, sizeof(image)), -EINVAL);
	TEST_ASSERT_EQUAL("truncated", unpack_bytes(image, 0x220), -EINVAL);
	/* one that is packed with what cannot be unpacked */
	image[0x24c + 3] = 0;
	image[0x24c] = 16;
	memcpy(image + 0x400, "\x02\x21\x4c\x18", 4);
	TEST_ASSERT_EQUAL("lz4", unpack_bytes(image, sizeof(image)), -EINVAL);
	memcpy(image + 0x400, gzip, sizeof(gzip));
	TEST_ASSERT_EQUAL("damaged", unpack_bytes(image, sizeof(image)), -EINVAL);

	TEST_ASSERT_EQUAL("damaged", unpack_bytes(gzip, sizeof(gzip)), -EINVAL);
	TEST_ASSERT_EQUAL("empty", unpack_bytes(gzip, 0), -EINVAL);
	TEST_ASSERT_EQUAL("an ELF file", unpack_bytes(elf, sizeof(elf)), 0);
	return TEST_OK;
}

static struct test_case orc_tests[] = {
	TEST_CASE("Entries of all formats", formats),
	TEST_CASE("Detection of the format", detect),
	TEST_CASE("Chains", chains),
	TEST_CASE("Limits", limits),
	TEST_CASE("Damaged files", files),
	{ .name = NULL, }
};

struct test_suite suite__unwind_orc = {
	.desc = "Unwinding with ORC tables",
	.test_cases = orc_tests,
};
