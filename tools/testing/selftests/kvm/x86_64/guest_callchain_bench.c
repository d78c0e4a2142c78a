// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measure the time that a call chain adds to a sample of a guest
 * (CONFIG_KVM_GUEST_CALLCHAIN), and to a sample of the host's user space, for 1, 10
 * and 50 frames.
 *
 * The unit is nanoseconds. An emulator may run one instruction per nanosecond: then
 * the results are exact numbers of instructions.
 */
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "guest_callchain.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define BENCH_SPINS	20000000

/* How many spins to measure: the ticks of the host fall into some of them. */
#define BENCH_ROUNDS	5

/* The distance of frames: typical for functions with a few variables. */
#define BENCH_FRAME	48

static void bench_host(struct guest *g, void *frames)
{
	uint64_t n = BENCH_SPINS;

	/* skip the red zone, and set a frame pointer */
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "push %%rbp\n\t"
		     "mov %1, %%rbp\n\t"
		     "1: dec %0\n\t"
		     "jnz 1b\n\t"
		     "pop %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : "+r" (n) : "r" (frames) : "memory", "cc");
}

static void bench_guest(struct guest *g, void *frames)
{
	struct kvm_regs regs = guest_spin_regs(g, BENCH_SPINS);

	guest_vcpu_run(g->vcpu, &regs);
}

struct bench {
	const char *name;
	const struct mode *mode;	/* NULL: no guest */
	void (*spin)(struct guest *g, void *frames);
};

/* The last frame pointer, end, ends the chain without a page fault. */
static void bench_frames(void *p, uint64_t base, unsigned int frames, uint64_t ret, uint64_t end)
{
	unsigned int i;

	for (i = 0; i < frames; i++) {
		uint64_t *frame = p + i * BENCH_FRAME;

		frame[0] = i + 1 < frames ? base + (i + 1) * BENCH_FRAME : end;
		frame[1] = ret + i;
	}
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The time of a sampled spin. Also return the size of all samples in bytes. */
static uint64_t bench_time(const struct bench *b, struct guest *g, void *frames,
			   uint64_t sample_type, unsigned int *bytes)
{
	struct perf_event_attr attr = { .sample_type = sample_type, .sample_period = 100000 };
	struct sampler sampler = {};
	uint64_t count = 0, time;

	if (sample_type) {
		sampler = sampler_open(&attr, CLOCK);
		sampler_ioctl(&sampler, PERF_EVENT_IOC_ENABLE);
	}
	time = now_ns();
	b->spin(g, frames);
	time = now_ns() - time;
	if (sample_type) {
		sampler_ioctl(&sampler, PERF_EVENT_IOC_DISABLE);
		count = sampler.sources[0].ring->data_head;
		sampler_close(&sampler);
	}
	*bytes = count;
	return time;
}

/* What a sample adds to spins */
static double bench_sample(const struct bench *b, struct guest *g, void *frames,
			   uint64_t type, unsigned int size)
{
	unsigned int i, bytes, none, count = 0;
	uint64_t time = 0;

	for (i = 0; i < BENCH_ROUNDS; i++) {
		time -= bench_time(b, g, frames, 0, &none);
		time += bench_time(b, g, frames, type, &bytes);
		count += bytes / size;
	}
	return (double)time / count;
}

static double bench_chain(const struct bench *b, unsigned int frames)
{
	unsigned int header = sizeof(struct perf_event_header) + sizeof(uint64_t);
	void *host_frames = NULL;
	struct guest *g = NULL;
	double plain, chain;
	unsigned int none;

	if (b->mode) {
		g = guest_new(b->mode);
		bench_frames(guest_hva(g, g->stack_gpa[0]) + 0x100, g->stack + 0x100, frames,
			     g->code, 0);
	} else {
		host_frames = calloc(frames, BENCH_FRAME);
		bench_frames(host_frames, (uint64_t)host_frames, frames, 0x400000, ~0ull);
	}
	/* the first spin faults pages in */
	bench_time(b, g, host_frames, 0, &none);
	plain = bench_sample(b, g, host_frames, PERF_SAMPLE_IP, header);
	/* before the frames, a chain has a count, a marker and the IP */
	chain = bench_sample(b, g, host_frames, PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN,
			     header + (3 + frames) * sizeof(uint64_t));
	free(host_frames);
	if (g)
		guest_free(g);
	return chain - plain;
}

static int bench(void)
{
	static const struct bench benches[] = {
		{ "guest_kernel", &mode_kernel64, bench_guest },
		{ "guest_user", &mode_user64, bench_guest },
		{ "host_user", NULL, bench_host },
	};
	static const unsigned int frames[] = { 1, 10, 50 };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(frames); i++)
		for (j = 0; j < ARRAY_SIZE(benches); j++)
			printf("callchain_%u %s %.0f\n", frames[i], benches[j].name,
			       bench_chain(&benches[j], frames[i]));
	return 0;
}

int main(void)
{
	sampler_wait_for_timers();
	return bench();
}
