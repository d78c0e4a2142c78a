// SPDX-License-Identifier: GPL-2.0
/*
 * Programs of several kinds, one after the other, for walks of their call chains. Almost
 * all time is in spin(), which each kind calls by functions of its own, for as long as each
 * other kind:
 *
 *	threads		left() and right(), each in a thread
 *	forks		child(), grow() and grow_more(), in a new process each round
 *	jit		jit(), and two functions that the program writes
 *	deep		100 times down()
 *	signals		warm() calls hot(), which spins itself; all the time a timer
 *			interrupts it, and its handler, tick(), spins as well
 *
 * At the end the program runs kinds_cxx and kinds_m32.
 *
 *	kinds [TIMES]
 *
 * Each kind takes some 50 million instructions. With TIMES, each of its 500 rounds is as many
 * times as long.
 */
#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vary.h"

#define ROUNDS	500
#define DEPTH	100

static unsigned long times = 1;

/* The average number of iterations, of two instructions, in a round. */
#define LENGTH	(50000 * times)

/* Naming the stack pointer as an operand makes even a leaf function set up a frame. */
#ifdef __x86_64__
register unsigned long stack_pointer asm("rsp");
#else
register unsigned long stack_pointer asm("esp");
#endif

/* No call before is a tail call. */
#define after_call()	asm volatile("" : "+r" (stack_pointer))

#define FUNCTION	static __attribute__((noinline))

FUNCTION void spin(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n), "+r" (stack_pointer));
}

FUNCTION void *left(void *unused)
{
	unsigned int seed = 1;
	unsigned long i;

	for (i = 0; i < ROUNDS / 2; i++)
		spin(rand_r(&seed) % (2 * LENGTH) + 1);
	return unused;
}

FUNCTION void *right(void *unused)
{
	unsigned int seed = 2;
	unsigned long i;

	for (i = 0; i < ROUNDS / 2; i++)
		spin(rand_r(&seed) % (2 * LENGTH) + 1);
	return unused;
}

FUNCTION void threads(void)
{
	pthread_t one, other;

	if (pthread_create(&one, NULL, left, NULL) ||
	    pthread_create(&other, NULL, right, NULL) ||
	    pthread_join(one, NULL) || pthread_join(other, NULL))
		errx(1, "no threads");
}

FUNCTION void grow_more(unsigned long n)
{
	spin(n);
	after_call();
}

FUNCTION void grow(unsigned long n)
{
	grow_more(n);
	after_call();
}

FUNCTION void child(unsigned long n)
{
	grow(n);
	_exit(0);
}

FUNCTION void forks(void)
{
	unsigned long i, n;
	pid_t pid;

	for (i = 0; i < ROUNDS; i++) {
		n = vary(LENGTH);
		pid = fork();
		if (!pid)
			child(n);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			err(1, "fork");
	}
}

#ifdef __x86_64__
#define CODE

/* push %rbp; mov %rsp, %rbp; call +2; pop %rbp; ret; the callee: 1: dec %rdi; jnz 1b */
static const unsigned char jit_code[] = {
	0x55, 0x48, 0x89, 0xe5, 0xe8, 0x02, 0x00, 0x00, 0x00, 0x5d, 0xc3,
	0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3
};
#else
/* The argument is in EAX. */
#define CODE	__attribute__((regparm(1)))

/* The same with %ebp and %esp, and dec %eax */
static const unsigned char jit_code[] = {
	0x55, 0x89, 0xe5, 0xe8, 0x02, 0x00, 0x00, 0x00, 0x5d, 0xc3,
	0x55, 0x89, 0xe5, 0x48, 0x75, 0xfd, 0x5d, 0xc3
};
#endif

typedef void CODE code_fn(unsigned long n);

FUNCTION void jit(void)
{
	unsigned long i;
	char *code;

	code = mmap(NULL, sizeof(jit_code), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		err(1, "no memory");
	memcpy(code, jit_code, sizeof(jit_code));
	if (mprotect(code, sizeof(jit_code), PROT_READ | PROT_EXEC))
		err(1, "mprotect");
	for (i = 0; i < ROUNDS; i++)
		((code_fn *)code)(vary(LENGTH));
	munmap(code, sizeof(jit_code));
}

FUNCTION void down(unsigned int depth)
{
	if (depth > 1)
		down(depth - 1);
	else
		spin(vary(LENGTH));
	after_call();
}

FUNCTION void deep(void)
{
	unsigned long i;

	for (i = 0; i < ROUNDS; i++)
		down(DEPTH);
}

FUNCTION void tick(int unused)
{
	(void)unused;
	spin(vary(LENGTH / 10));
	after_call();
}

FUNCTION void hot(unsigned long n)
{
	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r" (n), "+r" (stack_pointer));
}

FUNCTION void warm(void)
{
	hot(vary(LENGTH));
	after_call();
}

FUNCTION void signals(void)
{
	struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
	struct itimerval timer = { { 0, 100 * times }, { 0, 100 * times } };
	unsigned long i;

	if (sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &timer, NULL))
		err(1, "no timer");
	for (i = 0; i < ROUNDS; i++)
		warm();
	memset(&timer, 0, sizeof(timer));
	if (setitimer(ITIMER_REAL, &timer, NULL))
		err(1, "no end of the timer");
}

FUNCTION void run(const char *program, const char *arg)
{
	int status = 1;
	pid_t pid;

	pid = fork();
	if (!pid) {
		execlp(program, program, arg, NULL);
		err(1, "%s", program);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s failed", program);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		times = strtoul(argv[1], NULL, 0);
	threads();
	forks();
	jit();
	deep();
	signals();
	run("kinds_cxx", argv[1]);
	run("kinds_m32", argv[1]);
	return 0;
}
