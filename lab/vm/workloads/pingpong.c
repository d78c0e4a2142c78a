// SPDX-License-Identifier: GPL-2.0
/*
 * A workload mostly in the kernel: two processes pass a byte to and fro through a
 * pair of pipes, so each round is two writes, two reads and two context switches. In
 * user space a process only counts down, from another number in each round.
 *
 *	pingpong [ROUNDS]	(10000)
 */
#include <err.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vary.h"

/* The average number of iterations, of two instructions, before each read. */
#define SPIN	300

static void pass(int from, int to)
{
	unsigned long n = vary(SPIN);
	char byte;

	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));

	if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1)
		err(1, "pipe");
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
