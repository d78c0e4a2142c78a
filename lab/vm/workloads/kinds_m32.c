// SPDX-License-Identifier: GPL-2.0
/*
 * For the workload "kinds": a 32-bit program, without a C library. From its first
 * function, start(), it calls 20 times down() and spin(), where almost all instructions are.
 */
#include "vary.h"

#define ROUNDS	500

static unsigned long times = 1;

/* The average number of iterations, of two instructions, in a round. */
#define LENGTH	(50000 * times)

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
		spin(vary(LENGTH));
	asm volatile("" : "+r" (stack_pointer));
}

/*
 * The kernel pushes no return address: start() finds argv[0] and argv[1] where its parameters
 * are.
 */
void start(const char *name, const char *arg)
{
	unsigned int i;

	(void)name;
	if (arg)
		for (times = 0; *arg; arg++)
			times = 10 * times + *arg - '0';
	for (i = 0; i < ROUNDS; i++)
		down(20);
	asm volatile("int $0x80" :: "a" (__NR_exit), "b" (0));
}
