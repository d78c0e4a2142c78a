// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU: random register accesses; two CPUs; no icount; no PMU; save and
 * restore.
 */
#include "pmu.h"

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
	/* counting still works */
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
	/* an overflow interrupts its own CPU only */
	overflow_nmi();
}

static void no_icount(void)
{
	u64 n;

	/* instructions are counted singly */
	CHECK_EQ(MEASURE(INSNS | ALL, NOPS(100)), 100 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(CONDITIONAL | ALL, LOOP_100, "ebx"), 100);
	n = MEASURE(INSNS | ALL, LOOP_100, "ebx");
	CHECK_EQ(n, 201 + MEASURE_INSNS);
	CHECK_EQ(MEASURE(INSNS | ALL, REP_SETUP "movl $1000, %%ecx\n\trep movsb",
			 "rsi", "rdi"), 4 + MEASURE_INSNS);
	/* an overflow is noticed at the end of the block */
	prepare_pmi(APIC_DM_NMI);
	wrmsr(GLOBAL_CTL, 1);
	start(0, INSNS | OS | INT, WRAP - 1000);
	asm volatile("movl $10000, %%ebx\n1:\tdecl %%ebx\n\tjnz 1b" : : : "ebx", "cc");
	n = stop(0);
	CHECK_EQ(interrupts, 1);
	CHECK(n > 19000 && n < 20000);
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
	/* counter 4 was active and went on */
	CHECK(rdmsr(PERF_CTR(4)) > 1004);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 4);
	CHECK_EQ(rdmsr(DEBUGCTL), FREEZE_LBR);
	CHECK_EQ(rdmsr(LBR_SELECT), 0x100);
	CHECK_EQ(FROM(1), lbr_ind);
	CHECK_EQ(FROM(3), lbr_call);
	/* the overflow is exact to the instruction */
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

const struct test pmu_machine_tests[] = {
	{ "pmu_fuzz", fuzz, "icount" },
	{ "pmu_fuzz_in_guest", fuzz_in_guest, "icount" },
	{ "pmu_two_cpus", two_cpus, "smp2" },
	{ "pmu_migration", migration, "migrate" },
	{ "pmu_no_icount", no_icount, "free" },
	{ "pmu_off", no_pmu, "off" },
	{ },
};
