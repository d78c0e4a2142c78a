/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The random numbers of perffuzz, and random attributes of perf events, most of them
 * valid.
 */
#ifndef PERFFUZZ_ATTR_H
#define PERFFUZZ_ATTR_H

#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE		4096UL

#define MAX_IDS		2048
#define MAX_TYPES	16

/* In the order of PERF_TYPE_*. */
enum kind { HARDWARE, SOFTWARE, TRACEPOINT, HW_CACHE, RAW, BREAKPOINT, OTHER, KINDS };

/* The tracepoints of the system, and the PMUs without a fixed type. */
static unsigned int ids[MAX_IDS], nr_ids;
static unsigned int types[MAX_TYPES], nr_types;

static uint64_t state;

/* xorshift64*: see Vigna, "An experimental exploration of Marsaglia's xorshift generators" */
static uint64_t draw(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 2685821657736338717ULL;
}

static unsigned int below(unsigned int n)
{
	return (draw() >> 33) % n;
}

static bool one_in(unsigned int n)
{
	return !below(n);
}

/* Each bit is set once in 2^rarity. */
static uint64_t few_bits(int rarity)
{
	uint64_t bits = draw();

	while (--rarity)
		bits &= draw();
	return bits;
}

/* Breakpoints are set on these words, and on the functions below. */
static volatile long words[4] __attribute__((aligned(64)));

#define HOT(name)					\
static __attribute__((noinline)) void name(void)	\
{							\
	asm volatile("nop; nop; nop" ::: "memory");	\
}

HOT(hot_0)
HOT(hot_1)
HOT(hot_2)
HOT(hot_3)

static void (*const hot[])(void) = { hot_0, hot_1, hot_2, hot_3 };

static void run(unsigned int rounds)
{
	static volatile char pages[4 * PAGE] __attribute__((aligned(4096)));
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		hot[i % ARRAY_SIZE(hot)]();
		words[i % ARRAY_SIZE(words)] += i;
		pages[i % 4 * PAGE]++;
		if (i % 16 == 0)
			syscall(SYS_getppid);
		if (i % 64 == 32)
			madvise((void *)pages, sizeof(pages), MADV_DONTNEED);
	}
}

static const unsigned int raw_configs[] = {
	0xc0, 0x76, 0xc2, 0xc3, 0xd1, 0xc4, 0xc6, 0xc8, 0x64, 0x4f2e, 0x412e, 0xff45,
};

static const unsigned int sizes[] = {
	0, PERF_ATTR_SIZE_VER0, PERF_ATTR_SIZE_VER1, PERF_ATTR_SIZE_VER3,
	PERF_ATTR_SIZE_VER5, PERF_ATTR_SIZE_VER7, PAGE,
};

static uint64_t hw_cache_config(void)
{
	uint64_t cache = below(one_in(8) ? 256 : PERF_COUNT_HW_CACHE_MAX);
	uint64_t op = one_in(4) ? below(PERF_COUNT_HW_CACHE_OP_MAX + 1) : 0;
	uint64_t result = below(PERF_COUNT_HW_CACHE_RESULT_MAX);

	return cache | op << 8 | result << 16;
}

static uint64_t raw_config(void)
{
	uint64_t config = raw_configs[below(ARRAY_SIZE(raw_configs))];

	if (one_in(4))
		config ^= 1ULL << below(64);
	if (one_in(8))
		config = draw();
	return config;
}

static void draw_breakpoint(struct perf_event_attr *attr)
{
	static const unsigned int kinds_of[] = {
		HW_BREAKPOINT_W, HW_BREAKPOINT_RW, HW_BREAKPOINT_X,
	};
	unsigned int spot = below(4);

	attr->bp_type = one_in(16) ? below(8) : kinds_of[below(ARRAY_SIZE(kinds_of))];
	if (attr->bp_type == HW_BREAKPOINT_X) {
		attr->bp_addr = (uintptr_t)hot[spot] + (one_in(4) ? below(8) : 0);
		attr->bp_len = sizeof(long);
	} else {
		attr->bp_len = 1 << below(4);
		attr->bp_addr = (uintptr_t)&words[spot] + below(8) / attr->bp_len * attr->bp_len;
	}
	if (one_in(16))
		attr->bp_addr ^= 1 << below(3);
	if (one_in(16))
		attr->bp_len = below(16);
}

static void draw_type(struct perf_event_attr *attr, enum kind kind)
{
	attr->type = kind;
	switch (kind) {
	case HARDWARE:
		attr->config = below(PERF_COUNT_HW_MAX + 1);
		break;
	case SOFTWARE:
		attr->config = below(PERF_COUNT_SW_MAX + 1);
		break;
	case TRACEPOINT:
		attr->config = nr_ids ? ids[below(nr_ids)] : below(1000);
		break;
	case HW_CACHE:
		attr->config = hw_cache_config();
		break;
	case RAW:
		attr->config = raw_config();
		break;
	case BREAKPOINT:
		draw_breakpoint(attr);
		break;
	default:
		attr->type = nr_types ? types[below(nr_types)] : PERF_TYPE_MAX + below(16);
		attr->config = one_in(2) ? below(16) : raw_config();
		break;
	}
}

static uint64_t min_period(const struct perf_event_attr *attr)
{
	switch (attr->type) {
	case PERF_TYPE_BREAKPOINT:
		return 1;
	case PERF_TYPE_SOFTWARE:
		/* nanoseconds */
		if (attr->config <= PERF_COUNT_SW_TASK_CLOCK)
			return 200000;
		/*
		 * A signal by each page fault would stop the fuzzer for ever: to map a page
		 * of a ring buffer, Linux 6.12 must take the fault again without the VMA's
		 * lock, and returns to user space instead if a signal is pending.
		 */
		return 64;
	case PERF_TYPE_TRACEPOINT:
		return 16;
	default:
		return 20000;
	}
}

static uint64_t draw_period(const struct perf_event_attr *attr)
{
	return min_period(attr) << below(10) | below(2);
}

static void draw_sampling(struct perf_event_attr *attr)
{
	if (one_in(4)) {
		attr->freq = 1;
		attr->sample_freq = 1 + below(1000);
	} else {
		attr->sample_period = draw_period(attr);
	}

	attr->sample_type = few_bits(2) & (PERF_SAMPLE_MAX - 1);
	/* The lab's PMU has branch records; AUX areas need a PMU of another kind. */
	if (!one_in(8))
		attr->sample_type &= ~PERF_SAMPLE_BRANCH_STACK;
	if (!one_in(32))
		attr->sample_type &= ~PERF_SAMPLE_AUX;
	if ((attr->sample_type & PERF_SAMPLE_WEIGHT_TYPE) == PERF_SAMPLE_WEIGHT_TYPE)
		attr->sample_type ^= PERF_SAMPLE_WEIGHT;

	attr->branch_sample_type = few_bits(2) & (PERF_SAMPLE_BRANCH_MAX - 1);
	attr->sample_regs_user = few_bits(2) & 0xff0fff;
	attr->sample_regs_intr = few_bits(2) & 0xff0fff;
	attr->sample_stack_user = below(512) * 8;
	attr->sample_max_stack = one_in(2) ? 0 : below(128);
	attr->wakeup_events = below(4);
}

/* Most flags combine with any other. Repair the rest, in seven of eight cases. */
static void draw_flags(struct perf_event_attr *attr)
{
	uint64_t *flags = (uint64_t *)(&attr->read_format + 1);

	*flags |= few_bits(4) & ((1ULL << 38) - 1);
	attr->disabled = one_in(4);
	attr->inherit = one_in(2);
	attr->exclude_kernel = one_in(4);
	attr->sigtrap = one_in(8);
	if (one_in(8))
		return;

	attr->precise_ip = 0;
	attr->aux_output = 0;
	attr->freq &= attr->sample_freq <= 1000;
	attr->remove_on_exec |= attr->sigtrap;
	attr->enable_on_exec &= !attr->remove_on_exec;
	attr->inherit_thread &= attr->inherit;
	if (attr->use_clockid)
		attr->clockid = below(12);
}

static void draw_attr(struct perf_event_attr *attr, enum kind kind)
{
	memset(attr, 0, sizeof(*attr));
	attr->size = one_in(16) ? sizes[below(ARRAY_SIZE(sizes))] : sizeof(*attr);
	draw_type(attr, kind);
	if (one_in(2))
		draw_sampling(attr);
	draw_flags(attr);
	attr->read_format = few_bits(2) & (PERF_FORMAT_MAX - 1);
	attr->sig_data = draw();
	if (kind != BREAKPOINT && one_in(16))
		attr->config1 = few_bits(3);
	if (one_in(64))
		attr->sample_type = draw();
	if (one_in(64))
		attr->read_format = draw();

	if (attr->freq)
		attr->sample_freq = attr->sample_freq % 1000 + 1;
	else if (attr->sample_period && attr->sample_period < min_period(attr))
		attr->sample_period = min_period(attr);
}

#endif
