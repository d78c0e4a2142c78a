// SPDX-License-Identifier: GPL-2.0
/*
 * A workload: overflows of an event of the program's own loop, seen by the program.
 *
 *	overflow OPERATION [PERIOD [CONFIG]]
 *
 * signal:	a signal with each overflow
 * refresh:	three signals by PERF_EVENT_IOC_REFRESH, the last of which is a hang-up
 * period:	a signal with each overflow, while PERF_EVENT_IOC_PERIOD changes the period,
 *		of the running event, of the stopped event, and to the same period again
 * orphan:	signals, until the event is closed; the other event of its group counts on
 * bpf:		a BPF program with each overflow
 * storm:	PERIOD events, one each, as many events as can be had on each CPU, for a
 *		second
 *
 * PERIOD is 10007 unless given. CONFIG is that of a raw event, counted in user space;
 * without it the event is PERF_COUNT_HW_INSTRUCTIONS.
 *
 * Prints a line for each signal: the code of the signal, the iteration of the loop and
 * the instruction in it where the signal came, which are the same each time the program
 * runs with the same PMU. Then the count, and the part of the time that it took. "bpf"
 * prints how often the program ran, and "storm" the iterations of each CPU in the second.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ITERATIONS	100000UL
#define MAX_SIGNALS	1000
#define MAX_EVENTS	32

static struct {
	int code;
	unsigned long iteration;
	long offset;
} signals[MAX_SIGNALS];
static int nr_signals;

static struct perf_event_attr attr = {
	.type		= PERF_TYPE_HARDWARE,
	.size		= sizeof(attr),
	.config		= PERF_COUNT_HW_INSTRUCTIONS,
	.sample_period	= 10007,
	.wakeup_events	= 1,
	.read_format	= PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
	.disabled	= 1,
	.exclude_kernel	= 1,
};

extern char loop_start[];

/* What is left of the iterations is in R12, for the signal handler. */
static __attribute__((noinline)) void loop(unsigned long iterations)
{
	register unsigned long left asm("r12") = iterations;

	asm volatile(".globl loop_start\n"
		     "loop_start:\n\t"
		     "nop; nop; nop; test $1, %0; jz 1f; nop; nop\n"
		     "1: nop; dec %0\n\t"
		     "jnz loop_start" : "+r" (left));
}

static void handler(int number, siginfo_t *info, void *context)
{
	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)number;
	if (nr_signals == MAX_SIGNALS)
		return;
	signals[nr_signals].code = info->si_code;
	signals[nr_signals].iteration = regs[REG_R12];
	signals[nr_signals].offset = regs[REG_RIP] - (long)loop_start;
	nr_signals++;
}

static int open_event(int cpu)
{
	return syscall(SYS_perf_event_open, &attr, cpu < 0 ? 0 : -1, cpu, -1, 0);
}

/* A member of a group that counts, and does not sample */
static int open_member(int leader)
{
	int fd;

	attr.sample_period = 0;
	attr.disabled = 0;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, leader, 0);
	if (fd < 0)
		err(1, "perf_event_open");
	return fd;
}

static void control(int fd, unsigned long request, void *argument)
{
	if (ioctl(fd, request, argument))
		err(1, "ioctl");
}

static int open_with_signal(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = gettid() };
	int fd = open_event(-1);

	if (fd < 0)
		err(1, "perf_event_open");
	if (sigaction(SIGRTMIN, &action, NULL) || fcntl(fd, F_SETOWN_EX, &owner) ||
	    fcntl(fd, F_SETSIG, SIGRTMIN) || fcntl(fd, F_SETFL, O_ASYNC))
		err(1, "signal");
	return fd;
}

static void report(int fd)
{
	unsigned long long values[3];	/* the count, ns enabled, ns running */
	int i;

	if (read(fd, values, sizeof(values)) != sizeof(values))
		err(1, "read");
	for (i = 0; i < nr_signals; i++)
		printf("%d %lu %ld\n", signals[i].code, signals[i].iteration,
		       signals[i].offset);
	printf("count %llu in %llu %%\n", values[0], values[2] * 100 / values[1]);
}

static void with_signals(void)
{
	int fd = open_with_signal();

	control(fd, PERF_EVENT_IOC_ENABLE, NULL);
	loop(ITERATIONS);
	control(fd, PERF_EVENT_IOC_DISABLE, NULL);
	report(fd);
}

static void with_refresh(void)
{
	int fd = open_with_signal();

	control(fd, PERF_EVENT_IOC_REFRESH, (void *)3);
	loop(ITERATIONS);
	report(fd);
}

static void with_periods(void)
{
	unsigned long long period = attr.sample_period;
	int i, fd = open_with_signal();

	control(fd, PERF_EVENT_IOC_ENABLE, NULL);
	loop(ITERATIONS / 4);
	for (i = 0; i < 3; i++) {
		period += period / 2;
		control(fd, PERF_EVENT_IOC_PERIOD, &period);
		loop(ITERATIONS / 8);
		control(fd, PERF_EVENT_IOC_DISABLE, NULL);
		loop(1);
		control(fd, PERF_EVENT_IOC_ENABLE, NULL);
		loop(ITERATIONS / 8);
	}
	for (i = 0; i < 3; i++) {
		control(fd, PERF_EVENT_IOC_DISABLE, NULL);
		control(fd, PERF_EVENT_IOC_PERIOD, &period);
		control(fd, PERF_EVENT_IOC_ENABLE, NULL);
		loop(ITERATIONS / 8);
	}
	control(fd, PERF_EVENT_IOC_DISABLE, NULL);
	report(fd);
}

static void with_orphan(void)
{
	int leader = open_with_signal(), member = open_member(leader);

	control(leader, PERF_EVENT_IOC_ENABLE, NULL);
	loop(ITERATIONS / 2);
	close(leader);
	loop(ITERATIONS / 2);
	control(member, PERF_EVENT_IOC_DISABLE, NULL);
	report(member);
}

static int bpf(int command, union bpf_attr *what)
{
	int fd = syscall(SYS_bpf, command, what, sizeof(*what));

	if (fd < 0)
		err(1, "bpf(%d)", command);
	return fd;
}

static int make_map(void)
{
	union bpf_attr what = {
		.map_type	= BPF_MAP_TYPE_ARRAY,
		.key_size	= 4,
		.value_size	= 8,
		.max_entries	= 1,
	};

	return bpf(BPF_MAP_CREATE, &what);
}

/* A program that adds one to the only entry of the map */
static int load_program(int map)
{
	const struct bpf_insn program[] = {
		{ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 10, .off = -4 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -4 },
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1,
		  .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{ },	/* the upper half of imm */
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_map_lookup_elem },
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = 0, .off = 2 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 1 },
		{ .code = BPF_STX | BPF_ATOMIC | BPF_DW, .dst_reg = 0, .src_reg = 1,
		  .imm = BPF_ADD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr what = {
		.prog_type	= BPF_PROG_TYPE_PERF_EVENT,
		.insns		= (unsigned long)program,
		.insn_cnt	= sizeof(program) / sizeof(program[0]),
		.license	= (unsigned long)"GPL",
	};

	return bpf(BPF_PROG_LOAD, &what);
}

static void with_bpf(void)
{
	unsigned long long value;
	unsigned int key = 0;
	int map = make_map(), program = load_program(map), fd = open_event(-1);
	union bpf_attr what = {
		.map_fd	= map,
		.key	= (unsigned long)&key,
		.value	= (unsigned long)&value,
	};

	if (fd < 0)
		err(1, "perf_event_open");
	control(fd, PERF_EVENT_IOC_SET_BPF, (void *)(long)program);
	control(fd, PERF_EVENT_IOC_ENABLE, NULL);
	loop(ITERATIONS);
	control(fd, PERF_EVENT_IOC_DISABLE, NULL);
	bpf(BPF_MAP_LOOKUP_ELEM, &what);
	printf("ran %llu\n", value);
	report(fd);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Distinct events, of user space and kernel, and how far this program gets beside them */
static void storm_on(int cpu)
{
	long long end;
	unsigned long iterations = 0;
	cpu_set_t cpus;
	int i, nr = 0;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "sched_setaffinity");
	attr.exclude_kernel = 0;
	attr.disabled = 0;
	end = now() + 1000000000;
	for (i = 0; i < MAX_EVENTS; i++) {
		/* another period for each, so that no two events are alike */
		attr.sample_period++;
		nr += open_event(cpu) >= 0;
	}
	while (now() < end) {
		loop(100);
		iterations += 100;
	}
	printf("cpu %d events %d iterations %lu\n", cpu, nr, iterations);
	fflush(stdout);
}

static void storm(void)
{
	int cpu, nr = sysconf(_SC_NPROCESSORS_ONLN), status, failed = 0;

	attr.sample_period--;
	for (cpu = 0; cpu < nr; cpu++) {
		if (!fork()) {
			storm_on(cpu);
			exit(0);
		}
	}
	while (nr--)
		failed |= wait(&status) < 0 || status;
	if (failed)
		errx(1, "a storm failed");
}

static const struct {
	const char *name;
	void (*run)(void);
} operations[] = {
	{ "signal", with_signals },
	{ "refresh", with_refresh },
	{ "period", with_periods },
	{ "orphan", with_orphan },
	{ "bpf", with_bpf },
	{ "storm", storm },
};

int main(int argc, char **argv)
{
	unsigned int i;

	if (argc > 2)
		attr.sample_period = strtoull(argv[2], NULL, 0);
	if (argc > 3) {
		attr.type = PERF_TYPE_RAW;
		attr.config = strtoull(argv[3], NULL, 0);
	}
	for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (argc > 1 && !strcmp(argv[1], operations[i].name)) {
			operations[i].run();
			return 0;
		}
	}
	errx(1, "usage: overflow OPERATION [PERIOD [CONFIG]]");
}
