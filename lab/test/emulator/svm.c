// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SVM without a PMU: the faults of stock QEMU that the lab's patches cure.
 *
 * - an interrupt injected by VMRUN is delivered once, even if the emulator's
 *   execution loop ends at the same moment
 * - XSETBV is intercepted when the VMCB asks for it, and only then; #UD and
 *   #GP keep their places around the intercept
 * - a CPU keeps its global interrupt flag while another CPU loads its FPU
 * - an interrupt that comes while VMRUN requests a virtual one is not lost
 */
#include "test.h"

/* --- an injected interrupt is delivered once ---------------------------------- */

#define INJECTED	0x51
#define TIMER		0x52

static volatile int timer_ticks;
static volatile u64 injected_over;	/* the handler's return address */

static void guest_never_starts(void)
{
	for (;;)
		asm volatile("vmmcall");
}

static void guest_handler(struct regs *regs)
{
	injected_over = regs->rip;
	asm volatile("vmmcall");
}

static void timer_tick(struct regs *regs)
{
	(void)regs;
	timer_ticks++;
	APIC(APIC_EOI) = 0;
}

/*
 * The timer ends the emulator's run after a number of instructions.  Sweep the
 * number over the code up to VMRUN and beyond.  In the guest, the frame of the
 * injected interrupt must hold the guest's first RIP.  A second delivery would
 * push another frame, with the handler's own address.
 */
static void inject_once(void)
{
	int delay, swept = 0;

	trap_fns[TIMER] = timer_tick;
	APIC(APIC_TDCR) = 0xb;			/* count every bus cycle */
	APIC(APIC_LVTT) = TIMER;
	for (delay = 1; delay < 120; delay++) {
		svm_setup(guest_never_starts);
		trap_fns[INJECTED] = guest_handler;
		injected_over = 0;
		vmcb.event_inj = EVENTINJ_INTR | INJECTED;
		clgi();
		APIC(APIC_TMICT) = delay;
		vmrun(&vmcb);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		CHECK_EQ(injected_over, guest_never_starts);
		stgi();
		sti();
		while (timer_ticks <= swept)
			asm volatile("pause");
		cli();
		swept++;
	}
	CHECK_EQ(timer_ticks, swept);
}

/* --- XSETBV -------------------------------------------------------------------- */

extern char xsetbv_at[];

static void guest_xsetbv(void)
{
	asm volatile(
		"xorl %%ecx, %%ecx\n\t"
		"xorl %%edx, %%edx\n\t"
		"movl $3, %%eax\n\t"
		"stc\n"
		"xsetbv_at: xsetbv\n\t"
		"vmmcall"
		: : : "eax", "ecx", "edx", "cc");
}

static void guest_xsetbv_bad_index(void)
{
	asm volatile(
		"movl $5, %%ecx\n\t"
		"xorl %%edx, %%edx\n\t"
		"movl $3, %%eax\n\t"
		"xsetbv\n\t"
		"vmmcall"
		: : : "eax", "ecx", "edx");
}

static void set_xcr0(u32 val)
{
	asm volatile("xsetbv" : : "c"(0), "a"(val), "d"(0));
}

static void xsetbv_intercepted(void)
{
	set_xcr0(1);
	svm_setup(guest_xsetbv);
	vmcb.intercept4 |= INTERCEPT_XSETBV;
	clgi();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_XSETBV);
	CHECK_EQ(vmcb.rip, xsetbv_at);
	CHECK_EQ(vmcb.rax, 3);
	CHECK(vmcb.rflags & 1);
	CHECK_EQ(xgetbv0(), 1);
}

static void xsetbv_not_intercepted(void)
{
	set_xcr0(1);
	svm_setup(guest_xsetbv);
	clgi();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(xgetbv0(), 3);
}

static void xsetbv_order(void)
{
	/* #UD comes before the intercept */
	svm_setup(guest_xsetbv);
	vmcb.intercept4 |= INTERCEPT_XSETBV;
	vmcb.exceptions = 1u << 6 | 1u << 13;
	vmcb.cr4 &= ~0x40000ul;
	clgi();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(6));

	/* the intercept comes before the #GP of a bad index */
	svm_setup(guest_xsetbv_bad_index);
	vmcb.intercept4 |= INTERCEPT_XSETBV;
	vmcb.exceptions = 1u << 6 | 1u << 13;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_XSETBV);

	svm_setup(guest_xsetbv_bad_index);
	vmcb.exceptions = 1u << 6 | 1u << 13;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(13));
}

/* --- two CPUs --------------------------------------------------------------------- */

static volatile int cpu1_runs;

static void cpu1_loads_fpu(void)
{
	u8 env[28];

	asm volatile("fninit\n\tfnstenv %0" : "=m"(env));
	cpu1_runs = 1;
	for (;;)
		asm volatile("fldenv %0" : : "m"(env));
}

/* An interrupt waits for STGI, and comes then. */
static void gif_beside_fpu(void)
{
	int i, tries;

	trap_fns[TIMER] = timer_tick;
	start_cpu1(cpu1_loads_fpu);
	while (!cpu1_runs)
		asm volatile("pause");
	svm_setup(guest_never_starts);		/* enables SVM */
	outb(0x21, 0xff);			/* no timer of the PC's */
	sti();
	for (i = 0; i < 200000; i++) {
		clgi();
		APIC(APIC_ICR) = 0x40000 | TIMER;	/* to itself */
		CHECK_EQ(timer_ticks, i);
		stgi();
		for (tries = 0; timer_ticks == i && tries < 1000000; tries++)
			asm volatile("pause");
		CHECK_EQ(timer_ticks, i + 1);
	}
}

/* --- a device of the emulator, which has a thread of its own ----------------------- */

/*
 * The timer expires while the CPU enters a guest, again and again, with a virtual
 * interrupt that the guest does not take. The timer's interrupt comes after VMRUN.
 */
static void timer_beside_virq(void)
{
	int i, tries;

	trap_fns[TIMER] = timer_tick;
	svm_setup(guest_never_starts);
	vmcb.int_ctl |= V_IRQ | V_IGN_TPR | V_INTR_MASKING;
	/* The PC's own timer would remind the local APIC: let it count once only. */
	outb(0x21, 0xff);
	outb(0x43, 0x30);
	APIC(APIC_TDCR) = 0xb;			/* count every bus cycle */
	APIC(APIC_LVTT) = TIMER;
	for (i = 0; i < 20000 && timer_ticks == i; i++) {
		APIC(APIC_TMICT) = 10000;
		for (tries = 0; timer_ticks == i && tries < 1000000; tries++) {
			clgi();
			vmrun(&vmcb);
			stgi();
			sti();
			asm volatile("nop");
			cli();
		}
		CHECK_EQ(timer_ticks, i + 1);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	}
}

const struct test svm_tests[] = {
	{ "svm_inject_once", inject_once, "stock" },
	{ "svm_xsetbv_intercepted", xsetbv_intercepted, "stock" },
	{ "svm_xsetbv_not_intercepted", xsetbv_not_intercepted, "stock" },
	{ "svm_xsetbv_order", xsetbv_order, "stock" },
	{ "svm_gif_beside_fpu", gif_beside_fpu, "free2" },
	{ "svm_timer_beside_virq", timer_beside_virq, "free" },
	{ },
};
