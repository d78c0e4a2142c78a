// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measure the time that registers and stacks of a guest add to a sample
 * (PERF_SAMPLE_GUEST_STACK): the registers alone, one stack of several sizes within a
 * page, one of 16 KiB, one KiB of the kernel's stack with 8 KiB of user space's, and the most
 * that there can be, which are three stacks of almost 16 KiB, in 12 pages.
 *
 * The unit is nanoseconds. An emulator may run one instruction per nanosecond: then
 * the results are exact numbers of instructions.
 */
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "guest_callchain.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define MAX_SIZE	0x4000
#define REGS_MASK	0xff0fffull	/* 16 registers, IP, FLAGS, CS, SS */
#define STACK		0xffff888050000000ull
#define STACKS_GPA	(PAGE_4M + 0x20000)
#define STACK_DISTANCE	(2 * MAX_SIZE)
#define TASK_STACK	(STACK + 4 * STACK_DISTANCE)
#define USER_STACK	0x7f0050000000ull
#define USER_SIZE	0x2000

/* The samples of a round have room in the ring. */
#define ROUNDS		200
#define ROUND_SPINS	200000

static uint64_t record[0x10000 / sizeof(uint64_t)];

static const struct bench {
	const char *name;
	uint64_t rsp;
	uint32_t size;
	unsigned int nr;	/* of stacks that samples shall have */
} benches[] = {
	{ "registers", STACK, 0, 0 },
	{ "1_stack_1024", STACK, 1024, 1 },
	{ "1_stack_2048", STACK, 2048, 1 },
	{ "1_stack_4096", STACK, 4096, 1 },
	{ "1_stack_16384", STACK, MAX_SIZE, 1 },
	{ "kernel_1024_user_8192", TASK_STACK + PAGE_SIZE - 1024, USER_SIZE, 2 },
	{ "3_stacks_16376", STACK + 8, MAX_SIZE, 3 },
};

/* The stack of a task in a system call, and that of user space */
static void add_task(struct guest *g, uint64_t gpa)
{
	const uint64_t frame[] = { 0x401000, 0x33, 0x246, USER_STACK, 0x2b };
	unsigned int page;

	guest_map(g, TASK_STACK, gpa, 1, PTE_W | PTE_A | PTE_D);
	for (page = 0; page < USER_SIZE / PAGE_SIZE; page++)
		guest_map(g, USER_STACK + page * PAGE_SIZE, gpa + (page + 1) * PAGE_SIZE, 1,
			  PTE_W | PTE_A | PTE_D | PTE_U);
	memcpy(guest_hva(g, gpa + PAGE_SIZE - sizeof(frame)), frame, sizeof(frame));
}

/* Three stacks of four pages. The last word of a stack leads to the next one. */
static struct guest *bench_guest(void)
{
	struct guest *g = guest_new(&mode_kernel64);
	unsigned int stack, page;
	uint64_t gpa = STACKS_GPA, *last;

	for (stack = 0; stack < 3; stack++) {
		for (page = 0; page < MAX_SIZE / PAGE_SIZE; page++, gpa += PAGE_SIZE)
			guest_map(g, STACK + stack * STACK_DISTANCE + page * PAGE_SIZE, gpa, 1,
				  PTE_W | PTE_A | PTE_D);
		last = guest_hva(g, gpa - sizeof(*last));
		*last = STACK + (stack + 1) * STACK_DISTANCE + 8;
	}
	add_task(g, gpa);
	return g;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static uint64_t round_time(struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, ROUND_SPINS);
	uint64_t time = now_ns();

	guest_vcpu_run(g->vcpu, &regs);
	return now_ns() - time;
}

/* The number of stacks is the word behind ABI and registers. */
static void check_stacks(const struct bench *b, const struct sample *sample)
{
	const uint64_t *dump = &sample->nr;

	TEST_ASSERT(dump[0] == PERF_SAMPLE_REGS_ABI_64 && dump[21] == b->nr,
		    "%s: ABI %lu, %lu stacks", b->name, (unsigned long)dump[0],
		    (unsigned long)dump[21]);
}

/* The time that each sample adds to the rounds. */
static double sample_time(const struct bench *b, struct guest *g, uint64_t sample_type)
{
	struct perf_event_attr attr = {
		.sample_type = sample_type, .sample_period = 100000,
		.sample_regs_guest = REGS_MASK, .sample_stack_guest = b->size,
	};
	struct sample *sample = (struct sample *)record;
	struct sampler sampler;
	uint64_t time = 0;
	unsigned int i;

	guest_run_unsampled(g);
	for (i = 0; i < ROUNDS; i++)
		time -= round_time(g);
	sampler = sampler_open(&attr, CLOCK);
	for (i = 0; i < ROUNDS; i++) {
		sampler_ioctl(&sampler, PERF_EVENT_IOC_ENABLE);
		time += round_time(g);
		sampler_ioctl(&sampler, PERF_EVENT_IOC_DISABLE);
		while (sampler_next(&sampler, sample, sizeof(record)))
			if (sample_type & PERF_SAMPLE_GUEST_STACK)
				check_stacks(b, sample);
	}
	i = sampler_fewest(&sampler);
	TEST_ASSERT(i >= ROUNDS, "%s: %u samples", b->name, i);
	sampler_close(&sampler);
	return (double)time / i;
}

int main(void)
{
	struct guest *g;
	unsigned int i;

	sampler_wait_for_timers();
	g = bench_guest();
	for (i = 0; i < ARRAY_SIZE(benches); i++) {
		g->rsp = benches[i].rsp;
		printf("dump_%s guest_kernel %.0f\n", benches[i].name,
		       sample_time(&benches[i], g, PERF_SAMPLE_IP | PERF_SAMPLE_GUEST_STACK) -
		       sample_time(&benches[i], g, PERF_SAMPLE_IP));
	}
	guest_free(g);
	return 0;
}
