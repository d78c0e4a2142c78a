// SPDX-License-Identifier: GPL-2.0
/*
 * A CPU-bound workload with a call chain of a known depth: main, DEPTH times
 * down(), and spin(), which takes almost all the time. The program is linked to
 * other addresses than the other workloads: a sample's address tells the program.
 * Each round has another length.
 *
 *	recurse [DEPTH [ROUNDS [YIELD]]]	(10, 1000: some 100 million
 *						instructions)
 *
 * With YIELD, other processes may run after each round.
 */
#include <sched.h>
#include <stdlib.h>

#include "vary.h"

/* The average number of iterations, of two instructions, in a round. */
#define ROUND	50000

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
register unsigned long stack_pointer asm("rsp");

static __attribute__((noinline)) void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n), "+r" (stack_pointer));
}

static __attribute__((noinline)) void down(unsigned long depth)
{
	if (depth > 1)
		down(depth - 1);
	else
		spin(vary(ROUND));
	/* Neither call is a tail call. */
	asm volatile("" : "+r" (stack_pointer));
}

int main(int argc, char **argv)
{
	unsigned long depth = argc > 1 ? strtoul(argv[1], NULL, 0) : 10;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;

	while (rounds--) {
		down(depth);
		if (argc > 3)
			sched_yield();
	}
	return 0;
}
