/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sample a guest with perf while this thread runs a vCPU. A sampler has up to two
 * events: cpu-clock, sampled in interrupts, and cycles, sampled in NMIs. Without a
 * PMU there is only cpu-clock.
 */
#ifndef SELFTEST_KVM_GUEST_SAMPLER_H
#define SELFTEST_KVM_GUEST_SAMPLER_H

#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>

#include "test_util.h"

#define PERIOD		50000	/* in cycles or nanoseconds */
#define MAX_CHAIN	200

#define CLOCK		BIT(0)
#define CYCLES		BIT(1)

struct source {
	int fd;
	struct perf_event_mmap_page *ring;
	unsigned int n;		/* samples of the guest so far */
};

struct sampler {
	struct source sources[2];
	unsigned int nr;
};

struct sample {
	struct perf_event_header header;
	uint64_t ip;
	uint64_t nr;
	uint64_t ips[];
};

struct sampler sampler_open(const struct perf_event_attr *attr, int which);
void sampler_ioctl(struct sampler *s, unsigned long cmd);
unsigned int sampler_fewest(struct sampler *s);
void sampler_close(struct sampler *s);
bool sampler_next(struct sampler *s, struct sample *sample, size_t size);
void sampler_wait_for_timers(void);

#endif /* SELFTEST_KVM_GUEST_SAMPLER_H */
