// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PMU and SVM: guest and host filters, overflow in a guest, intercepts of
 * RDPMC and of the registers.
 */
#include "pmu.h"

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
	/* VMMCALL exits and does not complete.  VMRUN counts for the host. */
	CHECK_EQ(guest, 20 + (vmcb.rip - (u64)guest_nops - 20));
	CHECK_EQ(guest + host, all);
	CHECK_EQ(rdpmc(3), all);
	CHECK_EQ(rdpmc(4), 0);

	/* the hypervisor steps over VMMCALL: the guest counts one more NOP */
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
	/* XOR, MOV, XOR and MOV; not the three intercepted instructions */
	CHECK_EQ(stop(0), 4);

	/* the permission map lets reads through: RDMSR does not exit */
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

extern void guest_rdpmc_rax(void);
asm(".text\n"
    "guest_rdpmc_rax: movl %eax, %ecx\n\t"
    "rdpmc\n\t"
    "vmmcall");

/* RDPMC of counter INDEX at CPL in a guest that intercepts RDPMC and #GP */
static u64 exit_of_rdpmc(u32 index, int cpl)
{
	svm_setup(guest_rdpmc_rax);
	vmcb.intercept3 |= INTERCEPT_RDPMC;
	vmcb.exceptions = 1u << 13;
	vmcb.rax = index;
	if (cpl == 3) {
		vmcb.cs = (struct vmcb_seg){ 0x23, 0xafb, 0xffffffff, 0 };
		vmcb.ss = (struct vmcb_seg){ 0x1b, 0xcf3, 0xffffffff, 0 };
		vmcb.cpl = 3;
	}
	vmrun(&vmcb);
	CHECK_EQ(vmcb.rip, (u64)guest_rdpmc_rax + 2);
	return vmcb.exit_code;
}

/* #GP comes before the intercept */
static void rdpmc_order(void)
{
	u32 i;

	svm_setup(guest_rdpmc_rax);
	clgi();
	for (i = 0; i < COUNTERS; i++)
		CHECK_EQ(exit_of_rdpmc(i, 0), EXIT_RDPMC);
	CHECK_EQ(exit_of_rdpmc(COUNTERS, 0), EXIT_EXCP(13));
	CHECK_EQ(exit_of_rdpmc(~0u, 0), EXIT_EXCP(13));

	CHECK_EQ(exit_of_rdpmc(0, 3), EXIT_EXCP(13));
	write_cr(4, read_cr(4) | 1ul << 8);	/* PCE */
	CHECK_EQ(exit_of_rdpmc(0, 3), EXIT_RDPMC);
	CHECK_EQ(exit_of_rdpmc(COUNTERS, 3), EXIT_EXCP(13));
}

/* a software interrupt that exits does not complete */
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

const struct test pmu_svm_tests[] = {
	{ "pmu_guest_and_host", guest_and_host, "icount" },
	{ "pmu_guest_overflow", guest_overflow, "icount" },
	{ "pmu_intercepts", intercepts, "icount" },
	{ "pmu_rdpmc_order", rdpmc_order, "icount" },
	{ "pmu_intercepted_int", intercepted_int, "icount" },
	{ },
};
