// SPDX-License-Identifier: GPL-2.0
/*
 * For the workload "kinds": a 32-bit program, without a C library. From its first
 * function, start(), it calls 20 times down() and spin(), where some 100 million
 * instructions are.
 */
#include "vary.h"

/* The average number of iterations, of two instructions, in a round. */
#define ROUND	50000
#define ROUNDS	500

/* of 32-bit programs: their <asm/unistd.h> is in another package */
#define __NR_exit	1

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
register unsigned long stack_pointer asm("esp");

static __attribute__((noinline)) void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n), "+r" (stack_pointer));
}

static __attribute__((noinline)) void down(unsigned int depth)
{
	if (depth > 1)
		down(depth - 1);
	else
		spin(vary(ROUND));
	asm volatile("" : "+r" (stack_pointer));
}

void start(void)
{
	unsigned int i;

	for (i = 0; i < ROUNDS; i++)
		down(20);
	asm volatile("int $0x80" :: "a" (__NR_exit), "b" (0));
}
