// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU, counting: exact to the instruction.
 *
 * - identification, registers, aliases, reserved bits, refused accesses
 * - the count of each event; a string instruction is one instruction, a
 *   faulting instruction is none
 * - user and kernel filters; CNTMASK and INV
 */
#include "pmu.h"

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
	/* an event the emulator cannot see counts as nothing, and so do edges */
	CHECK_EQ(MEASURE(0xc1 | ALL, NOPS(10)), 0);
	CHECK_EQ(MEASURE(0xc1 | ALL | CNTMASK(1) | INV, NOPS(10)), 0);
	CHECK_EQ(MEASURE(INSNS | EDGE | ALL, NOPS(10)), 0);
	/* event select bits 11..8 */
	CHECK_EQ(MEASURE(INSNS | 1ul << 32 | ALL, NOPS(10)), 0);
}

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
	/* ended by the condition: at byte 0, then at byte 99 */
	from_copy[99] = 1;
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $100, %%ecx\n\trepne cmpsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	__builtin_memset(to_copy, 0, sizeof(to_copy));
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $200, %%ecx\n\trepe cmpsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	/* a cycle for each iteration, and a last cycle with CX = 0 */
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

extern void user_faults(void), user_rdpmc(void);
asm(".text\n"
    "user_faults:\n\t"			/* 12 instructions complete */
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

	/* without CR4.PCE, RDPMC is refused and not counted */
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
	/* cold: each line comes from memory, and only once */
	CHECK_EQ(MEASURE(L2_STATUS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(L2_STATUS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 0);
	/* a walk over twice its size always misses a cache with LRU */
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(DC_REFILLS | UNIT(0x01) | ALL, WALK(1024), "ebx"), 1024);
	CHECK_EQ(MEASURE(DC_REFILLS | UNIT(0x08) | ALL, WALK(1024), "ebx"), 0);
	/* lines that fit stay */
	MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(256), "ebx");
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, WALK(256), "ebx"), 0);
	CHECK_EQ(MEASURE(DC_ACCESSES | ALL, WALK(512), "ebx"), 512);
	/* a device is not cached */
	CHECK_EQ(MEASURE(L2_REQUESTS | UNIT(0xff) | ALL, "movl 0xfee00020, %%eax"), 0);
}

const struct test pmu_count_tests[] = {
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
	{ },
};
