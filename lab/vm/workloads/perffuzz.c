// SPDX-License-Identifier: GPL-2.0
/*
 * Do random things with perf events, to find faults of the kernel and of the machine:
 *
 *	perffuzz [-v] SEED OPERATIONS [CPU|any]
 *
 * opens events with random attributes, on random tasks and CPUs; closes, reads, maps and
 * controls events; forks, executes, moves between CPUs and cgroups, and runs code at the
 * addresses of breakpoints. The seed alone decides the sequence of operations: an answer
 * of the kernel never changes a later choice. CPU pins the fuzzer. -v shows each
 * operation before its start.
 *
 * The last line has three numbers for each kind of event: how many were tried, how many
 * were opened, and how many reads found a count. The status is 1 if a kind was never
 * opened.
 *
 * Sampling periods have a lower limit, so that interrupts leave time for the fuzzer.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "perffuzz_attr.h"

#define MAX_EVENTS	40
#define MAX_CHILDREN	3

static struct {
	const char *name;
	unsigned long tried, opened, counted;
} kinds[KINDS] = {
	[HARDWARE]	= { .name = "hardware" },
	[SOFTWARE]	= { .name = "software" },
	[TRACEPOINT]	= { .name = "tracepoint" },
	[HW_CACHE]	= { .name = "hw-cache" },
	[RAW]		= { .name = "raw" },
	[BREAKPOINT]	= { .name = "breakpoint" },
	[OTHER]		= { .name = "other" },
};

static struct event {
	int fd;
	enum kind kind;
	pid_t pid;
	int cpu;
	void *map;
	size_t map_size;
} events[MAX_EVENTS];

static pid_t children[MAX_CHILDREN];
static int nr_cpus, cgroup_fd = -1;
static bool pinned, verbose;
static volatile sig_atomic_t traps, ios;

/* --- operations */

static struct event *draw_event(void)
{
	return &events[below(MAX_EVENTS)];
}

static void unmap(struct event *event)
{
	if (event->map)
		munmap(event->map, event->map_size);
	event->map = NULL;
}

static void close_event(struct event *event)
{
	close(event->fd);
	event->fd = -1;
}

/* A task on any CPU, a task on one CPU, all tasks on one CPU; mostly. */
static void draw_target(struct event *event)
{
	event->pid = one_in(4) ? children[below(MAX_CHILDREN)] : 0;
	event->cpu = one_in(2) ? -1 : (int)below(nr_cpus);
	if (event->cpu >= 0 && one_in(2))
		event->pid = -1;
	if (one_in(32))
		event->cpu = below(256) - 1;
}

static void op_open(void)
{
	struct event *event = draw_event(), *leader = draw_event();
	bool group = one_in(3), in_cgroup = one_in(8);
	struct perf_event_attr attr;
	unsigned long flags = few_bits(4) & PERF_FLAG_FD_CLOEXEC;
	unsigned int i;

	close_event(event);
	if (one_in(2))
		unmap(event);

	/* few machines have PMUs of another type */
	event->kind = one_in(24) ? OTHER : below(OTHER);
	draw_attr(&attr, event->kind);
	draw_target(event);
	if (group) {
		flags |= few_bits(3) & (PERF_FLAG_FD_NO_GROUP | PERF_FLAG_FD_OUTPUT);
		event->pid = leader->pid;
		event->cpu = leader->cpu;
		if (!one_in(8))
			attr.pinned = attr.exclusive = 0;
	}
	/*
	 * Linux 6.12 crashes in perf_remove_from_owner() if the other task calls exec while
	 * the event is on its context, but not yet on its owner's list.
	 */
	if (event->pid > 0)
		attr.remove_on_exec = 0;
	in_cgroup &= event->cpu >= 0;
	if (in_cgroup)
		flags |= PERF_FLAG_PID_CGROUP;

	kinds[event->kind].tried++;
	event->fd = syscall(SYS_perf_event_open, &attr, in_cgroup ? cgroup_fd : event->pid,
			    event->cpu, group ? leader->fd : -1, flags);
	if (event->fd < 0)
		return;
	kinds[event->kind].opened++;
	i = event - events;
	/* overflows of some events are signals */
	if (i % 4 == 0) {
		fcntl(event->fd, F_SETOWN, getpid());
		fcntl(event->fd, F_SETFL, O_ASYNC | O_NONBLOCK);
	}
}

static void op_close(void)
{
	struct event *event = draw_event();

	close_event(event);
	if (one_in(2))
		unmap(event);
}

static void op_read(void)
{
	static uint64_t buffer[4 * MAX_EVENTS + 3];
	struct event *event = draw_event();
	size_t size = one_in(8) ? below(sizeof(buffer)) : sizeof(buffer);

	/* a count, or the number of events in the group */
	if (read(event->fd, buffer, size) >= (int)sizeof(*buffer) && buffer[0])
		kinds[event->kind].counted++;
}

static void op_ioctl(void)
{
	static const unsigned long simple[] = {
		PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_RESET,
	};
	unsigned long command = simple[below(ARRAY_SIZE(simple))];

	ioctl(draw_event()->fd, command, one_in(4) ? PERF_IOC_FLAG_GROUP : 0);
}

static void op_ioctl_argument(void)
{
	static const char *const filters[] = { "common_pid != 0", "common_pid == 1", "0 ||", "" };
	struct event *event = draw_event();
	struct perf_event_attr attr;
	uint64_t value;

	switch (below(7)) {
	case 0:
		ioctl(event->fd, PERF_EVENT_IOC_REFRESH, below(4));
		break;
	case 1:
		draw_attr(&attr, event->kind);
		value = draw_period(&attr);
		ioctl(event->fd, PERF_EVENT_IOC_PERIOD, &value);
		break;
	case 2:
		ioctl(event->fd, PERF_EVENT_IOC_SET_OUTPUT, one_in(4) ? -1 : draw_event()->fd);
		break;
	case 3:
		ioctl(event->fd, PERF_EVENT_IOC_ID, &value);
		break;
	case 4:
		ioctl(event->fd, PERF_EVENT_IOC_SET_FILTER, filters[below(ARRAY_SIZE(filters))]);
		break;
	case 5:
		ioctl(event->fd, PERF_EVENT_IOC_PAUSE_OUTPUT, below(2));
		break;
	case 6:
		draw_attr(&attr, event->kind);
		ioctl(event->fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr);
		break;
	}
}

static void op_mmap(void)
{
	struct event *event = draw_event();
	size_t size = (1 + (1UL << below(4))) * PAGE;
	int protection = PROT_READ | (one_in(4) ? 0 : PROT_WRITE);
	void *map;

	if (one_in(8))
		size = below(6) * PAGE;
	unmap(event);
	map = mmap(NULL, size, protection, MAP_SHARED, event->fd, 0);
	if (map == MAP_FAILED)
		return;
	event->map = map;
	event->map_size = size;
}

static void op_munmap(void)
{
	unmap(draw_event());
}

/* Empty the ring buffer; now and then store a random position. */
static void op_consume(void)
{
	struct event *event = draw_event();
	volatile struct perf_event_mmap_page *page = event->map;
	uint64_t lie = draw();
	bool lies = one_in(8);

	if (page && mprotect(event->map, PAGE, PROT_READ | PROT_WRITE) == 0)
		page->data_tail = lies ? lie : page->data_head;
}

static void op_prctl(void)
{
	prctl(one_in(2) ? PR_TASK_PERF_EVENTS_DISABLE : PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0);
	if (!one_in(8))
		prctl(PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0);
}

static void op_run(void)
{
	run(below(256));
}

static void op_move(void)
{
	unsigned int cpu = below(nr_cpus + 1);
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < nr_cpus; i++)
		if (cpu == (unsigned int)nr_cpus || cpu == (unsigned int)i)
			CPU_SET(i, &set);
	if (!pinned)
		sched_setaffinity(0, sizeof(set), &set);
}

static void op_yield(void)
{
	sched_yield();
}

static void move_to_cgroup(const char *procs)
{
	int fd = open(procs, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, "0", 1) != 1)
		warn("%s", procs);
	close(fd);
}

#define CGROUPS	"/sys/fs/cgroup"
#define CGROUP	CGROUPS "/perffuzz"

static void op_cgroup(void)
{
	move_to_cgroup(one_in(2) ? CGROUPS "/cgroup.procs" : CGROUP "/cgroup.procs");
}

static void op_fork(void);

static const struct operation {
	const char *name;
	unsigned int weight;
	void (*run)(void);
} operations[] = {
	{ "open",	24, op_open },
	{ "close",	 4, op_close },
	{ "read",	12, op_read },
	{ "ioctl",	12, op_ioctl },
	{ "ioctl_argument", 8, op_ioctl_argument },
	{ "mmap",	 8, op_mmap },
	{ "munmap",	 3, op_munmap },
	{ "consume",	 4, op_consume },
	{ "prctl",	 2, op_prctl },
	{ "run",	 8, op_run },
	{ "move",	 4, op_move },
	{ "yield",	 3, op_yield },
	{ "cgroup",	 2, op_cgroup },
	/* the last: children do not fork */
	{ "fork",	 3, op_fork },
};

static void operate(unsigned long number, const struct operation *end)
{
	const struct operation *op;
	unsigned int weights = 0, at;

	for (op = operations; op < end; op++)
		weights += op->weight;
	at = below(weights);
	for (op = operations; at >= op->weight; op++)
		at -= op->weight;

	if (verbose)
		printf("# %d: %lu %s\n", getpid(), number, op->name);
	op->run();
}

static void child(uint64_t seed, unsigned int rounds, bool executes)
{
	unsigned int i;

	state = seed;
	/* the mappings of events are not inherited */
	for (i = 0; i < MAX_EVENTS; i++)
		events[i].map = NULL;
	for (i = 0; i < rounds; i++) {
		operate(i, operations + ARRAY_SIZE(operations) - 1);
		run(8);
	}
	if (executes)
		execl("/proc/self/exe", "perffuzz", NULL);
	_exit(0);
}

static void end_child(pid_t *pid, bool at_once)
{
	if (*pid <= 0)
		return;
	if (at_once)
		kill(*pid, SIGKILL);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

static void op_fork(void)
{
	pid_t *pid = &children[below(MAX_CHILDREN)];
	bool at_once = one_in(2), executes = one_in(4);
	unsigned int rounds = below(24);
	uint64_t seed = draw() | 1;

	end_child(pid, at_once);
	fflush(stdout);
	*pid = fork();
	if (!*pid)
		child(seed, rounds, executes);
}

/* --- start and end */

static void count_signal(int signal)
{
	if (signal == SIGTRAP)
		traps++;
	else
		ios++;
}

static unsigned int read_files(const char *pattern, unsigned int *numbers, unsigned int max)
{
	unsigned int n = 0;
	glob_t paths;
	size_t i;

	if (glob(pattern, 0, NULL, &paths))
		return 0;
	for (i = 0; i < paths.gl_pathc && n < max; i++) {
		const char *path = paths.gl_pathv[i];
		FILE *file;

		/*
		 * Left out: an event of every function of the kernel; and probes, which take
		 * an address of the kernel, and would change any instruction there.
		 */
		if (strstr(path, "/ftrace/") || strstr(path, "probe/"))
			continue;
		file = fopen(path, "r");
		if (!file)
			continue;
		n += fscanf(file, "%u", &numbers[n]) == 1;
		fclose(file);
	}
	globfree(&paths);
	return n;
}

static int not_fixed(unsigned int n)
{
	unsigned int i, kept = 0;

	for (i = 0; i < n; i++)
		if (types[i] >= PERF_TYPE_MAX)
			types[kept++] = types[i];
	return kept;
}

static void prepare(const char *cpu)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
	cpu_set_t set;
	int i;

	nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pinned = strcmp(cpu, "any");
	if (pinned) {
		CPU_ZERO(&set);
		CPU_SET(atoi(cpu), &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			err(2, "CPU %s", cpu);
	}

	sigaction(SIGTRAP, &action, NULL);
	sigaction(SIGIO, &action, NULL);
	for (i = 0; i < MAX_EVENTS; i++)
		events[i].fd = -1;
	nr_ids = read_files("/sys/kernel/tracing/events/*/*/id", ids, MAX_IDS);
	nr_types = not_fixed(read_files("/sys/bus/event_source/devices/*/type", types, MAX_TYPES));
	mkdir(CGROUP, 0755);
	cgroup_fd = open(CGROUP, O_RDONLY | O_CLOEXEC);
}

static void finish(void)
{
	unsigned int i;

	for (i = 0; i < MAX_CHILDREN; i++)
		end_child(&children[i], true);
	for (i = 0; i < MAX_EVENTS; i++) {
		close_event(&events[i]);
		unmap(&events[i]);
	}
	move_to_cgroup(CGROUPS "/cgroup.procs");
	rmdir(CGROUP);
}

/* A kind without any opened event is missing, unless the system has no such events. */
static int report(const char *seed, unsigned long done)
{
	int missing = 0, i;

	printf("seed %s, %lu operations, state %016llx, %d traps, %d ios; tried/opened/counted:",
	       seed, done, (unsigned long long)state, (int)traps, (int)ios);
	for (i = 0; i < KINDS; i++)
		printf(" %s %lu/%lu/%lu", kinds[i].name, kinds[i].tried, kinds[i].opened,
		       kinds[i].counted);
	printf("\n");
	for (i = 0; i < OTHER; i++) {
		if (kinds[i].opened || (i == TRACEPOINT && !nr_ids))
			continue;
		printf("no event of the kind %s was opened\n", kinds[i].name);
		missing = 1;
	}
	return missing;
}

int main(int argc, char **argv)
{
	unsigned long number, count;

	/* the program of children that execute */
	if (argc == 1)
		return 0;
	if (!strcmp(argv[1], "-v")) {
		verbose = true;
		setvbuf(stdout, NULL, _IOLBF, 0);
		argc--;
		argv++;
	}
	if (argc != 3 && argc != 4)
		errx(2, "usage: perffuzz [-v] SEED OPERATIONS [CPU|any]");

	/* never 0; seeds that follow each other are far apart */
	state = (strtoull(argv[1], NULL, 0) + 1) * 0x9e3779b97f4a7c15ULL | 1;
	count = strtoul(argv[2], NULL, 0);
	prepare(argc == 4 ? argv[3] : "any");
	for (number = 0; number < count; number++)
		operate(number, operations + ARRAY_SIZE(operations));
	finish();
	return report(argv[1], count);
}
