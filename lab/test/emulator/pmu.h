/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests of the PMU: registers, events, and routines for all files
 * of cases.
 */
#ifndef PMU_H
#define PMU_H

#include "test.h"

#define PERF_CTL(n)	(0xc0010200 + 2 * (n))
#define PERF_CTR(n)	(0xc0010201 + 2 * (n))
#define LEGACY_CTL(n)	(0xc0010000 + (n))
#define LEGACY_CTR(n)	(0xc0010004 + (n))
#define GLOBAL_STATUS	0xc0000300
#define GLOBAL_CTL	0xc0000301
#define STATUS_CLR	0xc0000302
#define STATUS_SET	0xc0000303
#define DEBUGCTL	0x1d9
#define BR_FROM		0x1db
#define INT_FROM	0x1dd
#define INT_TO		0x1de
#define LBR_SELECT	0xc000010e
#define DBG_EXTN_CFG	0xc000010f
#define LBR_FROM(n)	(0xc0010300 + 2 * (n))
#define LBR_TO(n)	(0xc0010301 + 2 * (n))

#define USR		(1ul << 16)
#define OS		(1ul << 17)
#define ALL		(USR | OS)
#define EDGE		(1ul << 18)
#define INT		(1ul << 20)
#define EN		(1ul << 22)
#define INV		(1ul << 23)
#define CNTMASK(n)	((u64)(n) << 24)
#define GUEST_ONLY	(1ul << 40)
#define HOST_ONLY	(1ul << 41)
#define UNIT(n)		((u64)(n) << 8)

#define CYCLES		0x76
#define INSNS		0xc0
#define BRANCHES	0xc2
#define MISPREDICTS	0xc3
#define TAKEN		0xc4
#define FAR		0xc6
#define RETURNS		0xc8
#define CONDITIONAL	0xd1
#define INTERRUPTS	0x2c
#define LS_DISPATCH	0x29
#define DC_ACCESSES	0x40
#define DC_REFILLS	0x43
#define L2_REQUESTS	0x60
#define L2_STATUS	0x64
#define DTLB_MISSES	0x45
#define ITLB_MISSES	0x85

#define COUNTERS	6
#define WRAP		(1ul << 48)
#define LBR_DEPTH	16
#define LBRV2EN		(1ul << 6)
#define FREEZE_LBR	(1ul << 11)
#define FREEZE_PMC	(1ul << 12)
#define LBR_FROZEN	(1ul << 58)
#define PMC_FROZEN	(1ul << 59)
#define VALID		(1ul << 63)

#define PMI_VECTOR	0x61

/* --- count ---------------------------------------------------------------- */

void start(int n, u64 ctl, u64 count);
u64 stop(int n);

/*
 * The count of counter 0 from one RDPMC to the next, with CODE in between.
 * An RDPMC counts itself.  So the result includes three instructions besides
 * CODE's: MOV, XOR and the second RDPMC.
 */
#define MEASURE_INSNS	3
#define MEASURE(ctl, code, ...) ({					\
	u32 n_;								\
	start(0, ctl, 0);						\
	asm volatile("xorl %%ecx, %%ecx\n\t"				\
		     "rdpmc\n\t"					\
		     "movl %%eax, %%r8d\n\t"				\
		     code "\n\t"					\
		     "xorl %%ecx, %%ecx\n\t"				\
		     "rdpmc\n\t"					\
		     "subl %%r8d, %%eax\n\t"				\
		     "movl %%eax, %0"					\
		     : "=m"(n_) : : "eax", "ecx", "edx", "r8", "memory",\
		       "cc", ##__VA_ARGS__);				\
	stop(0);							\
	n_;								\
})

#define NOPS(n)		".rept " #n "\n\tnop\n\t.endr"
#define LOOP_100	"movl $100, %%ebx\n1:\tdecl %%ebx\n\tjnz 1b"

#define REP_SETUP	"leaq from_copy, %%rsi\n\tleaq to_copy, %%rdi\n\t"
extern u8 from_copy[1024], to_copy[1024];

/* for run_user(): 100 times NOP, user_exit() */
extern void user_nops(void);

/* for svm_setup(): 20 times NOP, VMMCALL, NOP, VMMCALL */
void guest_nops(void);

/* --- interrupts ------------------------------------------------------------- */

extern volatile int interrupts;
extern volatile u64 interrupt_rip, interrupt_cx;

void do_nothing(struct regs *regs);
void timer_interrupt(struct regs *regs);

/* route the overflow interrupt by LVT; count it in "interrupts" */
void prepare_pmi(u32 lvt);

#define SLED		64
extern char sled[];
void run_sled(void);

void overflow_nmi(void);

/* --- branch records ------------------------------------------------------------ */

void lbr_clear(u64 select);

/* run CODE with recording on; no other branch is recorded */
#define RECORD(code, ...)						\
	asm volatile("wrmsr\n\t" code "\n\t"				\
		     "movl %0, %%ecx\n\txorl %%eax, %%eax\n\t"		\
		     "xorl %%edx, %%edx\n\twrmsr"			\
		     : : "i"(DBG_EXTN_CFG), "c"(DBG_EXTN_CFG),		\
			 "a"((u32)LBRV2EN), "d"(0)			\
		     : "memory", "cc", "rbx", "r8", ##__VA_ARGS__)

#define FROM(n)		(rdmsr(LBR_FROM(n)) & ~VALID)
#define TO(n)		(rdmsr(LBR_TO(n)))

extern char lbr_top[], lbr_jnz[], lbr_call[], lbr_fn[], lbr_ret[], lbr_back[];
extern char lbr_ind[], lbr_ind_to[];
extern char lbr_code_asm[], lbr_end[];

#endif
