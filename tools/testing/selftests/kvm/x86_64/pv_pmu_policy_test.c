// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the paravirtual PMU counts no more than its host allows.
 *
 *  - Raw events count if the host grants raw events, without the control bits of
 *    the event select register.
 *  - The event filter of the VM holds, also for an open event.
 *  - The module parameters pv_pmu_max_events, pv_pmu_raw and pv_pmu_pinned hold.
 *  - A guest counts only events that the VMM may open by perf_event_paranoid and
 *    capabilities.
 */
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "kvm_util.h"
#include "pmu.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

/* The raw event for instructions is the same on Intel and AMD. */
#define RAW_INSTRUCTIONS	RAW_EVENT(0xc0, 0)

#define RAW(...) HARDWARE(CPU_CYCLES, .type = PERF_TYPE_RAW, ##__VA_ARGS__)

TEST_F(pv_pmu, raw_events)
{
	static const uint64_t refused[] = {
		ARCH_PERFMON_EVENTSEL_USR, ARCH_PERFMON_EVENTSEL_OS,
		ARCH_PERFMON_EVENTSEL_INT, ARCH_PERFMON_EVENTSEL_ANY,
		ARCH_PERFMON_EVENTSEL_ENABLE, 1ull << 63,
	};
	int i;

	pv_pmu_enable(self->vcpu);
	if (!(pv_pmu_area_header(self->vcpu)->features & KVM_PV_PMU_FEATURE_RAW)) {
		pv_pmu_assert_refused(self->vcpu, RAW(.config = RAW_INSTRUCTIONS), -EOPNOTSUPP);
		SKIP(return, "the host grants no raw events");
	}
	pv_pmu_request(self->vcpu, 0, RAW(.config = RAW_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));

	for (i = 0; i < ARRAY_SIZE(refused); i++)
		pv_pmu_assert_refused(self->vcpu, RAW(.config = RAW_INSTRUCTIONS | refused[i]),
				      -EINVAL);
}

static void set_filter(struct kvm_vm *vm, uint32_t action, uint32_t n, uint64_t event)
{
	struct {
		struct kvm_pmu_event_filter filter;
		uint64_t events[1];
	} f = { .filter = { .action = action, .nevents = n }, .events = { event } };

	vm_ioctl(vm, KVM_SET_PMU_EVENT_FILTER, &f.filter);
}

TEST_F(pv_pmu, event_filter)
{
	pv_pmu_enable(self->vcpu);
	set_filter(self->vm, KVM_PMU_EVENT_DENY, 1, RAW_INSTRUCTIONS);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, RAW(.config = RAW_INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 2, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 7, LOOPS);
	ASSERT_STATUS(self->vcpu, 0, -EOPNOTSUPP);
	ASSERT_STATUS(self->vcpu, 1, -EOPNOTSUPP);
	ASSERT_STATUS(self->vcpu, 2, 0);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 2)->count, BRANCHES(LOOPS));

	/* the new filter holds for a new request and for the open events */
	set_filter(self->vm, KVM_PMU_EVENT_ALLOW, 1, RAW_INSTRUCTIONS);
	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT_EQ(pv_pmu_hypercall(self->vcpu, KVM_PV_PMU_OP_SYNC, 7), 0);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_STATUS(self->vcpu, 2, -EOPNOTSUPP);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count >= INSTRUCTIONS(LOOPS),
		    "%llu instructions, want %d or more",
		    pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

/* ---- what the host grants */

#define PARANOID	"/proc/sys/kernel/perf_event_paranoid"

FIXTURE(pv_pmu_policy) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vcpu *vcpu;
	char old[16];
};

/*
 * A setting of the host. The parent process restores the old value even if the test
 * dies. A parameter that is read-only after boot needs the value from the start.
 */
FIXTURE_VARIANT(pv_pmu_policy) {
	const char *path;
	const char *val;
	void (*test)(struct kvm_vcpu *vcpu);
};

FIXTURE_SETUP(pv_pmu_policy)
{
	pv_pmu_read_setting(variant->path, self->old, sizeof(self->old));
}

FIXTURE_TEARDOWN_PARENT(pv_pmu_policy)
{
	pv_pmu_write_setting(variant->path, self->old);
}

static void set_capability(int cap, bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	TEST_ASSERT(!syscall(__NR_capget, &header, data), "capget failed");
	data[cap / 32].effective &= ~BIT(cap % 32);
	if (on)
		data[cap / 32].effective |= BIT(cap % 32);
	TEST_ASSERT(!syscall(__NR_capset, &header, data), "capset failed");
}

static void test_max_events(struct kvm_vcpu *vcpu)
{
	int i;

	pv_pmu_enable(vcpu);
	for (i = 0; i < 4; i++)
		pv_pmu_request(vcpu, i, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(vcpu, 0xf, LOOPS);
	for (i = 0; i < 4; i++) {
		ASSERT_STATUS(vcpu, i, i < 2 ? 0 : -ENOSPC);
		ASSERT_COUNT(pv_pmu_report(vcpu, i)->count, i < 2 ? INSTRUCTIONS(LOOPS) : 0);
	}
	TEST_ASSERT_EQ(pv_pmu_live_events(vcpu), 2);

	pv_pmu_request(vcpu, 0, REQUEST());
	pv_pmu_commit(vcpu, BIT(0));
	pv_pmu_count(vcpu, BIT(3), LOOPS);
	ASSERT_STATUS(vcpu, 3, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 3)->count, INSTRUCTIONS(LOOPS));
}

static void test_no_raw_events(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	TEST_ASSERT(!(pv_pmu_area_header(vcpu)->features & KVM_PV_PMU_FEATURE_RAW),
		    "the header has KVM_PV_PMU_FEATURE_RAW");
	pv_pmu_assert_refused(vcpu, RAW(.config = RAW_INSTRUCTIONS), -EOPNOTSUPP);
}

static void test_paranoid(struct kvm_vcpu *vcpu)
{
	const uint32_t run = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN;

	pv_pmu_enable(vcpu);
	set_capability(CAP_PERFMON, false);
	set_capability(CAP_SYS_ADMIN, false);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = run | KVM_PV_PMU_EXCLUDE_USER));
	pv_pmu_request(vcpu, 2, HARDWARE(INSTRUCTIONS, .flags = run | KVM_PV_PMU_EXCLUDE_KERNEL));
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	ASSERT_STATUS(vcpu, 1, -EACCES);
	ASSERT_STATUS(vcpu, 2, 0);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 0)->count, 0);

	/* the host keeps a refusal for a second */
	set_capability(CAP_PERFMON, true);
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	sleep(2);
	pv_pmu_count(vcpu, 7, LOOPS);
	ASSERT_STATUS(vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

#define TRACING "/sys/kernel/debug/tracing/"

/* How often the host has created an event for kernel code since the probe was set */
static uint64_t events_created(void)
{
	FILE *f = fopen(TRACING "kprobe_profile", "r");
	char name[64];
	uint64_t hits;

	TEST_ASSERT(f && fscanf(f, "%63s %lu", name, &hits) == 2,
		    "the probe's profile cannot be read");
	fclose(f);
	return hits;
}

/* The VMM may open nothing: the host creates no perf event of any kind. */
static void test_very_paranoid(struct kvm_vcpu *vcpu)
{
	uint64_t created;

	TEST_ASSERT(pv_pmu_write_setting(TRACING "kprobe_events",
					 "p:pv_pmu_test perf_event_create_kernel_counter\n") &&
		    pv_pmu_write_setting(TRACING "events/kprobes/pv_pmu_test/enable", "1"),
		    "a probe cannot be set");
	pv_pmu_enable(vcpu);
	created = events_created();
	TEST_ASSERT(created, "the probe has seen no event of an area");

	set_capability(CAP_SYS_ADMIN, false);
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS,
					 .flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN |
					   KVM_PV_PMU_EXCLUDE_KERNEL));
	pv_pmu_count(vcpu, 3, LOOPS);
	ASSERT_STATUS(vcpu, 0, -EACCES);
	ASSERT_STATUS(vcpu, 1, -EACCES);
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 1)->count, 0);
	TEST_ASSERT_EQ(events_created(), created);

	set_capability(CAP_SYS_ADMIN, true);
	pv_pmu_write_setting(TRACING "events/kprobes/pv_pmu_test/enable", "0");
	pv_pmu_write_setting(TRACING "kprobe_events", "-:pv_pmu_test\n");
}

static void test_no_pinned_events(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	pv_pmu_assert_refused(vcpu, HARDWARE(INSTRUCTIONS,
					     .flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN |
					       KVM_PV_PMU_PINNED), -EOPNOTSUPP);
}

/* A pinned event has a counter, or -EBUSY; so has a group with a pinned leader. */
static void test_pinned_events(struct kvm_vcpu *vcpu)
{
	const uint32_t pinned = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_PINNED;
	int fds[MAX_COUNTERS], n;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(vcpu);
	n = pv_pmu_take_counters(fds, 1);
	pv_pmu_request(vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_count(vcpu, 3, LOOPS);
	ASSERT_STATUS(vcpu, 0, 0);
	ASSERT_STATUS(vcpu, 1, -EBUSY);
	ASSERT_COUNT(pv_pmu_report(vcpu, 0)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_report(vcpu, 1)->count, 0);

	/* with free counters, a new request counts */
	pv_pmu_give_counters(fds, n);
	pv_pmu_stop(vcpu, 1);
	pv_pmu_request(vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = pinned));
	pv_pmu_count(vcpu, BIT(1), LOOPS);
	ASSERT_STATUS(vcpu, 1, 0);
	ASSERT_COUNT(pv_pmu_report(vcpu, 1)->count, INSTRUCTIONS(LOOPS));
}

FIXTURE_VARIANT_ADD(pv_pmu_policy, max_events) {
	PARAMETER("pv_pmu_max_events"), "2", test_max_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, no_raw_events) {
	PARAMETER("pv_pmu_raw"), "N", test_no_raw_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, no_pinned_events) {
	PARAMETER("pv_pmu_pinned"), "N", test_no_pinned_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, pinned_events) {
	PARAMETER("pv_pmu_pinned"), "Y", test_pinned_events
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, very_paranoid) {
	PARANOID, "3", test_very_paranoid
};

FIXTURE_VARIANT_ADD(pv_pmu_policy, paranoid) {
	PARANOID, "2", test_paranoid
};

TEST_F(pv_pmu_policy, holds)
{
	uint64_t faults = pv_pmu_host_faults();

	if (strcmp(self->old, variant->val) && !pv_pmu_write_setting(variant->path, variant->val))
		SKIP(return, "%s cannot be set to %s", variant->path, variant->val);
	self->vm = pv_pmu_vm_create(self->vcpus);
	variant->test(self->vcpus[0]);
	kvm_vm_free(self->vm);
	TEST_ASSERT_EQ(pv_pmu_host_faults(), faults);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
