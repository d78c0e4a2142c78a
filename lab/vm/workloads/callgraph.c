// SPDX-License-Identifier: GPL-2.0
/*
 * A CPU-bound workload with a known call tree and a known split of its time:
 *
 *	main			 10 % in main itself
 *	  foo			 20 %
 *	    bar			 30 %, and random()
 *	      qux		 40 %
 *
 * The shares are of the instructions spent in spin loops. random(), with its
 * random_r(), is called once a round, and then adds well under 1 %, or CALLS times. Each
 * round has another length. The program is built with frame pointers, and no function is
 * inlined.
 *
 *	callgraph [ROUNDS [CALLS]]	(1000: some 100 million instructions)
 *
 * With OTHER_CALLS, main calls bar, bar calls foo and foo calls qux: another program whose
 * functions and calls are at the same addresses.
 */
#include <stdlib.h>

#include "vary.h"

/* Half the instructions of an average round; an iteration is two. */
#define ROUND	50000

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
register unsigned long stack_pointer asm("rsp");

/* An empty loop of exactly n iterations, 2 * n instructions, in the caller. */
#define spin(n) do {						\
	unsigned long __n = (n);				\
								\
	asm volatile("1: dec %0\n\t"				\
		     "jnz 1b"					\
		     : "+r" (__n), "+r" (stack_pointer));	\
} while (0)

static volatile long sink;
static unsigned long percent;	/* of the current round's iterations */
static unsigned long calls = 1;

#ifdef OTHER_CALLS
# define CALLEE_OF_MAIN	bar
# define CALLEE_OF_FOO	qux
# define CALLEE_OF_BAR	foo
#else
# define CALLEE_OF_MAIN	foo
# define CALLEE_OF_FOO	bar
# define CALLEE_OF_BAR	qux
#endif

/* Functions stay in this order, whoever calls them. */
#define FUNCTION	static __attribute__((noinline, no_reorder))

FUNCTION void foo(void);

/* Each function does some work after the call, to have no tail calls. */
FUNCTION void qux(void)
{
	spin(40 * percent);
}

FUNCTION void bar(void)
{
	unsigned long i;

	CALLEE_OF_BAR();
	for (i = 0; i < calls; i++)
		sink = random();
	spin(30 * percent);
}

FUNCTION void foo(void)
{
	CALLEE_OF_FOO();
	spin(20 * percent);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;

	if (argc > 2)
		calls = strtoul(argv[2], NULL, 0);
	while (rounds--) {
		percent = vary(ROUND / 100);
		CALLEE_OF_MAIN();
		spin(10 * percent);
	}
	return 0;
}
