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
 * - a guest with a 32-bit TSS that is busy, as VMLOAD loads TSSs, gets its stack and its
 *   I/O permissions from the TSS
 * - the CPU marks entries of PAE's tables accessed, but not those of the highest
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

/* --- guests of 32 bits ------------------------------------------------------------- */

#define KERNEL32_CS	0x08
#define KERNEL32_SS	0x10
#define USER32_CS	0x1b
#define USER32_SS	0x23
#define TSS32		0x28
#define BREAKPOINT	3

#define TSS32_SS0	2			/* in words of 32 bits */
#define TSS32_ESP0	1
#define TSS32_IO_BITMAP	25
#define TSS32_WORDS	64			/* with the first 1000 ports and more */

static u64 gdt32[] = {
	0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0
};
static u64 idt32[BREAKPOINT + 1];
static u32 tss32[TSS32_WORDS];
static u32 stack32[64];
static struct vmcb host;

extern char user32[], handler32[];

asm(".code32\n"
    "user32:\n\t"
    "inb $0x80, %al\n\t"
    "int3\n"
    "handler32:\n\t"
    "vmmcall\n\t"
    ".code64");

static void set_segment(struct vmcb_seg *seg, u16 selector, u16 attrib, u32 limit, const void *base)
{
	*seg = (struct vmcb_seg){ selector, attrib, limit, (u64)base };
}

/* a guest without long mode and paging that runs CODE at CPL */
static void setup_32(char *code, int cpl)
{
	u16 dpl = cpl << 5;

	svm_setup(guest_never_starts);
	vmcb.efer = 0x1000;			/* SVME */
	vmcb.cr0 = 0x11;
	vmcb.cr4 = 0;
	set_segment(&vmcb.cs, cpl ? USER32_CS : KERNEL32_CS, 0xc9b | dpl, ~0u, 0);
	set_segment(&vmcb.ss, cpl ? USER32_SS : KERNEL32_SS, 0xc93 | dpl, ~0u, 0);
	vmcb.ds = vmcb.es = vmcb.ss;
	set_segment(&vmcb.gdtr, 0, 0, sizeof(gdt32) - 1, gdt32);
	set_segment(&vmcb.idtr, 0, 0, sizeof(idt32) - 1, idt32);
	vmcb.cpl = cpl;
	vmcb.rip = (u64)code;
}

/* User mode reads a port, then traps. */
static void task_of_32_bits(void)
{
	u64 handler = (u64)handler32;

	idt32[BREAKPOINT] = (handler & 0xffff) | KERNEL32_CS << 16 | 0xee00ul << 32 |
			    (handler >> 16) << 48;
	tss32[TSS32_SS0] = KERNEL32_SS;
	tss32[TSS32_ESP0] = (u64)&stack32[64];
	tss32[TSS32_IO_BITMAP] = (TSS32_IO_BITMAP + 1) * 4 << 16;

	setup_32(user32, 3);
	set_segment(&vmcb.tr, TSS32, 0x8b, sizeof(tss32) - 1, tss32);
	vmcb.exceptions = ~(1u << BREAKPOINT);

	asm volatile("vmsave" : : "a"(&host) : "memory");
	asm volatile("vmload" : : "a"(&vmcb) : "memory");
	clgi();
	vmrun(&vmcb);
	asm volatile("vmload" : : "a"(&host) : "memory");
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(vmcb.rip, handler32);
	CHECK_EQ(vmcb.cpl, 0);
	CHECK_EQ(vmcb.ss.selector, KERNEL32_SS);
	CHECK_EQ(vmcb.rsp, &stack32[64 - 5]);
}

/* The highest tables of PAE, for 1 GiB each */
static u64 pdpt32[4] __attribute__((aligned(32)));
static u64 pd32[512] __attribute__((aligned(4096)));

static void tables_of_three_levels(void)
{
	u64 pdpte = (u64)pd32 | 1;
	int i;

	for (i = 0; i < 512; i++)
		pd32[i] = (u64)i << 21 | 0x83;
	pdpt32[0] = pdpte;

	setup_32(handler32, 0);
	vmcb.exceptions = ~0u;
	vmcb.cr0 |= 0x80000000;
	vmcb.cr4 = 0x20;			/* PAE */
	vmcb.cr3 = (u64)pdpt32;
	clgi();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK(pd32[(u64)handler32 >> 21] & 0x20);
	CHECK_EQ(pdpt32[0], pdpte);
}

const struct test svm_tests[] = {
	{ "svm_inject_once", inject_once, "stock" },
	{ "svm_xsetbv_intercepted", xsetbv_intercepted, "stock" },
	{ "svm_xsetbv_not_intercepted", xsetbv_not_intercepted, "stock" },
	{ "svm_xsetbv_order", xsetbv_order, "stock" },
	{ "svm_gif_beside_fpu", gif_beside_fpu, "free2" },
	{ "svm_timer_beside_virq", timer_beside_virq, "free" },
	{ "svm_task_of_32_bits", task_of_32_bits, "stock" },
	{ "svm_tables_of_three_levels", tables_of_three_levels, "stock" },
	{ },
};
