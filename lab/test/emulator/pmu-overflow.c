// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU, overflow: the interrupt comes behind the overflowing instruction,
 * as NMI or fixed interrupt, with GIF clear, out of HLT.
 */
#include "pmu.h"

void overflow_nmi(void)
{
	int k, n;

	for (k = 1; k < SLED; k++) {
		n = k % COUNTERS;
		prepare_pmi(APIC_DM_NMI);
		start(n, (k % 2 ? INSNS : CYCLES) | OS | INT, WRAP - k);
		run_sled();
		CHECK_EQ(interrupts, 1);
		CHECK_EQ(interrupt_rip, sled + k);
		CHECK_EQ(rdmsr(GLOBAL_STATUS), 1ul << n);
		/* the counter went on from 0 */
		CHECK(rdpmc(n) > (u64)(SLED - k));
		wrmsr(PERF_CTL(n), 0);
	}
}

static void overflow_fixed(void)
{
	int k;

	for (k = 1; k < SLED; k += 7) {
		prepare_pmi(PMI_VECTOR);
		start(0, INSNS | OS | INT, WRAP - k);
		sti();
		run_sled();
		cli();
		CHECK_EQ(interrupts, 1);
		CHECK_EQ(interrupt_rip, sled + k);
	}
	/* held back until STI, and the instruction behind it */
	prepare_pmi(PMI_VECTOR);
	start(0, INSNS | OS | INT, WRAP - 5);
	run_sled();
	CHECK_EQ(interrupts, 0);
	asm volatile("sti\n\tnop\n"
		     "after_sti: nop" : : : "memory");
	cli();
	CHECK_EQ(interrupts, 1);
	extern char after_sti[];
	CHECK_EQ(interrupt_rip, after_sti);
}

static void overflow_silent(void)
{
	/* masked in the APIC */
	prepare_pmi(APIC_DM_NMI | APIC_MASKED);
	start(0, INSNS | OS | INT, WRAP - 5);
	run_sled();
	CHECK_EQ(interrupts, 0);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 1);
	/* no interrupt asked for */
	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | OS, WRAP - 5);
	run_sled();
	CHECK_EQ(interrupts, 0);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 1);
	/* not reached */
	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | OS | INT, WRAP - 1000);
	run_sled();
	CHECK_EQ(interrupts, 0);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 0);
	/* the wrong mode */
	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | USR | INT, WRAP - 5);
	run_sled();
	CHECK_EQ(interrupts, 0);
}

/* counting goes on with bit 48 dropped, and for two counters at once */
static void overflow_wrap(void)
{
	prepare_pmi(APIC_DM_NMI | APIC_MASKED);
	start(0, INSNS | OS, WRAP - 1);
	start(1, INSNS | OS, WRAP - 2);
	start(2, INSNS | OS, 7);
	run_sled();
	/* SLED nops, XOR, and WRMSR */
	CHECK_EQ(rdpmc(0), SLED + 2 - 1);
	CHECK_EQ(rdpmc(1), SLED + 2 - 2);
	CHECK_EQ(rdpmc(2), SLED + 2 + 7);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 3);
}

static void overflow_branch(void)
{
	extern char loop_head[];
	int k;

	for (k = 1; k < 50; k += 3) {
		prepare_pmi(APIC_DM_NMI);
		start(0, CONDITIONAL | OS | INT, WRAP - k);
		asm volatile("wrmsr\n\t"
			     "movl $100, %%ecx\n"
			     "loop_head: decl %%ecx\n\t"
			     "jnz loop_head\n\t"
			     "movl %0, %%ecx\n\txorl %%eax, %%eax\n\twrmsr"
			     : : "i"(GLOBAL_CTL), "c"(GLOBAL_CTL), "a"(1), "d"(0)
			     : "memory", "cc");
		CHECK_EQ(interrupts, 1);
		CHECK_EQ(interrupt_rip, loop_head);
		CHECK_EQ(interrupt_cx, 100 - k);
	}
}

/* a string instruction overflows at its end only, not in an iteration */
static void overflow_string(void)
{
	extern char rep_end[];

	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | OS | INT, WRAP - 4);
	asm volatile("wrmsr\n\t"
		     "leaq from_copy, %%rsi\n\t"
		     "leaq to_copy, %%rdi\n\t"
		     "movl $1000, %%ecx\n\t"
		     "rep movsb\n"
		     "rep_end: nop\n\t"
		     "movl %0, %%ecx\n\txorl %%eax, %%eax\n\twrmsr"
		     : : "i"(GLOBAL_CTL), "c"(GLOBAL_CTL), "a"(1), "d"(0)
		     : "memory", "cc", "rsi", "rdi");
	CHECK_EQ(interrupts, 1);
	CHECK_EQ(interrupt_rip, rep_end);
}

static void overflow_gif(void)
{
	extern char after_stgi[];

	svm_setup(guest_nops);
	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | OS | INT, WRAP - 5);
	clgi();
	run_sled();
	CHECK_EQ(interrupts, 0);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 1);
	asm volatile("stgi\n"
		     "after_stgi: nop" : : : "memory");
	CHECK_EQ(interrupts, 1);
	CHECK_EQ(interrupt_rip, after_stgi);
}

static void overflow_halt(void)
{
	extern char after_hlt[];
	u64 n;

	/* HLT is the instruction that overflows: the NMI ends it */
	prepare_pmi(APIC_DM_NMI);
	start(0, INSNS | OS | INT, WRAP - 3);
	asm volatile("wrmsr\n\tnop\n\tnop\n\thlt\n"
		     "after_hlt: nop"
		     : : "c"(GLOBAL_CTL), "a"(1), "d"(0) : "memory");
	CHECK_EQ(interrupts, 1);
	CHECK_EQ(interrupt_rip, after_hlt);

	/* cycles do not pass in HLT */
	wrmsr(GLOBAL_CTL, 1);
	trap_fns[0x70] = timer_interrupt;
	APIC(APIC_TDCR) = 0xb;
	APIC(APIC_LVTT) = 0x70;
	start(0, CYCLES | OS, 0);
	APIC(APIC_TMICT) = 1000000;
	asm volatile("sti\n\thlt\n\tcli" : : : "memory");
	n = stop(0);
	CHECK(n > 10 && n < 300);
}

const struct test pmu_overflow_tests[] = {
	{ "pmu_overflow_nmi", overflow_nmi, "icount" },
	{ "pmu_overflow_fixed", overflow_fixed, "icount" },
	{ "pmu_overflow_silent", overflow_silent, "icount" },
	{ "pmu_overflow_wrap", overflow_wrap, "icount" },
	{ "pmu_overflow_branch", overflow_branch, "icount" },
	{ "pmu_overflow_string", overflow_string, "icount" },
	{ "pmu_overflow_gif", overflow_gif, "icount" },
	{ "pmu_overflow_halt", overflow_halt, "icount" },
	{ },
};
