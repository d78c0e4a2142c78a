// SPDX-License-Identifier: GPL-2.0
/*
 * A loop of exactly known length: COUNT instructions (rounded down to a
 * multiple of LOOP_INSNS), retired in user mode between main's first and last
 * instruction, beside the constant cost of starting and ending a process.
 *
 *	loop [COUNT]		(10000000)
 */
#include <stdlib.h>

/* Instructions in an iteration: eight nops, the decrement, the branch. */
#define LOOP_INSNS	10

int main(int argc, char **argv)
{
	unsigned long n = (argc > 1 ? strtoul(argv[1], NULL, 0) : 10000000) / LOOP_INSNS;

	if (n)
		asm volatile("1: nop; nop; nop; nop; nop; nop; nop; nop\n\t"
			     "dec %0\n\t"
			     "jnz 1b" : "+r" (n));
	return 0;
}
