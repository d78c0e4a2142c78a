// SPDX-License-Identifier: GPL-2.0
/*
 * A workload that enters the kernel by exceptions and interrupts: touch(), called by
 * main(), writes to pages that are not there. At the same time, a child has a timer expire
 * every 50 us, often while the kernel handles a page fault.
 *
 *	faults [ROUNDS]		(1000: 64000 page faults)
 */
#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES	64
#define SIZE	4096

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
register unsigned long stack_pointer asm("rsp");

static __attribute__((noinline)) void touch(char *page)
{
	asm volatile("movb $1, (%1)" : "+r" (stack_pointer) : "r" (page) : "memory");
}

int main(int argc, char **argv)
{
	unsigned long i, rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 1000;
	char *pages;
	pid_t child;

	pages = mmap(NULL, PAGES * SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED || madvise(pages, PAGES * SIZE, MADV_NOHUGEPAGE))
		err(1, "no memory");

	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		prctl(PR_SET_TIMERSLACK, 1);
		while (1)
			usleep(50);
	}

	while (rounds--) {
		for (i = 0; i < PAGES; i++)
			touch(pages + i * SIZE);
		if (madvise(pages, PAGES * SIZE, MADV_DONTNEED))
			err(1, "madvise");
	}
	if (kill(child, SIGKILL) || waitpid(child, NULL, 0) != child)
		err(1, "the child");
	return 0;
}
