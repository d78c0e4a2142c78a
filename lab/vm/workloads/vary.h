/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rounds of work of equal length can be in step with the period of the samples:
 * each sample then hits one of the same few instructions, chosen by luck.
 */
#ifndef VARY_H
#define VARY_H

/* 1 to 2 * n - 1, and n on average: another each time, the same in each run. */
static inline unsigned long vary(unsigned long n)
{
	static unsigned int seed = 1;

	seed = seed * 1103515245 + 12345;
	return 1 + (seed >> 8) % (2 * n - 1);
}

#endif
