// SPDX-License-Identifier: GPL-2.0
/*
 * For the workload "kinds": call chains of C++, through templates and virtual functions,
 * and below a function that has caught an exception from ten calls deeper. Almost all
 * instructions are in spin().
 */
#include <cstdlib>

#include "vary.h"

#define ROUNDS	500

static unsigned long times = 1;

/* The average number of iterations, of two instructions, in a round. */
#define LENGTH	(50000 * times)

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
#ifdef __x86_64__
register unsigned long stack_pointer asm("rsp");
#else
register unsigned long stack_pointer asm("esp");
#endif

#define after_call()	asm volatile("" : "+r" (stack_pointer))

#define FUNCTION	__attribute__((noinline))

extern "C" {
FUNCTION void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n), "+r" (stack_pointer));
}
}

#include "nested.h"

static FUNCTION void thrower(int depth)
{
	if (!depth)
		throw depth;
	thrower(depth - 1);
	after_call();
}

static FUNCTION void catcher(unsigned long n)
{
	try {
		thrower(10);
	} catch (int) {
		spin(n);
	}
	after_call();
}

int main(int argc, char **argv)
{
	level *outermost = new nested<3>;

	if (argc > 1)
		times = std::strtoul(argv[1], NULL, 0);
	for (int i = 0; i < ROUNDS; i++)
		outermost->enter(vary(LENGTH));
	for (int i = 0; i < ROUNDS; i++)
		catcher(vary(LENGTH));
	return 0;
}
