// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU: AMD core performance counters and LBR stack, exact to the
 * instruction.
 *
 * - identification, registers, aliases, reserved bits, refused accesses
 * - what each event counts; one instruction for a string instruction; none
 *   for one that faults or exits to the hypervisor
 * - user, kernel, guest and host filters; CNTMASK and INV
 * - overflow: the interrupt comes behind the instruction that caused it, as
 *   NMI or fixed interrupt, in host and guest, with GIF clear, out of HLT
 * - intercepts of RDPMC and of the registers
 * - branch records: their pairs, filters, freezing
 * - two CPUs; no icount; no PMU; save and restore; random register accesses
 */
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

static void start(int n, u64 ctl, u64 count)
{
	wrmsr(PERF_CTL(n), 0);
	wrmsr(PERF_CTR(n), count);
	wrmsr(PERF_CTL(n), ctl | EN);
}

static u64 stop(int n)
{
	wrmsr(PERF_CTL(n), 0);
	return rdmsr(PERF_CTR(n));
}

/*
 * What counter 0 counts from one RDPMC to the next, with CODE in between.
 * A RDPMC counts itself; so CODE's own instructions are 3 less than the
 * result: MOV, XOR and the second RDPMC.
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

/* --- identification and registers ------------------------------------------------ */

static void identification(void)
{
	u32 r[4];

	cpuid(0x80000000, 0, r);
	CHECK(r[0] >= 0x80000022);
	cpuid(0x80000001, 0, r);
	CHECK(r[2] & 1u << 23);
	cpuid(0x80000022, 0, r);
	CHECK_EQ(r[0], 7);
	CHECK_EQ(r[1], COUNTERS | LBR_DEPTH << 4);
	CHECK_EQ(r[2], 0);
	CHECK_EQ(r[3], 0);
}

static void registers(void)
{
	u64 val;
	int i;

	CHECK_EQ(rdmsr(GLOBAL_CTL), 0x3f);
	for (i = 0; i < COUNTERS; i++) {
		CHECK_EQ(rdmsr(PERF_CTL(i)), 0);
		CHECK_EQ(rdmsr(PERF_CTR(i)), 0);
	}
	/* counters have 48 bits; reserved bits of a control stay 0 */
	wrmsr(PERF_CTR(5), ~0ul);
	CHECK_EQ(rdmsr(PERF_CTR(5)), WRAP - 1);
	CHECK_EQ(rdpmc(5), WRAP - 1);
	wrmsr(PERF_CTL(5), ~(EN | INT));
	CHECK_EQ(rdmsr(PERF_CTL(5)), 0x0000030fff97fffful & ~INT);

	/* the four legacy registers are the first four */
	for (i = 0; i < 4; i++) {
		wrmsr(LEGACY_CTL(i), 0x20000 + i);
		wrmsr(LEGACY_CTR(i), 100 + i);
		CHECK_EQ(rdmsr(PERF_CTL(i)), 0x20000 + i);
		CHECK_EQ(rdmsr(PERF_CTR(i)), 100 + i);
		wrmsr(PERF_CTR(i), 200 + i);
		CHECK_EQ(rdmsr(LEGACY_CTR(i)), 200 + i);
		CHECK_EQ(rdpmc(i), 200 + i);
	}

	wrmsr(GLOBAL_CTL, ~0ul);
	CHECK_EQ(rdmsr(GLOBAL_CTL), 0x3f);
	CHECK(wrmsr_faults(GLOBAL_STATUS, 0));
	wrmsr(STATUS_SET, ~0ul);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 0x3f | LBR_FROZEN | PMC_FROZEN);
	wrmsr(STATUS_CLR, 0x3e | PMC_FROZEN);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 1 | LBR_FROZEN);
	wrmsr(STATUS_CLR, ~0ul);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 0);
	CHECK_EQ(rdmsr(STATUS_CLR), 0);
	CHECK_EQ(rdmsr(STATUS_SET), 0);

	CHECK(!rdpmc_faults(5, &val));
	CHECK(rdpmc_faults(6, &val));
	CHECK(rdpmc_faults(0x80000000, &val));
	CHECK(rdpmc_faults(~0u, &val));
}

static void global_control(void)
{
	wrmsr(GLOBAL_CTL, 0);
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(50)), 0);
	wrmsr(GLOBAL_CTL, 0x3e);
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(50)), 0);
	wrmsr(GLOBAL_CTL, 1);
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(50)), 50 + MEASURE_INSNS);
}

/* --- instructions and cycles -------------------------------------------------------- */

static void instructions(void)
{
	CHECK_EQ(MEASURE(INSNS | ALL, ""), MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(1000)), 1000 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, LOOP_100, "ebx"), 201 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(CYCLES | ALL, LOOP_100, "ebx"), 201 + MEASURE_INSNS);
	/* device access and serialising instructions are counted once, too */
	CHECK_EQ(MEASURE(INSNS | ALL, "movl 0xfee00020, %%eax\n\tcpuid\n\t"
			 "movq %%cr3, %%rax\n\tmovq %%rax, %%cr3\n\trdtsc", "ebx"),
		 5 + MEASURE_INSNS);
	/* neither mode: nothing */
	CHECK_EQ(MEASURE(INSNS, NOPS(10)), 0);
	CHECK_EQ(MEASURE(INSNS | USR, NOPS(10)), 0);
	/* what the emulator cannot see, and edges, count as nothing */
	CHECK_EQ(MEASURE(0xc1 | ALL, NOPS(10)), 0);
	CHECK_EQ(MEASURE(0xc1 | ALL | CNTMASK(1) | INV, NOPS(10)), 0);
	CHECK_EQ(MEASURE(INSNS | EDGE | ALL, NOPS(10)), 0);
	/* event select bits 11..8 */
	CHECK_EQ(MEASURE(INSNS | 1ul << 32 | ALL, NOPS(10)), 0);
}

#define REP_SETUP	"leaq from_copy, %%rsi\n\tleaq to_copy, %%rdi\n\t"
u8 from_copy[1024] __attribute__((used)), to_copy[1024] __attribute__((used));

static void string_instructions(void)
{
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $1000, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $1, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $0, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $100, %%ecx\n\trep stosq",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	/* ends by its condition: at the first byte, and at the last */
	from_copy[99] = 1;
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $100, %%ecx\n\trepne cmpsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	__builtin_memset(to_copy, 0, sizeof(to_copy));
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $200, %%ecx\n\trepe cmpsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	/* a cycle for each iteration, and one to see that none is left */
	CHECK_EQ(MEASURE(CYCLES | ALL, REP_SETUP "movl $1000, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 3 + 1001 + MEASURE_INSNS);
}

static void counter_mask(void)
{
	/* one instruction in a cycle at the most */
	CHECK_EQ(MEASURE(INSNS | ALL | CNTMASK(1), NOPS(10)), 10 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL | CNTMASK(2), NOPS(10)), 0);
	CHECK_EQ(MEASURE(INSNS | ALL | INV, NOPS(10)), 10 + MEASURE_INSNS);
	/* cycles without */
	CHECK_EQ(MEASURE(INSNS | ALL | CNTMASK(1) | INV, NOPS(10)), 0);
	CHECK_EQ(MEASURE(INSNS | ALL | CNTMASK(1) | INV,
			 REP_SETUP "movl $1000, %%ecx\n\trep movsb", "rsi", "rdi"),
		 1000);
	CHECK_EQ(MEASURE(CYCLES | ALL | CNTMASK(1) | INV, NOPS(10)), 0);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL | CNTMASK(1) | INV, LOOP_100, "ebx"),
		 201 + MEASURE_INSNS - 100);
	/* cycles with less than 9 */
	CHECK_EQ(MEASURE(INSNS | ALL | CNTMASK(9) | INV, NOPS(10)),
		 10 + MEASURE_INSNS);
}

/* --- user mode and faults ------------------------------------------------------------- */

/* the faulting instruction is skipped; its length is in %r15 */
static void skip(struct regs *regs)
{
	regs->rip += regs->r15;
}

extern void user_nops(void), user_faults(void), user_rdpmc(void);
asm(".text\n"
    "user_nops:\n\t"
    ".rept 100\n\tnop\n\t.endr\n\t"
    "int $0x80\n"
    "user_faults:\n\t"			/* 12 of these complete */
    "movl $2, %r15d\n\t"
    "ud2\n\t"				/* #UD, known at translation */
    "nop\n\t"
    "nop\n\t"
    "movl $1, %r15d\n\t"
    "cli\n\t"				/* #GP, known at translation */
    "nop\n\t"
    "movabsq $0x123456789000, %rax\n\t"
    "movl $2, %r15d\n\t"
    "movb (%rax), %bl\n\t"		/* #PF */
    "nop\n\t"
    "movl $2, %r15d\n\t"
    "xorl %ebx, %ebx\n\t"
    "divl %ebx\n\t"			/* #DE */
    "nop\n\t"
    "int $0x80\n"
    "user_rdpmc:\n\t"
    "xorl %ecx, %ecx\n\t"
    "movl $2, %r15d\n\t"
    "rdpmc\n\t"
    "movl %eax, %r12d\n\t"
    "movq %r12, user_value\n\t"
    "int $0x80\n");
u64 user_value __attribute__((used));

static void user_and_kernel(void)
{
	u64 user, kernel, both;

	start(0, INSNS | USR, 0);
	start(1, INSNS | OS, 0);
	start(2, INSNS | ALL, 0);
	wrmsr(GLOBAL_CTL, 0);
	wrmsr(PERF_CTR(0), 0);
	wrmsr(PERF_CTR(1), 0);
	wrmsr(PERF_CTR(2), 0);
	wrmsr(GLOBAL_CTL, 7);
	run_user(user_nops);
	wrmsr(GLOBAL_CTL, 0);
	user = rdpmc(0);
	kernel = rdpmc(1);
	both = rdpmc(2);
	CHECK_EQ(user, 101);
	CHECK(kernel > 20);
	CHECK_EQ(user + kernel, both);
}

static void faults_do_not_retire(void)
{
	trap_fns[0] = trap_fns[6] = trap_fns[13] = trap_fns[14] = skip;
	start(0, INSNS | USR, 0);
	run_user(user_faults);
	CHECK_EQ(stop(0), 12);
}

static void rdpmc_in_user_mode(void)
{
	trap_fns[13] = skip;
	start(0, INSNS | USR, 1000);
	user_value = ~0ul;
	write_cr(4, read_cr(4) | 1ul << 8);	/* PCE */
	run_user(user_rdpmc);
	CHECK_EQ(user_value, 1003);
	stop(0);

	/* without CR4.PCE it is refused, and is not counted */
	trap_fns[13] = skip;
	write_cr(4, read_cr(4) & ~(1ul << 8));
	start(0, INSNS | USR, 0);
	run_user(user_rdpmc);
	CHECK_EQ(stop(0), 5);
}

/* --- branches ---------------------------------------------------------------------------- */

#define CALL_JMP_RET	"call 1f\n\tjmp 2f\n1:\tret\n2:"
#define INDIRECT	"leaq 1f(%%rip), %%rax\n\tjmp *%%rax\n\tnop\n1:"

static void branches(void)
{
	CHECK_EQ(MEASURE(BRANCHES | ALL, NOPS(10)), 0);
	CHECK_EQ(MEASURE(BRANCHES | ALL, LOOP_100, "ebx"), 100);
	CHECK_EQ(MEASURE(TAKEN | ALL, LOOP_100, "ebx"), 99);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL, LOOP_100, "ebx"), 100);
	CHECK_EQ(MEASURE(BRANCHES | ALL, CALL_JMP_RET), 3);
	CHECK_EQ(MEASURE(TAKEN | ALL, CALL_JMP_RET), 3);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL, CALL_JMP_RET), 0);
	CHECK_EQ(MEASURE(RETURNS | ALL, CALL_JMP_RET), 1);
	CHECK_EQ(MEASURE(BRANCHES | ALL, INDIRECT), 1);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL,
			 "movl $7, %%ecx\n1:\tloop 1b\n\tjrcxz 2f\n2:"), 8);
	CHECK_EQ(MEASURE(TAKEN | ALL,
			 "movl $7, %%ecx\n1:\tloop 1b\n\tjrcxz 2f\n2:"), 7);
	/* string instructions are no branches */
	CHECK_EQ(MEASURE(BRANCHES | ALL, REP_SETUP "movl $9, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 0);
	/* a far return */
	CHECK_EQ(MEASURE(BRANCHES | ALL, "pushq $8\n\tpushq $1f\n\tlretq\n1:"), 1);
	CHECK_EQ(MEASURE(FAR | ALL, "pushq $8\n\tpushq $1f\n\tlretq\n1:"), 1);
	CHECK_EQ(MEASURE(FAR | ALL, LOOP_100, "ebx"), 0);
}

static void do_nothing(struct regs *regs)
{
	(void)regs;
}

static void far_branches(void)
{
	/* INT3 enters the handler and IRET leaves it */
	trap_fns[3] = do_nothing;
	CHECK_EQ(MEASURE(FAR | ALL, "int3"), 2);
	/* two in the kernel: IRET to user mode, INT 0x80; and the way back */
	start(0, FAR | OS, 0);
	start(1, FAR | USR, 0);
	run_user(user_nops);
	CHECK_EQ(stop(0), 3);
	CHECK_EQ(stop(1), 0);
}

static void predictor(void)
{
	/* weak and strong "not taken" at the start, and the loop's end */
	CHECK_EQ(MEASURE(MISPREDICTS | ALL, LOOP_100, "ebx"), 3);
	/* once more: now "taken" is expected */
	wrmsr(PERF_CTL(0), 0);
	CHECK_EQ(MEASURE(MISPREDICTS | ALL, CALL_JMP_RET), 0);
	/* an indirect branch is unknown the first time */
	CHECK_EQ(MEASURE(MISPREDICTS | ALL,
			 "movl $5, %%ebx\n\tleaq 2f(%%rip), %%rax\n"
			 "1:\tjmp *%%rax\n2:\tdecl %%ebx\n\tjnz 1b", "ebx"),
		 1 + 3);
}

static volatile int interrupts;
static volatile u64 interrupt_rip, interrupt_cx;

static void timer_interrupt(struct regs *regs)
{
	(void)regs;
	interrupts++;
	APIC(APIC_EOI) = 0;
}

static void interrupts_taken(void)
{
	trap_fns[0x70] = timer_interrupt;
	APIC(APIC_TDCR) = 0xb;
	APIC(APIC_LVTT) = 0x70 | 0x20000;	/* periodic */
	start(0, INTERRUPTS | ALL, 0);
	sti();
	APIC(APIC_TMICT) = 10000;
	while (interrupts < 5)
		asm volatile("pause");
	cli();
	APIC(APIC_LVTT) = APIC_MASKED;
	CHECK_EQ(stop(0), interrupts);
}

/* --- TLB misses ------------------------------------------------------------------------------- */

u8 tlb_pages[10][4096] __attribute__((aligned(4096), used));

static void tlb_misses(void)
{
#define TOUCH_10						\
	"movq %%cr3, %%rax\n\tmovq %%rax, %%cr3\n\t"		\
	"leaq tlb_pages, %%rax\n\tmovl $10, %%ebx\n"		\
	"1:\tmovb (%%rax), %%dl\n\taddq $4096, %%rax\n\t"	\
	"decl %%ebx\n\tjnz 1b"
	/* the test's memory is mapped by a page of 1 GiB */
	CHECK_EQ(MEASURE(DTLB_MISSES | UNIT(0x80) | ALL, TOUCH_10, "ebx"), 10);
	CHECK_EQ(MEASURE(DTLB_MISSES | UNIT(0xff) | ALL, TOUCH_10, "ebx"), 10);
	CHECK_EQ(MEASURE(DTLB_MISSES | UNIT(0x7f) | ALL, TOUCH_10, "ebx"), 0);
	CHECK_EQ(MEASURE(ITLB_MISSES | UNIT(0x03) | ALL, TOUCH_10, "ebx"), 0);
	CHECK(MEASURE(ITLB_MISSES | UNIT(0x04) | ALL, TOUCH_10, "ebx") >= 1);
	CHECK(MEASURE(ITLB_MISSES | UNIT(0x04) | ALL, TOUCH_10, "ebx") <= 2);
}

/* --- memory accesses ---------------------------------------------------------------------------- */

#define LOADS		(LS_DISPATCH | UNIT(1) | ALL)
#define STORES		(LS_DISPATCH | UNIT(2) | ALL)
#define LOAD_STORES	(LS_DISPATCH | UNIT(4) | ALL)

u64 cell[2] __attribute__((aligned(64), used));

static void memory_accesses(void)
{
#define ACCESSES							\
	"movl cell, %%eax\n\tmovl $1, cell\n\tincl cell\n\t"		\
	"addq %%rax, cell\n\taddq cell, %%rax\n\tpushq cell\n\tpopq cell\n\t" \
	"lock incl cell\n\txchgl %%eax, cell\n\txaddl %%eax, cell\n\t"	\
	"lock btsl $3, cell\n\tbtl $3, cell"
	/* mov, add, push, pop, bt */
	CHECK_EQ(MEASURE(LOADS, ACCESSES), 5);
	/* mov, push, pop */
	CHECK_EQ(MEASURE(STORES, ACCESSES), 3);
	/* inc, add, lock inc, xchg, xadd, lock bts */
	CHECK_EQ(MEASURE(LOAD_STORES, ACCESSES), 6);
	CHECK_EQ(MEASURE(LS_DISPATCH | UNIT(7) | ALL, ACCESSES), 14);
	CHECK_EQ(MEASURE(DC_ACCESSES | ALL, ACCESSES), 14);
	CHECK_EQ(MEASURE(LS_DISPATCH | ALL, ACCESSES), 0);
	/* each iteration of a string instruction */
	CHECK_EQ(MEASURE(LOADS, REP_SETUP "movl $50, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 50);
	CHECK_EQ(MEASURE(STORES, REP_SETUP "movl $50, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 50);
	CHECK_EQ(MEASURE(STORES, NOPS(10)), 0);
}

/* 1024 lines: twice the first level, an eighth of the second */
u8 big[64 * 1024] __attribute__((aligned(4096), used));

#define WALK(lines)							\
	"leaq big, %%rax\n\tmovl $" #lines ", %%ebx\n"			\
	"1:\tmovb (%%rax), %%dl\n\taddq $64, %%rax\n\t"			\
	"decl %%ebx\n\tjnz 1b"

static void caches(void)
{
	/* cold: every line comes from memory, and only once */
	CHECK_EQ(MEASURE(L2_STATUS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(L2_STATUS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 0);
	/* a walk over twice its size always misses a cache with LRU */
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(DC_REFILLS | UNIT(0x01) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(DC_REFILLS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 0);
	/* what fits stays */
	MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(256), "ebx");
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(256), "ebx"), 0);
	CHECK_EQ(MEASURE(DC_ACCESSES | ALL, WALK(512), "ebx"), 512);
	/* a device is not cached */
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, "movl 0xfee00020, %%eax"), 0);
}

/* --- overflow -------------------------------------------------------------------------------------- */

#define SLED		64
extern char sled[];

/* enable all counters; run SLED nops behind it; disable them */
static void run_sled(void)
{
	asm volatile("wrmsr\n"
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

static void prepare_pmi(u32 lvt)
{
	wrmsr(GLOBAL_CTL, 0);
	wrmsr(STATUS_CLR, ~0ul);
	trap_fns[2] = trap_fns[PMI_VECTOR] = pmi;
	APIC(APIC_LVTPC) = lvt;
	interrupts = 0;
	interrupt_rip = 0;
}

static void overflow_nmi(void)
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

/* a string instruction is interrupted only where the count says so */
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

static void guest_nops(void)
{
	asm volatile(".rept 20\n\tnop\n\t.endr\n\tvmmcall\n\tnop\n\tvmmcall");
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

/* --- SVM --------------------------------------------------------------------------------------------- */

static void guest_and_host(void)
{
	u64 guest, host, all, again;

	svm_setup(guest_nops);
	clgi();
	wrmsr(GLOBAL_CTL, 0);
	start(0, INSNS | ALL | GUEST_ONLY, 0);
	start(1, INSNS | ALL | HOST_ONLY, 0);
	start(2, INSNS | ALL, 0);
	start(3, INSNS | ALL | GUEST_ONLY | HOST_ONLY, 0);
	start(4, CYCLES | USR | GUEST_ONLY, 0);
	wrmsr(GLOBAL_CTL, 0x1f);
	vmrun(&vmcb);
	wrmsr(GLOBAL_CTL, 0);
	guest = rdpmc(0);
	host = rdpmc(1);
	all = rdpmc(2);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	/* VMMCALL exits: it has not completed.  VMRUN is the host's. */
	CHECK_EQ(guest, 20 + (vmcb.rip - (u64)guest_nops - 20));
	CHECK_EQ(guest + host, all);
	CHECK_EQ(rdpmc(3), all);
	CHECK_EQ(rdpmc(4), 0);

	/* the hypervisor steps over VMMCALL and emulates it: one NOP more */
	vmcb.rip += 3;
	wrmsr(GLOBAL_CTL, 0x1f);
	vmrun(&vmcb);
	wrmsr(GLOBAL_CTL, 0);
	again = rdpmc(0);
	CHECK_EQ(again - guest, 1);

	/* without EFER.SVME the two bits mean nothing */
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x1000ul);
	start(0, INSNS | ALL | GUEST_ONLY, 0);
	start(1, INSNS | ALL | HOST_ONLY, 0);
	wrmsr(GLOBAL_CTL, 3);
	asm volatile(NOPS(10));
	wrmsr(GLOBAL_CTL, 0);
	CHECK(rdpmc(0) > 10);
	CHECK_EQ(rdpmc(0), rdpmc(1));
}

extern void guest_sled(void);
asm(".text\n"
    "guest_sled: .rept 64\n\tnop\n\t.endr\n\tvmmcall");

static void guest_overflow(void)
{
	int k;

	for (k = 1; k < SLED; k += 5) {
		svm_setup(guest_sled);
		prepare_pmi(APIC_DM_NMI);
		start(0, INSNS | ALL | INT | GUEST_ONLY, WRAP - k);
		clgi();
		wrmsr(GLOBAL_CTL, 1);
		vmrun(&vmcb);
		wrmsr(GLOBAL_CTL, 0);
		/* an exit behind the k-th instruction; the NMI waits for STGI */
		CHECK_EQ(vmcb.exit_code, EXIT_NMI);
		CHECK_EQ(vmcb.rip, (u64)guest_sled + k);
		CHECK_EQ(rdpmc(0), 0);
		CHECK_EQ(interrupts, 0);
		stgi();
		asm volatile("nop");
		CHECK_EQ(interrupts, 1);
	}
}

static void guest_reads(void)
{
	asm volatile("xorl %%ecx, %%ecx\n\trdpmc\n\tvmmcall"
		     : : : "eax", "ecx", "edx");
}

extern char guest_rdpmc_at[], guest_rdmsr_at[], guest_wrmsr_at[];
static void guest_accesses(void)
{
	asm volatile("xorl %%ecx, %%ecx\n"
		     "guest_rdpmc_at: rdpmc\n\t"
		     "movl %0, %%ecx\n"
		     "guest_rdmsr_at: rdmsr\n\t"
		     "xorl %%edx, %%edx\n\t"
		     "movl $77, %%eax\n"
		     "guest_wrmsr_at: wrmsr\n\t"
		     "vmmcall"
		     : : "i"(PERF_CTR(0)) : "eax", "ecx", "edx");
}

static void intercepts(void)
{
	u32 bit = (0x4000 + PERF_CTR(0) - 0xc0010000) * 2;

	svm_setup(guest_accesses);
	vmcb.intercept3 |= INTERCEPT_RDPMC | INTERCEPT_MSR;
	msrpm[bit / 8] |= 3u << bit % 8;
	clgi();
	start(0, INSNS | ALL | GUEST_ONLY, 0);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_RDPMC);
	CHECK_EQ(vmcb.rip, guest_rdpmc_at);
	vmcb.rip += 2;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_MSR);
	CHECK_EQ(vmcb.exit_info_1, 0);
	CHECK_EQ(vmcb.rip, guest_rdmsr_at);
	vmcb.rip += 2;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_MSR);
	CHECK_EQ(vmcb.exit_info_1, 1);
	CHECK_EQ(vmcb.rip, guest_wrmsr_at);
	/* XOR, MOV, XOR and MOV; none of the three intercepted */
	CHECK_EQ(stop(0), 4);

	/* the map lets reads through, and the guest sees the real counter */
	msrpm[bit / 8] &= ~(1u << bit % 8);
	vmcb.rip = (u64)guest_rdmsr_at;
	wrmsr(PERF_CTR(0), 0x1234567890);
	asm volatile("" : : : "memory");
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_MSR);
	CHECK_EQ(vmcb.exit_info_1, 1);

	/* nothing intercepted: the guest writes the real counter */
	svm_setup(guest_accesses);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(rdmsr(PERF_CTR(0)), 77);

	svm_setup(guest_reads);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(vmcb.rax, 77);
}

/* a software interrupt that exits has not completed */
static void guest_int(void)
{
	asm volatile("nop\n\tint $0x33\n\tvmmcall");
}

static void intercepted_int(void)
{
	svm_setup(guest_int);
	vmcb.intercept3 |= INTERCEPT_SWINT;
	clgi();
	start(0, INSNS | ALL | GUEST_ONLY, 0);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_SWINT);
	CHECK_EQ(stop(0), 1);
}

/* --- branch records -------------------------------------------------------------------------------------- */

static void lbr_clear(u64 select)
{
	int i;

	wrmsr(DBG_EXTN_CFG, 0);
	for (i = 0; i < LBR_DEPTH; i++) {
		wrmsr(LBR_FROM(i), 0);
		wrmsr(LBR_TO(i), 0);
	}
	wrmsr(LBR_SELECT, select);
}

/* CODE with recording on, and no branch besides CODE's */
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
asm(".text\n"
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
extern char lbr_code_asm[], lbr_end[];

static void lbr_pairs(void)
{
	lbr_clear(0);
	RECORD("call lbr_code_asm");
	/* the newest first */
	CHECK_EQ(FROM(0), lbr_end);
	CHECK_EQ(FROM(1), lbr_ind);
	CHECK_EQ(TO(1), (u64)lbr_ind_to | VALID);
	CHECK_EQ(FROM(2), lbr_ret);
	CHECK_EQ(TO(2), (u64)lbr_back | VALID);
	CHECK_EQ(FROM(3), lbr_call);
	CHECK_EQ(TO(3), (u64)lbr_fn | VALID);
	CHECK_EQ(FROM(4), lbr_jnz);
	CHECK_EQ(TO(4), (u64)lbr_top | VALID);
	CHECK_EQ(FROM(5), lbr_jnz);
	CHECK_EQ(TO(5), (u64)lbr_top | VALID);
	CHECK_EQ(TO(6), (u64)lbr_code_asm | VALID);
	CHECK_EQ(rdmsr(LBR_TO(LBR_DEPTH - 1)), 0);
	/* the first indirect jump was mispredicted, the return was not */
	CHECK(rdmsr(LBR_FROM(1)) & VALID);
	CHECK(!(rdmsr(LBR_FROM(2)) & VALID));
	/* off means off */
	asm volatile("call lbr_code_asm" : : : "rax", "rbx", "memory", "cc");
	CHECK_EQ(FROM(1), lbr_ind);
}

static int records(void)
{
	int i, n = 0;

	for (i = 0; i < LBR_DEPTH; i++)
		n += !!(rdmsr(LBR_TO(i)) & VALID);
	return n;
}

static void lbr_filters(void)
{
	static const struct { u64 select; int records; } expect[] = {
		{ 0x000, 7 },	/* two jnz, two calls, two returns, one jump */
		{ 0x001, 0 },	/* ends in kernel mode */
		{ 0x002, 7 },	/* ends in user mode */
		{ 0x004, 5 },	/* conditional */
		{ 0x008, 5 },	/* near relative calls */
		{ 0x010, 7 },	/* near indirect calls */
		{ 0x020, 5 },	/* near returns */
		{ 0x040, 6 },	/* near indirect jumps */
		{ 0x080, 7 },	/* near relative jumps */
		{ 0x100, 7 },	/* far branches */
		{ 0x1fc, 0 },
	};
	u32 i;

	for (i = 0; i < sizeof(expect) / sizeof(expect[0]); i++) {
		lbr_clear(expect[i].select);
		RECORD("call lbr_code_asm");
		if (records() != expect[i].records) {
			print("# LBR_SELECT 0x%x\n", expect[i].select);
			CHECK_EQ(records(), expect[i].records);
		}
	}
	CHECK_EQ(rdmsr(LBR_SELECT), 0x1fc);
}

static void lbr_far(void)
{
	extern char int3_at[];
	u64 from, to;

	trap_fns[3] = do_nothing;
	lbr_clear(0x0fc);			/* far branches only */
	RECORD("int3_at: int3");
	CHECK_EQ(records(), 2);
	from = FROM(1);
	to = TO(0);
	CHECK_EQ(from, int3_at);
	CHECK_EQ(to, ((u64)int3_at + 1) | VALID);

	/* user code ends in the kernel: by its destination it is the kernel's */
	lbr_clear(0x0fc | 1);
	RECORD("movl $user_nops, %%edi\n\tcall run_user", "rdi", "rsi", "r9",
	       "r10", "r11");
	CHECK_EQ(records(), 1);
	CHECK_EQ(TO(0), (u64)user_nops | VALID);
}

static void lbr_freeze(void)
{
	extern char frozen_at[];

	prepare_pmi(APIC_DM_NMI | APIC_MASKED);
	wrmsr(DEBUGCTL, FREEZE_LBR);
	CHECK_EQ(rdmsr(DEBUGCTL), FREEZE_LBR);
	lbr_clear(0);
	wrmsr(DBG_EXTN_CFG, LBRV2EN);
	start(0, CONDITIONAL | OS | INT, WRAP - 3);
	asm volatile("wrmsr\n\t"
		     "movl $50, %%ebx\n"
		     "1:\tdecl %%ebx\n"
		     "frozen_at: jnz 1b\n\t"
		     "call lbr_code_asm"
		     : : "c"(GLOBAL_CTL), "a"(1), "d"(0) : "rbx", "memory", "cc");
	wrmsr(DBG_EXTN_CFG, 0);
	CHECK(rdmsr(GLOBAL_STATUS) & LBR_FROZEN);
	CHECK_EQ(rdmsr(GLOBAL_STATUS) & PMC_FROZEN, 0);
	CHECK_EQ(FROM(0), frozen_at);
	CHECK_EQ(FROM(2), frozen_at);
	CHECK_EQ(TO(2) & VALID, VALID);
	/* recording goes on once the status is cleared */
	wrmsr(STATUS_CLR, ~0ul);
	RECORD("call lbr_code_asm");
	CHECK_EQ(FROM(1), lbr_ind);

	/* counters freeze with their overflow, too */
	prepare_pmi(APIC_DM_NMI | APIC_MASKED);
	wrmsr(DEBUGCTL, FREEZE_PMC);
	start(0, INSNS | OS | INT, WRAP - 10);
	start(1, INSNS | OS, 0);
	run_sled();
	CHECK_EQ(rdpmc(0), 0);
	CHECK_EQ(rdpmc(1), 10);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), PMC_FROZEN | 1);
	wrmsr(DEBUGCTL, 0);
}

/* --- random accesses -------------------------------------------------------------------------------------- */

static u32 random_register(void)
{
	static const u32 single[] = {
		GLOBAL_STATUS, GLOBAL_CTL, STATUS_CLR, STATUS_SET,
		DEBUGCTL, LBR_SELECT, DBG_EXTN_CFG,
	};

	switch (rnd() % 4) {
	case 0:
		return single[rnd() % (sizeof(single) / sizeof(single[0]))];
	case 1:
		return 0xc0010200 + rnd() % 16;
	case 2:
		return 0xc0010000 + rnd() % 8;
	default:
		return 0xc0010300 + rnd() % 40;
	}
}

static u64 random_value(void)
{
	static const u8 events[] = {
		CYCLES, INSNS, BRANCHES, TAKEN, CONDITIONAL, MISPREDICTS,
		FAR, DTLB_MISSES, LS_DISPATCH, L2_STATUS, 0xff,
	};

	switch (rnd() % 4) {
	case 0:
		return rnd();
	case 1:
		return WRAP - rnd() % 2000;
	case 2:
		return rnd() & 0x3f;
	default:
		return events[rnd() % sizeof(events)] | ALL | EN |
		       (rnd() & (INT | INV | UNIT(255) | GUEST_ONLY | HOST_ONLY));
	}
}

static void random_accesses(int n)
{
	u64 val;

	while (n--) {
		/* a counter that overflows within its own handler never ends */
		u64 v = random_value();
		u32 msr = random_register();

		wrmsr_faults(msr, v);
		rdmsr_faults(random_register(), &val);
		rdpmc_faults(rnd() % 8, &val);
	}
}

static void fuzz(void)
{
	prepare_pmi(APIC_DM_NMI);
	wrmsr(GLOBAL_CTL, 0x3f);
	random_accesses(30000);
	wrmsr(GLOBAL_CTL, 0);
	CHECK(interrupts > 10);
	/* all is in order afterwards */
	wrmsr(DEBUGCTL, 0);
	wrmsr(DBG_EXTN_CFG, 0);
	wrmsr(STATUS_CLR, ~0ul);
	wrmsr(GLOBAL_CTL, 1);
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(100)), 100 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL, LOOP_100, "ebx"), 100);
}

static void guest_fuzz(void)
{
	random_accesses(100);
	asm volatile("vmmcall");
}

static void fuzz_in_guest(void)
{
	int i, exits = 0;

	prepare_pmi(APIC_DM_NMI);
	for (i = 0; i < 200; i++) {
		svm_setup(guest_fuzz);
		clgi();
		wrmsr(GLOBAL_CTL, 0x3f);
		do {
			vmrun(&vmcb);
			exits++;
			wrmsr(GLOBAL_CTL, rnd() & 0x3f);
			stgi();
			asm volatile("nop");
			clgi();
		} while (vmcb.exit_code == EXIT_NMI);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		wrmsr(GLOBAL_CTL, 0);
		stgi();
	}
	CHECK(exits > 200);
}

/* --- other machines ------------------------------------------------------------------------------------------- */

static volatile u64 cpu1_count;
static volatile int cpu1_done;

static void cpu1_counts(void)
{
	start(0, INSNS | ALL, 0);
	cpu1_count = MEASURE(INSNS | ALL, "movl $100000, %%ebx\n1:\tdecl %%ebx\n\tjnz 1b",
			     "ebx");
	cpu1_done = 1;
	for (;;)
		asm volatile("hlt");
}

static void two_cpus(void)
{
	u64 count;

	start_cpu1(cpu1_counts);
	count = MEASURE(INSNS | ALL, "movl $200000, %%ebx\n1:\tdecl %%ebx\n\tjnz 1b",
			"ebx");
	while (!cpu1_done)
		asm volatile("pause");
	CHECK_EQ(count, 400001 + MEASURE_INSNS);
	CHECK_EQ(cpu1_count, 200001 + MEASURE_INSNS);
	/* an overflow here is no business of the other CPU, and the reverse */
	overflow_nmi();
}

static void no_icount(void)
{
	u64 n;

	/* instructions are counted one by one */
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(100)), 100 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL, LOOP_100, "ebx"), 100);
	n = MEASURE(INSNS | ALL, LOOP_100, "ebx");
	CHECK_EQ(n, 201 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $1000, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	/* an overflow is seen at the end of its block */
	prepare_pmi(APIC_DM_NMI);
	wrmsr(GLOBAL_CTL, 1);
	start(0, INSNS | OS | INT, WRAP - 1000);
	asm volatile("movl $10000, %%ebx\n1:\tdecl %%ebx\n\tjnz 1b" : : : "ebx", "cc");
	n = stop(0);
	CHECK_EQ(interrupts, 1);
	CHECK(n > 19000 && n < 20000);
}

/* The first machine spins here, until it is saved; the second has input. */
#define COM1_LSR	0x3fd

static void wait_for_migration(void)
{
	u8 status;

	print("ready\n");
	do {
		asm volatile("inb %1, %0" : "=a"(status) : "Nd"((u16)COM1_LSR));
	} while (!(status & 1));
}

static void migration(void)
{
	int i;

	prepare_pmi(APIC_DM_NMI);
	for (i = 0; i < COUNTERS; i++)
		start(i, INSNS | OS | CNTMASK(1), 1000 + i);
	start(5, INSNS | OS | INT, WRAP - 7);
	wrmsr(STATUS_SET, 4);
	wrmsr(DEBUGCTL, FREEZE_LBR);
	lbr_clear(0x100);
	RECORD("call lbr_code_asm");
	wrmsr(GLOBAL_CTL, 1ul << 4);

	wait_for_migration();

	CHECK_EQ(rdmsr(GLOBAL_CTL), 1ul << 4);
	wrmsr(GLOBAL_CTL, 0);
	for (i = 0; i < 4; i++) {
		CHECK_EQ(rdmsr(PERF_CTL(i)), INSNS | OS | CNTMASK(1) | EN);
		CHECK_EQ(rdmsr(PERF_CTR(i)), 1000 + i);
	}
	/* the one which was counting went on */
	CHECK(rdmsr(PERF_CTR(4)) > 1004);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 4);
	CHECK_EQ(rdmsr(DEBUGCTL), FREEZE_LBR);
	CHECK_EQ(rdmsr(LBR_SELECT), 0x100);
	CHECK_EQ(FROM(1), lbr_ind);
	CHECK_EQ(FROM(3), lbr_call);
	/* and an overflow is as exact as ever */
	run_sled();
	CHECK_EQ(interrupts, 1);
	CHECK_EQ(interrupt_rip, sled + 7);
}

static void undefined(struct regs *regs)
{
	interrupts++;
	regs->rip += 2;
}

static void no_pmu(void)
{
	u32 r[4];
	u64 val;

	cpuid(0x80000001, 0, r);
	CHECK(!(r[2] & 1u << 23));
	cpuid(0x80000000, 0, r);
	if (r[0] >= 0x80000022) {
		cpuid(0x80000022, 0, r);
		CHECK_EQ(r[0], 0);
		CHECK_EQ(r[1], 0);
	}
	trap_fns[6] = undefined;
	rdpmc_faults(0, &val);
	CHECK_EQ(interrupts, 1);
	wrmsr(PERF_CTL(0), INSNS | ALL | EN);
	CHECK_EQ(rdmsr(PERF_CTL(0)), 0);
	CHECK_EQ(rdmsr(PERF_CTR(0)), 0);
}

const struct test pmu_tests[] = {
	{ "pmu_identification", identification, "icount" },
	{ "pmu_registers", registers, "icount" },
	{ "pmu_global_control", global_control, "icount" },
	{ "pmu_instructions", instructions, "icount" },
	{ "pmu_string_instructions", string_instructions, "icount" },
	{ "pmu_counter_mask", counter_mask, "icount" },
	{ "pmu_user_and_kernel", user_and_kernel, "icount" },
	{ "pmu_faults_do_not_retire", faults_do_not_retire, "icount" },
	{ "pmu_rdpmc_in_user_mode", rdpmc_in_user_mode, "icount" },
	{ "pmu_branches", branches, "icount" },
	{ "pmu_far_branches", far_branches, "icount" },
	{ "pmu_predictor", predictor, "icount" },
	{ "pmu_interrupts_taken", interrupts_taken, "icount" },
	{ "pmu_tlb_misses", tlb_misses, "icount" },
	{ "pmu_memory_accesses", memory_accesses, "icount" },
	{ "pmu_caches", caches, "icount" },
	{ "pmu_overflow_nmi", overflow_nmi, "icount" },
	{ "pmu_overflow_fixed", overflow_fixed, "icount" },
	{ "pmu_overflow_silent", overflow_silent, "icount" },
	{ "pmu_overflow_wrap", overflow_wrap, "icount" },
	{ "pmu_overflow_branch", overflow_branch, "icount" },
	{ "pmu_overflow_string", overflow_string, "icount" },
	{ "pmu_overflow_gif", overflow_gif, "icount" },
	{ "pmu_overflow_halt", overflow_halt, "icount" },
	{ "pmu_guest_and_host", guest_and_host, "icount" },
	{ "pmu_guest_overflow", guest_overflow, "icount" },
	{ "pmu_intercepts", intercepts, "icount" },
	{ "pmu_intercepted_int", intercepted_int, "icount" },
	{ "pmu_lbr_pairs", lbr_pairs, "icount" },
	{ "pmu_lbr_filters", lbr_filters, "icount" },
	{ "pmu_lbr_far", lbr_far, "icount" },
	{ "pmu_lbr_freeze", lbr_freeze, "icount" },
	{ "pmu_fuzz", fuzz, "icount" },
	{ "pmu_fuzz_in_guest", fuzz_in_guest, "icount" },
	{ "pmu_two_cpus", two_cpus, "smp2" },
	{ "pmu_migration", migration, "migrate" },
	{ "pmu_no_icount", no_icount, "free" },
	{ "pmu_off", no_pmu, "off" },
	{ },
};
