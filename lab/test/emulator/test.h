/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests of the emulated CPU: routines for test cases.
 */
#ifndef TEST_H
#define TEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/*
 * A case runs in a virtual machine of its own.  MACHINE names the machine's
 * options in run.sh ("icount", "smp2", ...).  The first word of a case's name
 * is its group.
 */
struct test {
	const char *name;
	void (*fn)(void);
	const char *machine;
};

extern const struct test svm_tests[], debug_tests[], pmu_count_tests[];
extern const struct test pmu_overflow_tests[], pmu_svm_tests[], pmu_lbr_tests[];
extern const struct test pmu_lbrv_tests[], pmu_machine_tests[];

/* --- report ------------------------------------------------------------- */

void print(const char *fmt, ...);	/* %s %d %u %x, all 64 bits wide */
void fail(const char *file, int line);
void __attribute__((noreturn)) finish(void);

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fail(__FILE__, __LINE__);				\
		print("#   not true: %s\n", #cond);			\
	}								\
} while (0)

#define CHECK_EQ(got, want) do {					\
	u64 got_ = (u64)(got), want_ = (u64)(want);			\
	if (got_ != want_) {						\
		fail(__FILE__, __LINE__);				\
		print("#   %s is %d (0x%x), expected %d (0x%x)\n",	\
		      #got, got_, got_, want_, want_);			\
	}								\
} while (0)

u64 rnd(void);		/* the same sequence in every run */

/* --- instructions -------------------------------------------------------- */

static inline void outb(u16 port, u8 val)
{
	asm volatile("outb %0, %1" : : "a"(val), "Nd"(port));
}

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 val)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)val), "d"((u32)(val >> 32))
		     : "memory");
}

static inline u64 rdpmc(u32 index)
{
	u32 lo, hi;

	asm volatile("rdpmc" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return lo | (u64)hi << 32;
}

static inline void cpuid(u32 leaf, u32 subleaf, u32 r[4])
{
	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
		     : "a"(leaf), "c"(subleaf));
}

static inline u64 xgetbv0(void)
{
	u32 lo, hi;

	asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo | (u64)hi << 32;
}

#define read_cr(n) ({ u64 v_; asm volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })
#define write_cr(n, v) asm volatile("mov %0, %%cr" #n : : "r"((u64)(v)) : "memory")

static inline void stgi(void) { asm volatile("stgi" : : : "memory"); }
static inline void clgi(void) { asm volatile("clgi" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline void cli(void) { asm volatile("cli" : : : "memory"); }

static inline void invlpg(void *p)
{
	asm volatile("invlpg (%0)" : : "r"(p) : "memory");
}

/* --- traps ---------------------------------------------------------------- */

struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* the handler of a vector; without a handler, a trap fails the case */
typedef void (*trap_fn)(struct regs *regs);
extern trap_fn trap_fns[256];

/* true if the access was answered by #GP */
int rdmsr_faults(u32 msr, u64 *val);
int wrmsr_faults(u32 msr, u64 val);
int rdpmc_faults(u32 index, u64 *val);

/* call FN at CPL 3; FN must end in user_exit() */
void run_user(void (*fn)(void));
#define user_exit() asm volatile("int $0x80")

/* start the second CPU at FN */
void start_cpu1(void (*fn)(void));

/*
 * Save this machine and go on in a second machine; for "migrate" only.  The
 * first machine spins until the save, the second machine has serial input.
 */
void wait_for_migration(void);

/* --- local APIC ------------------------------------------------------------ */

#define APIC(reg)	(*(volatile u32 *)(0xfee00000ul + (reg)))
#define APIC_ID		0x20
#define APIC_EOI	0xb0
#define APIC_SPIV	0xf0
#define APIC_ICR	0x300
#define APIC_LVTT	0x320
#define APIC_LVTPC	0x340
#define APIC_TMICT	0x380
#define APIC_TDCR	0x3e0

#define APIC_MASKED	0x10000
#define APIC_DM_NMI	0x400

void apic_enable(void);

/* --- SVM --------------------------------------------------------------------- */

struct vmcb_seg {
	u16 selector, attrib;
	u32 limit;
	u64 base;
} __attribute__((packed));

struct vmcb {
	u16 cr_read, cr_write, dr_read, dr_write;
	u32 exceptions;
	u32 intercept3, intercept4;
	u8 pad_1[0x40 - 0x14];
	u64 iopm, msrpm, tsc_offset;
	u32 asid;
	u8 tlb_ctl, pad_2[3];
	u32 int_ctl, int_vector;
	u64 int_state;
	u64 exit_code, exit_info_1, exit_info_2;
	u32 exit_int_info, exit_int_info_err;
	u64 nested_ctl;
	u8 pad_3[0xa8 - 0x98];
	u32 event_inj, event_inj_err;
	u64 nested_cr3, lbr_ctl;
	u8 pad_4[0x400 - 0xc0];

	struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 pad_5[43], cpl, pad_6[4];
	u64 efer;
	u8 pad_7[112];
	u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
	u8 pad_8[88];
	u64 rsp;
	u8 pad_9[24];
	u64 rax, star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip, cr2;
	u8 pad_10[32];
	u64 g_pat, dbgctl, br_from, br_to, last_excp_from, last_excp_to, dbgextnctl;
	u8 pad_11[0x670 - 0x2a0];
	u64 lbr_stack[32], lbr_select;
	u8 pad_12[0x1000 - 0x400 - 0x778];
} __attribute__((packed, aligned(4096)));

_Static_assert(__builtin_offsetof(struct vmcb, event_inj) == 0xa8, "control area");
_Static_assert(__builtin_offsetof(struct vmcb, rip) == 0x578, "save area");
_Static_assert(__builtin_offsetof(struct vmcb, cr2) == 0x640, "save area");
_Static_assert(__builtin_offsetof(struct vmcb, dbgctl) == 0x670, "save area");
_Static_assert(__builtin_offsetof(struct vmcb, lbr_select) == 0xb70, "save area");
_Static_assert(sizeof(struct vmcb) == 4096, "one page");

/* intercept3 */
#define INTERCEPT_INTR		(1u << 0)
#define INTERCEPT_NMI		(1u << 1)
#define INTERCEPT_RDPMC		(1u << 15)
#define INTERCEPT_SWINT		(1u << 21)
#define INTERCEPT_HLT		(1u << 24)
#define INTERCEPT_MSR		(1u << 28)
/* intercept4 */
#define INTERCEPT_VMRUN		(1u << 0)
#define INTERCEPT_VMMCALL	(1u << 1)
#define INTERCEPT_XSETBV	(1u << 13)

#define EXIT_EXCP(n)		(0x40 + (n))
#define EXIT_INTR		0x60
#define EXIT_NMI		0x61
#define EXIT_RDPMC		0x6f
#define EXIT_SWINT		0x75
#define EXIT_HLT		0x78
#define EXIT_MSR		0x7c
#define EXIT_VMMCALL		0x81
#define EXIT_XSETBV		0x8d
#define EXIT_INVALID		0xffffffff

#define EVENTINJ_INTR		(1u << 31)
#define V_IRQ			(1u << 8)
#define V_IGN_TPR		(1u << 20)
#define V_INTR_MASKING		(1u << 24)

extern struct vmcb vmcb;
extern u8 msrpm[8192];

/* make a guest that starts at FN and shares our memory, without NPT */
void svm_setup(void (*fn)(void));
void vmrun(struct vmcb *vmcb);		/* GIF clear before and after */
extern char vmrun_insn[];

#endif
