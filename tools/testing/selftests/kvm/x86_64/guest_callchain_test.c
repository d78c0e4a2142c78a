// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the call chains that KVM reports to perf for samples of a guest
 * (CONFIG_KVM_GUEST_CALLCHAIN).
 *
 *  - In every paging mode, with every page size, in the kernel and in user space,
 *    for 64-bit and 32-bit code, each chain is exactly the chain on the stack.
 *  - Chains of 32-bit code respect the segment bases.
 *  - The chain is the IP alone for 16-bit code, without paging, in SMM, and in a
 *    nested guest.
 *  - exclude_callchain_{kernel,user}, exclude_guest, sample_max_stack, and the default
 *    of it, hold.
 *  - Samples do not change guest memory, including the accessed and dirty bits, and
 *    cause no exit to user space.
 */
#include <linux/perf_event.h>
#include <stdint.h>

#include "guest_callchain_harness.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

static const char *mode_unsupported(const struct mode *mode)
{
	if (mode->paging == PAGING_LA57 && !kvm_cpu_has(X86_FEATURE_LA57))
		return "the host has no 5-level paging";
	if (mode->leaf == 3 && !kvm_cpu_has(X86_FEATURE_GBPAGES))
		return "the host has no 1G pages";
	return NULL;
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

/* A page of the other privilege ends the chain: U/S is wrong for the guest's mode. */
TEST_F(mode, other_privilege)
{
	struct guest *g = self->g;
	void *entry = guest_find_entry(g, g->stack, g->mode.leaf);

	guest_entry_set(g, entry, guest_entry_get(g, entry) ^ PTE_U);
	expect_frames(g, 0);
}

/* The second page is not present: the second frame is cut off. */
TEST_F(mode, not_present)
{
	struct guest *g = self->g;
	void *entry = guest_find_entry(g, g->stack + PAGE_SIZE, g->mode.leaf);

	guest_entry_set(g, entry, guest_entry_get(g, entry) & ~PTE_P);
	expect_frames(g, g->mode.leaf == 1 ? 1 : 0);
}

/* Addresses on the stack of 32-bit code are relative to the segment bases. */
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

	/* the return addresses are linear, and lower than the code by the base: map it there */
	g->code -= cs_base;
	guest_map(g, g->code, CODE_GPA, 1, 0);
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

	guest_set_16_bits(g);
	expect_frames(g, 0);
	guest_free(g);
}

TEST(paging_off)
{
	struct guest *g = guest_new(&mode_kernel_pae);

	guest_disable_paging(g);
	g->rsp = g->stack_gpa[0] + 0x80;
	g->rbp = g->stack_gpa[0] + 0x100;
	expect_frames(g, 0);
	guest_free(g);
}

/* ---- attributes of the event */

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

	/* cpu-clock samples the guest despite exclude_guest: no chain of the guest */
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

	/* the IP counts as the first of three entries */
	expect_frames_attr(self->kernel, 2, &attr);
}

#define MAX_STACK	"/proc/sys/kernel/perf_event_max_stack"

FIXTURE(max_stack) {
	struct guest *kernel;
	unsigned int before;
};

static void set_max_stack(unsigned int max)
{
	FILE *f = fopen(MAX_STACK, "w");

	TEST_ASSERT(f && fprintf(f, "%u", max) > 0 && !fclose(f), "%s cannot be set to %u",
		    MAX_STACK, max);
}

FIXTURE_SETUP(max_stack)
{
	FILE *f = fopen(MAX_STACK, "r");

	TEST_ASSERT(f && fscanf(f, "%u", &self->before) == 1, "%s cannot be read", MAX_STACK);
	fclose(f);
	self->kernel = guest_new(&mode_kernel64);
}

FIXTURE_TEARDOWN_PARENT(max_stack)
{
	set_max_stack(self->before);
}

TEST_F(max_stack, by_default)
{
	set_max_stack(2);
	expect_frames(self->kernel, 1);
	set_max_stack(PERF_MAX_STACK_DEPTH);
	expect_frames(self->kernel, 3);
	guest_free(self->kernel);
}

/* ---- the IP alone, although the stack has frames */

/* The address space of SMM has the same memory in this test. */
TEST_F(guest, smm)
{
	struct guest *g = self->kernel;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no SMM");

	vm_set_user_memory_region(g->vm, 1 << 16 | MEM_SLOT, 0, 0, MEM_SIZE, guest_hva(g, 0));
	expect_frames(g, 3);

	guest_enter_smm(g);
	expect_frames(g, 0);
	EXPECT_TRUE(g->vcpu->run->flags & KVM_RUN_X86_SMM);
}

/* The vCPU stays in the nested guest: OUT exits to user space, not to the guest. */
TEST_F(guest, nested)
{
	struct guest *g = self->kernel;

	if (!kvm_cpu_has(X86_FEATURE_SVM))
		SKIP(return, "KVM has no nested SVM");

	expect_frames(g, 3);
	guest_enter_nested(g);
	expect_frames(g, 0);
	EXPECT_TRUE(g->vcpu->run->flags & KVM_RUN_X86_GUEST_MODE);
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
