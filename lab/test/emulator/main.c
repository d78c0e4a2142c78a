// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bare-metal tests of the emulated CPU: start, report, traps, SVM set-up.
 *
 * The command line names the case to run, or is "list".  Text goes to QEMU's
 * debug console, the verdict to its isa-debug-exit device.
 */
#include <stdarg.h>
#include "test.h"

#define DEBUG_PORT	0xe9
#define EXIT_PORT	0xf4
#define VERDICT_PASS	0x10
#define VERDICT_FAIL	0x11
#define MAX_FAILURES	6

#define MSR_EFER	0xc0000080
#define MSR_HSAVE	0xc0010117
#define EFER_SVME	0x1000

static int failures;
static const char *current;

/* --- report ------------------------------------------------------------- */

static void putc(char c)
{
	outb(DEBUG_PORT, c);
}

static void put_number(u64 n, unsigned int base, int negative)
{
	char buf[24];
	int i = 0;

	if (negative)
		putc('-');
	do {
		buf[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	while (i)
		putc(buf[--i]);
}

void print(const char *fmt, ...)
{
	va_list ap;
	const char *s;
	long n;

	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			putc(*fmt);
			continue;
		}
		switch (*++fmt) {
		case 's':
			for (s = va_arg(ap, const char *); *s; s++)
				putc(*s);
			break;
		case 'd':
			n = va_arg(ap, long);
			put_number(n < 0 ? -(u64)n : (u64)n, 10, n < 0);
			break;
		case 'u':
			put_number(va_arg(ap, u64), 10, 0);
			break;
		case 'x':
			put_number(va_arg(ap, u64), 16, 0);
			break;
		}
	}
	va_end(ap);
}

void fail(const char *file, int line)
{
	if (++failures > MAX_FAILURES) {
		print("# %s: too many failures, stopped\n", current);
		finish();
	}
	print("# %s: %s:%d\n", current, file, (long)line);
}

void finish(void)
{
	outb(EXIT_PORT, failures ? VERDICT_FAIL : VERDICT_PASS);
	for (;;)
		asm volatile("hlt");
}

u64 rnd(void)
{
	static u64 seed = 88172645463325252ul;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* --- traps ---------------------------------------------------------------- */

struct gate {
	u16 offset_0, selector;
	u8 ist, type;
	u16 offset_1;
	u32 offset_2, zero;
} __attribute__((packed));

extern struct gate idt[256];
extern char idt_desc[], stubs[], user_done[];

trap_fn trap_fns[256];
static u64 fixup;		/* the address to continue at after an expected #GP */

void trap(struct regs *regs);
void trap(struct regs *regs)
{
	if (trap_fns[regs->vector]) {
		trap_fns[regs->vector](regs);
		return;
	}
	if (regs->vector == 13 && fixup) {
		regs->rip = fixup;
		regs->rbx = 1;
		fixup = 0;
		return;
	}
	fail(__FILE__, __LINE__);
	print("#   unexpected trap %d, error 0x%x, at 0x%x:0x%x, cr2 0x%x\n",
	      regs->vector, regs->error, regs->cs, regs->rip, read_cr(2));
	finish();
}

/* the INT 0x80 of user_exit() */
static void leave_user(struct regs *regs)
{
	regs->rip = (u64)user_done;
	regs->cs = 0x08;
	regs->ss = 0x10;
}

static void setup_idt(void)
{
	int i;

	for (i = 0; i < 256; i++) {
		u64 addr = (u64)stubs + 16 * i;

		idt[i].offset_0 = addr;
		idt[i].offset_1 = addr >> 16;
		idt[i].selector = 0x08;
		idt[i].type = 0xee;	/* interrupt gate, DPL 3 */
	}
	asm volatile("lidt (%0)" : : "r"(idt_desc));
	trap_fns[0x80] = leave_user;
}

#define FAULTS(insn, ...) ({						\
	u64 faulted_;							\
	asm volatile("xorl %%ebx, %%ebx\n\t"				\
		     "movq $1f, %1\n\t" insn "\n1:"			\
		     : "=&b"(faulted_), "+m"(fixup), ##__VA_ARGS__);	\
	fixup = 0;							\
	faulted_;							\
})

int rdmsr_faults(u32 msr, u64 *val)
{
	u32 lo = 0, hi = 0;
	int f = FAULTS("rdmsr", "+a"(lo), "+d"(hi) : "c"(msr) : "memory");

	*val = lo | (u64)hi << 32;
	return f;
}

int wrmsr_faults(u32 msr, u64 val)
{
	u32 lo = val, hi = val >> 32;

	return FAULTS("wrmsr", "+a"(lo), "+d"(hi) : "c"(msr) : "memory");
}

int rdpmc_faults(u32 index, u64 *val)
{
	u32 lo = 0, hi = 0;
	int f = FAULTS("rdpmc", "+a"(lo), "+d"(hi) : "c"(index) : "memory");

	*val = lo | (u64)hi << 32;
	return f;
}

/* --- APIC and the second CPU --------------------------------------------------- */

static void (*volatile cpu1_fn)(void);

void apic_enable(void)
{
	APIC(APIC_SPIV) = 0x1ff;
}

void ap_main(void);
void ap_main(void)
{
	apic_enable();
	cpu1_fn();
}

void start_cpu1(void (*fn)(void))
{
	extern char ap_start[], ap_end[];
	char *to = (char *)0x8000ul;
	const char *from;

	for (from = ap_start; from < ap_end; from++)
		*to++ = *from;
	cpu1_fn = fn;
	APIC(APIC_ICR + 0x10) = 1u << 24;
	APIC(APIC_ICR) = 0x4500;		/* INIT */
	APIC(APIC_ICR + 0x10) = 1u << 24;
	APIC(APIC_ICR) = 0x4608;		/* start-up, page 8 */
}

/* --- save and restore ---------------------------------------------------------- */

#define COM1_LSR	0x3fd

void wait_for_migration(void)
{
	u8 status;

	print("ready\n");
	do {
		asm volatile("inb %1, %0" : "=a"(status) : "Nd"((u16)COM1_LSR));
	} while (!(status & 1));
}

/* --- SVM --------------------------------------------------------------------- */

struct vmcb vmcb;
u8 msrpm[8192] __attribute__((aligned(4096)));
static u8 iopm[3 * 4096] __attribute__((aligned(4096)));
static u8 hsave[4096] __attribute__((aligned(4096)));
static u8 guest_stack[8192] __attribute__((aligned(4096)));

void svm_setup(void (*fn)(void))
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_HSAVE, (u64)hsave);

	__builtin_memset(&vmcb, 0, sizeof(vmcb));
	vmcb.intercept3 = INTERCEPT_NMI | INTERCEPT_HLT;
	vmcb.intercept4 = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
	vmcb.iopm = (u64)iopm;
	vmcb.msrpm = (u64)msrpm;
	vmcb.asid = 1;
	vmcb.cs = (struct vmcb_seg){ 0x08, 0xa9b, 0xffffffff, 0 };
	vmcb.ss = vmcb.ds = vmcb.es = (struct vmcb_seg){ 0x10, 0xc93, 0xffffffff, 0 };
	vmcb.gdtr.limit = 0xffff;
	asm volatile("sgdt %0" : "=m"(*(struct { u8 b[10]; } *)guest_stack));
	vmcb.gdtr.limit = *(u16 *)guest_stack;
	vmcb.gdtr.base = *(u64 *)(guest_stack + 2);
	vmcb.idtr.limit = 16 * 256 - 1;
	vmcb.idtr.base = (u64)idt;
	vmcb.efer = rdmsr(MSR_EFER);
	vmcb.cr0 = read_cr(0);
	vmcb.cr3 = read_cr(3);
	vmcb.cr4 = read_cr(4);
	vmcb.dr6 = 0xffff0ff0;
	vmcb.dr7 = 0x400;
	vmcb.rflags = 2;
	vmcb.rip = (u64)fn;
	vmcb.rsp = (u64)guest_stack + sizeof(guest_stack);
}

/* --- start --------------------------------------------------------------------- */

static const struct test *const groups[] = {
	svm_tests, debug_tests, pmu_count_tests, pmu_overflow_tests,
	pmu_svm_tests, pmu_lbr_tests, pmu_lbrv_tests, pmu_machine_tests,
};

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

void main(const u32 *start_info);
void main(const u32 *start_info)
{
	const char *cmdline = (const char *)(u64)start_info[6];
	const struct test *t;
	unsigned int i;

	current = cmdline;
	setup_idt();
	apic_enable();
	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		for (t = groups[i]; t->name; t++) {
			if (same(cmdline, "list")) {
				print("%s %s\n", t->name, t->machine);
			} else if (same(cmdline, t->name)) {
				t->fn();
				finish();
			}
		}
	}
	if (!same(cmdline, "list"))
		fail(__FILE__, __LINE__);
	finish();
}

/* the compiler may call memset() */
void *memset(void *s, int c, u64 n);
void *memset(void *s, int c, u64 n)
{
	u8 *p = s;

	while (n--)
		*(volatile u8 *)p++ = c;
	return s;
}
