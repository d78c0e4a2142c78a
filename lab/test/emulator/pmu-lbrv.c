// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU and SVM: virtualization of the branch records.
 *
 * - without the CPUID bit, the VMCB's enable bit does nothing
 * - the guest's last 16 branches are in the VMCB, and none of the host's
 * - the guest's records survive whatever the host does with the registers
 * - the host's DebugCtl, DebugExtnCtl and last branches come back; the LBR
 *   stack and LBR_SELECT do not
 * - the guest's LBR_SELECT filters, and its DebugCtl freezes
 * - an interrupt that VMRUN injects is the guest's branch
 * - a VMRUN that fails switches nothing
 * - the last branches survive save and restore, and a guest's stack too
 */
#include "pmu.h"

#define LBR		(1ul << 0)
#define LBR_VIRT	1
#define POISON(n)	(0x7000 + (n))
#define VMCB_FROM(n)	(vmcb.lbr_stack[2 * (n)] & ~VALID)
#define VMCB_TO(n)	(vmcb.lbr_stack[2 * (n) + 1])

static int has_lbrv(void)
{
	u32 r[4];

	cpuid(0x8000000a, 0, r);
	return r[3] >> 1 & 1;
}

/* seven branches, see lbr_code_asm */
static void guest_branches(void)
{
	asm volatile("call lbr_code_asm\n\tvmmcall\n\tcall lbr_code_asm\n\tvmmcall"
		     : : : "rax", "rbx", "memory", "cc");
}

static void prepare(void (*guest)(void))
{
	svm_setup(guest);
	vmcb.lbr_ctl = LBR_VIRT;
	vmcb.dbgextnctl = LBRV2EN;
	lbr_clear(0);
	clgi();
}

/* the host's registers, each with a value of its own */
static void poison_stack(void)
{
	int i;

	for (i = 0; i < LBR_DEPTH; i++) {
		wrmsr(LBR_FROM(i), POISON(2 * i));
		wrmsr(LBR_TO(i), POISON(2 * i + 1));
	}
}

/* records 0 to 6 of the VMCB are those of lbr_code_asm */
static void check_branches(void)
{
	CHECK_EQ(VMCB_FROM(0), lbr_end);
	CHECK_EQ(VMCB_FROM(1), lbr_ind);
	CHECK_EQ(VMCB_TO(1), (u64)lbr_ind_to | VALID);
	CHECK_EQ(VMCB_FROM(2), lbr_ret);
	CHECK_EQ(VMCB_TO(2), (u64)lbr_back | VALID);
	CHECK_EQ(VMCB_FROM(3), lbr_call);
	CHECK_EQ(VMCB_TO(3), (u64)lbr_fn | VALID);
	CHECK_EQ(VMCB_FROM(4), lbr_jnz);
	CHECK_EQ(VMCB_TO(4), (u64)lbr_top | VALID);
	CHECK_EQ(VMCB_FROM(5), lbr_jnz);
	CHECK_EQ(VMCB_TO(6), (u64)lbr_code_asm | VALID);
}

static void absent(void)
{
	int i;

	CHECK(!has_lbrv());
	prepare(guest_branches);
	poison_stack();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(rdmsr(DBG_EXTN_CFG), 0);
	for (i = 0; i < LBR_DEPTH; i++) {
		CHECK_EQ(VMCB_FROM(i), 0);
		CHECK_EQ(VMCB_TO(i), 0);
		CHECK_EQ(rdmsr(LBR_FROM(i)), POISON(2 * i));
	}
}

static void guest_records(void)
{
	int i;

	CHECK(has_lbrv());
	prepare(guest_branches);
	poison_stack();
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	check_branches();
	for (i = 7; i < LBR_DEPTH; i++)
		CHECK_EQ(VMCB_TO(i), 0);
	CHECK_EQ(vmcb.dbgextnctl, LBRV2EN);
	/* the host finds the guest's stack, and its own enable bit */
	CHECK_EQ(rdmsr(DBG_EXTN_CFG), 0);
	for (i = 0; i < LBR_DEPTH; i++) {
		CHECK_EQ(rdmsr(LBR_FROM(i)), vmcb.lbr_stack[2 * i]);
		CHECK_EQ(rdmsr(LBR_TO(i)), vmcb.lbr_stack[2 * i + 1]);
	}

	/* the next run pushes seven more on top, whatever is in the registers */
	poison_stack();
	wrmsr(LBR_SELECT, 0x1ff);
	vmcb.rip += 3;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	check_branches();
	CHECK_EQ(VMCB_FROM(7), lbr_end);
	CHECK_EQ(VMCB_FROM(13 - 2), lbr_jnz);
	CHECK_EQ(VMCB_TO(13), (u64)lbr_code_asm | VALID);
	CHECK_EQ(VMCB_TO(14), 0);
	CHECK_EQ(rdmsr(LBR_SELECT), 0);

	/* without the VMCB's bit nothing is switched */
	svm_setup(guest_branches);
	vmcb.dbgextnctl = LBRV2EN;
	vmrun(&vmcb);
	CHECK_EQ(VMCB_TO(0), 0);
}

/* a guest that does not record, under a host that does */
static void host_records(void)
{
	static const u32 on = LBRV2EN;
	int i;

	prepare(guest_branches);
	vmcb.dbgextnctl = 0;
	vmcb.lbr_stack[0] = 0x1234;
	vmcb.lbr_select = 0x1fc;
	wrmsr(DBG_EXTN_CFG, on);
	vmrun(&vmcb);
	CHECK_EQ(rdmsr(DBG_EXTN_CFG), on);
	wrmsr(DBG_EXTN_CFG, 0);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(vmcb.lbr_stack[0], 0x1234);
	for (i = 1; i < LBR_DEPTH; i++)
		CHECK_EQ(VMCB_TO(i), 0);
	/* the host records on, with the guest's filter: suppress all */
	CHECK_EQ(rdmsr(LBR_SELECT), 0x1fc);
	CHECK_EQ(rdmsr(LBR_FROM(0)), 0x1234);

	/* the next branch is the host's, the second next record the guest's */
	prepare(guest_branches);
	wrmsr(DBG_EXTN_CFG, on);
	vmrun(&vmcb);
	wrmsr(DBG_EXTN_CFG, 0);
	check_branches();
	for (i = 0; i < LBR_DEPTH && FROM(i) != (u64)lbr_end; i++)
		CHECK(FROM(i) > (u64)vmrun_insn);
	CHECK(i > 0 && i < LBR_DEPTH);
}

static void guest_select(void)
{
	static const struct { u64 select; int records; } expect[] = {
		{ 0x000, 7 }, { 0x001, 0 }, { 0x002, 7 }, { 0x004, 5 },
		{ 0x008, 5 }, { 0x020, 5 }, { 0x1fc, 0 },
	};
	int i, n;
	u32 e;

	for (e = 0; e < sizeof(expect) / sizeof(expect[0]); e++) {
		prepare(guest_branches);
		vmcb.lbr_select = expect[e].select;
		vmrun(&vmcb);
		for (i = n = 0; i < LBR_DEPTH; i++)
			n += !!(VMCB_TO(i) & VALID);
		CHECK_EQ(n, expect[e].records);
		CHECK_EQ(vmcb.lbr_select, expect[e].select);
	}
}

/* --- freezing ---------------------------------------------------------------- */

extern char guest_loop[], guest_jnz[];
asm(".text\n"
    "guest_loop: movl $50, %ebx\n"
    "1:\tdecl %ebx\n"
    "guest_jnz: jnz 1b\n\t"
    "call lbr_code_asm\n\t"
    "vmmcall");

/* run guest_loop, with an overflow at its third branch */
static void run_to_overflow(u64 guest_ctl, u64 host_ctl)
{
	prepare((void (*)(void))guest_loop);
	vmcb.dbgctl = guest_ctl;
	prepare_pmi(APIC_DM_NMI);
	wrmsr(DEBUGCTL, host_ctl);
	start(0, CONDITIONAL | ALL | INT | GUEST_ONLY, WRAP - 3);
	wrmsr(GLOBAL_CTL, 1);
	vmrun(&vmcb);
	wrmsr(GLOBAL_CTL, 0);
	stop(0);
	CHECK_EQ(vmcb.exit_code, EXIT_NMI);
	CHECK_EQ(rdmsr(DEBUGCTL), host_ctl);
	CHECK_EQ(vmcb.dbgctl, guest_ctl);
	CHECK_EQ(VMCB_FROM(0), guest_jnz);
	CHECK_EQ(VMCB_FROM(2), guest_jnz);
	CHECK_EQ(VMCB_TO(3), 0);
}

static void freeze(void)
{
	run_to_overflow(FREEZE_LBR, 0);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), LBR_FROZEN | 1);
	/* frozen until the status is cleared */
	stgi();
	clgi();
	CHECK_EQ(interrupts, 1);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(VMCB_TO(3), 0);
	vmcb.rip = (u64)guest_loop;
	wrmsr(STATUS_CLR, ~0ul);
	vmrun(&vmcb);
	check_branches();

	/* the host's DebugCtl is not the guest's */
	run_to_overflow(0, FREEZE_LBR);
	CHECK_EQ(rdmsr(GLOBAL_STATUS), 1);
	wrmsr(DEBUGCTL, 0);
}

/* --- the last branch, by DebugCtl -------------------------------------------- */

extern char guest_int_at[], guest_int_jmp[];
static void guest_int(void)
{
	asm volatile("guest_int_jmp: jmp guest_int_at\n\tnop\n"
		     "guest_int_at: int3\n\tvmmcall");
}

static void int3_handler(struct regs *regs)
{
	(void)regs;
	asm volatile("vmmcall");
}

static void last_branch(void)
{
	u64 from;

	trap_fns[3] = do_nothing;
	asm volatile("wrmsr\n\tcall lbr_code_asm\n\t"
		     "xorl %%eax, %%eax\n\twrmsr"
		     : : "c"(DEBUGCTL), "a"((u32)LBR), "d"(0) : "rbx", "memory", "cc");
	CHECK_EQ(rdmsr(BR_FROM), lbr_end);
	from = rdmsr(BR_FROM);
	CHECK(wrmsr_faults(BR_FROM, 0));
	CHECK(wrmsr_faults(INT_TO, 0));

	trap_fns[3] = int3_handler;
	prepare(guest_int);
	vmcb.dbgextnctl = 0;
	vmcb.dbgctl = LBR;
	vmcb.br_from = 0x1234;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(vmcb.last_excp_from, guest_int_jmp);
	CHECK_EQ(vmcb.last_excp_to, guest_int_at);
	CHECK_EQ(vmcb.dbgctl, LBR);
	CHECK(vmcb.br_from != 0x1234);
	CHECK_EQ(VMCB_TO(0), 0);
	CHECK_EQ(rdmsr(DEBUGCTL), 0);
	CHECK_EQ(rdmsr(BR_FROM), from);
	CHECK_EQ(rdmsr(INT_FROM), 0);
}

/* --- VMRUN itself ---------------------------------------------------------------- */

#define INJECTED	0x51

static void guest_never_starts(void)
{
	for (;;)
		asm volatile("vmmcall");
}

static void leave_guest(struct regs *regs)
{
	(void)regs;
	asm volatile("vmmcall");
}

static void injected(void)
{
	trap_fns[INJECTED] = leave_guest;
	prepare(guest_never_starts);
	vmcb.lbr_select = 0x0fc;		/* far branches only */
	vmcb.event_inj = EVENTINJ_INTR | INJECTED;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
	CHECK_EQ(VMCB_FROM(0), guest_never_starts);
	CHECK_EQ(VMCB_TO(1), 0);
}

static void failed_vmrun(void)
{
	prepare(guest_branches);
	vmcb.dr7 = 1ul << 32;
	vmcb.dbgctl = FREEZE_LBR;
	vmcb.lbr_stack[0] = 0x1234;
	poison_stack();
	vmrun(&vmcb);
	CHECK_EQ((u32)vmcb.exit_code, EXIT_INVALID);
	CHECK_EQ(vmcb.lbr_stack[0], 0x1234);
	CHECK_EQ(rdmsr(LBR_FROM(0)), POISON(0));
	CHECK_EQ(rdmsr(DEBUGCTL), 0);
	CHECK_EQ(rdmsr(DBG_EXTN_CFG), 0);
}

/* --- save and restore -------------------------------------------------------- */

static void migration(void)
{
	trap_fns[3] = do_nothing;
	asm volatile("wrmsr\n\tcall lbr_code_asm\n\tint3\n\t"
		     "xorl %%eax, %%eax\n\txorl %%edx, %%edx\n\t"
		     "movl %0, %%ecx\n\twrmsr"
		     : : "i"(DEBUGCTL), "c"(DEBUGCTL), "a"((u32)LBR), "d"(0)
		     : "rbx", "memory", "cc");
	CHECK_EQ(rdmsr(INT_FROM), lbr_end);
	CHECK(rdmsr(BR_FROM) != (u64)lbr_end);
	prepare(guest_branches);
	vmrun(&vmcb);
	wait_for_migration();
	CHECK_EQ(rdmsr(INT_FROM), lbr_end);
	vmcb.rip += 3;
	vmrun(&vmcb);
	check_branches();
	CHECK_EQ(VMCB_FROM(7), lbr_end);
}

const struct test pmu_lbrv_tests[] = {
	{ "pmu_lbrv_absent", absent, "icount" },
	{ "pmu_lbrv_guest_records", guest_records, "lbrv" },
	{ "pmu_lbrv_host_records", host_records, "lbrv" },
	{ "pmu_lbrv_guest_select", guest_select, "lbrv" },
	{ "pmu_lbrv_freeze", freeze, "lbrv" },
	{ "pmu_lbrv_last_branch", last_branch, "lbrv" },
	{ "pmu_lbrv_injected", injected, "lbrv" },
	{ "pmu_lbrv_failed_vmrun", failed_vmrun, "lbrv" },
	{ "pmu_lbrv_migration", migration, "migrate" },
	{ },
};
