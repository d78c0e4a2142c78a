// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU: routines for all files of cases.
 */
#include "pmu.h"

void start(int n, u64 ctl, u64 count)
{
	wrmsr(PERF_CTL(n), 0);
	wrmsr(PERF_CTR(n), count);
	wrmsr(PERF_CTL(n), ctl | EN);
}

u64 stop(int n)
{
	wrmsr(PERF_CTL(n), 0);
	return rdmsr(PERF_CTR(n));
}

u8 from_copy[1024] __attribute__((used)), to_copy[1024] __attribute__((used));

asm(".text\n\t"
    ".globl user_nops\n"
    "user_nops:\n\t"
    ".rept 100\n\tnop\n\t.endr\n\t"
    "int $0x80\n");

void guest_nops(void)
{
	asm volatile(".rept 20\n\tnop\n\t.endr\n\tvmmcall\n\tnop\n\tvmmcall");
}

volatile int interrupts;
volatile u64 interrupt_rip, interrupt_cx;

void do_nothing(struct regs *regs)
{
	(void)regs;
}

void timer_interrupt(struct regs *regs)
{
	(void)regs;
	interrupts++;
	APIC(APIC_EOI) = 0;
}

/* enable all counters, run SLED nops, disable all counters */
void run_sled(void)
{
	asm volatile(".globl sled\n\t"
		     "wrmsr\n"
		     "sled:\n\t"
		     ".rept 64\n\tnop\n\t.endr\n\t"
		     "xorl %%eax, %%eax\n\t"
		     "wrmsr"
		     : : "c"(GLOBAL_CTL), "a"(0x3f), "d"(0) : "memory");
}

static void pmi(struct regs *regs)
{
	interrupts++;
	interrupt_rip = regs->rip;
	interrupt_cx = regs->rcx;
	if (regs->vector == PMI_VECTOR)
		APIC(APIC_EOI) = 0;
}

void prepare_pmi(u32 lvt)
{
	wrmsr(GLOBAL_CTL, 0);
	wrmsr(STATUS_CLR, ~0ul);
	trap_fns[2] = trap_fns[PMI_VECTOR] = pmi;
	APIC(APIC_LVTPC) = lvt;
	interrupts = 0;
	interrupt_rip = 0;
}

void lbr_clear(u64 select)
{
	int i;

	wrmsr(DBG_EXTN_CFG, 0);
	for (i = 0; i < LBR_DEPTH; i++) {
		wrmsr(LBR_FROM(i), 0);
		wrmsr(LBR_TO(i), 0);
	}
	wrmsr(LBR_SELECT, select);
}

asm(".text\n\t"
    ".globl lbr_code_asm, lbr_top, lbr_jnz, lbr_call, lbr_back\n\t"
    ".globl lbr_ind, lbr_ind_to, lbr_end, lbr_fn, lbr_ret\n"
    "lbr_code_asm:\n\t"
    "movl $3, %ebx\n"
    "lbr_top: decl %ebx\n"
    "lbr_jnz: jnz lbr_top\n"			/* taken twice */
    "lbr_call: call lbr_fn\n"
    "lbr_back: leaq lbr_ind_to(%rip), %rax\n"
    "lbr_ind: jmp *%rax\n\t"
    "nop\n"
    "lbr_ind_to: nop\n"
    "lbr_end: ret\n"
    "lbr_fn: nop\n"
    "lbr_ret: ret\n");
