// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the ABI of the paravirtual PMU (KVM_FEATURE_PV_PMU).
 *
 *  - The MSR is listed and reads back. A reserved bit, an address without writable
 *    memory, and an area without a cookie raise #GP.
 *  - The host fills in the header of the area.
 *  - The hypercall refuses an unknown operation, an unknown slot, a caller in user
 *    mode, and a vCPU without an area.
 *  - Without the feature bit there is neither the MSR nor the hypercall.
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
	int i;

	memset(header, 0xff, sizeof(*header));
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(header->version, KVM_PV_PMU_VERSION);
	TEST_ASSERT_EQ(header->nr_slots, KVM_PV_PMU_NR_SLOTS);
	TEST_ASSERT_EQ(header->cookie, COOKIE);
	TEST_ASSERT_EQ(header->cookie_echo, COOKIE);
	TEST_ASSERT_EQ(header->overflow, 0);
	for (i = 0; i < ARRAY_SIZE(header->reserved); i++)
		TEST_ASSERT_EQ(header->reserved[i], 0);
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_SAMPLE,
		    "the header has no KVM_PV_PMU_FEATURE_SAMPLE");
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_FREQ,
		    "the header has no KVM_PV_PMU_FEATURE_FREQ");

	TEST_ASSERT_EQ(pv_pmu_rdmsr(self->vcpu), msr);
	TEST_ASSERT_EQ(vcpu_get_msr(self->vcpu, MSR_KVM_PV_PMU), msr);
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
	TEST_ASSERT_EQ(cookie[1], 0);
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
		*HARDWARE(CPU_CYCLES, .reserved[2] = 1),
		*HARDWARE(CPU_CYCLES, .branch_sample_type = PERF_SAMPLE_BRANCH_ANY),
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
