// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the ABI of the paravirtual PMU (KVM_FEATURE_PV_PMU).
 *
 *  - The MSR is listed and reads back. A reserved bit, an address without writable
 *    memory, and an area without a cookie raise #GP.
 *  - The host fills in the host's half of the header, and nothing of the guest's half.
 *  - The hypercall refuses an unknown operation, an unknown slot, a caller in user
 *    mode, and a vCPU without an area.
 *  - Without the feature bit there is neither the MSR nor the hypercall; nor without
 *    the VM's policy, whatever CPUID says.
 *  - An unknown event and a malformed request get a status and do not count; the
 *    event in the slot beside does.
 */
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

#define READONLY_SLOT	2
#define READONLY_GPA	0x20000000ul
#define HOLE_GPA	0x80000000ul

/* ---- discovery, the MSR */

TEST_F(pv_pmu, discovery)
{
	const struct kvm_msr_list *list = kvm_get_msr_index_list();
	bool found = false;
	int i;

	for (i = 0; i < list->nmsrs; i++)
		found |= list->indices[i] == MSR_KVM_PV_PMU;
	TEST_ASSERT(found, "KVM_GET_MSR_INDEX_LIST has no MSR_KVM_PV_PMU");

	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), 0);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), 0);
}

TEST_F(pv_pmu, header)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(self->vcpu);
	uint64_t msr = pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED;
	uint64_t pmu = host_cpu_is_amd ? KVM_PV_PMU_VENDOR_AMD : KVM_PV_PMU_VENDOR_INTEL;
	uint32_t generation, eax, unused;
	int i;

	cpuid(1, &eax, &unused, &unused, &unused);

	memset(header, 0xff, sizeof(*header));
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(header->version, KVM_PV_PMU_VERSION);
	TEST_ASSERT_EQ(header->nr_slots, KVM_PV_PMU_NR_SLOTS);
	TEST_ASSERT_EQ(header->cookie, COOKIE);
	TEST_ASSERT_EQ(header->cookie_echo, COOKIE);
	TEST_ASSERT_EQ(header->overflow, 0);
	TEST_ASSERT_EQ(header->pmu, pmu << 32 | (eax & ~0xf));
	TEST_ASSERT(header->nr_counters >= 4 && header->nr_counters < 64,
		    "the host says that it has %u counters", header->nr_counters);
	TEST_ASSERT_EQ(header->reserved_host, 0);
	TEST_ASSERT_EQ(header->branches, -1);
	for (i = 0; i < ARRAY_SIZE(header->reserved_guest); i++)
		TEST_ASSERT_EQ(header->reserved_guest[i], -1);
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_SAMPLE,
		    "the header has no KVM_PV_PMU_FEATURE_SAMPLE");
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_FREQ,
		    "the header has no KVM_PV_PMU_FEATURE_FREQ");
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_GROUP,
		    "the header has no KVM_PV_PMU_FEATURE_GROUP");

	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), msr);
	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), msr);

	generation = header->generation;
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT(header->generation != generation, "the generation has not changed");
}

TEST_F(pv_pmu, msr_reserved_bits)
{
	uint64_t gpa = pv_pmu_area_gpa(self->vcpu, 0);
	int bit;

	pv_pmu_enable(self->vcpu);
	for (bit = 1; bit < 12; bit++) {
		pv_pmu_assert_wrmsr_faults(self->vcpu, gpa | BIT(bit) | KVM_PV_PMU_ENABLED);
		pv_pmu_assert_wrmsr_faults(self->vcpu, gpa | BIT(bit));
		TEST_ASSERT_EQ(_vcpu_set_msr(self->vcpu, MSR_KVM_PV_PMU, gpa | BIT(bit)), 0);
	}
	/* a write with #GP has no effect */
	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), gpa | KVM_PV_PMU_ENABLED);
	pv_pmu_commit(self->vcpu, 0);
}

TEST_F(pv_pmu, msr_no_memory)
{
	static const uint64_t addresses[] = {
		HOLE_GPA, APIC_DEFAULT_GPA, 1ull << 51, 1ull << 62, -1ull << 12,
	};
	uint64_t *cookie;
	int i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++)
		pv_pmu_assert_wrmsr_faults(self->vcpu, addresses[i] | KVM_PV_PMU_ENABLED);

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, READONLY_GPA,
				    READONLY_SLOT, 1, KVM_MEM_READONLY);
	cookie = addr_gpa2hva(self->vm, READONLY_GPA) +
		 offsetof(struct kvm_pv_pmu_header, cookie);
	*cookie = COOKIE;
	pv_pmu_assert_wrmsr_faults(self->vcpu, READONLY_GPA | KVM_PV_PMU_ENABLED);
	TEST_ASSERT_EQ(((struct kvm_pv_pmu_header *)(cookie - 8))->cookie_echo, 0);
}

TEST_F(pv_pmu, msr_no_cookie)
{
	struct kvm_pv_pmu_area copy = {};

	pv_pmu_assert_wrmsr_faults(self->vcpu, pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

/* ---- the hypercall */

TEST_F(pv_pmu, hypercall_bad_arguments)
{
	int bit;

	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 0), -KVM_EFAULT);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 0), -KVM_EFAULT);

	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, 2, 0), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, -1, 0), -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, 1ull << 32, 0), -KVM_EOPNOTSUPP);
	for (bit = NR_SLOTS; bit < 64; bit++) {
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, BIT_ULL(bit)),
			       -KVM_EINVAL);
		TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, BIT_ULL(bit)),
			       -KVM_EINVAL);
	}
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, ALL_SLOTS), 0);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, ALL_SLOTS), 0);
}

TEST_F(pv_pmu, hypercall_of_user)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	copy = *pv_pmu_area(self->vcpu);

	pv_pmu_set_user_mode(self->vcpu, true);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_EPERM);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_EPERM);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);

	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_commit(self->vcpu, 1);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

static void assert_absent(struct kvm_vcpu *vcpu)
{
	pv_pmu_assert_wrmsr_faults(vcpu, 0);
	pv_pmu_assert_wrmsr_faults(vcpu, pv_pmu_area_gpa(vcpu, 0) | KVM_PV_PMU_ENABLED);
	TEST_ASSERT_EQ(pv_pmu_rdmsr(vcpu), GP_VECTOR);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_COMMIT, 1), -KVM_ENOSYS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(vcpu, KVM_PV_PMU_OP_SYNC, 1), -KVM_ENOSYS);
}

TEST_F(pv_pmu, feature_off)
{
	struct kvm_pv_pmu_area copy;

	pv_pmu_area_header(self->vcpu)->cookie = COOKIE;
	copy = *pv_pmu_area(self->vcpu);
	vcpu_clear_cpuid_feature(self->vcpu, X86_FEATURE_KVM_PV_PMU);
	assert_absent(self->vcpu);
	pv_pmu_assert_untouched(pv_pmu_area(self->vcpu), &copy);
}

TEST_F(pv_pmu, feature_off_enforced)
{
	pv_pmu_area_header(self->vcpu)->cookie = COOKIE;
	vcpu_enable_cap(self->vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
	vcpu_clear_cpuid_feature(self->vcpu, X86_FEATURE_KVM_PV_PMU);
	assert_absent(self->vcpu);
}

static struct kvm_vcpu *create_with_cap(struct kvm_vm **vm, int cap, uint64_t arg)
{
	struct kvm_vcpu *vcpu;

	*vm = vm_create(1);
	vm_enable_cap(*vm, cap, arg);
	vcpu = pv_pmu_vm_finish(*vm);
	return vcpu;
}

/* The VM's policy holds although CPUID has the feature bit. */
TEST_F(pv_pmu, policy_without_events)
{
	struct kvm_vm *vm;

	assert_absent(create_with_cap(&vm, KVM_CAP_X86_PV_PMU, 0));
	kvm_vm_free(vm);
}

TEST_F(pv_pmu, no_pmu_of_any_kind)
{
	struct kvm_vm *vm;

	assert_absent(create_with_cap(&vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE));
	kvm_vm_free(vm);
}

/* A VMM that asks for it gets the paravirtual PMU without a virtual one. */
TEST_F(pv_pmu, policy_without_vpmu)
{
	const uint64_t policies = vm_check_cap(self->vm, KVM_CAP_X86_PV_PMU);
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu;

	vm_enable_cap(vm, KVM_CAP_X86_PV_PMU, policies);
	vm_enable_cap(vm, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE);
	vcpu = pv_pmu_vm_finish(vm);
	pv_pmu_enable(vcpu);
	pv_pmu_commit(vcpu, 0);
	kvm_vm_free(vm);
}

static int enable_policy(struct kvm_vm *vm, uint64_t policy, uint64_t max_events)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_PV_PMU, .args = { policy, max_events },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap) ? -errno : 0;
}

TEST_F(pv_pmu, policy_bad_arguments)
{
	const uint64_t policies = vm_check_cap(self->vm, KVM_CAP_X86_PV_PMU);
	struct kvm_vm *vm = vm_create(1);
	int bit;

	/* not each host has branch stacks */
	TEST_ASSERT_EQ(policies | KVM_PV_PMU_POLICY_BRANCHES,
		       KVM_PV_PMU_POLICY_EVENTS | KVM_PV_PMU_POLICY_RAW |
		       KVM_PV_PMU_POLICY_PINNED | KVM_PV_PMU_POLICY_BRANCHES);
	for (bit = 4; bit < 64; bit++)
		TEST_ASSERT_EQ(enable_policy(vm, policies | BIT_ULL(bit), 0), -EINVAL);
	TEST_ASSERT_EQ(enable_policy(vm, policies, NR_SLOTS + 1), -EINVAL);
	TEST_ASSERT_EQ(enable_policy(vm, policies, -1), -EINVAL);
	TEST_ASSERT_EQ(enable_policy(vm, policies, NR_SLOTS), 0);
	/* too late: there is a vCPU */
	pv_pmu_vm_finish(vm);
	TEST_ASSERT_EQ(enable_policy(vm, policies, 0), -EINVAL);
	kvm_vm_free(vm);
}

TEST_F(pv_pmu, policy_limits)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu;

	TEST_ASSERT_EQ(enable_policy(vm, KVM_PV_PMU_POLICY_EVENTS, 2), 0);
	vcpu = pv_pmu_vm_finish(vm);
	pv_pmu_enable(vcpu);
	TEST_ASSERT(!(pv_pmu_area_header(vcpu)->features &
		      (KVM_PV_PMU_FEATURE_RAW | KVM_PV_PMU_FEATURE_PINNED |
		       KVM_PV_PMU_FEATURE_BRANCH_STACK)),
		    "the header has features that the policy forbids");
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS, .type = PERF_TYPE_RAW, .config = 0xc0));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 2, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(vcpu, 0xf);
	ASSERT_STATUS(vcpu, 0, -EOPNOTSUPP);
	ASSERT_STATUS(vcpu, 1, 0);
	ASSERT_STATUS(vcpu, 2, 0);
	ASSERT_STATUS(vcpu, 3, -ENOSPC);
	kvm_vm_free(vm);
}

TEST_F(pv_pmu, feature_on_enforced)
{
	vcpu_enable_cap(self->vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1);
	pv_pmu_enable(self->vcpu);
	pv_pmu_commit(self->vcpu, 0);
}

/* ---- refused requests */

TEST_F(pv_pmu, unknown_events)
{
	static const uint32_t types[] = {
		PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_BREAKPOINT,
		PERF_TYPE_MAX, 100, -1,
	};
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < ARRAY_SIZE(types); i++)
		pv_pmu_assert_refused(self->vcpu, HARDWARE(CPU_CYCLES, .type = types[i]), -ENOENT);
}

/* A CPU has events for some caches only. */
TEST_F(pv_pmu, cache_events)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr), .type = PERF_TYPE_HW_CACHE, .exclude_host = 1,
	};
	int fd, refused = 0;

	pv_pmu_enable(self->vcpu);
	for (attr.config = 0; attr.config < PERF_COUNT_HW_CACHE_MAX; attr.config++) {
		fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
		if (fd >= 0) {
			close(fd);
			pv_pmu_request(self->vcpu, 0, HARDWARE(CPU_CYCLES, .type = attr.type,
							       .config = attr.config));
			pv_pmu_commit(self->vcpu, BIT(0));
			ASSERT_STATUS(self->vcpu, 0, 0);
		} else {
			refused++;
			pv_pmu_assert_refused(self->vcpu, HARDWARE(CPU_CYCLES, .type = attr.type,
								   .config = attr.config), -errno);
		}
	}
	TEST_ASSERT(refused, "no cache event was refused");
}

TEST_F(pv_pmu, malformed_requests)
{
	const uint32_t run = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN;
	const uint32_t sample = run | KVM_PV_PMU_SAMPLE;
	const struct kvm_pv_pmu_request bad[] = {
		*HARDWARE(CPU_CYCLES, .flags = run | BIT(7)),
		*HARDWARE(CPU_CYCLES, .flags = run | BIT(31)),
		*HARDWARE(CPU_CYCLES, .reserved[0] = 1),
		*HARDWARE(CPU_CYCLES, .reserved[1] = 1ull << 63),
		*HARDWARE(CPU_CYCLES, .restart = 1),	/* of no period */
		*HARDWARE(CPU_CYCLES, .group = 2),		/* itself */
		*HARDWARE(CPU_CYCLES, .group = 3),		/* a slot without an event */
		*HARDWARE(CPU_CYCLES, .group = NR_SLOTS + 1),
		*HARDWARE(CPU_CYCLES, .group = -1),
		*HARDWARE(CPU_CYCLES, .sample_period = PERIOD),
		*HARDWARE(CPU_CYCLES, .flags = sample),
		*HARDWARE(CPU_CYCLES, .flags = sample, .sample_period = 1ull << 63),
		*HARDWARE(CPU_CYCLES, .flags = sample, .sample_period = -1),
		*HARDWARE(CPU_CYCLES, .flags = run | KVM_PV_PMU_FREQ, .sample_freq = 1000),
		*HARDWARE(CPU_CYCLES, .flags = sample | KVM_PV_PMU_FREQ),
		*HARDWARE(CPU_CYCLES, .config1 = 1),
		*HARDWARE(MAX),
		*HARDWARE(CPU_CYCLES, .config = -1),
		*HARDWARE(CPU_CYCLES, .config = 1ull << 32),
		*HARDWARE(CPU_CYCLES, .type = PERF_TYPE_HW_CACHE, .config = 1ull << 32),
		*HARDWARE(CPU_CYCLES, .type = PERF_TYPE_HW_CACHE, .config1 = 1),
	};
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		pv_pmu_assert_refused(self->vcpu, &bad[i], -EINVAL);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
