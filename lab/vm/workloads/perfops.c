// SPDX-License-Identifier: GPL-2.0
/*
 * A workload: one operation of perf events, over and over.
 *
 *	perfops OPERATION EVENTS ROUNDS
 *
 * open:	open the events, disabled, and close them
 * enable:	enable the first of the events, disable the event again
 * read:	read the running events in turn
 * switch:	from a process with running events to a process without events, and
 *		back
 * switch_both:	the same, with the same events in both processes
 * switch_branches: the same as switch, with events that sample branch stacks
 * sample:	run a loop of PERIOD instructions, with an overflow of each event in each
 *		round; without events, the loop alone
 * sample_branches: the same with branch stacks
 * cpuid:	CPUID, which exits to the host, without events
 * cpuid_branches: the same with events that sample branch stacks
 *
 * Prints how many nanoseconds the rounds took.
 */
#include <cpuid.h>
#include <err.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 6

/* A tick of 10 ms has 100 rounds or less: neither side's perf throttles the events. */
#define PERIOD		100000
#define BUFFER_PAGES	(1 + 16)

static const unsigned int configs[MAX_EVENTS] = {
	PERF_COUNT_HW_INSTRUCTIONS,
	PERF_COUNT_HW_CPU_CYCLES,
	PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
	PERF_COUNT_HW_BRANCH_MISSES,
	PERF_COUNT_HW_CACHE_REFERENCES,
	PERF_COUNT_HW_CACHE_MISSES,
};

static int fds[MAX_EVENTS];

static int open_event(int i, int disabled)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = configs[i],
		.disabled = disabled,
	};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);

	if (fd < 0)
		err(1, "perf_event_open");
	return fd;
}

static void open_events(int n, int disabled)
{
	int i;

	for (i = 0; i < n; i++)
		fds[i] = open_event(i, disabled);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long open_close(int n, long rounds)
{
	long long start = now();
	int i;

	while (rounds--) {
		open_events(n, 1);
		for (i = 0; i < n; i++)
			close(fds[i]);
	}
	return now() - start;
}

static long long enable(int n, long rounds)
{
	long long start;

	open_events(n, 1);
	for (start = now(); rounds--;) {
		if (ioctl(fds[0], PERF_EVENT_IOC_ENABLE, 0) ||
		    ioctl(fds[0], PERF_EVENT_IOC_DISABLE, 0))
			err(1, "ioctl");
	}
	return now() - start;
}

static long long read_all(int n, long rounds)
{
	unsigned long long count;
	long long start;
	int i;

	open_events(n, 0);
	for (start = now(); rounds--;) {
		for (i = 0; i < n; i++)
			if (read(fds[i], &count, sizeof(count)) != sizeof(count))
				err(1, "read");
	}
	return now() - start;
}

/* More than there are in a measurement */
#define NO_OVERFLOW	(1UL << 40)

/*
 * The fields are those of "perf record". A buffer that is mapped to be read alone is
 * overwritten when it is full.
 */
static void open_sampling(unsigned long period, int branches)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.sample_period = period,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
			       PERF_SAMPLE_PERIOD,
		.exclude_kernel = 1,
	};
	int fd;

	if (branches) {
		attr.sample_type |= PERF_SAMPLE_BRANCH_STACK;
		attr.branch_sample_type = PERF_SAMPLE_BRANCH_ANY | PERF_SAMPLE_BRANCH_USER;
	}
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		err(1, "perf_event_open");
	if (mmap(NULL, BUFFER_PAGES * getpagesize(), PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		err(1, "mmap");
}

static void open_branches(int n)
{
	while (n--)
		open_sampling(NO_OVERFLOW, 1);
}

static long long cpuid(int n, long rounds)
{
	unsigned int eax, ebx, ecx, edx;
	long long start;

	open_branches(n);
	for (start = now(); rounds--;)
		__cpuid(0, eax, ebx, ecx, edx);
	return now() - start;
}

static void pass(int from, int to)
{
	char byte;

	if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1)
		err(1, "pipe");
}

enum events { ONE_SIDE, BOTH_SIDES, BRANCHES };

static long long switch_to(int n, long rounds, enum events events)
{
	int ping[2], pong[2];
	long long start;
	pid_t child;

	if (pipe(ping) || pipe(pong))
		err(1, "pipe");

	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		if (events == BOTH_SIDES)
			open_events(n, 0);
		for (rounds++; rounds--;)
			pass(ping[0], pong[1]);
		_exit(0);
	}

	if (events == BRANCHES)
		open_branches(n);
	else
		open_events(n, 0);
	/* After the first round, both processes have opened all their events. */
	if (write(ping[1], "", 1) != 1)
		err(1, "pipe");
	for (start = now(); rounds--;)
		pass(pong[0], ping[1]);
	return now() - start;
}

static long long sample(int n, long rounds, int branches)
{
	unsigned long insns = rounds * PERIOD, iterations = insns / 10;
	long long start;

	while (n--)
		open_sampling(PERIOD, branches);
	start = now();
	asm volatile("1: nop; nop; nop; nop; nop; nop; nop; nop\n\t"
		     "dec %0\n\t"
		     "jnz 1b" : "+r" (iterations));
	return now() - start;
}

int main(int argc, char **argv)
{
	const char *op = argc == 4 ? argv[1] : "";
	int n = argc == 4 ? atoi(argv[2]) : 0;
	long rounds = argc == 4 ? atol(argv[3]) : 0;
	long long ns;

	if (n > MAX_EVENTS)
		errx(1, "no more than %d events", MAX_EVENTS);

	if (!strcmp(op, "open"))
		ns = open_close(n, rounds);
	else if (!strcmp(op, "enable"))
		ns = enable(n, rounds);
	else if (!strcmp(op, "read"))
		ns = read_all(n, rounds);
	else if (!strcmp(op, "switch"))
		ns = switch_to(n, rounds, ONE_SIDE);
	else if (!strcmp(op, "switch_both"))
		ns = switch_to(n, rounds, BOTH_SIDES);
	else if (!strcmp(op, "switch_branches"))
		ns = switch_to(n, rounds, BRANCHES);
	else if (!strcmp(op, "sample"))
		ns = sample(n, rounds, 0);
	else if (!strcmp(op, "sample_branches"))
		ns = sample(n, rounds, 1);
	else if (!strcmp(op, "cpuid") || !strcmp(op, "cpuid_branches"))
		ns = cpuid(n, rounds);
	else
		errx(1, "usage: perfops OPERATION EVENTS ROUNDS");

	printf("%lld\n", ns);
	return 0;
}
