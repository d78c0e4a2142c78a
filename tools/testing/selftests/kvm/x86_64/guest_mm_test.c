// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the address space of a guest in perf's samples (PERF_SAMPLE_GUEST_MM).
 *
 *  - In kernel and user space, and in each paging mode, it is where the page tables
 *    begin, without the other bits of CR3.
 *  - It is of the page tables in use when the sample was taken: the guest may have
 *    loaded CR3 just before.
 *  - It is 0 without paging, in SMM, of nested guests, and in samples of the host.
 *  - It does not need call chains, and comes after the guest's stacks.
 *  - Events that do not sample guests are refused.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "guest_callchain_harness.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define CR3_PWT_PCD	0x18
#define CR3_PCID	0x123

/* For all fields of a sample here */
static uint64_t record[0x1000 / sizeof(uint64_t)];

static struct perf_event_attr mm_attr(void)
{
	return (struct perf_event_attr) {
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_GUEST_MM,
	};
}

/* The last word of the record */
static uint64_t mm_of(const struct sample *sample)
{
	return ((const uint64_t *)sample)[sample->header.size / sizeof(uint64_t) - 1];
}

static const char *check_mm(struct guest *g, const struct sample *sample, const void *data)
{
	const char *why = sample_check_start(g, sample);

	if (why)
		return why;
	if (mm_of(sample) != *(const uint64_t *)data)
		return "the address space is wrong";
	return NULL;
}

static void expect_mm(struct guest *g, uint64_t mm)
{
	struct perf_event_attr attr = mm_attr();

	expect_samples(g, &attr, check_mm, &mm);
}

static void set_cr3(struct guest *g, uint64_t cr3, uint64_t cr4)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cr3 = cr3;
	sregs.cr4 |= cr4;
	vcpu_sregs_set(g->vcpu, &sregs);
}

/* ---- the page tables */

TEST_F(guest, kernel)
{
	expect_mm(self->kernel, self->kernel->cr3);
}

TEST_F(guest, user)
{
	expect_mm(self->user, self->user->cr3);
}

TEST_F(guest, caching_bits)
{
	set_cr3(self->user, self->user->cr3 | CR3_PWT_PCD, 0);
	expect_mm(self->user, self->user->cr3);
}

TEST_F(guest, pcid)
{
	if (!kvm_cpu_has(X86_FEATURE_PCID))
		SKIP(return, "the host has no PCID");
	set_cr3(self->user, self->user->cr3 | CR3_PCID, X86_CR4_PCIDE);
	expect_mm(self->user, self->user->cr3);
}

static void expect_mm_of_mode(struct mode mode)
{
	struct guest *g = guest_new(&mode);

	expect_mm(g, g->cr3);
	set_cr3(g, g->cr3 | CR3_PWT_PCD, 0);
	expect_mm(g, g->cr3);
	guest_free(g);
}

TEST(two_levels)
{
	expect_mm_of_mode((struct mode){ PAGING_32, false, 3, 1 });
}

TEST(compat)
{
	expect_mm_of_mode((struct mode){ PAGING_64, false, 3, 1 });
}

TEST(la57)
{
	if (!kvm_cpu_has(X86_FEATURE_LA57))
		SKIP(return, "the host has no 5-level paging");
	expect_mm_of_mode((struct mode){ PAGING_LA57, true, 0, 1 });
}

/* The highest table of PAE has 32 bytes. Many are in one page. */
TEST(pae)
{
	const unsigned int size = 32;
	struct guest *g = guest_new(&mode_kernel_pae);
	uint64_t other = g->cr3 + 5 * size;

	expect_mm(g, g->cr3);
	memcpy(guest_hva(g, other), guest_hva(g, g->cr3), size);
	set_cr3(g, other | CR3_PWT_PCD, 0);
	expect_mm(g, other);
	guest_free(g);
}

/*
 * 0: mov %rax, %cr3; mov %edx, %ecx; 1: dec %ecx; jnz 1b; then the same with %rbx, from
 * SECOND_LOAD on; dec %edi; jnz 0b; out %al, $0x80
 */
static const uint8_t switch_code[] = {
	0x0f, 0x22, 0xd8, 0x89, 0xd1, 0xff, 0xc9, 0x75, 0xfc,
	0x0f, 0x22, 0xdb, 0x89, 0xd1, 0xff, 0xc9, 0x75, 0xfc,
	0xff, 0xcf, 0x75, 0xea, 0xe6, 0x80
};

#define SECOND_LOAD	9

/* At the first instruction behind a load, CR3 has its value. */
TEST_F(guest, switches)
{
	struct perf_event_attr attr = mm_attr();
	struct sampler sampler = sampler_open(&attr, CLOCK | CYCLES);
	struct sample *sample = (struct sample *)record;
	struct guest *g = self->kernel;
	uint64_t other = guest_alloc_table(g);
	unsigned int n[2] = {}, i;
	bool first;

	guest_map_code(g, switch_code, sizeof(switch_code));
	memcpy(guest_hva(g, other), guest_hva(g, g->cr3), PAGE_SIZE);
	for (i = 0; i < MAX_RUNS && (n[0] < MIN_SAMPLES || n[1] < MIN_SAMPLES); i++) {
		struct kvm_regs regs = guest_spin_regs(g, 0);

		regs.rax = other;
		regs.rbx = g->cr3;
		regs.rdx = 20;
		regs.rdi = SPINS / 40;
		guest_sample_regs(&sampler, g, &regs);
		while (sampler_next(&sampler, sample, sizeof(record))) {
			first = sample->ip > g->code && sample->ip <= g->code + SECOND_LOAD;
			ASSERT_EQ(mm_of(sample), first ? other : g->cr3)
				TH_LOG("at offset %lu", (unsigned long)(sample->ip - g->code));
			n[first]++;
		}
	}
	EXPECT_GE(n[0], MIN_SAMPLES);
	EXPECT_GE(n[1], MIN_SAMPLES);
	sampler_close(&sampler);
}

/* ---- nothing is told */

TEST(paging_off)
{
	struct guest *g = guest_new(&mode_kernel_pae);

	guest_disable_paging(g);
	expect_mm(g, 0);
	guest_free(g);
}

TEST_F(guest, smm)
{
	struct guest *g = self->kernel;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no SMM");

	vm_set_user_memory_region(g->vm, 1 << 16 | MEM_SLOT, 0, 0, MEM_SIZE, guest_hva(g, 0));
	guest_enter_smm(g);
	expect_mm(g, 0);
}

TEST_F(guest, nested)
{
	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "KVM has no nested SVM");

	guest_enter_nested(self->kernel);
	expect_mm(self->kernel, 0);
	EXPECT_TRUE(self->kernel->vcpu->run->flags & KVM_RUN_X86_GUEST_MODE);
}

/* The clock samples the host as well: this process has no guest. */
TEST(host)
{
	struct perf_event_attr attr = mm_attr();
	struct sampler sampler = sampler_open(&attr, CLOCK);
	struct source *source = &sampler.sources[0];
	uint64_t tail = 0;
	const struct perf_event_header *header;
	unsigned int i, n = 0;

	sampler_ioctl(&sampler, PERF_EVENT_IOC_ENABLE);
	for (i = 0; i < 100 * PERIOD; i++)
		asm volatile("");
	sampler_ioctl(&sampler, PERF_EVENT_IOC_DISABLE);
	for (; tail < source->ring->data_head; tail += header->size) {
		header = (void *)source->ring + source->ring->data_offset + tail;
		if (header->type != PERF_RECORD_SAMPLE)
			continue;
		ASSERT_EQ(mm_of((const struct sample *)header), 0);
		n++;
	}
	EXPECT_GE(n, MIN_SAMPLES);
	sampler_close(&sampler);
}

/* ---- other fields of the sample */

TEST_F(guest, without_chains)
{
	struct perf_event_attr attr = {
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_GUEST_MM,
	};
	struct sampler sampler = sampler_open(&attr, CLOCK | CYCLES);
	struct sample *sample = (struct sample *)record;
	int i;

	for (i = 0; i < MAX_RUNS && sampler_fewest(&sampler) < MIN_SAMPLES; i++) {
		guest_sample(&sampler, self->user);
		while (sampler_next(&sampler, sample, sizeof(record))) {
			ASSERT_EQ(sample->header.size, 3 * sizeof(uint64_t));
			ASSERT_EQ(mm_of(sample), self->user->cr3);
		}
	}
	EXPECT_GE(sampler_fewest(&sampler), MIN_SAMPLES);
	sampler_close(&sampler);
}

TEST_F(guest, behind_stacks)
{
	struct perf_event_attr attr = mm_attr();

	attr.sample_type |= PERF_SAMPLE_GUEST_STACK;
	attr.sample_regs_guest = 1;
	attr.sample_stack_guest = 64;
	expect_samples(self->user, &attr, check_mm, &self->user->cr3);
}

/* ---- attributes */

static int open_event(struct perf_event_attr *attr)
{
	int fd;

	attr->size = sizeof(*attr);
	attr->disabled = 1;
	fd = syscall(__NR_perf_event_open, attr, 0, -1, -1, 0);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -errno : 0;
}

#define EXPECT_OPEN(result, ...)				\
do {								\
	struct perf_event_attr attr = mm_attr();		\
	attr.type = PERF_TYPE_SOFTWARE;				\
	attr.config = PERF_COUNT_SW_CPU_CLOCK;			\
	attr.sample_period = PERIOD;				\
	__VA_ARGS__;						\
	EXPECT_EQ(open_event(&attr), result);			\
} while (0)

TEST(attributes)
{
	EXPECT_OPEN(0);
	EXPECT_OPEN(0, attr.config = PERF_COUNT_SW_TASK_CLOCK);
	EXPECT_OPEN(-EINVAL, attr.exclude_guest = 1);
	EXPECT_OPEN(-EINVAL, attr.config = PERF_COUNT_SW_PAGE_FAULTS);
	EXPECT_OPEN(-EINVAL, attr.config = PERF_COUNT_SW_CONTEXT_SWITCHES);
	EXPECT_OPEN(-EINVAL, attr.config = PERF_COUNT_SW_DUMMY);
	EXPECT_OPEN(-EINVAL, attr.config = PERF_COUNT_SW_BPF_OUTPUT);
	EXPECT_OPEN(-EINVAL, attr.type = PERF_TYPE_TRACEPOINT);
	EXPECT_OPEN(-EINVAL, attr.type = PERF_TYPE_BREAKPOINT);
	EXPECT_OPEN(-EINVAL, attr.sample_type |= PERF_SAMPLE_MAX);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
