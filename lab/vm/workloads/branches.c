// SPDX-License-Identifier: GPL-2.0
/*
 * A workload with a branch of each kind in each round, all of them taken. No other
 * program of the lab is at these addresses.
 *
 *	branches [ROUNDS [TIMES [other]]]	(1000000, 1: a round has 14 instructions)
 *	branches list [other]			print the branches: kind, address, target
 *
 * Between the times, other processes may run. With "other", a round has one branch, which is
 * none of those without. branches_other is the same program at other addresses.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void run(unsigned long rounds);
void run_other(unsigned long rounds);

/* The indirect branches go by way of %rax. */
asm(".pushsection .text\n"
	"run:\n"
	"call_from:	call call_to\n"
	"call_back:	mov $ind_call_to, %eax\n"
	"ind_call_from:	call *%rax\n"
	"ind_call_back:	mov $ind_jmp_to, %eax\n"
	"ind_jmp_from:	jmp *%rax\n\t"
			"nop\n"
	"ind_jmp_to:	nop\n"
	"jmp_from:	jmp jmp_to\n\t"
			"nop\n"
	"jmp_to:	dec %rdi\n\t"
			"nop\n"
	"cond_from:	jnz run\n\t"
			"ret\n"
	"call_to:	nop\n"
	"ret_from:	ret\n"
	"ind_call_to:	nop\n"
	"ind_ret_from:	ret\n"
	"run_other:	dec %rdi\n\t"
			"nop\n"
	"other_from:	jnz run_other\n\t"
			"ret\n"
	".popsection");

extern char call_from[], call_to[], call_back[], ind_call_from[], ind_call_to[], ind_call_back[],
	    ind_jmp_from[], ind_jmp_to[], jmp_from[], jmp_to[], cond_from[], ret_from[],
	    ind_ret_from[], other_from[];

static const struct {
	const char *kind;
	const char *from, *to;
} all[] = {
	{ "call", call_from, call_to },
	{ "ret", ret_from, call_back },
	{ "ind_call", ind_call_from, ind_call_to },
	{ "ret", ind_ret_from, ind_call_back },
	{ "ind_jmp", ind_jmp_from, ind_jmp_to },
	{ "jmp", jmp_from, jmp_to },
	{ "cond", cond_from, (const char *)run },
};

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000000;
	unsigned long times = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	bool other = argc > 2 && !strcmp(argv[argc - 1], "other");
	unsigned int i;

	if (argc > 1 && !strcmp(argv[1], "list")) {
		if (other)
			printf("cond %p %p\n", other_from, run_other);
		for (i = 0; !other && i < sizeof(all) / sizeof(all[0]); i++)
			printf("%s %p %p\n", all[i].kind, all[i].from, all[i].to);
		return 0;
	}
	while (rounds && times--) {
		if (other)
			run_other(rounds);
		else
			run(rounds);
		if (times)
			sched_yield();
	}
	return 0;
}
