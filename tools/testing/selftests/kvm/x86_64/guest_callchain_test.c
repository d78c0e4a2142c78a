// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the call chains that KVM reports to perf for samples of a guest
 * (CONFIG_KVM_GUEST_CALLCHAIN), with guests made by hand: a loop of two
 * instructions, page tables, and frames on a stack that nothing touches.
 *
 *  - In every paging mode, with every page size, in the kernel and in user
 *    space, for 64-bit and 32-bit code, each sample has exactly the chain that
 *    is on the stack; exclude_callchain_{kernel,user}, exclude_guest and the
 *    event's sample_max_stack hold.
 *  - A frame that is not credible ends the chain: wherever a hostile guest may
 *    point, at whatever state of its page tables and memslots, and while another
 *    vCPU rewrites them.
 *  - In SMM and in nested guests there is the IP alone.
 *  - In no case does anything change in guest memory: not an accessed or dirty
 *    bit in the page tables, nor does the guest exit for another reason than it
 *    would without being sampled.
 *
 * The samples are those of cpu-clock, i.e. taken in interrupts; and at the same
 * time, if there is a PMU, those of cycles, which are taken in NMIs.
 *
 * With --bench, tell what a sample of a guest costs in addition for its chain, by
 * the number of its frames, and what one of the host's user space does. It is in
 * nanoseconds; on an emulator with a clock of one nanosecond per instruction that
 * is instructions, and exact.
 */
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "test_util.h"

#define MEM_SIZE	0x800000ul
#define CODE_GPA	0x2000ul
#define TABLES_GPA	0x10000ul
#define TABLES_END	0x100000ul
#define PAGE_4M		0x400000ul	/* and at once one of 2M */
#define HIGH_GPA	0x100000000ul	/* for what only PSE-36 can address */
#define HOLE_GPA	0x80000000ul

#define MEM_SLOT	0
#define EXTRA_SLOT	1

#define PTE_P		BIT_ULL(0)
#define PTE_W		BIT_ULL(1)
#define PTE_U		BIT_ULL(2)
#define PTE_A		BIT_ULL(5)
#define PTE_D		BIT_ULL(6)
#define PTE_PS		BIT_ULL(7)
#define PTE_RSVD	BIT_ULL(51)
#define PTE_NX		BIT_ULL(63)

/* dec %ecx; jnz .-2; out %al, $0x80: the same bytes in 32 and 64 bits */
static const uint8_t spin_code[] = { 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x80 };

/* the same, with mov %rax, (%rdi); mov %rbx, (%rdi) in the loop */
static const uint8_t rewrite_code[] = {
	0x48, 0x89, 0x07, 0x48, 0x89, 0x1f,
	0xff, 0xc9, 0x75, 0xf6, 0xe6, 0x80
};

/*
 * the same, with a new random %rbp each time round the loop:
 * imul %rax, %rsi; add %rdx, %rsi; mov %rsi, %rbp; shr $33, %rbp;
 * and %r8, %rbp; or %rsp, %rbp
 */
static const uint8_t random_code[] = {
	0x48, 0x0f, 0xaf, 0xf0, 0x48, 0x01, 0xd6, 0x48, 0x89, 0xf5,
	0x48, 0xc1, 0xed, 0x21, 0x4c, 0x21, 0xc5, 0x48, 0x09, 0xe5,
	0xff, 0xc9, 0x75, 0xe8, 0xe6, 0x80
};

#define SPINS		3000000
#define PERIOD		50000	/* of cycles, or nanoseconds */
#define MIN_SAMPLES	20
#define MAX_RUNS	100	/* to have so many samples on a fast CPU */

/* as in arch/x86/kvm/guest_callchain.c */
#define MAX_STACK_PAGES	16

enum paging { PAGING_32, PAGING_PAE, PAGING_64, PAGING_LA57 };

struct mode {
	enum paging paging;
	bool code64;
	int ring;
	int leaf;		/* level of the pages that the stack is in */
	uint64_t high;		/* what the stack's physical address is in */
};

struct guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct mode mode;
	uint64_t cr3;
	uint64_t next_table;
	uint64_t code;		/* virtual */
	size_t code_size;
	uint64_t stack;		/* virtual: two pages */
	uint64_t stack_gpa[2];
	uint64_t rsp, rbp;	/* to run with */
};

/* ---- perf: samples of this thread, from a ring buffer */

#define RING_PAGES	128
#define MAX_CHAIN	200

#define CLOCK		BIT(0)
#define CYCLES		BIT(1)

struct source {
	int fd;
	struct perf_event_mmap_page *ring;
	unsigned int n;		/* samples of the guest so far */
};

struct sampler {
	struct source sources[2];
	unsigned int nr;
};

struct sample {
	struct perf_event_header header;
	uint64_t ip;
	uint64_t nr;
	uint64_t ips[];
};

static int event_open(const struct perf_event_attr *template, int which)
{
	struct perf_event_attr attr = *template;

	attr.size = sizeof(attr);
	attr.disabled = 1;
	if (!attr.sample_type)
		attr.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN;
	if (!attr.sample_period)
		attr.sample_period = PERIOD;
	if (which == CYCLES) {
		attr.type = PERF_TYPE_HARDWARE;
		attr.config = PERF_COUNT_HW_CPU_CYCLES;
		attr.exclude_host = 1;
	} else {
		attr.type = PERF_TYPE_SOFTWARE;
		attr.config = PERF_COUNT_SW_CPU_CLOCK;
	}
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
}

static struct sampler sampler_open(const struct perf_event_attr *attr, int which)
{
	size_t size = (1 + RING_PAGES) * getpagesize();
	struct sampler s = {};
	struct source *source;
	int event, fd;

	for (event = CLOCK; event <= CYCLES; event <<= 1) {
		if (!(which & event))
			continue;
		fd = event_open(attr, event);
		if (fd < 0 && event == CYCLES && (errno == ENOENT || errno == EOPNOTSUPP))
			continue;
		TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("perf_event_open", fd));

		source = &s.sources[s.nr++];
		source->fd = fd;
		source->ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		TEST_ASSERT(source->ring != MAP_FAILED, "mmap of an event's buffer failed");
	}
	return s;
}

static void sampler_ioctl(struct sampler *s, unsigned long cmd)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		TEST_ASSERT(!ioctl(s->sources[i].fd, cmd, 0), "ioctl of an event failed");
}

/* Samples of the guest, by that source of them which has the fewest. */
static unsigned int sampler_fewest(struct sampler *s)
{
	unsigned int i, n = -1;

	for (i = 0; i < s->nr; i++)
		n = min(n, s->sources[i].n);
	return n;
}

static void sampler_close(struct sampler *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++) {
		munmap(s->sources[i].ring, (1 + RING_PAGES) * getpagesize());
		close(s->sources[i].fd);
	}
}

static bool is_guest_sample(const struct sample *sample)
{
	int mode = sample->header.misc & PERF_RECORD_MISC_CPUMODE_MASK;

	return mode == PERF_RECORD_MISC_GUEST_KERNEL ||
	       mode == PERF_RECORD_MISC_GUEST_USER;
}

/* A slow host may lose samples: each test says itself how many it needs. */
static bool source_next(struct source *s, struct sample *sample, size_t size)
{
	const uint8_t *data = (uint8_t *)s->ring + s->ring->data_offset;
	uint64_t mask = s->ring->data_size - 1, tail = s->ring->data_tail;
	struct perf_event_header header;
	size_t i;

	while (tail < READ_ONCE(s->ring->data_head)) {
		for (i = 0; i < sizeof(header); i++)
			((uint8_t *)&header)[i] = data[(tail + i) & mask];
		for (i = 0; i < min_t(size_t, size, header.size); i++)
			((uint8_t *)sample)[i] = data[(tail + i) & mask];
		tail += header.size;
		s->ring->data_tail = tail;
		if (header.type == PERF_RECORD_SAMPLE && is_guest_sample(sample)) {
			s->n++;
			return true;
		}
	}
	return false;
}

/* Copy the next sample of the guest; false at the end. */
static bool sampler_next(struct sampler *s, struct sample *sample, size_t size)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (source_next(&s->sources[i], sample, size))
			return true;
	return false;
}

/* ---- the guest */

static const char *mode_unsupported(const struct mode *mode)
{
	if (mode->paging == PAGING_LA57 && !kvm_cpu_has(X86_FEATURE_LA57))
		return "the host has no 5-level paging";
	if (mode->leaf == 3 && !kvm_cpu_has(X86_FEATURE_GBPAGES))
		return "the host has no 1G pages";
	return NULL;
}

static int guest_levels(struct guest *g)
{
	return 2 + (int)g->mode.paging;
}

static int index_bits(struct guest *g)
{
	return g->mode.paging == PAGING_32 ? 10 : 9;
}

static unsigned int word(struct guest *g)
{
	return g->mode.code64 ? 8 : 4;
}

static void *guest_hva(struct guest *g, uint64_t gpa)
{
	return addr_gpa2hva(g->vm, gpa);
}

static uint64_t guest_alloc_table(struct guest *g)
{
	uint64_t gpa = g->next_table;

	TEST_ASSERT(gpa < TABLES_END, "out of page tables");
	g->next_table += PAGE_SIZE;
	return gpa;
}

static void *entry_at(struct guest *g, uint64_t table, uint64_t gva, int level)
{
	uint64_t index = gva >> (12 + (level - 1) * index_bits(g));

	index &= (1 << index_bits(g)) - 1;
	return guest_hva(g, table) + index * (g->mode.paging == PAGING_32 ? 4 : 8);
}

static uint64_t guest_entry_get(struct guest *g, void *entry)
{
	return g->mode.paging == PAGING_32 ? *(uint32_t *)entry : *(uint64_t *)entry;
}

static void guest_entry_set(struct guest *g, void *entry, uint64_t val)
{
	if (g->mode.paging == PAGING_32)
		*(uint32_t *)entry = val;
	else
		*(uint64_t *)entry = val;
}

/* The entry for gva at a level, whose table is there. */
static void *guest_find_entry(struct guest *g, uint64_t gva, int level)
{
	uint64_t table = g->cr3;
	int l;

	for (l = guest_levels(g); l > level; l--)
		table = guest_entry_get(g, entry_at(g, table, gva, l)) & GENMASK_ULL(50, 12);
	return entry_at(g, table, gva, level);
}

/* Map gva; what is not there of the path to it gets the accessed bit from flags. */
static void guest_map(struct guest *g, uint64_t gva, uint64_t gpa, int leaf, uint64_t flags)
{
	uint64_t table = g->cr3, val;
	void *entry;
	int level;

	for (level = guest_levels(g); level > leaf; level--) {
		entry = entry_at(g, table, gva, level);
		if (!guest_entry_get(g, entry)) {
			val = guest_alloc_table(g) | PTE_P;
			/* all else is reserved in a PDPTE of PAE */
			if (g->mode.paging != PAGING_PAE || level < 3)
				val |= PTE_W | PTE_U | (flags & PTE_A);
			guest_entry_set(g, entry, val);
		}
		table = guest_entry_get(g, entry) & GENMASK_ULL(50, 12);
	}

	/* PSE-36 has the bits from 32 on at 13 */
	if (g->mode.paging == PAGING_32)
		gpa |= (gpa >> 32) << 13;
	guest_entry_set(g, entry_at(g, table, gva, leaf),
			gpa | flags | PTE_P | (leaf > 1 ? PTE_PS : 0));
}

static void guest_addresses(struct guest *g)
{
	bool user = g->mode.ring;

	if (!g->mode.code64) {
		/* not in the same GiB, i.e. with a PDPTE for each */
		g->code = user ? 0x08048000 : 0x80100000;
		g->stack = user ? 0x50000000 : 0xd0000000;
	} else if (g->mode.paging == PAGING_LA57) {
		g->code = user ? 0x400000 : 0xffffffff81000000;
		g->stack = user ? 0x00ff000040000000 : 0xff11000040000000;
	} else {
		g->code = user ? 0x400000 : 0xffffffff81000000;
		g->stack = user ? 0x7f0040000000 : 0xffff888040000000;
	}
}

static uint64_t user_flag(struct guest *g)
{
	return g->mode.ring ? PTE_U : 0;
}

/* The CPU accesses the code only, and may find all marked as accessed already. */
static void guest_map_code(struct guest *g, const void *code, size_t size)
{
	memcpy(guest_hva(g, CODE_GPA), code, size);
	g->code_size = size;
	guest_map(g, g->code, CODE_GPA, 1, PTE_A | PTE_D | PTE_W | user_flag(g));
}

/* Two pages in a row, the second physically before the first if they are small. */
static void map_stack(struct guest *g)
{
	int leaf = g->mode.leaf;
	uint64_t base = leaf == 3 ? 0 : PAGE_4M;

	if (g->mode.high) {
		vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, g->mode.high,
					    EXTRA_SLOT, PAGE_4M / PAGE_SIZE, 0);
		base = g->mode.high;
	}

	if (leaf == 1) {
		g->stack_gpa[0] = PAGE_4M + 0x3000;
		g->stack_gpa[1] = PAGE_4M + 0x1000;
		guest_map(g, g->stack, g->stack_gpa[0], 1, PTE_W | user_flag(g));
		guest_map(g, g->stack + PAGE_SIZE, g->stack_gpa[1], 1, PTE_W | user_flag(g));
		return;
	}

	guest_map(g, g->stack, base, leaf, PTE_W | user_flag(g));
	g->stack += (leaf == 3 ? PAGE_4M : 0) + PAGE_SIZE;
	g->stack_gpa[0] = base + (leaf == 3 ? PAGE_4M : 0) + PAGE_SIZE;
	g->stack_gpa[1] = g->stack_gpa[0] + PAGE_SIZE;
}

static void set_segment(struct kvm_segment *seg, int type, int ring, bool code64)
{
	*seg = (struct kvm_segment) {
		.limit = 0xffffffff, .selector = 8 | ring, .present = 1, .s = 1,
		.type = type, .dpl = ring, .g = 1, .l = code64, .db = !code64,
	};
}

static void set_sregs(struct guest *g, struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG | X86_CR0_ET;
	sregs.cr3 = g->cr3;
	sregs.cr4 = X86_CR4_PSE;
	if (g->mode.paging >= PAGING_PAE)
		sregs.cr4 |= X86_CR4_PAE;
	if (g->mode.paging >= PAGING_64)
		sregs.efer = EFER_LME | EFER_LMA | EFER_NX;
	if (g->mode.paging == PAGING_LA57)
		sregs.cr4 |= X86_CR4_LA57;

	set_segment(&sregs.cs, 0xb, g->mode.ring, g->mode.code64);
	set_segment(&sregs.ss, 0x3, g->mode.ring, false);
	sregs.ds = sregs.ss;
	sregs.es = sregs.ss;
	sregs.fs = sregs.ss;
	sregs.gs = sregs.ss;
	sregs.tr = (struct kvm_segment) { .limit = 0x67, .type = 11, .present = 1 };
	sregs.ldt = (struct kvm_segment) { .unusable = 1 };
	vcpu_sregs_set(vcpu, &sregs);
}

static struct kvm_vcpu *guest_add_vcpu(struct guest *g, int id)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(g->vm, id);

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	set_sregs(g, vcpu);
	return vcpu;
}

static void put_word(struct guest *g, uint64_t gva, uint64_t val)
{
	uint64_t off = gva - g->stack;

	memcpy(guest_hva(g, g->stack_gpa[off / PAGE_SIZE] + off % PAGE_SIZE), &val, word(g));
}

static void put_frame(struct guest *g, uint64_t at, uint64_t next, uint64_t ret)
{
	put_word(g, at, next);
	put_word(g, at + word(g), ret);
}

/* Three frames: one in each page, and one across the boundary. */
static uint64_t frame_at(struct guest *g, int n)
{
	const uint64_t at[] = { 0x100, PAGE_SIZE - word(g), 0x1200 };

	return g->stack + at[n];
}

static uint64_t return_address(struct guest *g, int n)
{
	return g->code + 0x111 * (n + 1);
}

static struct guest *guest_new(const struct mode *mode)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->mode = *mode;
	g->next_table = TABLES_GPA;
	g->vm = vm_create_barebones();
	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, 0, MEM_SLOT,
				    MEM_SIZE / PAGE_SIZE, 0);
	memset(guest_hva(g, 0), 0, MEM_SIZE);
	guest_addresses(g);
	g->cr3 = guest_alloc_table(g);
	guest_map_code(g, spin_code, sizeof(spin_code));
	map_stack(g);

	put_frame(g, frame_at(g, 0), frame_at(g, 1), return_address(g, 0));
	put_frame(g, frame_at(g, 1), frame_at(g, 2), return_address(g, 1));
	put_frame(g, frame_at(g, 2), 0, return_address(g, 2));

	g->vcpu = guest_add_vcpu(g, 0);
	g->rsp = g->stack + 0x80;
	g->rbp = frame_at(g, 0);
	return g;
}

static void guest_free(struct guest *g)
{
	kvm_vm_free(g->vm);
	free(g);
}

static uint64_t guest_checksum(struct guest *g)
{
	const uint64_t *p = guest_hva(g, 0);
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < MEM_SIZE / sizeof(*p); i++)
		sum = (sum << 1 | sum >> 63) ^ p[i];
	return sum;
}

static void guest_vcpu_run(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	regs->rflags = 0x3002;	/* IOPL 3, for the OUT at the end */
	vcpu_regs_set(vcpu, regs);
	vcpu_run(vcpu);
	TEST_ASSERT(vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == 0x80,
		    "exit reason %u (%s)", vcpu->run->exit_reason,
		    exit_reason_str(vcpu->run->exit_reason));
}

static void guest_sample_regs(struct sampler *sampler, struct guest *g, struct kvm_regs *regs)
{
	sampler_ioctl(sampler, PERF_EVENT_IOC_ENABLE);
	guest_vcpu_run(g->vcpu, regs);
	sampler_ioctl(sampler, PERF_EVENT_IOC_DISABLE);
}

static struct kvm_regs guest_spin_regs(struct guest *g, uint64_t spins)
{
	return (struct kvm_regs) {
		.rip = g->code, .rcx = spins, .rsp = g->rsp, .rbp = g->rbp,
	};
}

static void guest_sample(struct sampler *sampler, struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, SPINS);

	guest_sample_regs(sampler, g, &regs);
}

/* Have the CPU mark as accessed what it accesses; it is not to be blamed on us. */
static void guest_run_unsampled(struct guest *g)
{
	struct kvm_regs regs = guest_spin_regs(g, 1);

	guest_vcpu_run(g->vcpu, &regs);
}

static uint64_t marker(struct guest *g)
{
	return g->mode.ring ? PERF_CONTEXT_GUEST_USER : PERF_CONTEXT_GUEST_KERNEL;
}

/* ---- checks of one sample: NULL or what is wrong with it */

static const char *sample_check_start(struct guest *g, const struct sample *sample)
{
	if (sample->nr < 2)
		return "no chain";
	if (sample->ips[0] != marker(g))
		return "another marker than that of the guest's mode";
	if (sample->ips[1] != sample->ip)
		return "the chain does not start with the sample's IP";
	if (sample->ip < g->code || sample->ip > g->code + g->code_size)
		return "an IP that is not in the code";
	return NULL;
}

static const char *check_chain(struct guest *g, const struct sample *sample, unsigned int frames)
{
	const char *why = sample_check_start(g, sample);
	unsigned int i;

	if (why)
		return why;
	if (sample->nr != 2 + frames)
		return "another number of frames";
	for (i = 0; i < frames; i++)
		if (sample->ips[2 + i] != return_address(g, i))
			return "another return address";
	return NULL;
}

static void sample_dump(const struct sample *sample)
{
	unsigned int i;

	for (i = 0; i < sample->nr; i++)
		pr_info("# %2u: %016lx\n", i, (unsigned long)sample->ips[i]);
}

/* Run the guest: all its samples have so many frames, and nothing has changed. */
static void expect_frames_attr(struct guest *g, unsigned int frames,
			       struct perf_event_attr *attr)
{
	struct sampler sampler = sampler_open(attr, CLOCK | CYCLES);
	uint64_t buf[MAX_CHAIN], before;
	struct sample *sample = (struct sample *)buf;
	const char *why;
	int i;

	guest_run_unsampled(g);
	before = guest_checksum(g);
	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		guest_sample(&sampler, g);
		while (sampler_next(&sampler, sample, sizeof(buf))) {
			why = check_chain(g, sample, frames);
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
		}
	}
	TEST_ASSERT(sampler_fewest(&sampler) >= MIN_SAMPLES,
		    "only %u samples of the guest", sampler_fewest(&sampler));
	TEST_ASSERT(guest_checksum(g) == before, "guest memory has changed");
	sampler_close(&sampler);
}

static void expect_frames(struct guest *g, unsigned int frames)
{
	struct perf_event_attr attr = {};

	expect_frames_attr(g, frames, &attr);
}

/* ---- every mode */

FIXTURE(mode) {
	struct guest *g;
};

FIXTURE_VARIANT(mode) {
	struct mode mode;
};

FIXTURE_VARIANT_ADD(mode, long_4k_kernel)
{
	.mode = { PAGING_64, true, 0, 1 },
};

FIXTURE_VARIANT_ADD(mode, long_4k_user)
{
	.mode = { PAGING_64, true, 3, 1 },
};

FIXTURE_VARIANT_ADD(mode, long_2m_kernel)
{
	.mode = { PAGING_64, true, 0, 2 },
};

FIXTURE_VARIANT_ADD(mode, long_2m_user)
{
	.mode = { PAGING_64, true, 3, 2 },
};

FIXTURE_VARIANT_ADD(mode, long_1g_kernel)
{
	.mode = { PAGING_64, true, 0, 3 },
};

FIXTURE_VARIANT_ADD(mode, long_1g_user)
{
	.mode = { PAGING_64, true, 3, 3 },
};

FIXTURE_VARIANT_ADD(mode, la57_4k_kernel)
{
	.mode = { PAGING_LA57, true, 0, 1 },
};

FIXTURE_VARIANT_ADD(mode, la57_4k_user)
{
	.mode = { PAGING_LA57, true, 3, 1 },
};

FIXTURE_VARIANT_ADD(mode, la57_2m_user)
{
	.mode = { PAGING_LA57, true, 3, 2 },
};

FIXTURE_VARIANT_ADD(mode, compat_4k_user)
{
	.mode = { PAGING_64, false, 3, 1 },
};

FIXTURE_VARIANT_ADD(mode, compat_2m_user)
{
	.mode = { PAGING_64, false, 3, 2 },
};

FIXTURE_VARIANT_ADD(mode, pae_4k_kernel)
{
	.mode = { PAGING_PAE, false, 0, 1 },
};

FIXTURE_VARIANT_ADD(mode, pae_4k_user)
{
	.mode = { PAGING_PAE, false, 3, 1 },
};

FIXTURE_VARIANT_ADD(mode, pae_2m_kernel)
{
	.mode = { PAGING_PAE, false, 0, 2 },
};

FIXTURE_VARIANT_ADD(mode, pae_2m_user)
{
	.mode = { PAGING_PAE, false, 3, 2 },
};

FIXTURE_VARIANT_ADD(mode, two_4k_kernel)
{
	.mode = { PAGING_32, false, 0, 1 },
};

FIXTURE_VARIANT_ADD(mode, two_4k_user)
{
	.mode = { PAGING_32, false, 3, 1 },
};

FIXTURE_VARIANT_ADD(mode, two_4m_kernel)
{
	.mode = { PAGING_32, false, 0, 2 },
};

FIXTURE_VARIANT_ADD(mode, two_4m_user)
{
	.mode = { PAGING_32, false, 3, 2 },
};

FIXTURE_VARIANT_ADD(mode, two_4m_pse36)
{
	.mode = { PAGING_32, false, 0, 2, HIGH_GPA },
};

FIXTURE_SETUP(mode)
{
	const char *why = mode_unsupported(&variant->mode);

	if (why)
		SKIP(return, "%s", why);
	self->g = guest_new(&variant->mode);
}

FIXTURE_TEARDOWN(mode)
{
	if (self->g)
		guest_free(self->g);
}

TEST_F(mode, chain)
{
	expect_frames(self->g, 3);
}

/* The other kind of page ends the chain: a kernel's in user space, and vice versa. */
TEST_F(mode, other_privilege)
{
	struct guest *g = self->g;
	void *entry = guest_find_entry(g, g->stack, g->mode.leaf);

	guest_entry_set(g, entry, guest_entry_get(g, entry) ^ PTE_U);
	expect_frames(g, 0);
}

/* The second page is not there, and with it the second frame's other half. */
TEST_F(mode, not_present)
{
	struct guest *g = self->g;
	void *entry = guest_find_entry(g, g->stack + PAGE_SIZE, g->mode.leaf);

	guest_entry_set(g, entry, guest_entry_get(g, entry) & ~PTE_P);
	expect_frames(g, g->mode.leaf == 1 ? 1 : 0);
}

/* ---- hostile guests, and what the event asks for */

static const struct mode mode_kernel64 = { PAGING_64, true, 0, 1 };
static const struct mode mode_user64 = { PAGING_64, true, 3, 1 };
static const struct mode mode_kernel_2m = { PAGING_64, true, 0, 2 };
static const struct mode mode_kernel_pae = { PAGING_PAE, false, 0, 1 };

FIXTURE(guest) {
	struct guest *kernel;
	struct guest *user;
};

FIXTURE_SETUP(guest)
{
	self->kernel = guest_new(&mode_kernel64);
	self->user = guest_new(&mode_user64);
}

FIXTURE_TEARDOWN(guest)
{
	guest_free(self->kernel);
	guest_free(self->user);
}

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

/* In user space there may be arrays in a frame. */
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

/* A frame that would end at address 0, with both its pages there. */
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
	put_frame(self->kernel, frame_at(self->kernel, 1), frame_at(self->kernel, 2), 0);
	expect_frames(self->kernel, 1);
}

TEST_F(guest, return_address_in_the_other_half)
{
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

/* At each level: a reserved bit, and a table that is in no memslot. */
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

/* Bits that are reserved and no part of an address: only by them is an entry bad. */
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

/* What is on the stack of 32-bit code counts from where its segments begin. */
TEST(segment_bases)
{
	struct guest *g = guest_new(&mode_kernel_pae);
	const uint64_t cs_base = 0x100000, ss_base = 0x200000;
	struct kvm_sregs sregs;
	uint64_t next;
	int i;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cs.base = cs_base;
	sregs.ss.base = ss_base;
	vcpu_sregs_set(g->vcpu, &sregs);

	g->code -= cs_base;
	g->rsp -= ss_base;
	g->rbp -= ss_base;
	for (i = 0; i < 3; i++) {
		next = i < 2 ? frame_at(g, i + 1) - ss_base : 0;
		put_frame(g, frame_at(g, i), next, return_address(g, i) - cs_base);
	}
	expect_frames(g, 3);
	guest_free(g);
}

TEST(code_of_16_bits)
{
	struct guest *g = guest_new(&mode_kernel_pae);
	struct kvm_sregs sregs;

	/* all of it is below 64 KiB */
	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cs.db = 0;
	sregs.cs.base = g->code;
	vcpu_sregs_set(g->vcpu, &sregs);

	g->code = 0;
	expect_frames(g, 0);
	guest_free(g);
}

TEST(paging_off)
{
	struct guest *g = guest_new(&mode_kernel_pae);
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cr0 &= ~X86_CR0_PG;
	vcpu_sregs_set(g->vcpu, &sregs);

	g->code = CODE_GPA;
	g->rsp = g->stack_gpa[0] + 0x80;
	g->rbp = g->stack_gpa[0] + 0x100;
	expect_frames(g, 0);
	guest_free(g);
}

/* In what is a PDPTE the page size bit is a reserved one. */
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

	/* Every level is the top level's table, and the page as well. */
	*entry = g->cr3 | PTE_P | PTE_W;
	g->stack &= GENMASK_ULL(47, 39);
	g->stack |= g->stack >> 9 | g->stack >> 18 | g->stack >> 27;
	g->stack |= GENMASK_ULL(63, 48);
	g->rsp = g->stack;
	g->rbp = g->stack + ((uint64_t)entry & ~PAGE_MASK);
	expect_frames(g, 0);
}

/* A frame in each page, and more pages than are looked up for a sample. */
TEST_F(guest, frames_in_many_pages)
{
	const uint64_t gpa = PAGE_4M + 0x10000;
	struct guest *g = self->kernel;
	uint64_t *frame;
	int i;

	for (i = 0; i < 2 * MAX_STACK_PAGES; i++) {
		guest_map(g, g->stack + i * PAGE_SIZE, gpa + i * PAGE_SIZE, 1, PTE_W);
		frame = guest_hva(g, gpa + i * PAGE_SIZE + 0x100);
		frame[0] = g->stack + (i + 1) * PAGE_SIZE + 0x100;
		frame[1] = return_address(g, i);
	}
	expect_frames(g, MAX_STACK_PAGES);
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

/* Memory that the host has mapped without regard to what it is: here, vvar. */
static const uint64_t *find_vvar(void)
{
	unsigned long start = 0;
	char line[256];
	FILE *maps;

	maps = fopen("/proc/self/maps", "r");
	TEST_ASSERT(maps, "no /proc/self/maps");
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
		SKIP(return, "there is no vvar page");

	/* something there that would do as a return address, for certain */
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

/* Memory that the host has, but not at hand: nothing may be faulted in. */
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

TEST_F(guest, excluded)
{
	struct perf_event_attr no_kernel = { .exclude_callchain_kernel = 1 };
	struct perf_event_attr no_user = { .exclude_callchain_user = 1 };
	uint64_t buf[MAX_CHAIN];
	struct sample *sample = (struct sample *)buf;
	struct {
		struct guest *g;
		struct perf_event_attr *attr;
		bool chain;
	} cases[] = {
		{ self->kernel, &no_kernel, false },
		{ self->kernel, &no_user, true },
		{ self->user, &no_kernel, true },
		{ self->user, &no_user, false },
	};
	struct perf_event_attr no_guest = { .exclude_guest = 1 };
	struct sampler sampler;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].chain) {
			expect_frames_attr(cases[i].g, 3, cases[i].attr);
			continue;
		}
		sampler = sampler_open(cases[i].attr, CLOCK | CYCLES);
		for (j = 0; j < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; j++) {
			guest_sample(&sampler, cases[i].g);
			while (sampler_next(&sampler, sample, sizeof(buf)))
				ASSERT_EQ(sample->nr, 0);
		}
		EXPECT_GE(sampler_fewest(&sampler), MIN_SAMPLES);
		sampler_close(&sampler);
	}

	/* cpu-clock samples the guest nevertheless, but must not look at it */
	sampler = sampler_open(&no_guest, CLOCK);
	for (j = 0; j < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; j++) {
		guest_sample(&sampler, self->user);
		while (sampler_next(&sampler, sample, sizeof(buf)))
			for (i = 0; i < sample->nr; i++)
				ASSERT_GE(sample->ips[i], PERF_CONTEXT_MAX);
	}
	EXPECT_GE(sampler_fewest(&sampler), MIN_SAMPLES);
	sampler_close(&sampler);
}

TEST_F(guest, max_stack)
{
	struct perf_event_attr attr = { .sample_max_stack = 3 };

	/* the IP is the first of the three */
	expect_frames_attr(self->kernel, 2, &attr);
}

/* ---- not walked, although the frames are there to be found */

/* SMM has an address space of its own; here, the same memory is in it. */
TEST_F(guest, smm)
{
	struct guest *g = self->kernel;
	struct kvm_vcpu_events events;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no SMM");

	vm_set_user_memory_region(g->vm, 1 << 16 | MEM_SLOT, 0, 0, MEM_SIZE, guest_hva(g, 0));
	expect_frames(g, 3);

	vcpu_events_get(g->vcpu, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = 1;
	vcpu_events_set(g->vcpu, &events);
	expect_frames(g, 0);
	EXPECT_TRUE(g->vcpu->run->flags & KVM_RUN_X86_SMM);
}

static void copy_segment(struct vmcb_seg *to, const struct kvm_segment *from)
{
	*to = (struct vmcb_seg) {
		.selector = from->selector, .limit = from->limit, .base = from->base,
		.attrib = from->type | from->s << 4 | from->dpl << 5 | from->present << 7 |
			  from->l << 9 | from->db << 10 | from->g << 11,
	};
}

/* Have the guest run one of its own, at the same code and with the same tables. */
static void enter_nested(struct guest *g)
{
	static const uint8_t vmrun_rax[] = { 0x0f, 0x01, 0xd8 };
	uint64_t vmcb_gpa = guest_alloc_table(g), vmrun_offset = 0x800;
	struct vmcb *vmcb = guest_hva(g, vmcb_gpa);
	struct kvm_regs regs = guest_spin_regs(g, 1);
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.efer |= EFER_SVME;
	vcpu_sregs_set(g->vcpu, &sregs);
	vcpu_set_msr(g->vcpu, MSR_VM_HSAVE_PA, guest_alloc_table(g));

	vmcb->control.intercept = BIT_ULL(INTERCEPT_VMRUN);
	vmcb->control.asid = 1;
	copy_segment(&vmcb->save.cs, &sregs.cs);
	copy_segment(&vmcb->save.ss, &sregs.ss);
	copy_segment(&vmcb->save.ds, &sregs.ds);
	copy_segment(&vmcb->save.es, &sregs.es);
	vmcb->save.cr0 = sregs.cr0;
	vmcb->save.cr3 = sregs.cr3;
	vmcb->save.cr4 = sregs.cr4;
	vmcb->save.efer = sregs.efer;
	vmcb->save.rflags = 2;
	vmcb->save.rip = g->code;
	vmcb->save.rsp = g->rsp;

	memcpy(guest_hva(g, CODE_GPA + vmrun_offset), vmrun_rax, sizeof(vmrun_rax));
	regs.rip = g->code + vmrun_offset;
	regs.rax = vmcb_gpa;
	guest_vcpu_run(g->vcpu, &regs);
}

/* It stays in the nested guest: what ends a run is an exit to us, not to its host. */
TEST_F(guest, nested)
{
	struct guest *g = self->kernel;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "KVM has no nested SVM");

	expect_frames(g, 3);
	enter_nested(g);
	expect_frames(g, 0);
	EXPECT_TRUE(g->vcpu->run->flags & KVM_RUN_X86_GUEST_MODE);
}

/* ---- another vCPU writes the entry that maps the stack all the time */

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
 * The guest's stack, and the one that the other vCPU puts in its place now and
 * then: in any sample the chain is that of one or the other, if any.
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
				why = "neither one chain nor the other";
			if (!why && sample->nr > 2 && sample->ips[2] != return_address(g, 0) &&
			    sample->ips[2] != return_address(g, 1))
				why = "another return address";
			if (why)
				sample_dump(sample);
			TEST_ASSERT(!why, "%s", why);
		}
	}
	WRITE_ONCE(rewriter.stop, true);
	pthread_join(thread, NULL);
	TEST_ASSERT(sampler_fewest(&sampler) >= 200, "only %u samples of the guest",
		    sampler_fewest(&sampler));
	TEST_ASSERT(*pte == other, "the last entry written was %lx, and it is %lx",
		    (unsigned long)other, (unsigned long)*pte);
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

/* ---- random values, all over */

#define RANDOM_PAGES	8
#define RANDOM_ROUNDS	150
#define RANDOM_SPINS	10000	/* so many values of RBP are gone through in a round */

static uint64_t random_u64(void)
{
	return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ random();
}

/* What makes a walk go on is more likely than it is by chance. */
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
			why = "a return address that is none of a kernel's";
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
		    "too few samples or frames to mean anything");
	sampler_close(&sampler);
}

/* ---- what it costs */

#define BENCH_SPINS	20000000

/* Frames in a row, as those of functions with a few variables are. */
#define BENCH_FRAME	48

static void bench_host(struct guest *g, void *frames)
{
	uint64_t n = BENCH_SPINS;

	/* leave the red zone alone, and have a frame pointer of our own */
	asm volatile("lea -128(%%rsp), %%rsp\n\t"
		     "push %%rbp\n\t"
		     "mov %1, %%rbp\n\t"
		     "1: dec %0\n\t"
		     "jnz 1b\n\t"
		     "pop %%rbp\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : "+r" (n) : "r" (frames) : "memory", "cc");
}

static void bench_guest(struct guest *g, void *frames)
{
	struct kvm_regs regs = guest_spin_regs(g, BENCH_SPINS);

	guest_vcpu_run(g->vcpu, &regs);
}

struct bench {
	const char *name;
	const struct mode *mode;	/* of the guest, if it is one */
	void (*spin)(struct guest *g, void *frames);
};

/* What end says ends the chain without a fault, which is not part of the walk. */
static void bench_frames(void *p, uint64_t base, unsigned int frames, uint64_t ret, uint64_t end)
{
	unsigned int i;

	for (i = 0; i < frames; i++) {
		uint64_t *frame = p + i * BENCH_FRAME;

		frame[0] = i + 1 < frames ? base + (i + 1) * BENCH_FRAME : end;
		frame[1] = ret + i;
	}
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The time of a spin that is sampled so; and how many samples there were. */
static uint64_t bench_time(const struct bench *b, struct guest *g, void *frames,
			   uint64_t sample_type, unsigned int *samples)
{
	struct perf_event_attr attr = { .sample_type = sample_type, .sample_period = 100000 };
	struct sampler sampler = {};
	uint64_t count = 0, time;

	if (sample_type) {
		sampler = sampler_open(&attr, CLOCK);
		sampler_ioctl(&sampler, PERF_EVENT_IOC_ENABLE);
	}
	time = now_ns();
	b->spin(g, frames);
	time = now_ns() - time;
	if (sample_type) {
		sampler_ioctl(&sampler, PERF_EVENT_IOC_DISABLE);
		count = sampler.sources[0].ring->data_head;
		sampler_close(&sampler);
	}
	*samples = count;
	return time;
}

static double bench_sample(const struct bench *b, struct guest *g, void *frames,
			   uint64_t type, unsigned int size)
{
	unsigned int bytes, none;
	uint64_t idle = bench_time(b, g, frames, 0, &none);
	uint64_t busy = bench_time(b, g, frames, type, &bytes);

	return (double)(busy - idle) / (bytes / size);
}

static double bench_chain(const struct bench *b, unsigned int frames)
{
	unsigned int header = sizeof(struct perf_event_header) + sizeof(uint64_t);
	void *host_frames = NULL;
	struct guest *g = NULL;
	double plain, chain;

	if (b->mode) {
		g = guest_new(b->mode);
		bench_frames(guest_hva(g, g->stack_gpa[0]) + 0x100, g->stack + 0x100, frames,
			     g->code, 0);
	} else {
		host_frames = calloc(frames, BENCH_FRAME);
		bench_frames(host_frames, (uint64_t)host_frames, frames, 0x400000, ~0ull);
	}
	plain = bench_sample(b, g, host_frames, PERF_SAMPLE_IP, header);
	/* a count, a marker and the IP are before the frames */
	chain = bench_sample(b, g, host_frames, PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN,
			     header + (3 + frames) * sizeof(uint64_t));
	free(host_frames);
	if (g)
		guest_free(g);
	return chain - plain;
}

static int bench(void)
{
	static const struct bench benches[] = {
		{ "guest_kernel", &mode_kernel64, bench_guest },
		{ "guest_user", &mode_user64, bench_guest },
		{ "host_user", NULL, bench_host },
	};
	static const unsigned int frames[] = { 1, 10, 50 };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(frames); i++)
		for (j = 0; j < ARRAY_SIZE(benches); j++)
			printf("callchain_%u %s %.0f\n", frames[i], benches[j].name,
			       bench_chain(&benches[j], frames[i]));
	return 0;
}

/* Just after boot timers have the resolution of the tick, and samples are few. */
static void sampler_wait_for_timers(void)
{
	struct timespec res;
	int i;

	for (i = 0; i < 100; i++) {
		TEST_ASSERT(!clock_getres(CLOCK_MONOTONIC, &res), "no CLOCK_MONOTONIC");
		if (!res.tv_sec && res.tv_nsec <= PERIOD)
			return;
		usleep(100000);
	}
	print_skip("timers have a resolution of %ld ns", res.tv_nsec);
	exit(KSFT_SKIP);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	if (argc > 1 && !strcmp(argv[1], "--bench"))
		return bench();
	return test_harness_run(argc, argv);
}
