// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU, branch records: their pairs, filters, freezing.
 */
#include "pmu.h"

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

	/* a branch is selected by its destination: INT 0x80 ends in the kernel */
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

const struct test pmu_lbr_tests[] = {
	{ "pmu_lbr_pairs", lbr_pairs, "icount" },
	{ "pmu_lbr_filters", lbr_filters, "icount" },
	{ "pmu_lbr_far", lbr_far, "icount" },
	{ "pmu_lbr_freeze", lbr_freeze, "icount" },
	{ },
};
