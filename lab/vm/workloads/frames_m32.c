// SPDX-License-Identifier: GPL-2.0
/*
 * For walks of call chains without frame pointers: a 32-bit program, without a C library.
 * From its first function, start(), it calls 20 times down() and spin(), until it is killed.
 */
#include "vary.h"

#define FUNCTION	__attribute__((noipa))

static FUNCTION void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));
}

static FUNCTION void down(unsigned int depth)
{
	if (depth > 1)
		down(depth - 1);
	else
		spin(vary(20000));
	asm volatile("");
}

void start(void)
{
	for (;;)
		down(20);
}
