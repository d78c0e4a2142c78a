// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sample a guest with perf while this thread runs a vCPU.
 */
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "guest_sampler.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "test_util.h"

#define RING_PAGES	128

static int event_open(const struct perf_event_attr *template, int which)
{
	struct perf_event_attr attr = *template;

	attr.size = sizeof(attr);
	attr.disabled = 1;
	if (!attr.sample_type)
		attr.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN;
	if (!attr.sample_period)
		attr.sample_period = PERIOD;
	if (which == CYCLES) {
		attr.type = PERF_TYPE_HARDWARE;
		attr.config = PERF_COUNT_HW_CPU_CYCLES;
		attr.exclude_host = 1;
	} else {
		attr.type = PERF_TYPE_SOFTWARE;
		attr.config = PERF_COUNT_SW_CPU_CLOCK;
	}
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
}

struct sampler sampler_open(const struct perf_event_attr *attr, int which)
{
	size_t size = (1 + RING_PAGES) * getpagesize();
	struct sampler s = {};
	struct source *source;
	int event, fd;

	for (event = CLOCK; event <= CYCLES; event <<= 1) {
		if (!(which & event))
			continue;
		fd = event_open(attr, event);
		if (fd < 0 && event == CYCLES && (errno == ENOENT || errno == EOPNOTSUPP))
			continue;
		TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("perf_event_open", fd));

		source = &s.sources[s.nr++];
		source->fd = fd;
		source->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		TEST_ASSERT(source->ring != MAP_FAILED, "mmap of an event's buffer failed");
	}
	return s;
}

void sampler_ioctl(struct sampler *s, unsigned long cmd)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		TEST_ASSERT(!ioctl(s->sources[i].fd, cmd, 0), "ioctl of an event failed");
}

/* The number of guest samples of the event with the fewest. */
unsigned int sampler_fewest(struct sampler *s)
{
	unsigned int i, n = -1;

	for (i = 0; i < s->nr; i++)
		n = min(n, s->sources[i].n);
	return n;
}

void sampler_close(struct sampler *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		munmap(s->sources[i].ring, (1 + RING_PAGES) * getpagesize());
		close(s->sources[i].fd);
	}
}

static bool is_guest_sample(const struct sample *sample)
{
	int mode = sample->header.misc & PERF_RECORD_MISC_CPUMODE_MASK;

	return mode == PERF_RECORD_MISC_GUEST_KERNEL ||
	       mode == PERF_RECORD_MISC_GUEST_USER;
}

/* Samples may be lost on a slow host: tests check the number of samples. */
static bool source_next(struct source *s, struct sample *sample, size_t size)
{
	const uint8_t *data = (uint8_t *)s->ring + s->ring->data_offset;
	uint64_t mask = s->ring->data_size - 1, tail = s->ring->data_tail;
	struct perf_event_header header;
	size_t i;

	while (tail < READ_ONCE(s->ring->data_head)) {
		for (i = 0; i < sizeof(header); i++)
			((uint8_t *)&header)[i] = data[(tail + i) & mask];
		for (i = 0; i < min_t(size_t, size, header.size); i++)
			((uint8_t *)sample)[i] = data[(tail + i) & mask];
		tail += header.size;
		s->ring->data_tail = tail;
		if (header.type == PERF_RECORD_SAMPLE && is_guest_sample(sample)) {
			s->n++;
			return true;
		}
	}
	return false;
}

/* Copy the next sample of the guest. Return false at the end. */
bool sampler_next(struct sampler *s, struct sample *sample, size_t size)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (source_next(&s->sources[i], sample, size))
			return true;
	return false;
}

/* Just after boot, timers have the resolution of the tick: samples would be few. */
void sampler_wait_for_timers(void)
{
	struct timespec res;
	int i;

	for (i = 0; i < 100; i++) {
		TEST_ASSERT(!clock_getres(CLOCK_MONOTONIC, &res), "no CLOCK_MONOTONIC");
		if (!res.tv_sec && res.tv_nsec <= PERIOD)
			return;
		usleep(100000);
	}
	print_skip("timers have a resolution of %ld ns", res.tv_nsec);
	exit(KSFT_SKIP);
}
