// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that a hostile guest cannot mislead KVM when it reports call chains to perf
 * (CONFIG_KVM_GUEST_CALLCHAIN).
 *
 *  - A bad frame pointer or return address ends the chain.
 *  - A bad page table, a missing memslot, and memory that would have to be faulted
 *    in end the chain.
 *  - Another vCPU rewrites the page tables: each chain is from the state before or
 *    after the write.
 *  - The VMM drops the memory of the stack: no chain has anything else.
 *  - Frames and page tables are random: each chain is well-formed.
 *  - Samples do not change guest memory, including the accessed and dirty bits, and
 *    cause no exit to user space.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_callchain_harness.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* must match arch/x86/kvm/guest_callchain.c */
#define MAX_LOOKUPS	80

/* the loop of lib/x86_64/guest_callchain.c with mov %rax, (%rdi); mov %rbx, (%rdi) */
static const uint8_t rewrite_code[] = {
	0x48, 0x89, 0x07, 0x48, 0x89, 0x1f,
	0xff, 0xc9, 0x75, 0xf6, 0xe6, 0x80
};

/*
 * the loop of lib/x86_64/guest_callchain.c with a new random %rbp in each round:
 * imul %rax, %rsi; add %rdx, %rsi; mov %rsi, %rbp; shr $33, %rbp;
 * and %r8, %rbp; or %rsp, %rbp
 */
static const uint8_t random_code[] = {
	0x48, 0x0f, 0xaf, 0xf0, 0x48, 0x01, 0xd6, 0x48, 0x89, 0xf5,
	0x48, 0xc1, 0xed, 0x21, 0x4c, 0x21, 0xc5, 0x48, 0x09, 0xe5,
	0xff, 0xc9, 0x75, 0xe8, 0xe6, 0x80
};

TEST_F(guest, rbp_loops)
{
	put_frame(self->kernel, frame_at(self->kernel, 0), frame_at(self->kernel, 0),
		  return_address(self->kernel, 0));
	expect_frames(self->kernel, 1);
}

TEST_F(guest, rbp_goes_down)
{
	put_frame(self->user, frame_at(self->user, 1), frame_at(self->user, 0),
		  return_address(self->user, 1));
	expect_frames(self->user, 2);
}

TEST_F(guest, rbp_below_rsp)
{
	self->kernel->rsp = self->kernel->rbp + 0x80;
	expect_frames(self->kernel, 0);
}

TEST_F(guest, rbp_far_above_rsp)
{
	self->kernel->rsp = self->kernel->rbp - 0x10000;
	expect_frames(self->kernel, 0);
}

/* In user space a frame may contain large arrays. */
TEST_F(guest, rbp_above_rsp_in_user_space)
{
	self->user->rsp = self->user->rbp - 0x80000;
	expect_frames(self->user, 3);
	self->user->rsp = self->user->rbp - 0x200000;
	expect_frames(self->user, 0);
}

TEST_F(guest, rbp_unaligned)
{
	struct guest *g = self->kernel;

	g->rbp = g->stack + 0x304;
	put_frame(g, g->rbp, 0, return_address(g, 0));
	expect_frames(g, 0);
}

TEST_F(guest, rbp_not_canonical)
{
	self->user->rsp = 0x7ffffffff000;
	self->user->rbp = 0x800000000000;
	expect_frames(self->user, 0);
}

/* A frame across address 0, with both pages present. */
TEST_F(guest, rbp_wraps)
{
	struct guest *g = self->kernel;

	g->rbp = -8ull;
	g->rsp = g->rbp - 0x100;
	guest_map(g, g->rbp & PAGE_MASK, g->stack_gpa[0], 1, PTE_W);
	guest_map(g, 0, g->stack_gpa[1], 1, PTE_W);
	*(uint64_t *)guest_hva(g, g->stack_gpa[0] + 0xff8) = 0;
	*(uint64_t *)guest_hva(g, g->stack_gpa[1]) = return_address(g, 0);
	expect_frames(g, 0);
}

TEST_F(guest, return_address_zero)
{
	guest_map(self->kernel, 0, CODE_GPA, 1, 0);
	put_frame(self->kernel, frame_at(self->kernel, 1), frame_at(self->kernel, 2), 0);
	expect_frames(self->kernel, 1);
}

TEST_F(guest, return_address_in_the_other_half)
{
	guest_map(self->kernel, self->user->code, CODE_GPA, 1, 0);
	guest_map(self->user, self->kernel->code, CODE_GPA, 1, PTE_U);
	put_frame(self->kernel, frame_at(self->kernel, 1), frame_at(self->kernel, 2),
		  self->user->code);
	expect_frames(self->kernel, 1);
	put_frame(self->user, frame_at(self->user, 1), frame_at(self->user, 2),
		  self->kernel->code);
	expect_frames(self->user, 1);
}

TEST_F(guest, return_address_not_canonical)
{
	put_frame(self->user, frame_at(self->user, 1), frame_at(self->user, 2), BIT_ULL(50));
	expect_frames(self->user, 1);
}

/* A return address in a page of data. */
static void expect_no_data(struct guest *g, uint64_t data, bool top_counts)
{
	uint64_t *entry;
	int level;

	guest_map(g, data, PAGE_4M + 0x8000, 1, PTE_W | (g->mode.ring ? PTE_U : 0));
	put_frame(g, frame_at(g, 1), frame_at(g, 2), data + 0x123);
	for (level = 1; level <= guest_levels(g); level++) {
		entry = guest_find_entry(g, data, level);
		*entry |= PTE_NX;
		if (level < guest_levels(g) || top_counts)
			expect_frames(g, 1);
		*entry &= ~PTE_NX;
	}
	guest_entry_set(g, guest_find_entry(g, data, 1), 0);
	expect_frames(g, 1);
}

TEST_F(guest, return_address_not_executable)
{
	expect_no_data(self->kernel, 0xffffc90000000000, true);
	expect_no_data(self->user, 0x7e0000000000, false);
}

TEST_F(guest, return_address_in_the_other_kind_of_page)
{
	struct guest *g = self->user;
	const uint64_t gva = 0x7e0000000000;

	guest_map(g, gva, PAGE_4M + 0x8000, 1, PTE_W);
	put_frame(g, frame_at(g, 1), frame_at(g, 2), gva + 0x123);
	expect_frames(g, 1);
}

/* At each level: a reserved bit, and an address outside all memslots. */
TEST_F(guest, bad_entries)
{
	struct guest *g = self->kernel;
	uint64_t *entry, saved;
	int level;

	for (level = 1; level <= guest_levels(g); level++) {
		entry = guest_find_entry(g, g->stack, level);
		saved = *entry;
		*entry = saved | PTE_RSVD;
		expect_frames(g, 0);
		*entry = HOLE_GPA | PTE_P | PTE_W;
		expect_frames(g, 0);
		*entry = GENMASK_ULL(47, 12) | PTE_P | PTE_W;
		expect_frames(g, 0);
		*entry = saved;
	}
	expect_frames(g, 3);
}

/* Without EFER.NX the NX bit is reserved. The rest of the entry is good. */
TEST_F(guest, nx_without_nxe)
{
	struct guest *g = self->kernel;
	struct kvm_sregs sregs;
	uint64_t *entry;
	int level;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.efer &= ~EFER_NX;
	vcpu_sregs_set(g->vcpu, &sregs);

	for (level = 1; level <= guest_levels(g); level++) {
		entry = guest_find_entry(g, g->stack, level);
		*entry |= PTE_NX;
		expect_frames(g, 0);
		*entry &= ~PTE_NX;
	}
	expect_frames(g, 3);
}

TEST(large_page_reserved)
{
	struct guest *g = guest_new(&mode_kernel_2m);
	uint64_t *entry = guest_find_entry(g, g->stack, 2);

	expect_frames(g, 3);
	*entry |= BIT_ULL(13);
	expect_frames(g, 0);
	guest_free(g);
}

/* In a PDPTE of PAE the page size bit is reserved. */
TEST(pae_pdpte_reserved)
{
	struct guest *g = guest_new(&mode_kernel_pae);
	uint64_t *entry = guest_find_entry(g, g->stack, 3);

	expect_frames(g, 3);
	*entry |= PTE_PS;
	expect_frames(g, 0);
	guest_free(g);
}

TEST_F(guest, page_tables_that_loop)
{
	struct guest *g = self->kernel;
	uint64_t *entry = guest_find_entry(g, g->stack, 4);

	/* The top table is also the table of all other levels, and the stack's page. */
	*entry = g->cr3 | PTE_P | PTE_W;
	g->stack &= GENMASK_ULL(47, 39);
	g->stack |= g->stack >> 9 | g->stack >> 18 | g->stack >> 27;
	g->stack |= GENMASK_ULL(63, 48);
	g->rsp = g->stack;
	g->rbp = g->stack + ((uint64_t)entry & ~PAGE_MASK);
	expect_frames(g, 0);
}

static const char *check_many_pages(struct guest *g, const struct sample *sample,
				    const void *data)
{
	const char *why = sample_check_start(g, sample);
	unsigned int i, tables = 1 + 2 * (guest_levels(g) - 1);

	if (why)
		return why;
	if (sample->nr < 2 + MAX_LOOKUPS - tables || sample->nr > 2 + MAX_LOOKUPS)
		return "the number of frames is wrong";
	for (i = 2; i < sample->nr; i++)
		if (sample->ips[i] != return_address(g, i - 2))
			return "a return address is wrong";
	return NULL;
}

/*
 * A frame in each page, and more pages than may be looked up. The first sample looks up the
 * page tables of the stack and of the code, too.
 */
TEST_F(guest, frames_in_many_pages)
{
	const uint64_t gpa = PAGE_4M + 0x10000;
	struct perf_event_attr attr = {};
	struct guest *g = self->kernel;
	uint64_t *frame;
	int i;

	for (i = 0; i < MAX_LOOKUPS + 1; i++) {
		guest_map(g, g->stack + i * PAGE_SIZE, gpa + i * PAGE_SIZE, 1, PTE_W);
		frame = guest_hva(g, gpa + i * PAGE_SIZE + 0x100);
		frame[0] = g->stack + (i + 1) * PAGE_SIZE + 0x100;
		frame[1] = return_address(g, i);
	}
	expect_samples(g, &attr, check_many_pages, NULL);
}

TEST_F(guest, deleted_memslot)
{
	struct guest *g = self->kernel;

	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, HIGH_GPA, EXTRA_SLOT, 1, 0);
	*(uint64_t *)guest_hva(g, HIGH_GPA + 0x100) = 0;
	*(uint64_t *)guest_hva(g, HIGH_GPA + 0x108) = return_address(g, 0);
	*(uint64_t *)guest_find_entry(g, g->stack, 1) = HIGH_GPA | PTE_P | PTE_W;
	expect_frames(g, 1);

	vm_mem_region_delete(g->vm, EXTRA_SLOT);
	expect_frames(g, 0);
}

/* Find vvar: the host maps vvar by page frame number (VM_PFNMAP). */
static const uint64_t *find_vvar(void)
{
	unsigned long start = 0;
	char line[256];
	FILE *maps;

	maps = fopen("/proc/self/maps", "r");
	TEST_ASSERT(maps, "/proc/self/maps cannot be opened");
	while (fgets(line, sizeof(line), maps) && !start)
		if (strstr(line, "[vvar]"))
			start = strtoul(line, NULL, 16);
	fclose(maps);
	return (const uint64_t *)start;
}

TEST_F(guest, memory_that_is_not_ordinary)
{
	const uint64_t *vvar = find_vvar();
	struct guest *g = self->user;
	int i;

	if (!vvar)
		SKIP(return, "the process has no vvar mapping");

	/* find a word in vvar that looks like a return address of user space */
	for (i = 1; i < 510; i++)
		if (vvar[i + 1] && vvar[i + 1] < BIT_ULL(46))
			break;
	ASSERT_LT(i, 510);

	vm_set_user_memory_region(g->vm, EXTRA_SLOT, 0, HIGH_GPA, PAGE_SIZE, (void *)vvar);
	*(uint64_t *)guest_find_entry(g, g->stack, 1) = HIGH_GPA | PTE_P | PTE_W | PTE_U;
	g->rsp = g->stack;
	g->rbp = g->stack + i * 8;
	expect_frames(g, 0);
}

/* Memory of the VMM without a page: the walk must not fault a page in. */
TEST_F(guest, memory_not_faulted_in)
{
	struct guest *g = self->kernel;
	unsigned char resident;
	void *page;

	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, HIGH_GPA, EXTRA_SLOT, 1, 0);
	page = guest_hva(g, HIGH_GPA);
	madvise(page, PAGE_SIZE, MADV_DONTNEED);
	*(uint64_t *)guest_find_entry(g, g->stack, 1) = HIGH_GPA | PTE_P | PTE_W;
	expect_frames(g, 0);
	ASSERT_EQ(mincore(page, PAGE_SIZE, &resident), 0);
	EXPECT_EQ(resident & 1, 0);
}

/* ---- another vCPU writes the page table entry of the stack in a loop */

struct rewriter {
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	bool stop;
};

static void *rewrite(void *data)
{
	struct rewriter *rewriter = data;

	while (!READ_ONCE(rewriter->stop))
		guest_vcpu_run(rewriter->vcpu, &rewriter->regs);
	return NULL;
}

/*
 * Sample a guest while another vCPU writes two page table entries for the stack in
 * turn. Each chain is from the stack of either entry, or ends at the IP.
 */
static void expect_either(struct guest *g, uint64_t entry, uint64_t other, unsigned int frames)
{
	const uint64_t pte_gva = 0xffffc90000000000, code_gva = g->code + PAGE_SIZE;
	uint64_t *pte = guest_find_entry(g, g->stack, 1), buf[MAX_CHAIN];
	struct perf_event_attr attr = { .sample_period = 20000 };
	struct sample *sample = (struct sample *)buf;
	struct rewriter rewriter = {};
	unsigned int i;
	struct sampler sampler;
	const char *why;
	pthread_t thread;

	memcpy(guest_hva(g, CODE_GPA + PAGE_SIZE), rewrite_code, sizeof(rewrite_code));
	guest_map(g, code_gva, CODE_GPA + PAGE_SIZE, 1, PTE_A | PTE_D | PTE_W);
	guest_map(g, pte_gva,
		  *(uint64_t *)guest_find_entry(g, g->stack, 2) & GENMASK_ULL(50, 12), 1,
		  PTE_A | PTE_D | PTE_W);
	rewriter.vcpu = guest_add_vcpu(g, 1);
	rewriter.regs = (struct kvm_regs) {
		.rip = code_gva, .rcx = SPINS,
		.rax = entry, .rbx = other, .rdi = pte_gva + ((uint64_t)pte & ~PAGE_MASK),
	};

	*pte = entry;
	sampler = sampler_open(&attr, CLOCK | CYCLES);
	pthread_create(&thread, NULL, rewrite, &rewriter);
	for (i = 0; i < 20; i++) {
		guest_sample(&sampler, g);
		while (sampler_next(&sampler, sample, sizeof(buf))) {
			why = sample_check_start(g, sample);
			if (!why && sample->nr != 2 + frames && sample->nr != 2)
				why = "the number of frames matches neither stack";
			if (!why && sample->nr > 2 && sample->ips[2] != return_address(g, 0) &&
			    sample->ips[2] != return_address(g, 1))
				why = "the return address is from neither stack";
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
		}
	}
	WRITE_ONCE(rewriter.stop, true);
	pthread_join(thread, NULL);
	TEST_ASSERT(sampler_fewest(&sampler) >= 200, "%u samples of the guest, want 200",
		    sampler_fewest(&sampler));
	TEST_ASSERT(*pte == other, "the page table entry is %lx, want %lx",
		    (unsigned long)*pte, (unsigned long)other);
	sampler_close(&sampler);
}

TEST_F(guest, rewritten_while_sampled)
{
	struct guest *g = self->kernel;
	uint64_t one = PAGE_4M + 0x5000, other = PAGE_4M + 0x6000;

	memset(guest_hva(g, one), 0, 2 * PAGE_SIZE);
	*(uint64_t *)guest_hva(g, one + 0x108) = return_address(g, 0);
	*(uint64_t *)guest_hva(g, other + 0x108) = return_address(g, 1);
	expect_either(g, one | PTE_P | PTE_W, other | PTE_P | PTE_W, 1);
}

TEST_F(guest, unmapped_while_sampled)
{
	struct guest *g = self->kernel;
	uint64_t one = PAGE_4M + 0x5000;

	memset(guest_hva(g, one), 0, PAGE_SIZE);
	*(uint64_t *)guest_hva(g, one + 0x108) = return_address(g, 0);
	expect_either(g, one | PTE_P | PTE_W, HOLE_GPA | PTE_P | PTE_RSVD, 1);
}

/* ---- the VMM drops the memory of the stack in a loop, and fills it in again */

struct dropper {
	struct guest *g;
	bool stop;
};

static void drop_stack(struct guest *g)
{
	TEST_ASSERT(!madvise(guest_hva(g, PAGE_4M), PAGE_4M / 2, MADV_DONTNEED),
		    "madvise: %s", strerror(errno));
}

static void fill_stack(struct guest *g)
{
	unsigned int i;

	for (i = 0; i < 3; i++)
		put_frame(g, frame_at(g, i), i < 2 ? frame_at(g, i + 1) : 0,
			  return_address(g, i));
}

/*
 * The short rounds race with the samples where there are two CPUs. The sleeps give
 * the vCPU the CPU in both states where there is one.
 */
static void *drop(void *data)
{
	struct dropper *dropper = data;
	struct guest *g = dropper->g;
	int i;

	while (!READ_ONCE(dropper->stop)) {
		for (i = 0; i < 20; i++) {
			drop_stack(g);
			fill_stack(g);
		}
		usleep(500);
		drop_stack(g);
		usleep(500);
		fill_stack(g);
	}
	return NULL;
}

/* Frames that are there are right. */
TEST_F(guest, dropped_while_sampled)
{
	struct dropper dropper = { .g = self->kernel };
	struct perf_event_attr attr = { .sample_period = 20000 };
	struct sampler sampler = sampler_open(&attr, CLOCK | CYCLES);
	uint64_t buf[MAX_CHAIN];
	struct sample *sample = (struct sample *)buf;
	unsigned int i, j, whole = 0, none = 0;
	const char *why;
	pthread_t thread;

	pthread_create(&thread, NULL, drop, &dropper);
	for (i = 0; i < 20; i++) {
		guest_sample(&sampler, self->kernel);
		while (sampler_next(&sampler, sample, sizeof(buf))) {
			why = sample_check_start(self->kernel, sample);
			if (!why && sample->nr > 5)
				why = "there are too many frames";
			for (j = 2; !why && j < sample->nr; j++)
				if (sample->ips[j] != return_address(self->kernel, j - 2))
					why = "a return address is wrong";
			whole += sample->nr == 5;
			none += sample->nr == 2;
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
		}
	}
	WRITE_ONCE(dropper.stop, true);
	pthread_join(thread, NULL);
	pr_info("# at least %u samples of each event: %u of both have all frames, %u none\n",
		sampler_fewest(&sampler), whole, none);
	EXPECT_GT(whole, 0);
	EXPECT_GT(none, 0);
	sampler_close(&sampler);
}

/* ---- random frames and page tables */

#define RANDOM_PAGES	8
#define RANDOM_ROUNDS	150
#define RANDOM_SPINS	10000	/* values of RBP in a round */

static uint64_t random_u64(void)
{
	return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ random();
}

/* Prefer good entries: random bits would end most walks at once. */
static uint64_t random_entry(struct guest *g)
{
	switch (random() % 8) {
	case 0:
		return random_u64();
	case 1:
		return HOLE_GPA | PTE_P | PTE_W;
	case 2:
		return (random_u64() & GENMASK_ULL(51, 12)) | PTE_P;
	case 3:
		return (random() % MEM_SIZE) | PTE_P;
	default:
		return (PAGE_4M + random() % RANDOM_PAGES * PAGE_SIZE) | PTE_P | PTE_W;
	}
}

static uint64_t random_word(struct guest *g)
{
	switch (random() % 4) {
	case 0:
		return random_u64();
	case 1:
		return g->code + random() % PAGE_SIZE;
	default:
		return g->stack + random() % (RANDOM_PAGES * PAGE_SIZE);
	}
}

static void randomize(struct guest *g)
{
	uint64_t *p = guest_hva(g, PAGE_4M), *pt = guest_find_entry(g, g->stack, 1);
	int i;

	for (i = 0; i < RANDOM_PAGES * 512; i++)
		p[i] = random_word(g);
	for (i = 0; i < RANDOM_PAGES; i++)
		pt[i] = random_entry(g);
	if (random() % 4 == 0)
		*(uint64_t *)guest_find_entry(g, g->stack, 2 + random() % 2) = random_entry(g);
}

static const char *check_random(struct guest *g, const struct sample *sample)
{
	const char *why = sample_check_start(g, sample);
	unsigned int i;

	for (i = 2; !why && i < sample->nr; i++)
		if ((int64_t)sample->ips[i] >> 47 != -1)
			why = "a return address is outside the kernel's half";
	return why;
}

TEST_F(guest, random)
{
	struct perf_event_attr attr = { .sample_period = 10000 };
	uint64_t before, buf[MAX_CHAIN], top[2], frames = 0, n;
	struct sample *sample = (struct sample *)buf;
	struct guest *g = self->kernel;
	struct sampler sampler;
	struct kvm_regs regs;
	const char *why;
	unsigned int i;

	guest_run_unsampled(g);
	guest_map_code(g, random_code, sizeof(random_code));
	top[0] = *(uint64_t *)guest_find_entry(g, g->stack, 2);
	top[1] = *(uint64_t *)guest_find_entry(g, g->stack, 3);
	sampler = sampler_open(&attr, CLOCK | CYCLES);
	srandom(1);
	for (i = 0; i < MAX_RUNS * RANDOM_ROUNDS; i++) {
		if (i >= RANDOM_ROUNDS && sampler_fewest(&sampler) >= RANDOM_ROUNDS)
			break;
		*(uint64_t *)guest_find_entry(g, g->stack, 3) = top[1];
		*(uint64_t *)guest_find_entry(g, g->stack, 2) = top[0];
		randomize(g);
		regs = (struct kvm_regs) {
			.rip = g->code, .rcx = RANDOM_SPINS,
			.rsp = g->stack, .r8 = RANDOM_PAGES * PAGE_SIZE - 8,
			.rsi = random_u64(),
			.rax = 6364136223846793005, .rdx = 1442695040888963407,
		};
		before = guest_checksum(g);
		guest_sample_regs(&sampler, g, &regs);
		TEST_ASSERT(guest_checksum(g) == before, "guest memory has changed");
		while (sampler_next(&sampler, sample, sizeof(buf))) {
			why = check_random(g, sample);
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
			frames += sample->nr - 2;
		}
	}
	n = sampler_fewest(&sampler);
	pr_info("# at least %lu samples of each event, %lu frames beyond the IP\n", n, frames);
	TEST_ASSERT(n >= RANDOM_ROUNDS && frames > n / 10,
		    "%lu samples and %lu frames, want %u and a tenth of the samples",
		    n, frames, RANDOM_ROUNDS);
	sampler_close(&sampler);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
