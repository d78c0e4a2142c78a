// SPDX-License-Identifier: GPL-2.0
/*
 * Test the unwinding of a guest's user space. This process plays a guest's: a copy of its
 * maps is the --guestmaps, a copy of its registers and stack is the sample.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/perf_event.h>
#include <linux/zalloc.h>

#include "debug.h"
#include "guest-cfi.h"
#include "guest-dump.h"
#include "guest-process.h"
#include "tests.h"

#if defined(HAVE_DWARF_SUPPORT) && defined(__x86_64__)

#define DEPTH		10
#define MAX_FRAMES	64
#define MAX_STACK	16384

/* DWARF's numbers of the registers */
enum { RBX = 3, RBP = 6, RSP = 7, R12 = 12, R13, R14, R15, RIP };

static struct {
	struct guest_regs regs;
	u64 stack[MAX_STACK / sizeof(u64)];
	struct guest_dump dump;
	void *callers[DEPTH + 2];		/* return addresses, from the innermost on */
	unsigned int nr;
	unsigned int depth;
	u64 ips[MAX_FRAMES];
	struct guest_chain chain;
} sample;

#define add_caller()	(sample.callers[sample.nr++] = __builtin_return_address(0))

/* The call before this is no tail call. */
#define after_call()	barrier()

static noinline void take_sample(void)
{
	u64 *dwarf = sample.regs.dwarf;

	asm volatile("movq %%rbx, 3*8(%0)\n\t"
		     "movq %%rbp, 6*8(%0)\n\t"
		     "movq %%rsp, 7*8(%0)\n\t"
		     "movq %%r12, 12*8(%0)\n\t"
		     "movq %%r13, 13*8(%0)\n\t"
		     "movq %%r14, 14*8(%0)\n\t"
		     "movq %%r15, 15*8(%0)\n\t"
		     "leaq 1f(%%rip), %%rax\n\t"
		     "movq %%rax, 16*8(%0)\n"
		     "1:" : : "r" (dwarf) : "rax", "memory");
	sample.regs.is_64_bit = true;
	sample.regs.ip = dwarf[RIP];
	sample.regs.sp = dwarf[RSP];
	memcpy(sample.stack, (void *)dwarf[RSP], sizeof(sample.stack));
	add_caller();
}

static noinline void recurse(unsigned int depth)
{
	if (depth)
		recurse(depth - 1);
	else
		take_sample();
	add_caller();
	after_call();
}

static int compare(const void *a, const void *b)
{
	if (!sample.nr)
		recurse(sample.depth - 1);
	return *(const int *)a - *(const int *)b;
}

/* Take a sample with frames of the C library. The array makes the stack as long as the copy. */
static noinline void sample_this_process(unsigned int depth)
{
	char below[MAX_STACK];
	int numbers[] = { 2, 1 };

	memset(&sample, 0, sizeof(sample));
	memset(below, 0, sizeof(below));
	OPTIMIZER_HIDE_VAR(depth);
	asm volatile("" : : "r" (below) : "memory");
	sample.depth = depth;
	qsort(numbers, ARRAY_SIZE(numbers), sizeof(*numbers), compare);
	sample.dump = (struct guest_dump) {
		.abi = PERF_SAMPLE_REGS_ABI_64,
		.nr = 1,
		.stacks[0] = { .addr = sample.regs.sp, .size = sizeof(sample.stack),
			       .words = sample.stack },
	};
	after_call();
}

static enum guest_cfi_end unwind(struct guest_process *process)
{
	sample.chain = (struct guest_chain) { .ips = sample.ips, .max = MAX_FRAMES };
	return guest_cfi__unwind(process->cfi, &sample.regs, &sample.dump, &sample.chain);
}

static u64 *stack_word(u64 val)
{
	for (size_t i = 0; i < ARRAY_SIZE(sample.stack); i++)
		if (sample.stack[i] == val)
			return &sample.stack[i];
	return NULL;
}

static bool has_callers(unsigned int nr)
{
	if (sample.ips[0] != sample.regs.ip || sample.chain.nr < nr + 1)
		return false;
	for (unsigned int i = 0; i < nr; i++)
		if (sample.ips[i + 1] != (u64)sample.callers[i] - 1)
			return false;
	return true;
}

static int check_unwinding(struct guest_process *process)
{
	enum guest_cfi_end end;
	u64 *word, old;

	/* the copy may be shorter than the stack of this process */
	sample_this_process(DEPTH);
	end = unwind(process);
	pr_debug("%u frames, %u calls, end %d\n", sample.chain.nr, sample.chain.calls, end);
	TEST_ASSERT_VAL("the callers are right", has_callers(DEPTH + 1));
	TEST_ASSERT_VAL("the end is none that is wrong", end != GUEST_CFI_BAD);
	TEST_ASSERT_VAL("calls through the C library", sample.chain.nr > DEPTH + 3);
	TEST_ASSERT_VAL("calls", sample.chain.calls >= sample.chain.nr - 1);

	word = stack_word((u64)sample.callers[1]);
	TEST_ASSERT_VAL("the return address is on the stack", word);
	old = *word;

	*word = sample.regs.ip;
	TEST_ASSERT_EQUAL("not behind a call", unwind(process), GUEST_CFI_BAD);
	*word = (u64)check_unwinding;
	TEST_ASSERT_EQUAL("the start of a function", unwind(process), GUEST_CFI_BAD);
	*word = sample.regs.sp;
	TEST_ASSERT_EQUAL("not code", unwind(process), GUEST_CFI_BAD);
	*word = 0x123456789abcdef0;
	TEST_ASSERT_EQUAL("no address", unwind(process), GUEST_CFI_BAD);
	*word = 0;
	TEST_ASSERT_EQUAL("no caller", unwind(process), GUEST_CFI_STOP);
	*word = (u64)sample.callers[0];
	TEST_ASSERT_EQUAL("a call of another function", unwind(process), GUEST_CFI_BAD);
	*word = old;

	/* a dump that ends below a return address, and no dump */
	sample.dump.stacks[0].size = (word - sample.stack) * sizeof(u64);
	TEST_ASSERT_EQUAL("a short stack", unwind(process), GUEST_CFI_STOP);
	TEST_ASSERT_EQUAL("frames of a short stack", (int)sample.chain.nr, 2);
	sample.dump.nr = 0;
	TEST_ASSERT_EQUAL("no stack", unwind(process), GUEST_CFI_STOP);
	TEST_ASSERT_EQUAL("frames without a stack", (int)sample.chain.nr, 1);
	return TEST_OK;
}

static int check_process(struct guest_process *process)
{
	const u64 ip = (u64)check_unwinding;
	u64 sp = (u64)&sp;

	TEST_ASSERT_VAL("here", guest_process__may_be_at(process, ip, sp, true));
	TEST_ASSERT_VAL("32 bits", !guest_process__may_be_at(process, ip, sp, false));
	TEST_ASSERT_VAL("code is no stack", !guest_process__may_be_at(process, ip, ip, true));
	TEST_ASSERT_VAL("a stack is no code", !guest_process__may_be_at(process, sp, sp, true));
	TEST_ASSERT_VAL("no stack", !guest_process__may_be_at(process, ip, 0x1000, true));
	return TEST_OK;
}

static bool copy_maps(int fd)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	bool ok = maps;

	while (ok && fgets(line, sizeof(line), maps))
		ok = write(fd, line, strlen(line)) == (ssize_t)strlen(line);
	if (maps)
		fclose(maps);
	return ok;
}

static struct guest_process *this_process(void)
{
	char path[] = "/tmp/perf-guest-maps-XXXXXX", msg[512] = "";
	struct guest_process *process = NULL;
	int fd = mkstemp(path);

	if (fd < 0)
		return NULL;
	if (copy_maps(fd))
		process = guest_process__new(path, path, "", msg, sizeof(msg));
	pr_debug("%s: %s\n", path, process ? "read" : msg);
	close(fd);
	unlink(path);
	return process;
}

static int test__guest_cfi(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	struct guest_process *process = this_process();
	int ret;

	TEST_ASSERT_VAL("the maps of this process", process);
	ret = check_process(process);
	if (ret == TEST_OK)
		ret = check_unwinding(process);
	guest_process__delete(process);
	return ret;
}

#else

static int test__guest_cfi(struct test_suite *test __maybe_unused, int subtest __maybe_unused)
{
	return TEST_SKIP;
}

#endif

DEFINE_SUITE("Call chains of guests' user space", guest_cfi);
