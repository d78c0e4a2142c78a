// SPDX-License-Identifier: GPL-2.0
/*
 * For walks of call chains without frame pointers: optimized C++, in all kinds of programs
 * (see the Makefile). Almost all time is in spin(), for as long in each of
 *
 *	templates	nested<3>::enter() to nested<0>::enter(), which are virtual
 *	exceptions	catcher(), which has caught an exception from ten calls deeper
 *	recursion	200 times down()
 *	callback	compare(), which the C library's qsort() calls
 *	threads		left() and right(), each in a thread, all the time
 *
 * It ends when it is killed. With OTHER, the functions have other names and other calls,
 * at the same addresses.
 */
#include <cstdlib>
#include <err.h>
#include <pthread.h>

#include "vary.h"

/* The average number of iterations, of two instructions, in a round */
#define ROUND	20000
#define DEPTH	200

/* No clones, no knowledge of what the function does */
#define FUNCTION	__attribute__((noipa))

/* No call before is a tail call. */
#define after_call()	asm volatile("")

#ifdef OTHER
#define spin		other_spin
#define left		other_left
#define right		other_right
#define down		other_down
#define nested		other_nested
#define thrower		other_thrower
#define catcher		other_catcher
#define compare		other_compare
#define recursion	other_recursion
#define callback	other_callback
#endif

extern "C" {

/* These two change places. */
#ifdef OTHER
FUNCTION void other_pad(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));
}
#endif

FUNCTION void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));
}

#ifndef OTHER
FUNCTION void pad(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n));
}
#endif

FUNCTION void *left(void *unused)
{
	for (;;)
		spin(ROUND);
	return unused;
}

FUNCTION void *right(void *unused)
{
	for (;;)
		spin(ROUND);
	return unused;
}

FUNCTION void down(unsigned int depth)
{
	if (depth > 1)
		down(depth - 1);
	else
		spin(vary(ROUND));
	after_call();
}

FUNCTION void recursion()
{
	down(DEPTH);
	after_call();
}

FUNCTION int compare(const void *a, const void *b)
{
	spin(vary(ROUND));
	return *(const int *)a - *(const int *)b;
}

FUNCTION void callback()
{
	int numbers[2] = { 2, 1 };

	qsort(numbers, 2, sizeof(*numbers), compare);
	after_call();
}

FUNCTION void thrower(int depth)
{
	if (!depth)
		throw depth;
	thrower(depth - 1);
	after_call();
}

FUNCTION void catcher()
{
	try {
		thrower(10);
	} catch (int) {
		spin(vary(ROUND));
	}
}

}

#include "nested.h"

int main(int argc, char **)
{
	level *outermost = new nested<3>;
	pthread_t thread;

	if (argc > 1 && (pthread_create(&thread, NULL, left, NULL) ||
			 pthread_create(&thread, NULL, right, NULL)))
		errx(1, "no threads");
	for (;;) {
		outermost->enter(vary(ROUND));
		catcher();
		recursion();
		callback();
	}
}
