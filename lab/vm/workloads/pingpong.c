// SPDX-License-Identifier: GPL-2.0
/*
 * A workload mostly in the kernel: two processes pass a byte to and fro through a
 * pair of pipes, so each round is two writes, two reads and two context switches. In
 * user space a process only counts down, from another number in each round. All calls
 * are main, pass, call.
 *
 *	pingpong [ROUNDS]	(10000)
 */
#include <err.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vary.h"

/* The average number of iterations, of two instructions, before each read. */
#define SPIN	300

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
register unsigned long stack_pointer asm("rsp");

/* A system call with a frame, unlike those of the C library. */
static __attribute__((noinline)) long call(long nr, int fd, char *byte)
{
	long ret;

	asm volatile("syscall"
		     : "=a" (ret), "+r" (stack_pointer)
		     : "a" (nr), "D" (fd), "S" (byte), "d" (1)
		     : "rcx", "r11", "memory");
	return ret;
}

static __attribute__((noinline)) void pass(int from, int to)
{
	unsigned long n = vary(SPIN);
	char byte;

	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));

	if (call(SYS_read, from, &byte) != 1 || call(SYS_write, to, &byte) != 1)
		errx(1, "a pipe failed");
}

int main(int argc, char **argv)
{
	unsigned long n, rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 10000;
	int ping[2], pong[2], status;
	pid_t child;

	if (pipe(ping) || pipe(pong))
		err(1, "pipe");

	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		for (n = 0; n < rounds; n++)
			pass(ping[0], pong[1]);
		_exit(0);
	}

	if (rounds && write(ping[1], "", 1) != 1)
		err(1, "pipe");
	/* The last byte is not sent back. */
	for (n = 1; n < rounds; n++)
		pass(pong[0], ping[1]);

	if (waitpid(child, &status, 0) != child || status)
		errx(1, "the other end failed");
	return 0;
}
