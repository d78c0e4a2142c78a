// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the registers and stacks of a guest in perf's samples (PERF_SAMPLE_GUEST_STACK).
 *
 *  - All registers are those of the guest, for 64-bit and 32-bit code.
 *  - A dump begins at the stack pointer, and ends at its limit or where the guest's
 *    memory does: at a page that is not present, of the other privilege, or not there
 *    in the host. Its bytes are those of the stack.
 *  - The last word of a kernel's stack leads to another stack, if it is credible, and
 *    the limit has not ended the dump. So does what the CPU pushes at an entry of the
 *    kernel: to the stack of user space, or of the code of the kernel that was interrupted.
 *    There are up to 3 stacks and 16 look-ups of pages.
 *  - The call chain is the IP, whatever is excluded from call chains; there are no
 *    registers and no stack of the VMM.
 *  - Nothing is told without paging, in SMM, of 16-bit code, and of nested guests.
 *  - Samples of the host are as ever, and no record is too long.
 *  - Attributes that make no sense are refused.
 *  - Samples do not change guest memory, and cause no exit to user space.
 *  - Stacks that lead anywhere make no sample longer than the longest that can be.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "guest_callchain_harness.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define MAX_STACKS	3
#define MAX_SIZE	0x4000
#define REGS_MASK	0xff0fffull	/* 16 registers, IP, FLAGS, CS, SS */
#define NR_REGS		20
#define REG_DS		12
#define REG_XMM0	32
#define STACKS_GPA	(PAGE_4M + 0x20000)

#define FIELDS		(PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_GUEST_STACK)

struct dump {
	uint64_t abi;
	const uint64_t *regs;
	uint64_t nr;
	struct {
		uint64_t addr;
		uint64_t size;
		const uint64_t *words;
	} stacks[MAX_STACKS];
};

/* What the samples of a guest shall have. A size of 0 stands for no stack. */
struct expected {
	uint64_t abi;
	struct {
		uint64_t addr;
		uint64_t size;
	} stacks[MAX_STACKS];
};

static uint64_t record[0x10000 / sizeof(uint64_t)];

static struct perf_event_attr attr_of_size(uint32_t size)
{
	return (struct perf_event_attr) {
		.sample_type = FIELDS, .sample_regs_guest = REGS_MASK, .sample_stack_guest = size,
	};
}

/* Returns the end of the field, or NULL if it is beyond the end of the record. */
static const uint64_t *parse_dump(const uint64_t *p, const uint64_t *end, struct dump *dump)
{
	unsigned int i;

	dump->abi = *p++;
	dump->regs = p;
	if (dump->abi)
		p += NR_REGS;
	dump->nr = *p++;
	for (i = 0; i < dump->nr && i < MAX_STACKS; i++) {
		dump->stacks[i].addr = *p++;
		dump->stacks[i].size = *p++;
		dump->stacks[i].words = p;
		if (dump->stacks[i].size % 8 || dump->stacks[i].size > (end - p) * 8)
			return NULL;
		p += dump->stacks[i].size / 8;
	}
	return dump->nr <= MAX_STACKS ? p : NULL;
}

/* A pattern that is no address. */
static uint64_t pattern(uint64_t addr)
{
	return (addr * 0x9e3779b97f4a7c15) >> 20 | 1;
}

static uint64_t *word_at(struct guest *g, uint64_t addr)
{
	uint64_t entry = guest_entry_get(g, guest_find_entry(g, addr, 1));

	return guest_hva(g, (entry & GENMASK_ULL(50, 12)) + addr % PAGE_SIZE);
}

static void fill(struct guest *g, uint64_t addr, uint64_t end)
{
	for (; addr < end; addr += 8)
		*word_at(g, addr) = pattern(addr);
}

/* Another stack, of pages in the n-th place. Behind it is no page. */
static void add_stack(struct guest *g, uint64_t addr, unsigned int n, unsigned int pages)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		guest_map(g, addr + i * PAGE_SIZE, STACKS_GPA + (n * 8 + i) * PAGE_SIZE, 1,
			  PTE_W | PTE_A | PTE_D | (g->mode.ring ? PTE_U : 0));
	fill(g, addr, addr + pages * PAGE_SIZE);
}

static uint64_t stack_end(struct guest *g)
{
	return g->stack + 2 * PAGE_SIZE;
}

/* The guest's constants; the loop counts in RCX. */
static struct kvm_regs distinct_regs(struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, SPINS);
	uint64_t val = g->mode.code64 ? 0x1122334455667700 : 0x55667700;

	regs.rax = val + 1;
	regs.rbx = val + 2;
	regs.rdx = val + 3;
	regs.rsi = val + 4;
	regs.rdi = val + 5;
	regs.rbp = val + 6;
	regs.r8 = val + 8;
	regs.r9 = val + 9;
	regs.r10 = val + 10;
	regs.r11 = val + 11;
	regs.r12 = val + 12;
	regs.r13 = val + 13;
	regs.r14 = val + 14;
	regs.r15 = val + 15;
	return regs;
}

static void check_regs(struct guest *g, const struct sample *sample, const struct dump *dump)
{
	struct kvm_regs r = distinct_regs(g);
	const uint64_t *regs = dump->regs;
	const uint64_t constant[] = { r.rax, r.rbx, regs[2], r.rdx, r.rsi, r.rdi, r.rbp, r.rsp,
				      sample->ip, regs[9], 8 | g->mode.ring, 8 | g->mode.ring,
				      r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15 };
	unsigned int i, nr = g->mode.code64 ? NR_REGS : 12;

	for (i = 0; i < nr; i++)
		TEST_ASSERT(regs[i] == constant[i], "register %u is %lx, not %lx", i,
			    (unsigned long)regs[i], (unsigned long)constant[i]);
	TEST_ASSERT(regs[2] <= SPINS, "RCX is %lx", (unsigned long)regs[2]);
	TEST_ASSERT((regs[9] & 0x3002) == 0x3002, "FLAGS are %lx", (unsigned long)regs[9]);
}

static void check_stacks(struct guest *g, const struct dump *dump, const struct expected *expected)
{
	unsigned int i, nr = 0;
	uint64_t offset;

	while (nr < MAX_STACKS && expected->stacks[nr].size)
		nr++;
	TEST_ASSERT(dump->nr == nr, "%lu stacks, not %u", (unsigned long)dump->nr, nr);
	for (i = 0; i < nr; i++) {
		TEST_ASSERT(dump->stacks[i].addr == expected->stacks[i].addr &&
			    dump->stacks[i].size == expected->stacks[i].size,
			    "stack %u is %lx with %lx bytes, not %lx with %lx", i,
			    (unsigned long)dump->stacks[i].addr,
			    (unsigned long)dump->stacks[i].size,
			    (unsigned long)expected->stacks[i].addr,
			    (unsigned long)expected->stacks[i].size);
		if (g->mode.leaf > 1)
			continue;
		for (offset = 0; offset < dump->stacks[i].size; offset += 8)
			TEST_ASSERT(dump->stacks[i].words[offset / 8] ==
				    *word_at(g, dump->stacks[i].addr + offset),
				    "stack %u is wrong at %lx", i, (unsigned long)offset);
	}
}

static void check_sample(struct guest *g, const struct sample *sample,
			 const struct expected *expected)
{
	const uint64_t *end = (void *)sample + sample->header.size;
	const char *why = sample_check_start(g, sample);
	struct dump dump = {};

	TEST_ASSERT(!why, "%s", why);
	TEST_ASSERT(sample->nr == 2, "the chain has %lu entries", (unsigned long)sample->nr);
	TEST_ASSERT(parse_dump(&sample->ips[2], end, &dump) == end, "the record's size is wrong");
	TEST_ASSERT(dump.abi == expected->abi, "ABI %lu", (unsigned long)dump.abi);
	if (dump.abi)
		check_regs(g, sample, &dump);
	check_stacks(g, &dump, expected);
}

static void expect_dumps_attr(struct guest *g, const struct perf_event_attr *attr,
			      struct expected expected)
{
	struct sampler sampler = sampler_open(attr, CLOCK | CYCLES);
	struct sample *sample = (struct sample *)record;
	struct kvm_regs regs;
	uint64_t before;
	int i;

	guest_run_unsampled(g);
	before = guest_checksum(g);
	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		regs = distinct_regs(g);
		guest_sample_regs(&sampler, g, &regs);
		while (sampler_next(&sampler, sample, sizeof(record)))
			check_sample(g, sample, &expected);
	}
	TEST_ASSERT(sampler_fewest(&sampler) >= MIN_SAMPLES, "%u samples of the guest, want %u",
		    sampler_fewest(&sampler), MIN_SAMPLES);
	TEST_ASSERT(guest_checksum(g) == before, "guest memory has changed");
	sampler_close(&sampler);
}

static void expect_dumps(struct guest *g, uint32_t size, struct expected expected)
{
	struct perf_event_attr attr = attr_of_size(size);

	expect_dumps_attr(g, &attr, expected);
}

/* The stack from RSP to its end, and nothing else. */
static void expect_one_stack(struct guest *g)
{
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, stack_end(g) - g->rsp } },
	});
}

static void expect_nothing(struct guest *g)
{
	expect_dumps(g, MAX_SIZE, (struct expected) { PERF_SAMPLE_REGS_ABI_NONE });
}

static void expect_no_stack(struct guest *g)
{
	expect_dumps(g, MAX_SIZE, (struct expected) { PERF_SAMPLE_REGS_ABI_64 });
}

/* ---- one stack */

TEST_F(guest, kernel)
{
	fill(self->kernel, self->kernel->stack, stack_end(self->kernel));
	expect_one_stack(self->kernel);
}

TEST_F(guest, user)
{
	fill(self->user, self->user->stack, stack_end(self->user));
	expect_one_stack(self->user);
}

TEST_F(guest, last_word)
{
	struct guest *g = self->kernel;

	g->rsp = stack_end(g) - 8;
	*word_at(g, g->rsp) = pattern(0);
	expect_one_stack(g);
}

TEST_F(guest, last_page)
{
	struct guest *g = self->kernel;

	g->rsp = g->stack + PAGE_SIZE;
	fill(g, g->rsp, stack_end(g));
	expect_one_stack(g);
}

TEST_F(guest, limits)
{
	const unsigned int sizes[] = { 8, 72, 1024, PAGE_SIZE, PAGE_SIZE + 8 };
	struct guest *g = self->kernel;
	unsigned int i;

	fill(g, g->stack, stack_end(g));
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		expect_dumps(g, sizes[i], (struct expected) {
			PERF_SAMPLE_REGS_ABI_64, { { g->rsp, sizes[i] } },
		});
}

TEST_F(guest, no_size)
{
	expect_dumps(self->kernel, 0, (struct expected) { PERF_SAMPLE_REGS_ABI_64 });
}

TEST_F(guest, unaligned)
{
	self->kernel->rsp += 4;
	expect_no_stack(self->kernel);
}

TEST_F(guest, not_mapped)
{
	self->kernel->rsp = stack_end(self->kernel);
	expect_no_stack(self->kernel);
}

TEST_F(guest, not_canonical)
{
	self->user->rsp = BIT_ULL(47);
	expect_no_stack(self->user);
}

/* The kernel on the stack of user space, and the reverse. */
TEST_F(guest, other_privilege)
{
	guest_map(self->kernel, self->kernel->stack, self->kernel->stack_gpa[0], 1, PTE_W | PTE_U);
	expect_no_stack(self->kernel);
	guest_map(self->user, self->user->stack, self->user->stack_gpa[0], 1, PTE_W);
	expect_no_stack(self->user);
}

TEST_F(guest, page_not_present)
{
	struct guest *g = self->kernel;
	uint64_t *entry = guest_find_entry(g, g->stack + PAGE_SIZE, 1);

	*entry &= ~PTE_P;
	*word_at(g, g->stack + PAGE_SIZE - 8) = pattern(0);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, PAGE_SIZE - 0x80 } },
	});
}

/* What the host would have to fault in is not there. */
TEST_F(guest, page_not_in_memory)
{
	struct perf_event_attr attr = attr_of_size(MAX_SIZE);
	struct guest *g = self->kernel;
	struct expected expected = { PERF_SAMPLE_REGS_ABI_64, { { g->rsp, PAGE_SIZE - 0x80 } } };
	struct sampler sampler = sampler_open(&attr, CLOCK | CYCLES);
	struct sample *sample = (struct sample *)record;
	struct kvm_regs regs;
	int i;

	*word_at(g, g->stack + PAGE_SIZE - 8) = pattern(0);
	guest_run_unsampled(g);
	TEST_ASSERT(!madvise(guest_hva(g, g->stack_gpa[1]), PAGE_SIZE, MADV_DONTNEED), "madvise");
	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		regs = distinct_regs(g);
		guest_sample_regs(&sampler, g, &regs);
		while (sampler_next(&sampler, sample, sizeof(record)))
			check_sample(g, sample, &expected);
	}
	TEST_ASSERT(sampler_fewest(&sampler) >= MIN_SAMPLES, "too few samples");
	sampler_close(&sampler);
}

/* What the host's kernel has not mapped either is not there. */
TEST_F(guest, secret_memory)
{
	int fd = syscall(__NR_memfd_secret, 0);
	struct guest *g = self->kernel;
	uint64_t *mem;

	if (fd < 0)
		SKIP(return, "the host has no memfd_secret()");
	TEST_ASSERT(!ftruncate(fd, PAGE_SIZE), "ftruncate");
	mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap of secret memory");
	*mem = 1;

	vm_set_user_memory_region(g->vm, EXTRA_SLOT, 0, HIGH_GPA, PAGE_SIZE, mem);
	guest_map(g, g->stack + PAGE_SIZE, HIGH_GPA, 1, PTE_W | PTE_A | PTE_D);
	*word_at(g, g->stack + PAGE_SIZE - 8) = pattern(0);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, PAGE_SIZE - 0x80 } },
	});
	munmap(mem, PAGE_SIZE);
	close(fd);
}

/* ---- stacks that lead to others */

#define STACK2		0xffff888050000000ull
#define STACK3		0xffff888060000000ull
#define STACK_FAR	0xffff900000000000ull	/* page tables of its own */
#define STACK_FAR2	0xffffa00000000000ull

static void link_stack(struct guest *g, uint64_t end, uint64_t to)
{
	*word_at(g, end - 8) = to;
}

TEST_F(guest, second_stack)
{
	struct guest *g = self->kernel;
	uint64_t second = STACK2 + 0xf00;

	add_stack(g, STACK2, 0, 2);
	link_stack(g, stack_end(g), second);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, stack_end(g) - g->rsp }, { second, STACK2 + 2 * PAGE_SIZE - second } },
	});
	/* the limit holds for each of them */
	g->rsp = stack_end(g) - 0x100;
	expect_dumps(g, 0x200, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, 0x100 }, { second, 0x200 } },
	});
	/* the last word of what the limit has ended is any word */
	link_stack(g, g->rsp + 0x80, second);
	expect_dumps(g, 0x80, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, 0x80 } },
	});
}

TEST_F(guest, chain_of_stacks)
{
	struct guest *g = self->kernel;
	unsigned int i;

	for (i = 0; i < 4; i++)
		add_stack(g, STACK2 + i * 2 * PAGE_SIZE, i, 1);
	link_stack(g, stack_end(g), STACK2 + 8);
	for (i = 0; i < 3; i++)
		link_stack(g, STACK2 + i * 2 * PAGE_SIZE + PAGE_SIZE,
			   STACK2 + (i + 1) * 2 * PAGE_SIZE + 16);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, stack_end(g) - g->rsp }, { STACK2 + 8, PAGE_SIZE - 8 },
		  { STACK2 + 2 * PAGE_SIZE + 16, PAGE_SIZE - 16 } },
	});
}

TEST_F(guest, links_to_itself)
{
	struct guest *g = self->kernel;

	link_stack(g, stack_end(g), g->rsp);
	expect_one_stack(g);
	link_stack(g, stack_end(g), g->rsp + 0x800);
	expect_one_stack(g);
	link_stack(g, stack_end(g), stack_end(g) - 8);
	expect_one_stack(g);
}

TEST_F(guest, links_back)
{
	struct guest *g = self->kernel;

	add_stack(g, STACK2, 0, 1);
	link_stack(g, stack_end(g), STACK2);
	link_stack(g, STACK2 + PAGE_SIZE, g->rsp + 8);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, stack_end(g) - g->rsp }, { STACK2, PAGE_SIZE } },
	});
}

TEST_F(guest, bad_links)
{
	struct guest *g = self->kernel;
	const uint64_t links[] = {
		STACK2 + 4, STACK2 + 1, STACK2 & ~BIT_ULL(63), 0x7f0050000000, 0,
		STACK2 + PAGE_SIZE, -8ull,
	};
	unsigned int i;

	add_stack(g, STACK2, 0, 1);
	guest_map(g, 0x7f0050000000, STACKS_GPA, 1, PTE_W);
	for (i = 0; i < ARRAY_SIZE(links); i++) {
		link_stack(g, stack_end(g), links[i]);
		expect_one_stack(g);
	}
}

/* The kernel's stack does not lead to one in user pages, nor that of user space anywhere. */
TEST_F(guest, links_of_other_privilege)
{
	struct guest *g = self->kernel;

	guest_map(g, STACK2, STACKS_GPA, 1, PTE_W | PTE_U);
	link_stack(g, stack_end(g), STACK2);
	expect_one_stack(g);

	g = self->user;
	add_stack(g, STACK2, 0, 1);
	link_stack(g, stack_end(g), STACK2);
	expect_one_stack(g);
}

/*
 * In the first sample: the root; 3 tables and 4 pages; 3 tables and 4 pages; and one that is of
 * no use.
 */
TEST_F(guest, lookups)
{
	struct guest *g = self->kernel;

	add_stack(g, STACK2, 0, 4);
	add_stack(g, STACK_FAR, 1, 4);
	add_stack(g, STACK_FAR2, 2, 4);
	g->rsp = STACK2 + 8;
	link_stack(g, STACK2 + 4 * PAGE_SIZE, STACK_FAR + 8);
	link_stack(g, STACK_FAR + 4 * PAGE_SIZE, STACK_FAR2 + 8);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { STACK2 + 8, MAX_SIZE - 8 }, { STACK_FAR + 8, MAX_SIZE - 8 } },
	});
}

/* ---- the stack that the kernel was entered from */

#define USER_STACK	0x7f0050000000ull

struct iret_frame {
	uint64_t ip;
	uint64_t cs;
	uint64_t flags;
	uint64_t sp;
	uint64_t ss;
};

static const struct iret_frame user_frame = { 0x401000, 0x33, 0x246, USER_STACK + 0x128, 0x2b };

/* @unused: words behind the frame */
static struct iret_frame *push_frame(struct guest *g, uint64_t end, struct iret_frame frame,
				     unsigned int unused)
{
	const uint64_t *words = &frame.ip;
	unsigned int i;

	end -= unused * 8 + sizeof(frame);
	for (i = 0; i < sizeof(frame) / 8; i++)
		*word_at(g, end + i * 8) = words[i];
	return (struct iret_frame *)word_at(g, end);
}

static void add_user_stack(struct guest *g, unsigned int n, unsigned int pages)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		guest_map(g, USER_STACK + i * PAGE_SIZE, STACKS_GPA + (n * 8 + i) * PAGE_SIZE, 1,
			  PTE_W | PTE_A | PTE_D | PTE_U);
	fill(g, USER_STACK, USER_STACK + pages * PAGE_SIZE);
}

/* The stack from RSP to its end, and one more from @addr to @end */
static void expect_two_stacks(struct guest *g, uint64_t addr, uint64_t end)
{
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, stack_end(g) - g->rsp }, { addr, end - addr } },
	});
}

TEST_F(guest, user_stack)
{
	const uint64_t user_end = USER_STACK + 2 * PAGE_SIZE;
	struct guest *g = self->kernel;
	struct iret_frame frame = user_frame;

	add_user_stack(g, 0, 2);
	push_frame(g, stack_end(g), frame, 0);
	expect_two_stacks(g, frame.sp, user_end);
	/* 32-bit programs; their stacks may have an odd number of words */
	frame.cs = 0x23;
	frame.sp += 4;
	push_frame(g, stack_end(g), frame, 0);
	expect_two_stacks(g, frame.sp - 4, user_end);
	/* as with CONFIG_X86_FRED */
	push_frame(g, stack_end(g), user_frame, 2);
	*word_at(g, stack_end(g) - 8) = 0;
	expect_two_stacks(g, user_frame.sp, user_end);
	/* the limit holds for each of them */
	g->rsp = stack_end(g) - 0x100;
	expect_dumps(g, 0x200, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, 0x100 }, { user_frame.sp, 0x200 } },
	});
	/* what the limit has ended does not end with a frame */
	push_frame(g, g->rsp + 0x80, user_frame, 0);
	expect_dumps(g, 0x80, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, 0x80 } },
	});
}

/* An interrupt in a system call */
TEST_F(guest, user_stack_is_third)
{
	struct guest *g = self->kernel;

	add_user_stack(g, 0, 1);
	add_stack(g, STACK2, 1, 1);
	push_frame(g, stack_end(g), user_frame, 0);
	g->rsp = STACK2 + 0x800;
	link_stack(g, STACK2 + PAGE_SIZE, g->stack + 0x80);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, 0x800 }, { g->stack + 0x80, 2 * PAGE_SIZE - 0x80 },
		  { user_frame.sp, USER_STACK + PAGE_SIZE - user_frame.sp } },
	});
}

/* An NMI, with a stack of its own, in the kernel */
TEST_F(guest, interrupted_stack)
{
	struct iret_frame frame = { STACK2, 0x10, 0x2, STACK2 + 0x10, 0x18 };
	struct guest *g = self->kernel;

	add_stack(g, STACK2, 0, 1);
	push_frame(g, stack_end(g), frame, 0);
	expect_two_stacks(g, frame.sp, STACK2 + PAGE_SIZE);
	frame.ss = 0;
	push_frame(g, stack_end(g), frame, 0);
	expect_two_stacks(g, frame.sp, STACK2 + PAGE_SIZE);
}

/* What is behind the stack of user space is nobody's business. */
TEST_F(guest, user_stack_is_last)
{
	struct guest *g = self->kernel;

	add_user_stack(g, 0, 1);
	add_stack(g, STACK2, 1, 1);
	push_frame(g, stack_end(g), user_frame, 0);
	link_stack(g, USER_STACK + PAGE_SIZE, STACK2);
	expect_two_stacks(g, user_frame.sp, USER_STACK + PAGE_SIZE);
	push_frame(g, USER_STACK + PAGE_SIZE, (struct iret_frame) {
		STACK2, 0x10, 0x2, STACK2, 0x18,
	}, 0);
	expect_two_stacks(g, user_frame.sp, USER_STACK + PAGE_SIZE);
}

/* No stack is found at any of these stack pointers in @frame. */
static void expect_no_stacks_at(struct guest *g, struct iret_frame frame, const uint64_t *sps,
				unsigned int nr)
{
	unsigned int i;

	add_user_stack(g, 0, 1);
	add_stack(g, STACK2, 1, 1);
	for (i = 0; i < nr; i++) {
		frame.sp = sps[i];
		push_frame(g, stack_end(g), frame, 0);
		expect_one_stack(g);
	}
}

TEST_F(guest, bad_user_stacks)
{
	const uint64_t bad[] = {
		0, 8, USER_STACK + PAGE_SIZE, BIT_ULL(47), STACK2, self->kernel->rsp, -8ull, -1ull,
	};
	struct guest *g = self->kernel;

	expect_no_stacks_at(g, user_frame, bad, ARRAY_SIZE(bad));
	/* a page of the kernel */
	push_frame(g, stack_end(g), user_frame, 0);
	guest_map(g, USER_STACK, STACKS_GPA, 1, PTE_W | PTE_A | PTE_D);
	expect_one_stack(g);
}

TEST_F(guest, bad_interrupted_stacks)
{
	const uint64_t bad[] = {
		0, STACK2 + 4, STACK2 + PAGE_SIZE, STACK2 & ~BIT_ULL(63), USER_STACK,
		self->kernel->rsp, stack_end(self->kernel) - 8,
	};
	const struct iret_frame frame = { STACK2, 0x10, 0x2, STACK2, 0x18 };

	expect_no_stacks_at(self->kernel, frame, bad, ARRAY_SIZE(bad));
}

TEST_F(guest, bad_frames)
{
	const struct iret_frame bad[] = {
		{ 0, 0, 0x246, USER_STACK, 0 },
		{ 0, 0x10033, 0x246, USER_STACK, 0x2b },
		{ 0, 0x33, 0x246, USER_STACK, 0x1002b },
		{ 0, 0x33, 0x246, USER_STACK, 0x28 },
		{ 0, 0x30, 0x246, USER_STACK, 0x2b },
		{ 0, 0x33, 0x244, USER_STACK, 0x2b },
		{ 0, 0x33, 0x100000246, USER_STACK, 0x2b },
	};
	struct guest *g = self->kernel;
	unsigned int i;

	add_user_stack(g, 0, 1);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		push_frame(g, stack_end(g), bad[i], 0);
		expect_one_stack(g);
	}
	/* not where one is looked for */
	push_frame(g, stack_end(g), user_frame, 0);
	push_frame(g, stack_end(g), user_frame, 1);
	expect_one_stack(g);
	/* the dump does not have all of it */
	push_frame(g, stack_end(g), user_frame, 0);
	g->rsp = stack_end(g) - 32;
	expect_one_stack(g);
}

TEST(la57)
{
	const struct mode mode = { PAGING_LA57, true, 0, 1 };
	struct guest *g;

	if (!kvm_cpu_has(X86_FEATURE_LA57))
		SKIP(return, "the host has no 5-level paging");
	g = guest_new(&mode);
	add_stack(g, 0xff12000000000000, 0, 1);
	link_stack(g, stack_end(g), 0xff12000000000010);
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64,
		{ { g->rsp, stack_end(g) - g->rsp }, { 0xff12000000000010, PAGE_SIZE - 16 } },
	});
	guest_free(g);
}

/* Behind the stack is more of the large page: the limit ends the dump. */
TEST(large_page)
{
	struct guest *g = guest_new(&mode_kernel_2m);

	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_64, { { g->rsp, MAX_SIZE } },
	});
	guest_free(g);
}

/* ---- 32-bit code: linear addresses */

TEST(compat)
{
	const struct mode mode = { PAGING_64, false, 3, 1 };
	struct guest *g = guest_new(&mode);

	fill(g, g->stack, stack_end(g));
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_32, { { g->rsp, stack_end(g) - g->rsp } },
	});
	g->rsp += 4;
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_32, { { g->rsp - 4, stack_end(g) - g->rsp + 4 } },
	});
	guest_free(g);
}

TEST(kernel_of_32_bits)
{
	struct guest *g = guest_new(&mode_kernel_pae);

	fill(g, g->stack, stack_end(g));
	expect_dumps(g, MAX_SIZE, (struct expected) {
		PERF_SAMPLE_REGS_ABI_32, { { g->rsp, stack_end(g) - g->rsp } },
	});
	guest_free(g);
}

/* ---- nothing is told */

TEST(code_of_16_bits)
{
	struct guest *g = guest_new(&mode_kernel_pae);

	guest_set_16_bits(g);
	expect_nothing(g);
	guest_free(g);
}

TEST(paging_off)
{
	struct guest *g = guest_new(&mode_kernel_pae);

	guest_disable_paging(g);
	g->rsp = g->stack_gpa[0] + 0x80;
	expect_nothing(g);
	guest_free(g);
}

TEST_F(guest, smm)
{
	struct guest *g = self->kernel;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no SMM");

	vm_set_user_memory_region(g->vm, 1 << 16 | MEM_SLOT, 0, 0, MEM_SIZE, guest_hva(g, 0));
	guest_enter_smm(g);
	expect_nothing(g);
}

TEST_F(guest, nested)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "KVM has no nested SVM");

	guest_enter_nested(self->kernel);
	expect_nothing(self->kernel);
	EXPECT_TRUE(self->kernel->vcpu->run->flags & KVM_RUN_X86_GUEST_MODE);
}

/* ---- other fields of the sample */

TEST_F(guest, excluded_from_chains)
{
	struct perf_event_attr attr = attr_of_size(64);
	struct expected expected = {
		PERF_SAMPLE_REGS_ABI_64, { { self->user->rsp, 64 } },
	};

	attr.exclude_callchain_user = 1;
	expect_dumps_attr(self->user, &attr, expected);
	attr.exclude_callchain_kernel = 1;
	expect_dumps_attr(self->user, &attr, expected);
	expected.stacks[0].addr = self->kernel->rsp;
	expect_dumps_attr(self->kernel, &attr, expected);
}

/* Registers and stack of the VMM would be taken for those of the guest. */
TEST_F(guest, nothing_of_the_vmm)
{
	struct perf_event_attr attr = attr_of_size(64);
	struct sampler sampler;
	struct sample *sample = (struct sample *)record;
	const uint64_t *p, *end;
	struct dump dump = {};
	int i;

	attr.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
	attr.sample_regs_user = REGS_MASK;
	attr.sample_stack_user = 1024;
	sampler = sampler_open(&attr, CLOCK | CYCLES);
	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		guest_sample(&sampler, self->user);
		while (sampler_next(&sampler, sample, sizeof(record))) {
			p = &sample->ips[sample->nr];
			end = (void *)sample + sample->header.size;
			ASSERT_EQ(p[0], PERF_SAMPLE_REGS_ABI_NONE);
			ASSERT_EQ(p[1], 0);
			ASSERT_EQ(parse_dump(p + 2, end, &dump), end);
			ASSERT_EQ(dump.nr, 1);
		}
	}
	EXPECT_GE(sampler_fewest(&sampler), MIN_SAMPLES);
	sampler_close(&sampler);
}

/* ---- samples of the host */

static bool next_record(struct source *source)
{
	const uint8_t *data = (uint8_t *)source->ring + source->ring->data_offset;
	uint64_t mask = source->ring->data_size - 1, tail = source->ring->data_tail;
	struct perf_event_header header;
	size_t i;

	if (tail == READ_ONCE(source->ring->data_head))
		return false;
	for (i = 0; i < sizeof(header); i++)
		((uint8_t *)&header)[i] = data[(tail + i) & mask];
	for (i = 0; i < header.size; i++)
		((uint8_t *)record)[i] = data[(tail + i) & mask];
	source->ring->data_tail = tail + header.size;
	return true;
}

static void expect_host_samples(uint32_t stack_user)
{
	struct sample *sample = (struct sample *)record;
	struct perf_event_attr attr = attr_of_size(MAX_SIZE);
	unsigned int seen = 0, with_regs = 0, i;
	struct dump dump = {};
	struct sampler sampler;
	const uint64_t *p, *end;

	attr.sample_type |= PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER;
	attr.sample_regs_user = REGS_MASK;
	attr.sample_stack_user = stack_user;
	sampler = sampler_open(&attr, CLOCK);
	while (seen < MIN_SAMPLES) {
		sampler_ioctl(&sampler, PERF_EVENT_IOC_ENABLE);
		for (i = 0; i < 200000; i++)
			asm volatile("");
		sampler_ioctl(&sampler, PERF_EVENT_IOC_DISABLE);
		while (next_record(&sampler.sources[0])) {
			if (sample->header.type != PERF_RECORD_SAMPLE)
				continue;
			seen++;
			p = &sample->ips[sample->nr];
			end = (void *)sample + sample->header.size;
			with_regs += *p == PERF_SAMPLE_REGS_ABI_64;
			p += *p ? 1 + NR_REGS : 1;
			p += *p ? 2 + *p / 8 : 1;
			TEST_ASSERT(parse_dump(p, end, &dump) == end, "the record's size is wrong");
			TEST_ASSERT(!dump.abi && !dump.nr, "the host's sample has a guest's dump");
		}
	}
	TEST_ASSERT(with_regs == seen, "%u of %u samples have registers", with_regs, seen);
	sampler_close(&sampler);
}

TEST(host)
{
	expect_host_samples(1024);
}

/* STACK_USER takes what is left of the 64 KiB of a record. */
TEST(host_with_large_stack)
{
	expect_host_samples(65528);
}

/* ---- attributes */

static int open_event(const struct perf_event_attr *attr)
{
	struct perf_event_attr copy = *attr;
	int fd;

	copy.size = sizeof(copy);
	copy.disabled = 1;
	fd = syscall(__NR_perf_event_open, &copy, 0, -1, -1, 0);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -errno : 0;
}

static struct perf_event_attr clock_attr(void)
{
	struct perf_event_attr attr = attr_of_size(MAX_SIZE);

	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.sample_period = PERIOD;
	return attr;
}

#define EXPECT_REFUSED(...)					\
do {								\
	struct perf_event_attr attr = clock_attr();		\
	__VA_ARGS__;						\
	EXPECT_EQ(open_event(&attr), -EINVAL);			\
} while (0)

TEST(bad_attributes)
{
	struct perf_event_attr good = clock_attr();

	EXPECT_EQ(open_event(&good), 0);
	good.config = PERF_COUNT_SW_TASK_CLOCK;
	EXPECT_EQ(open_event(&good), 0);

	EXPECT_REFUSED(attr.exclude_guest = 1);
	EXPECT_REFUSED(attr.sample_stack_guest = MAX_SIZE + 8);
	EXPECT_REFUSED(attr.sample_stack_guest = -8u);
	EXPECT_REFUSED(attr.sample_stack_guest = 1020);
	EXPECT_REFUSED(attr.sample_regs_guest = 0);
	EXPECT_REFUSED(attr.sample_regs_guest |= 1ull << REG_DS);
	EXPECT_REFUSED(attr.sample_regs_guest |= 3ull << REG_XMM0);
	EXPECT_REFUSED(attr.__reserved_4 = 1);
	EXPECT_REFUSED(attr.sample_type |= PERF_SAMPLE_MAX);
}

/* Events of the host; a program may use an event for output in any context. */
TEST(events_of_the_host)
{
	EXPECT_REFUSED(attr.config = PERF_COUNT_SW_BPF_OUTPUT);
	EXPECT_REFUSED(attr.config = PERF_COUNT_SW_PAGE_FAULTS);
	EXPECT_REFUSED(attr.config = PERF_COUNT_SW_CONTEXT_SWITCHES);
	EXPECT_REFUSED(attr.config = PERF_COUNT_SW_DUMMY);
	EXPECT_REFUSED(attr.type = PERF_TYPE_TRACEPOINT);
	EXPECT_REFUSED(attr.type = PERF_TYPE_BREAKPOINT);
}

/* The memory of events that are closed is given back. */
TEST(open_and_close)
{
	struct perf_event_attr attr = clock_attr();
	unsigned int i;

	for (i = 0; i < 20000; i++)
		ASSERT_EQ(open_event(&attr), 0);
}

/* ---- a guest that does what it likes with its stack pointer */

/*
 * the loop of lib/x86_64/guest_callchain.c with a new random %rsp in each round:
 * imul %rax, %rsi; add %rdx, %rsi; mov %rsi, %rbp; shr $33, %rbp; and %r8, %rbp;
 * or %rbx, %rbp; mov %rbp, %rsp
 */
static const uint8_t random_code[] = {
	0x48, 0x0f, 0xaf, 0xf0, 0x48, 0x01, 0xd6, 0x48, 0x89, 0xf5,
	0x48, 0xc1, 0xed, 0x21, 0x4c, 0x21, 0xc5, 0x48, 0x09, 0xdd, 0x48, 0x89, 0xec,
	0xff, 0xc9, 0x75, 0xe5, 0xe6, 0x80
};

#define RANDOM_PAGES	8
#define RANDOM_PERIOD	20000
#define RANDOM_SPINS	20000
#define IDLE_ROUNDS	100
#define CHECKED_ROUNDS	10

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/*
 * Most words lead to some place on the stacks, or behind them. Every other time, a frame at
 * the end leads to a stack of user space, or of the kernel, or to neither.
 */
static void write_random_words(struct guest *g, unsigned int words)
{
	const uint64_t end = g->stack + RANDOM_PAGES * PAGE_SIZE;
	const bool to_user = random() % 2;

	while (words--)
		*word_at(g, g->stack + random() % (RANDOM_PAGES * PAGE_SIZE / 8) * 8) =
			g->stack + random() % (10 * PAGE_SIZE);
	if (random() % 2)
		push_frame(g, end, (struct iret_frame) {
			0, to_user ? 0x33 : 0x10, 0x2,
			(random() % 4 ? USER_STACK : g->stack) + random() % (6 * PAGE_SIZE),
			to_user ? 0x2b : 0x18,
		}, random() % 2 * 2);
}

static struct kvm_regs random_regs(struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, RANDOM_SPINS);

	regs.rax = 6364136223846793005;
	regs.rdx = 1442695040888963407;
	regs.rsi = random();
	regs.rbx = g->stack;
	regs.r8 = 0xfff8;
	return regs;
}

/* At most 16 pages are looked up. The tables may be known from the sample before. */
static void check_bounds(const struct sample *sample)
{
	const uint64_t *end = (void *)sample + sample->header.size;
	struct dump dump = {};
	unsigned int i, pages = 0;
	uint64_t addr, size;

	TEST_ASSERT(parse_dump(&sample->ips[sample->nr], end, &dump) == end,
		    "the record's size is wrong");
	TEST_ASSERT(dump.abi == PERF_SAMPLE_REGS_ABI_64, "ABI %lu", (unsigned long)dump.abi);
	for (i = 0; i < dump.nr; i++) {
		addr = dump.stacks[i].addr;
		size = dump.stacks[i].size;
		TEST_ASSERT(size && size <= MAX_SIZE, "%lu bytes", (unsigned long)size);
		pages += (addr + size - 1) / PAGE_SIZE - addr / PAGE_SIZE + 1;
	}
	TEST_ASSERT(pages <= 16, "%u pages of stacks", pages);
}

/* The mean time that a sample takes */
static uint64_t sample_time(struct guest *g, unsigned int samples, bool random)
{
	struct perf_event_attr attr = attr_of_size(MAX_SIZE);
	struct sample *sample = (struct sample *)record;
	uint64_t busy = 0, idle = 0, rounds, start, before;
	struct sampler sampler;
	struct kvm_regs regs;
	unsigned int n = 0;

	attr.sample_period = RANDOM_PERIOD;
	sampler = sampler_open(&attr, CLOCK | CYCLES);
	for (rounds = 0; n < samples || rounds < IDLE_ROUNDS; rounds++) {
		if (rounds < IDLE_ROUNDS) {
			regs = random ? random_regs(g) : guest_spin_regs(g, RANDOM_SPINS);
			start = now_ns();
			guest_vcpu_run(g->vcpu, &regs);
			idle += now_ns() - start;
		}
		if (random)
			write_random_words(g, 64);
		before = rounds < CHECKED_ROUNDS ? guest_checksum(g) : 0;
		regs = random ? random_regs(g) : guest_spin_regs(g, RANDOM_SPINS);
		start = now_ns();
		guest_sample_regs(&sampler, g, &regs);
		busy += now_ns() - start;
		TEST_ASSERT(!before || guest_checksum(g) == before, "guest memory has changed");
		while (sampler_next(&sampler, sample, sizeof(record))) {
			check_bounds(sample);
			n++;
		}
	}
	TEST_ASSERT(sampler_fewest(&sampler) >= MIN_SAMPLES, "too few samples of an event");
	sampler_close(&sampler);
	return (busy - idle * rounds / IDLE_ROUNDS) / n;
}

/* With three stacks of four pages: the first sample takes 16 look-ups. */
static uint64_t longest_sample_time(struct guest *g)
{
	const uint64_t rsp = g->rsp;
	uint64_t stack, time;
	unsigned int i;

	for (i = 0, stack = STACK2; i < 3; i++, stack += 8 * PAGE_SIZE) {
		add_stack(g, stack, i, 4);
		link_stack(g, stack + 4 * PAGE_SIZE, stack + 8 * PAGE_SIZE + 8);
	}
	g->rsp = STACK2 + 8;
	time = sample_time(g, 1000, false);
	g->rsp = rsp;
	return time;
}

/*
 * Whatever the stacks lead to, a sample is bounded, and takes no longer than one of the
 * longest stacks. The factor is for caches.
 */
static void expect_bounded(struct guest *g, unsigned int samples)
{
	uint64_t longest = longest_sample_time(g), time;
	unsigned int i;

	guest_map_code(g, random_code, sizeof(random_code));
	for (i = 0; i < RANDOM_PAGES; i++)
		add_stack(g, g->stack + i * PAGE_SIZE, i, 1);
	srandom(1);
	add_user_stack(g, RANDOM_PAGES, 4);
	write_random_words(g, RANDOM_PAGES * PAGE_SIZE);
	time = sample_time(g, samples, true);
	ksft_print_msg("%u samples, %lu ns each; %lu ns with the longest stacks\n", samples,
		       (unsigned long)time, (unsigned long)longest);
	TEST_ASSERT(time <= 2 * longest, "samples take too long");
}

TEST_F(guest, random_stacks)
{
	expect_bounded(self->kernel, 5000);
}

TEST_F_TIMEOUT(guest, million_random_stacks, 3600)
{
	expect_bounded(self->kernel, 1000000);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
