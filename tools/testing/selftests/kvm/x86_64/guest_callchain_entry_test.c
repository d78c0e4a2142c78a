// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the call chains that KVM reports to perf for samples of a guest's kernel go
 * on where the kernel was entered (CONFIG_KVM_GUEST_CALLCHAIN). The stacks are those of
 * a Linux with frame pointers, in 64-bit and 32-bit guests.
 *
 *  - Through a system call, an exception, and an interrupt with its own stack, chains
 *    lead to the user space that was interrupted, with exactly the frames on its stack.
 *  - exclude_callchain_{kernel,user} hold for the two parts, and so do the limits.
 *  - Saved registers that are not credible end the chain.
 *  - Samples do not change guest memory and cause no exit to user space.
 */
#include <linux/perf_event.h>
#include <stdint.h>

#include "guest_callchain.h"
#include "guest_sampler.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* must match arch/x86/kvm/guest_callchain.c */
#define MAX_LOOKUPS		80
#define MAX_KERNEL_SWITCHES	8
#define MAX_HIDDEN_FRAMES	127

/* the selectors of Linux */
#define KERNEL_CS		0x10
#define USER32_CS		0x23
#define USER_CS			0x33
#define KERNEL32_CS		0x60
#define KERNEL32_USER_CS	0x73

#define FLAGS			0x202
#define FLAGS_VM		BIT(17)

#define USER_STACK_GPA		(PAGE_4M + 0x8000)
#define INTERRUPT_STACK_GPA	(PAGE_4M + 0xa000)
#define USER_PAGES_GPA		(PAGE_4M + 0x10000)

#define USER_FRAMES		3
#define MAX_ENTRIES		160

/* struct pt_regs of 64-bit and 32-bit kernels, in words */
enum { BP64 = 4, IP64 = 16, CS64 = 17, FLAGS64 = 18, SP64 = 19, SIZE64 = 21 };
enum { BP32 = 5, IP32 = 12, CS32 = 13, FLAGS32 = 14, SP32 = 15, SIZE32 = 17 };

struct entry {
	struct guest *g;
	uint64_t user_code, user_stack, user_bp;
	uint64_t regs;			/* of the system call: at the top of the stack */
	unsigned int word, user_word;

	/* the chain that is wanted, after the IP */
	uint64_t want[MAX_ENTRIES];
	unsigned int nr;
	unsigned int may_lack;		/* as many of the last entries may be missing */
	bool no_start;			/* neither the marker of the kernel nor the IP */
};

FIXTURE(entry) {
	struct entry e;
};

FIXTURE_VARIANT(entry) {
	struct mode mode;
	uint16_t kernel_cs, user_cs;
	bool user64;
};

FIXTURE_VARIANT_ADD(entry, user64)
{
	.mode = { PAGING_64, true, 0, 1 },
	.kernel_cs = KERNEL_CS, .user_cs = USER_CS, .user64 = true,
};

FIXTURE_VARIANT_ADD(entry, user64_la57)
{
	.mode = { PAGING_LA57, true, 0, 1 },
	.kernel_cs = KERNEL_CS, .user_cs = USER_CS, .user64 = true,
};

FIXTURE_VARIANT_ADD(entry, compat)
{
	.mode = { PAGING_64, true, 0, 1 },
	.kernel_cs = KERNEL_CS, .user_cs = USER32_CS,
};

FIXTURE_VARIANT_ADD(entry, pae)
{
	.mode = { PAGING_PAE, false, 0, 1 },
	.kernel_cs = KERNEL32_CS, .user_cs = KERNEL32_USER_CS,
};

FIXTURE_VARIANT_ADD(entry, two_levels)
{
	.mode = { PAGING_32, false, 0, 1 },
	.kernel_cs = KERNEL32_CS, .user_cs = KERNEL32_USER_CS,
};

/* The offset in pt_regs of one of its words. */
static unsigned int regs_offset(const struct entry *e, int word64, int word32)
{
	return e->g->mode.code64 ? word64 * 8 : word32 * 4;
}

#define REGS_BP(e)	regs_offset(e, BP64, BP32)
#define REGS_IP(e)	regs_offset(e, IP64, IP32)
#define REGS_CS(e)	regs_offset(e, CS64, CS32)
#define REGS_FLAGS(e)	regs_offset(e, FLAGS64, FLAGS32)
#define REGS_SP(e)	regs_offset(e, SP64, SP32)
#define REGS_SIZE(e)	regs_offset(e, SIZE64, SIZE32)

/* Fill in pt_regs, and return its size. */
static unsigned int fill_regs(struct entry *e, void *regs, uint16_t cs, uint64_t ip,
			      uint64_t sp, uint64_t bp)
{
	const uint64_t flags = FLAGS, cs64 = cs;

	memset(regs, 0, REGS_SIZE(e));
	memcpy(regs + REGS_BP(e), &bp, e->word);
	memcpy(regs + REGS_IP(e), &ip, e->word);
	memcpy(regs + REGS_CS(e), &cs64, e->word);
	memcpy(regs + REGS_FLAGS(e), &flags, e->word);
	/* for an interrupt in the kernel, 32-bit kernels need not have SP and SS */
	if (!e->g->mode.code64 && !(cs & 3))
		return REGS_SP(e);
	memcpy(regs + REGS_SP(e), &sp, e->word);
	return REGS_SIZE(e);
}

static void put_regs(struct entry *e, uint64_t at, uint16_t cs, uint64_t ip, uint64_t sp,
		     uint64_t bp)
{
	uint8_t regs[SIZE64 * 8];
	unsigned int i, size = fill_regs(e, regs, cs, ip, sp, bp);
	uint64_t val = 0;

	for (i = 0; i < size; i += e->word) {
		memcpy(&val, regs + i, e->word);
		put_word(e->g, at + i, val);
	}
}

/* What the entry code of Linux puts into the frame pointer. */
static uint64_t encode(struct entry *e, uint64_t regs)
{
	return e->g->mode.code64 ? regs + 1 : regs & 0x7fffffff;
}

static uint64_t user_ip(struct entry *e)
{
	return e->user_code + 0x123;
}

static uint64_t user_return(struct entry *e, unsigned int n)
{
	return e->user_code + 0x200 + n * 0x10;
}

static void put_user_word(struct entry *e, uint64_t gpa, uint64_t val)
{
	memcpy(guest_hva(e->g, gpa), &val, e->user_word);
}

/* Frames of user space at distances of 0x100 bytes. The last has no caller. */
static void map_user(struct entry *e, bool user64)
{
	unsigned int i;

	e->user_word = user64 ? 8 : 4;
	e->user_code = user64 ? 0x400000 : 0x08048000;
	e->user_stack = user64 ? 0x7f0040000000 : 0x50000000;
	guest_map(e->g, e->user_code, CODE_GPA, 1, PTE_U);
	guest_map(e->g, e->user_stack, USER_STACK_GPA, 1, PTE_U | PTE_W);
	e->user_bp = e->user_stack + 0x100;
	for (i = 0; i < USER_FRAMES; i++) {
		uint64_t gpa = USER_STACK_GPA + 0x100 * (i + 1);
		uint64_t next = e->user_bp + 0x100 * (i + 1);

		put_user_word(e, gpa, i < USER_FRAMES - 1 ? next : 0);
		put_user_word(e, gpa + e->user_word, user_return(e, i));
	}
}

/* The last frame of a system call, with pt_regs above it, at the top of the stack. */
static void put_system_call(struct entry *e, uint16_t cs)
{
	e->regs = e->g->stack + 2 * PAGE_SIZE - REGS_SIZE(e);
	put_frame(e->g, frame_at(e->g, 0), e->regs - 2 * e->word, return_address(e->g, 0));
	put_frame(e->g, e->regs - 2 * e->word, e->g->mode.code64 ? 0 : e->user_bp,
		  return_address(e->g, 1));
	put_regs(e, e->regs, cs, user_ip(e), e->user_stack + 0x80, e->user_bp);
}

FIXTURE_SETUP(entry)
{
	struct entry *e = &self->e;

	if (variant->mode.paging == PAGING_LA57 && !kvm_cpu_has(X86_FEATURE_LA57))
		SKIP(return, "the host has no 5-level paging");
	e->g = guest_new(&variant->mode);
	e->word = variant->mode.code64 ? 8 : 4;
	map_user(e, variant->user64);
	put_system_call(e, variant->user_cs);
}

FIXTURE_TEARDOWN(entry)
{
	struct entry *e = &self->e;

	if (e->g)
		guest_free(e->g);
}

/* ---- what is wanted */

static void want(struct entry *e, uint64_t entry)
{
	TEST_ASSERT(e->nr < MAX_ENTRIES, "out of entries");
	e->want[e->nr++] = entry;
}

static void want_kernel_frames(struct entry *e)
{
	want(e, return_address(e->g, 0));
	want(e, return_address(e->g, 1));
}

static void want_user(struct entry *e, unsigned int frames)
{
	unsigned int i;

	want(e, PERF_CONTEXT_GUEST_USER);
	want(e, user_ip(e));
	for (i = 0; i < frames; i++)
		want(e, user_return(e, i));
}

static const char *check_entries(struct guest *g, const struct sample *sample, const void *data)
{
	const struct entry *e = data;
	unsigned int i, start = e->no_start ? 0 : 2;
	const char *why = e->no_start ? NULL : sample_check_start(g, sample);

	if (why)
		return why;
	if (sample->nr > start + e->nr || sample->nr + e->may_lack < start + e->nr)
		return "the number of entries is wrong";
	for (i = 0; i < sample->nr - start; i++)
		if (sample->ips[start + i] != e->want[i])
			return "an entry is wrong";
	return NULL;
}

static void expect_attr(struct entry *e, struct perf_event_attr *attr)
{
	expect_samples(e->g, attr, check_entries, e);
	e->nr = 0;
}

static void expect(struct entry *e)
{
	struct perf_event_attr attr = {};

	expect_attr(e, &attr);
}

/* ---- entries of the kernel */

TEST_F(entry, system_call)
{
	struct entry *e = &self->e;

	want_kernel_frames(e);
	want_user(e, USER_FRAMES);
	expect(e);
}

/* After SYSENTER, the frame pointer is the stack pointer of a 32-bit program. */
TEST_F(entry, sysenter)
{
	struct entry *e = &self->e;

	put_word(e->g, e->regs - 2 * e->word, e->user_stack + 0x80);
	want_kernel_frames(e);
	if (!e->g->mode.code64)
		want_user(e, USER_FRAMES);
	expect(e);
}

/* Below the top of the stack, Linux leaves two words free with FRED or for VM86. */
TEST_F(entry, system_call_below_the_padding)
{
	struct entry *e = &self->e;
	uint64_t regs = e->regs - 16;

	put_frame(e->g, frame_at(e->g, 0), regs - 2 * e->word,
		  return_address(e->g, 0));
	put_frame(e->g, regs - 2 * e->word, 0, return_address(e->g, 1));
	put_regs(e, regs, variant->user_cs, user_ip(e), e->user_stack + 0x80,
		 e->user_bp);
	want_kernel_frames(e);
	want_user(e, USER_FRAMES);
	expect(e);
}

/* The sample is in the entry code, which has no frame: the registers are next. */
TEST_F(entry, in_the_entry_code)
{
	struct entry *e = &self->e;

	e->g->rsp = e->regs;
	e->g->rbp = 0;
	want_user(e, USER_FRAMES);
	expect(e);

	e->g->rsp = e->regs - e->word;
	e->g->rbp = encode(e, e->regs);
	want_user(e, USER_FRAMES);
	expect(e);
}

TEST_F(entry, exception)
{
	struct entry *e = &self->e;
	uint64_t regs = e->g->stack + 0x800;

	put_frame(e->g, frame_at(e->g, 0), encode(e, regs), return_address(e->g, 0));
	put_regs(e, regs, variant->user_cs, user_ip(e), e->user_stack + 0x80,
		 e->user_bp);
	want(e, return_address(e->g, 0));
	want_user(e, USER_FRAMES);
	expect(e);
}

/* An interrupt in the kernel, during a system call. */
static void put_interrupt(struct entry *e, uint64_t at, uint16_t cs)
{
	put_frame(e->g, frame_at(e->g, 0), encode(e, at), return_address(e->g, 2));
	put_regs(e, at, cs, return_address(e->g, 3), at + REGS_SIZE(e),
		 frame_at(e->g, 1));
	put_frame(e->g, frame_at(e->g, 1), e->regs - 2 * e->word, return_address(e->g, 0));
}

TEST_F(entry, interrupt)
{
	struct entry *e = &self->e;

	put_interrupt(e, e->g->stack + 0x800, variant->kernel_cs);
	want(e, return_address(e->g, 2));
	want(e, return_address(e->g, 3));
	want_kernel_frames(e);
	want_user(e, USER_FRAMES);
	expect(e);
}

/*
 * The handler has a stack of its own, below or above the interrupted one. The stack
 * pointer of the interrupted stack is in the last word, or in 32-bit kernels in the first.
 */
static void put_interrupt_stack(struct entry *e, uint64_t stack)
{
	uint64_t top = stack + 2 * PAGE_SIZE - (e->g->mode.code64 ? e->word : 0);
	uint64_t link = e->g->mode.code64 ? top : stack;
	uint64_t frame = top - 2 * e->word;
	uint64_t gpa = INTERRUPT_STACK_GPA - stack;
	uint64_t values[] = { frame_at(e->g, 0), return_address(e->g, 2) };

	guest_map(e->g, stack, INTERRUPT_STACK_GPA, 1, PTE_W);
	guest_map(e->g, stack + PAGE_SIZE, INTERRUPT_STACK_GPA + PAGE_SIZE, 1, PTE_W);
	memcpy(guest_hva(e->g, gpa + frame), &values[0], e->word);
	memcpy(guest_hva(e->g, gpa + frame + e->word), &values[1], e->word);
	values[0] = e->g->stack + 0x40;
	memcpy(guest_hva(e->g, gpa + link), &values[0], e->word);
	e->g->rbp = frame;
	e->g->rsp = frame - 0x40;
}

static void expect_through_interrupt_stack(struct entry *e, uint64_t stack)
{
	put_interrupt_stack(e, stack);
	want(e, return_address(e->g, 2));
	want_kernel_frames(e);
	want_user(e, USER_FRAMES);
	expect(e);
}

TEST_F(entry, interrupt_stack)
{
	expect_through_interrupt_stack(&self->e, self->e.g->stack - 0x10000);
}

TEST_F(entry, interrupt_stack_above)
{
	expect_through_interrupt_stack(&self->e, self->e.g->stack + 0x10000);
}

/* The same frame and link, but not at the top of the stack. */
TEST_F(entry, interrupt_stack_amidst_the_stack)
{
	struct entry *e = &self->e;
	uint64_t stack = e->g->stack - 0x10000, frame;
	uint64_t gpa = INTERRUPT_STACK_GPA - stack;

	put_interrupt_stack(e, stack);
	frame = e->g->rbp - 0x10;
	memmove(guest_hva(e->g, gpa + frame), guest_hva(e->g, gpa + e->g->rbp), 3 * e->word);
	e->g->rbp = frame;
	e->g->rsp -= 0x10;
	want(e, return_address(e->g, 2));
	expect(e);
}

/* ---- attributes of the event */

TEST_F(entry, excluded)
{
	struct entry *e = &self->e;
	struct perf_event_attr no_kernel = { .exclude_callchain_kernel = 1 };
	struct perf_event_attr no_user = { .exclude_callchain_user = 1 };

	want_kernel_frames(e);
	expect_attr(e, &no_user);

	e->no_start = true;
	want_user(e, USER_FRAMES);
	expect_attr(e, &no_kernel);
}

/* The IP, frames of the kernel and of user space count alike; markers do not. */
TEST_F(entry, max_stack)
{
	struct entry *e = &self->e;
	struct perf_event_attr five = { .sample_max_stack = 5 };
	struct perf_event_attr three = { .sample_max_stack = 3 };

	want_kernel_frames(e);
	want_user(e, 1);
	expect_attr(e, &five);

	want_kernel_frames(e);
	want(e, PERF_CONTEXT_GUEST_USER);
	expect_attr(e, &three);
}

/* Frames of the kernel that are excluded do not count, except against a limit. */
TEST_F(entry, max_stack_excluded)
{
	struct entry *e = &self->e;
	struct perf_event_attr attr = { .sample_max_stack = 2, .exclude_callchain_kernel = 1 };
	uint64_t at = frame_at(e->g, 0), last = e->regs - 2 * e->word;
	unsigned int i;

	e->no_start = true;
	for (i = 1; i < MAX_HIDDEN_FRAMES; i++, at += 2 * e->word)
		put_frame(e->g, at, at + 2 * e->word, return_address(e->g, 0));
	put_frame(e->g, at - 2 * e->word, last, return_address(e->g, 0));
	want_user(e, 1);
	expect_attr(e, &attr);

	put_frame(e->g, at - 2 * e->word, at, return_address(e->g, 0));
	put_frame(e->g, at, last, return_address(e->g, 0));
	expect_attr(e, &attr);
}

/* ---- registers that are not credible */

TEST_F(entry, bad_cs)
{
	struct entry *e = &self->e;
	const uint16_t bad[] = { 0, 3, 8, 0x18, 0x1b, 0x2b, 0x37, 0x63, 0x70, 0x13, 0xffff };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		put_word(e->g, e->regs + REGS_CS(e), bad[i]);
		want_kernel_frames(e);
		expect(e);
	}

	/* the kernel makes no system calls */
	put_regs(e, e->regs, variant->kernel_cs, return_address(e->g, 3), e->g->stack,
		 e->user_bp);
	want_kernel_frames(e);
	expect(e);
	put_system_call(e, variant->user_cs);

	/* the selectors of the other kind of kernel */
	put_word(e->g, e->regs + REGS_CS(e),
		 e->g->mode.code64 ? KERNEL32_USER_CS : USER_CS);
	want_kernel_frames(e);
	expect(e);
}

TEST_F(entry, bad_flags)
{
	struct entry *e = &self->e;
	const uint32_t bad[] = { 0, ~2u, FLAGS | FLAGS_VM };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		put_word(e->g, e->regs + REGS_FLAGS(e), bad[i]);
		want_kernel_frames(e);
		expect(e);
	}
}

TEST_F(entry, bad_user_ip)
{
	struct entry *e = &self->e;
	const uint64_t bad[] = {
		0, e->g->code, BIT_ULL(63), variant->user64 ? BIT_ULL(60) : BIT_ULL(32),
	};
	unsigned int i;

	/* to 32-bit kernels, all but 0 are possible */
	for (i = 0; i < (e->g->mode.code64 ? ARRAY_SIZE(bad) : 1); i++) {
		put_word(e->g, e->regs + REGS_IP(e), bad[i]);
		want_kernel_frames(e);
		expect(e);
	}
}

TEST_F(entry, bad_kernel_ip)
{
	struct entry *e = &self->e;
	uint64_t at = e->g->stack + 0x800;

	put_interrupt(e, at, variant->kernel_cs);
	put_word(e->g, at + REGS_IP(e), e->g->mode.code64 ? user_ip(e) : 0);
	want(e, return_address(e->g, 2));
	expect(e);
}

/* Not at the top of the stack, and not encoded: no registers. */
TEST_F(entry, system_call_amidst_the_stack)
{
	struct entry *e = &self->e;
	uint64_t regs = e->g->stack + 0x800;

	put_frame(e->g, frame_at(e->g, 0), regs - 2 * e->word,
		  return_address(e->g, 0));
	put_frame(e->g, regs - 2 * e->word, 0, return_address(e->g, 1));
	put_regs(e, regs, variant->user_cs, user_ip(e), e->user_stack + 0x80,
		 e->user_bp);
	want_kernel_frames(e);
	expect(e);
}

/* The frame pointer of the last frame is neither 0 nor that of user space. */
TEST_F(entry, system_call_with_another_frame_pointer)
{
	struct entry *e = &self->e;

	put_word(e->g, e->regs - 2 * e->word, e->user_bp + 0x10);
	want_kernel_frames(e);
	expect(e);
}

/* Good registers below the frame, far above it, and at an address that is not aligned */
TEST_F(entry, bad_addresses)
{
	struct entry *e = &self->e;
	const uint64_t far = e->g->stack + 0x100000;
	const uint64_t bad[] = { e->g->stack, e->g->stack + 0x802, far };
	uint8_t regs[SIZE64 * 8];
	unsigned int i, size;

	guest_map(e->g, far, USER_PAGES_GPA, 1, PTE_W);
	size = fill_regs(e, regs, variant->user_cs, user_ip(e), e->user_stack + 0x80, e->user_bp);
	memcpy(guest_hva(e->g, USER_PAGES_GPA), regs, size);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i] != far)
			put_regs(e, bad[i], variant->user_cs, user_ip(e), e->user_stack + 0x80,
				 e->user_bp);
		put_frame(e->g, frame_at(e->g, 0), encode(e, bad[i]), return_address(e->g, 0));
		want(e, return_address(e->g, 0));
		expect(e);
	}
}

/*
 * The registers begin in the last page of the address space. What the page tables have at
 * the next address is not theirs: 2-level tables begin again, and the PDPTEs of PAE are 4.
 */
TEST_F(entry, registers_across_the_end)
{
	struct entry *e = &self->e;
	const uint64_t end = BIT_ULL(32), at = end - REGS_IP(e);
	uint8_t regs[SIZE64 * 8];

	if (e->g->mode.code64)
		SKIP(return, "the address space does not end at 4G");

	guest_map(e->g, end - PAGE_SIZE, USER_PAGES_GPA, 1, PTE_W);
	guest_map(e->g, end, USER_PAGES_GPA + PAGE_SIZE, 1, PTE_W);
	memcpy(guest_hva(e->g, USER_PAGES_GPA + PAGE_SIZE - REGS_IP(e)), regs,
	       fill_regs(e, regs, variant->user_cs, user_ip(e), e->user_stack + 0x80,
			 e->user_bp));
	e->g->rsp = end - 0x100;
	e->g->rbp = encode(e, at);
	expect(e);
}

TEST_F(entry, registers_not_present)
{
	struct entry *e = &self->e;
	void *entry = guest_find_entry(e->g, e->g->stack + PAGE_SIZE, 1);
	uint64_t at = e->g->stack + PAGE_SIZE - REGS_SIZE(e) + 2 * e->word;

	put_regs(e, at, variant->user_cs, user_ip(e), e->user_stack + 0x80,
		 e->user_bp);
	put_frame(e->g, frame_at(e->g, 0), encode(e, at), return_address(e->g, 0));
	guest_entry_set(e->g, entry, 0);
	want(e, return_address(e->g, 0));
	expect(e);
}

/* In user space, the stack of the kernel is not read, though its page was read last. */
TEST_F(entry, user_stack_in_kernel_pages)
{
	struct entry *e = &self->e;

	if (e->g->mode.code64 && !variant->user64)
		SKIP(return, "the kernel's stack has no 32-bit address");

	put_word(e->g, e->regs + REGS_SP(e), e->g->stack);
	put_word(e->g, e->regs + REGS_BP(e), frame_at(e->g, 2));
	put_frame(e->g, frame_at(e->g, 2), 0, user_return(e, 0));
	put_word(e->g, e->regs - 2 * e->word, 0);
	want_kernel_frames(e);
	want_user(e, 0);
	expect(e);
}

TEST_F(entry, user_stack_not_present)
{
	struct entry *e = &self->e;

	guest_entry_set(e->g, guest_find_entry(e->g, e->user_stack, 1), 0);
	want_kernel_frames(e);
	want_user(e, 0);
	expect(e);
}

/*
 * With page table isolation, the kernel's tables forbid it the code of user space, in the
 * highest entry. In any other, it is data.
 */
TEST_F(entry, user_code_not_executable)
{
	struct entry *e = &self->e;
	uint64_t *entry;
	int level;

	if (e->g->mode.paging == PAGING_32)
		SKIP(return, "the guest has no NX");

	for (level = 1; level <= guest_levels(e->g); level++) {
		/* a PDPTE of PAE has no NX */
		if (e->g->mode.paging == PAGING_PAE && level == guest_levels(e->g))
			continue;
		entry = guest_find_entry(e->g, e->user_code, level);
		*entry |= PTE_NX;
		want_kernel_frames(e);
		if (level == guest_levels(e->g))
			want_user(e, USER_FRAMES);
		expect(e);
		*entry &= ~PTE_NX;
	}
}

/* In user space, an encoded frame pointer has no meaning. */
TEST_F(entry, registers_in_user_space)
{
	struct entry *e = &self->e;

	put_user_word(e, USER_STACK_GPA + 0x100, e->user_stack + 0x401);
	want_kernel_frames(e);
	want_user(e, 1);
	expect(e);
}

/* Registers of an interrupt that interrupted itself. */
TEST_F(entry, registers_that_loop)
{
	struct entry *e = &self->e;
	uint64_t at = e->g->stack + 0x800;
	unsigned int i;

	put_interrupt(e, at, variant->kernel_cs);
	put_word(e->g, at + REGS_BP(e), encode(e, at));
	want(e, return_address(e->g, 2));
	if (e->g->mode.code64) {
		put_word(e->g, at + REGS_SP(e), e->g->stack);
		for (i = 0; i < MAX_KERNEL_SWITCHES; i++)
			want(e, return_address(e->g, 3));
	} else {
		/* the SP is that of the registers, so the next must be above */
		want(e, return_address(e->g, 3));
	}
	expect(e);
}

/* A frame above registers that lead below the frame again. */
TEST_F(entry, registers_and_frames_that_loop)
{
	struct entry *e = &self->e;
	uint64_t at = e->g->stack + 0x800;
	unsigned int i;

	if (!e->g->mode.code64)
		SKIP(return, "32-bit registers have no SP");

	put_interrupt(e, at, variant->kernel_cs);
	put_word(e->g, at + REGS_SP(e), e->g->stack);
	put_word(e->g, at + REGS_BP(e), frame_at(e->g, 0));
	for (i = 0; i < MAX_KERNEL_SWITCHES; i++) {
		want(e, return_address(e->g, 2));
		want(e, return_address(e->g, 3));
	}
	want(e, return_address(e->g, 2));
	expect(e);
}

/* An interrupt stack that leads to itself. */
TEST_F(entry, interrupt_stack_that_loops)
{
	struct entry *e = &self->e;
	uint64_t stack = e->g->stack - 0x10000, gpa, frame;
	unsigned int i;

	put_interrupt_stack(e, stack);
	frame = e->g->rbp;
	gpa = INTERRUPT_STACK_GPA - stack;
	memcpy(guest_hva(e->g, gpa + frame), &frame, e->word);
	memcpy(guest_hva(e->g, gpa + (e->g->mode.code64 ? frame + 2 * e->word : stack)),
	       &e->g->rsp, e->word);
	for (i = 0; i <= MAX_KERNEL_SWITCHES; i++)
		want(e, return_address(e->g, 2));
	expect(e);
}

/*
 * A frame of user space in each page, and more pages than may be looked up. The first sample
 * also looks up two pages of the kernel's stack, and the page tables of stack and code, in the
 * kernel and in user space.
 */
TEST_F(entry, user_frames_in_many_pages)
{
	struct entry *e = &self->e;
	uint64_t at = e->user_stack + 0x10100, gpa = USER_PAGES_GPA;
	unsigned int i;

	put_word(e->g, e->regs + REGS_BP(e), at);
	put_word(e->g, e->regs - 2 * e->word, 0);
	want_kernel_frames(e);
	want_user(e, 0);
	e->may_lack = 3 + 4 * (guest_levels(e->g) - 1);
	for (i = 0; i < MAX_LOOKUPS + 1; i++, at += PAGE_SIZE, gpa += PAGE_SIZE) {
		guest_map(e->g, at & PAGE_MASK, gpa, 1, PTE_U | PTE_W);
		put_user_word(e, gpa + 0x100, at + PAGE_SIZE);
		put_user_word(e, gpa + 0x100 + e->user_word, user_return(e, i));
		if (i < MAX_LOOKUPS)
			want(e, user_return(e, i));
	}
	expect(e);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
