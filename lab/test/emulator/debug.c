// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Debug registers and SVM: VMRUN loads DR7 and DR6, #VMEXIT saves both and
 * disables the breakpoints of the host.  DR0 to DR3 are not switched.
 *
 * - a breakpoint of the VMCB's DR7 hits in the guest
 * - a breakpoint of the host does not hit in the guest
 * - a breakpoint set by the guest does not hit in the host
 * - #VMEXIT leaves DR7 disabled in the host, and the guest's in the VMCB
 * - an instruction that exits does not complete its data breakpoint
 * - DR7 with reserved bits makes VMRUN fail
 * - breakpoints survive save and restore
 * - the same with DR0 to DR3 and DR7 changed at random by host and guest
 */
#include "test.h"

#define DR7_DISABLED	0x400ul
#define DR6_CLEAR	0xffff0ff0ul
#define DR7_ENABLE(n)	(3ul << 2 * (n))
#define DR7_TYPE(n, t)	((u64)(t) << (16 + 4 * (n)))
#define DR7_LEN(n, l)	((u64)(l) << (18 + 4 * (n)))
#define EXEC		0
#define WRITE		1
#define IO		2
#define ACCESS		3
#define LEN_8		2
#define SLOTS		4

#define RFLAGS_RF	(1ul << 16)
#define CR4_DE		(1ul << 3)
#define EXCP_DB		1
#define EXCP_PF		14

#define read_dr(n) ({ u64 v_; asm volatile("mov %%dr" #n ", %0" : "=r"(v_)); v_; })
#define write_dr(n, v) asm volatile("mov %0, %%dr" #n : : "r"((u64)(v)) : "memory")

static void write_dr_n(int n, u64 val)
{
	switch (n) {
	case 0:
		write_dr(0, val);
		break;
	case 1:
		write_dr(1, val);
		break;
	case 2:
		write_dr(2, val);
		break;
	case 3:
		write_dr(3, val);
		break;
	}
}

/* --- what the breakpoints watch ----------------------------------------------- */

u64 watched[SLOTS] __attribute__((aligned(64)));

/* one address to execute for each slot, 16 bytes apart */
extern char targets[];
asm(".text\n\t"
    ".balign 16\n"
    "targets:\n\t"
    ".rept 4\n\t"
    ".balign 16\n\t"
    "nop\n\t"
    "ret\n\t"
    ".endr");

static u64 target_of(int n)
{
	return (u64)targets + 16 * n;
}

static volatile int hits[SLOTS];
static volatile int probed;	/* the slot probed now */

static void count_hit(struct regs *regs)
{
	hits[probed]++;
	CHECK_EQ(read_dr(6) >> probed & 1, 1);
	write_dr(6, DR6_CLEAR);
	regs->rflags |= RFLAGS_RF;
}

/* execute each target, write and read each watched word: count the #DBs */
static void probe(void)
{
	int n;

	for (n = 0; n < SLOTS; n++) {
		probed = n;
		hits[n] = 0;
		asm volatile("call *%0" : : "r"(target_of(n)) : "memory");
		asm volatile("movq %0, (%1)" : : "r"(0ul), "r"(&watched[n]) : "memory");
		asm volatile("movq (%0), %%rax" : : "r"(&watched[n]) : "rax", "memory");
	}
}

/* the number of #DBs that probe() must take at slot N */
static int expected_hits(int n, u64 dr7, u64 addr)
{
	if (!(dr7 & DR7_ENABLE(n)))
		return 0;
	switch (dr7 >> (16 + 4 * n) & 3) {
	case EXEC:
		return addr == target_of(n);
	case WRITE:
		return addr == (u64)&watched[n];
	case ACCESS:
		return addr == (u64)&watched[n] ? 2 : 0;
	default:
		return 0;
	}
}

static void check_hits(u64 dr7, const u64 addr[SLOTS])
{
	int n;

	for (n = 0; n < SLOTS; n++)
		CHECK_EQ(hits[n], expected_hits(n, dr7, addr[n]));
}

static void set_up(void (*guest)(void))
{
	write_cr(4, read_cr(4) | CR4_DE);
	trap_fns[EXCP_DB] = count_hit;
	svm_setup(guest);
	clgi();
}

static void guest_probe(void)
{
	probe();
	asm volatile("vmmcall");
}

/* --- one breakpoint -------------------------------------------------------------- */

static const u64 exec_0 = DR7_DISABLED | DR7_ENABLE(0) | DR7_TYPE(0, EXEC);
static const u64 write_0 = DR7_DISABLED | DR7_ENABLE(0) | DR7_TYPE(0, WRITE) |
			   DR7_LEN(0, LEN_8);

/* the VMCB's DR7 is in force from the guest's first instruction on */
static void vmrun_loads_dr7(void)
{
	set_up(guest_probe);
	vmcb.exceptions = 1u << EXCP_DB;
	vmcb.dr7 = exec_0;
	write_dr(0, target_of(0));
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(EXCP_DB));
	CHECK_EQ(vmcb.rip, target_of(0));
	CHECK_EQ(vmcb.dr6 & 0xf, 1);

	svm_setup(guest_probe);
	vmcb.exceptions = 1u << EXCP_DB;
	vmcb.dr7 = write_0;
	write_dr(0, &watched[0]);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(EXCP_DB));
	CHECK_EQ(vmcb.dr6 & 0xf, 1);
}

/* the host's breakpoints: not in the guest, nor after #VMEXIT */
static void vmexit_disables_dr7(void)
{
	static const u64 dr7[] = { exec_0, write_0 };
	u64 addr[] = { target_of(0), (u64)&watched[0] };
	int i;

	for (i = 0; i < 2; i++) {
		set_up(guest_probe);
		write_dr(0, addr[i]);
		write_dr(7, dr7[i]);
		probe();
		CHECK_EQ(hits[0], 1);
		vmrun(&vmcb);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		CHECK_EQ(hits[0], 0);
		CHECK_EQ(vmcb.dr7, DR7_DISABLED);
		CHECK_EQ(read_dr(7), DR7_DISABLED);
		CHECK_EQ(read_dr(0), addr[i]);
		probe();
		CHECK_EQ(hits[0], 0);
	}
}

/*
 * The guest enables DR0 as one kind and exits.  The next VMRUN loads a DR7
 * with DR0 of the other kind, and the guest disables DR0.  Both orders.
 */
static void guest_sets_dr7(void)
{
	asm volatile("movq %rax, %dr7\n\tvmmcall");
}

static void change_of_kind(void)
{
	static const u64 dr7[] = { exec_0, write_0, exec_0 };
	int i;

	for (i = 0; i < 2; i++) {
		set_up(guest_sets_dr7);
		write_dr(0, target_of(0));
		vmcb.rax = dr7[i];
		vmrun(&vmcb);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		CHECK_EQ(vmcb.dr7, dr7[i]);
		probe();
		CHECK_EQ(hits[0], 0);

		svm_setup(guest_sets_dr7);
		vmcb.dr7 = dr7[i + 1];
		vmcb.rax = DR7_DISABLED;
		vmrun(&vmcb);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		CHECK_EQ(vmcb.dr7, DR7_DISABLED);
		probe();
		CHECK_EQ(hits[0], 0);
	}
}

/* --- a data breakpoint in an instruction that exits -------------------------------- */

extern char push_at[], push_end[];

static void guest_pushes(void)
{
	asm volatile("push_at: pushq watched\n"
		     "push_end: nop\n\t"
		     "vmmcall");
}

/* PUSH reads the watched word, then faults on its stack */
static void exit_drops_hit(void)
{
	u64 stack;

	set_up(guest_pushes);
	stack = vmcb.rsp;
	vmcb.exceptions = 1u << EXCP_DB | 1u << EXCP_PF;
	vmcb.rip = (u64)push_at;
	vmcb.rsp = 1ul << 40;
	vmcb.dr7 = DR7_DISABLED | DR7_ENABLE(0) | DR7_TYPE(0, ACCESS) |
		   DR7_LEN(0, LEN_8);
	write_dr(0, &watched[0]);
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(EXCP_PF));
	CHECK_EQ(vmcb.rip, push_at);
	CHECK_EQ(vmcb.dr6 & 0xf, 0);
	/* nothing is pending in the host */
	probe();
	CHECK_EQ(hits[0], 0);
	write_dr(7, write_0);
	probe();
	CHECK_EQ(hits[0], 1);
	write_dr(7, DR7_DISABLED);

	/* with a stack, PUSH completes, and the breakpoint is reported behind it */
	vmcb.rsp = stack;
	vmrun(&vmcb);
	CHECK_EQ(vmcb.exit_code, EXIT_EXCP(EXCP_DB));
	CHECK_EQ(vmcb.rip, push_end);
	CHECK_EQ(vmcb.dr6 & 0xf, 1);
}

/* --- reserved bits ------------------------------------------------------------------- */

static void reserved_bits(void)
{
	set_up(guest_probe);
	vmcb.dr7 = DR7_DISABLED | 1ul << 32;
	vmrun(&vmcb);
	CHECK_EQ((u32)vmcb.exit_code, EXIT_INVALID);

	svm_setup(guest_probe);
	vmcb.dr6 = DR6_CLEAR | 1ul << 32;
	vmrun(&vmcb);
	CHECK_EQ((u32)vmcb.exit_code, EXIT_INVALID);
}

/* --- save and restore ------------------------------------------------------------------ */

static void migration(void)
{
	u64 addr[SLOTS] = { target_of(0), (u64)&watched[1] };
	u64 dr7 = exec_0 | DR7_ENABLE(1) | DR7_TYPE(1, WRITE) | DR7_LEN(1, LEN_8);

	trap_fns[EXCP_DB] = count_hit;
	write_dr(0, addr[0]);
	write_dr(1, addr[1]);
	write_dr(7, dr7);
	wait_for_migration();
	CHECK_EQ(read_dr(7), dr7);
	probe();
	check_hits(dr7, addr);

	/* each slot changes its kind */
	dr7 = write_0 | DR7_ENABLE(1) | DR7_TYPE(1, EXEC);
	addr[0] = (u64)&watched[0];
	addr[1] = target_of(1);
	write_dr(0, addr[0]);
	write_dr(1, addr[1]);
	write_dr(7, dr7);
	probe();
	check_hits(dr7, addr);
}

/* --- random orders ------------------------------------------------------------------- */

static u64 random_dr7(void)
{
	u64 dr7 = DR7_DISABLED | (rnd() & 0xff);
	int n;

	for (n = 0; n < SLOTS; n++) {
		u64 type = rnd() % 4;

		dr7 |= DR7_TYPE(n, type);
		if (type != EXEC)
			dr7 |= DR7_LEN(n, LEN_8);
	}
	return dr7;
}

static u64 address[SLOTS];	/* DR0 to DR3 */
static u64 guest_dr7;

static void change_address(void)
{
	int n = rnd() % SLOTS;

	address[n] = rnd() % 2 ? target_of(n) : (u64)&watched[n];
	write_dr_n(n, address[n]);
}

static void guest_changes(void)
{
	while (rnd() % 2)
		change_address();
	if (rnd() % 2) {
		guest_dr7 = random_dr7();
		write_dr(7, guest_dr7);
	}
	while (rnd() % 2)
		change_address();
	probe();
	asm volatile("vmmcall");
}

static void random_orders(void)
{
	int i, total = 0;
	u64 dr7;

	for (i = 0; i < 2000; i++) {
		set_up(guest_changes);
		dr7 = DR7_DISABLED;
		while (rnd() % 2) {
			dr7 = random_dr7();
			write_dr(7, dr7);
			change_address();
		}
		probe();
		check_hits(dr7, address);

		guest_dr7 = rnd() % 4 ? random_dr7() : DR7_DISABLED;
		vmcb.dr7 = guest_dr7;
		vmrun(&vmcb);
		CHECK_EQ(vmcb.exit_code, EXIT_VMMCALL);
		CHECK_EQ(vmcb.dr7, guest_dr7);
		check_hits(guest_dr7, address);
		total += hits[0] + hits[1] + hits[2] + hits[3];

		CHECK_EQ(read_dr(7), DR7_DISABLED);
		probe();
		check_hits(DR7_DISABLED, address);
		stgi();
	}
	CHECK(total > 1000);
}

const struct test debug_tests[] = {
	{ "debug_vmrun_loads_dr7", vmrun_loads_dr7, "stock" },
	{ "debug_vmexit_disables_dr7", vmexit_disables_dr7, "stock" },
	{ "debug_change_of_kind", change_of_kind, "stock" },
	{ "debug_exit_drops_hit", exit_drops_hit, "stock" },
	{ "debug_reserved_bits", reserved_bits, "stock" },
	{ "debug_migration", migration, "migrate" },
	{ "debug_random_orders", random_orders, "stock" },
	{ },
};
