// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the branch stacks of the paravirtual PMU.
 *
 *  - Each overflow comes with a record: full, of branches of the guest's loop alone, and
 *    as the ABI says. That holds beside events of the host with branch stacks, for two
 *    vCPUs that share a CPU, and for a vCPU that moves between CPUs.
 *  - A record is for the slots with branches. They have the kinds and the privilege level
 *    that the guest has asked for.
 *  - A COMMIT empties the stack, a SYNC does not.
 *  - What makes no sense, or is forbidden, gets a status, and the header says what is
 *    possible.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_branches_harness.h"
#include "test_util.h"

TEST_F(branches, header)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(self->vcpu);
	char entries[16];

	pv_pmu_read_setting(GUEST_BRANCHES, entries, sizeof(entries));
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT(header->features & KVM_PV_PMU_FEATURE_BRANCH_STACK,
		    "the header has no KVM_PV_PMU_FEATURE_BRANCH_STACK");
	TEST_ASSERT_EQ(header->nr_branches, atoi(entries));
	TEST_ASSERT_EQ(header->nr_branches, ENTRIES);
	TEST_ASSERT_EQ(header->branch_types & ANY, ANY);
	TEST_ASSERT_EQ(header->reserved_host, 0);
	TEST_ASSERT_EQ(header->branches, branch_page_gpa(self->vcpu));
	/* AMD has no such mode */
	TEST_ASSERT(!(header->branch_types & PERF_SAMPLE_BRANCH_CALL_STACK),
		    "the header has PERF_SAMPLE_BRANCH_CALL_STACK");
}

TEST_F(branches, of_a_loop)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
	assert_loop(self->vcpu);
	assert_record_each(self->vcpu);
	TEST_ASSERT(found_branches(self->vcpu)->records >= 100, "%lu records, want 100 or more",
		    found_branches(self->vcpu)->records);

	/* stopped and started, the event goes on, and so do the numbers */
	run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
	assert_loop(self->vcpu);
	assert_record_each(self->vcpu);
	TEST_ASSERT(found_branches(self->vcpu)->number >= found_branches(self->vcpu)->records,
		    "the newest of %lu records has number %lu", found_branches(self->vcpu)->records,
		    found_branches(self->vcpu)->number);
}

/* Raw events and instructions sample branches as well. */
TEST_F(branches, of_another_event)
{
	struct kvm_pv_pmu_request r = *SAMPLING_BRANCHES(10 * BRANCH_PERIOD, ANY);

	r.config = PERF_COUNT_HW_INSTRUCTIONS;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &r);
	run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
	assert_loop(self->vcpu);
	assert_record_each(self->vcpu);

	if (!(pv_pmu_area_header(self->vcpu)->features & KVM_PV_PMU_FEATURE_RAW))
		SKIP(return, "the host grants no raw events");
	r.type = PERF_TYPE_RAW;
	r.config = 0xc4;	/* retired branches that were taken */
	r.sample_period = BRANCH_PERIOD;
	pv_pmu_request(self->vcpu, 0, &r);
	run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
	ASSERT_STATUS(self->vcpu, 0, 0);
	assert_loop(self->vcpu);
}

/* Slots 0 and 2 have branches, slot 1 has none. */
TEST_F(branches, of_slots)
{
	struct found_branches *f = found_branches(self->vcpu);

	f->slots = 5;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	pv_pmu_request(self->vcpu, 1, SAMPLING_BRANCHES(BRANCH_PERIOD + 300, 0));
	pv_pmu_request(self->vcpu, 2, SAMPLING_BRANCHES(BRANCH_PERIOD + 500, ANY));
	run_branches(self->vcpu, 7, 100 * BRANCH_PERIOD);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_STATUS(self->vcpu, 2, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->overflows, "slot 1 has not overflowed");
	assert_well_formed(self->vcpu);
	TEST_ASSERT_EQ(f->of_slots, 5);
	TEST_ASSERT_EQ(f->lost, 0);
}

/* The kinds of a stack are those of all slots that run. */
TEST_F(branches, of_kinds)
{
	struct found_branches *f = found_branches(self->vcpu);
	const uint64_t level = PERF_SAMPLE_BRANCH_KERNEL;
	uint64_t strange;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD,
							level | PERF_SAMPLE_BRANCH_ANY_CALL));
	run_branches(self->vcpu, BIT(0), 10 * BRANCH_PERIOD);
	ASSERT_STATUS(self->vcpu, 0, 0);
	assert_well_formed(self->vcpu);
	/* calls of the loop and of the NMI handler */
	TEST_ASSERT(f->records && f->branches, "%lu records have %lu calls", f->records,
		    f->branches);
	TEST_ASSERT_EQ(f->strange, f->branches);

	pv_pmu_request(self->vcpu, 1, SAMPLING_BRANCHES(1ul << 40,
							level | PERF_SAMPLE_BRANCH_COND));
	strange = f->strange;
	f->full = 0;
	f->records = 0;
	run_branches(self->vcpu, 3, 10 * BRANCH_PERIOD);
	ASSERT_STATUS(self->vcpu, 1, 0);
	assert_well_formed(self->vcpu);
	TEST_ASSERT_EQ(f->full, f->records);
	TEST_ASSERT_EQ(f->strange, strange);
}

/* The loop is user code, the NMI handler the kernel's. */
static void sample_user_loop(struct kvm_vcpu *vcpu, uint64_t level)
{
	struct found_branches *f = found_branches(vcpu);

	pv_pmu_enable(vcpu);
	start_user_branches(vcpu, ENTRIES + 4, level);
	run_user_branches(vcpu, 10 * BRANCH_PERIOD);
	pv_pmu_stop(vcpu, 0);
	ASSERT_STATUS(vcpu, 0, 0);
	assert_well_formed(vcpu);
	TEST_ASSERT(f->records - f->outside > 100, "%lu records", f->records - f->outside);
}

TEST_F(branches, of_user)
{
	struct found_branches *f = found_branches(self->vcpu);

	sample_user_loop(self->vcpu, PERF_SAMPLE_BRANCH_USER);
	/* one in a stack, at most: the call, or the IRET that ends the NMI */
	TEST_ASSERT(f->strange <= f->records, "%lu branches in %lu records are not the loop's",
		    f->strange, f->records);
	TEST_ASSERT(f->full >= f->records - 1, "%lu of %lu records are full", f->full, f->records);
}

TEST_F(branches, of_kernel)
{
	struct found_branches *f = found_branches(self->vcpu);

	sample_user_loop(self->vcpu, PERF_SAMPLE_BRANCH_KERNEL);
	TEST_ASSERT(f->branches, "there is no branch");
	TEST_ASSERT_EQ(f->strange, f->branches);
}

TEST_F(branches, emptied_by_commit)
{
	pv_pmu_enable(self->vcpu);
	start_user_branches(self->vcpu, ENTRIES / 2, PERF_SAMPLE_BRANCH_USER);
	run_user_branches(self->vcpu, BRANCH_PERIOD);
	TEST_ASSERT_EQ(newest_record(self->vcpu)->nr, ENTRIES);

	/* the same request, of an event that runs */
	forget_records(self->vcpu);
	start_user_branches(self->vcpu, ENTRIES / 2, PERF_SAMPLE_BRANCH_USER);
	run_user_branches(self->vcpu, BRANCH_PERIOD);
	assert_began_empty(self->vcpu, ENTRIES / 2);
}

TEST_F(branches, kept_by_sync)
{
	const uint64_t loops = 10 * BRANCH_PERIOD;

	pv_pmu_enable(self->vcpu);
	/* the overflow is some branches after the SYNC */
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(loops - LOOPS_LEFT + 15, ANY));
	TEST_ASSERT_EQ(pv_pmu_call(self->vcpu, guest_run_with_sync, BIT(0), loops), 0);
	assert_well_formed(self->vcpu);
	TEST_ASSERT_EQ(found_branches(self->vcpu)->records, 1);
	TEST_ASSERT_EQ(found_branches(self->vcpu)->full, 1);
}

/* ---- requests */

TEST_F(branches, bad_types)
{
	uint64_t types;
	int bit;

	pv_pmu_enable(self->vcpu);
	types = pv_pmu_area_header(self->vcpu)->branch_types;
	for (bit = 0; bit < 64; bit++) {
		/* stay below pv_pmu_max_opens */
		if (bit % 16 == 0)
			usleep(200000);
		if (!(types & BIT(bit))) {
			pv_pmu_assert_refused(self->vcpu,
					      SAMPLING_BRANCHES(PERIOD, ANY | BIT(bit)), -EINVAL);
			continue;
		}
		pv_pmu_request(self->vcpu, 1, SAMPLING_BRANCHES(PERIOD, ANY | BIT(bit)));
		pv_pmu_commit(self->vcpu, BIT(1));
		ASSERT_STATUS(self->vcpu, 1, 0);
	}
	/* no level, no kind, no SAMPLE */
	pv_pmu_assert_refused(self->vcpu, SAMPLING_BRANCHES(PERIOD, PERF_SAMPLE_BRANCH_ANY),
			      -EINVAL);
	pv_pmu_assert_refused(self->vcpu, SAMPLING_BRANCHES(PERIOD, PERF_SAMPLE_BRANCH_USER),
			      -EINVAL);
	pv_pmu_assert_refused(self->vcpu, HARDWARE(BRANCH_INSTRUCTIONS, .branch_sample_type = ANY),
			      -EINVAL);
}

static void assert_forbidden(struct kvm_vcpu *vcpu)
{
	pv_pmu_enable(vcpu);
	TEST_ASSERT(!(pv_pmu_area_header(vcpu)->features & KVM_PV_PMU_FEATURE_BRANCH_STACK),
		    "the header has KVM_PV_PMU_FEATURE_BRANCH_STACK");
	TEST_ASSERT_EQ(pv_pmu_area_header(vcpu)->branch_types, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(vcpu)->nr_branches, 0);
	pv_pmu_assert_refused(vcpu, SAMPLING_BRANCHES(PERIOD, ANY), -EOPNOTSUPP);
}

TEST_F(branches, forbidden_by_policy)
{
	struct kvm_vm *vm = vm_create(1);

	vm_enable_cap(vm, KVM_CAP_X86_PV_PMU,
		      vm_check_cap(vm, KVM_CAP_X86_PV_PMU) & ~KVM_PV_PMU_POLICY_BRANCHES);
	assert_forbidden(pv_pmu_vm_finish(vm));
	kvm_vm_free(vm);
}

FIXTURE(branches_off) {
	char old[16];
};

FIXTURE_SETUP(branches_off)
{
	pv_pmu_read_setting(PARAMETER("pv_pmu_branches"), self->old, sizeof(self->old));
}

FIXTURE_TEARDOWN_PARENT(branches_off)
{
	pv_pmu_write_setting(PARAMETER("pv_pmu_branches"), self->old);
}

/* The parameter is for slots that are committed afterwards. */
TEST_F(branches_off, forbidden_by_parameter)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm = pv_pmu_vm_create(vcpus);

	pv_pmu_enable(vcpus[0]);
	TEST_ASSERT(pv_pmu_write_setting(PARAMETER("pv_pmu_branches"), "N"), "it cannot be set");
	pv_pmu_assert_refused(vcpus[0], SAMPLING_BRANCHES(PERIOD, ANY), -EOPNOTSUPP);
	assert_forbidden(vcpus[1]);
	kvm_vm_free(vm);
}

/* ---- several users of the branch records */

/* An event of the host with a branch stack, on CPU 0 */
static int open_branches_of_host(uint64_t types, bool of_guest)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
		.sample_period = 10007,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_BRANCH_STACK,
		.branch_sample_type = types,
		.exclude_guest = !of_guest,
		.exclude_host = of_guest,
	};
	int fd = syscall(__NR_perf_event_open, &attr, -1, 0, -1, 0);

	TEST_ASSERT(fd >= 0, __KVM_SYSCALL_ERROR("perf_event_open", fd));
	return fd;
}

/* Both sorts of events come and go while a guest's event is there. */
TEST_F(branches, beside_those_of_the_host)
{
	const uint64_t types[] = { ANY, PERF_SAMPLE_BRANCH_ANY_CALL | PERF_SAMPLE_BRANCH_USER };
	int fds[4], i;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = open_branches_of_host(types[i / 2], i % 2);
		run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
		assert_loop(self->vcpu);
	}
	while (i--) {
		close(fds[i]);
		run_branches(self->vcpu, BIT(0), 100 * BRANCH_PERIOD);
		assert_loop(self->vcpu);
	}
	TEST_ASSERT_EQ(found_branches(self->vcpu)->outside, 0);
}

/* Two vCPUs run on one CPU by turns. */
TEST_F(branches, of_two_vcpus)
{
	struct pv_pmu_thread threads[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i;

	kvm_pin_this_task_to_pcpu(0);
	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(self->vcpus[i]);
		pv_pmu_request(self->vcpus[i], 0, SAMPLING_BRANCHES(10 * BRANCH_PERIOD, ANY));
		threads[i] = (struct pv_pmu_thread) {
			self->vcpus[i], guest_run_branches, BIT(0), 40000000
		};
		pv_pmu_thread_start(&pthreads[i], &threads[i]);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		TEST_ASSERT_EQ(threads[i].ret, 0);
		assert_loop(self->vcpus[i]);
		assert_record_each(self->vcpus[i]);
	}
}

/* The vCPU's thread moves between two CPUs, with an event of the host on one of them. */
TEST_F(branches, moved_between_cpus)
{
	struct pv_pmu_thread thread = { self->vcpu, guest_run_branches, BIT(0), 100000000 };
	cpu_set_t set;
	pthread_t pthread;
	int cpu = 0, fd;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU");
	fd = open_branches_of_host(ANY, false);
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(10 * BRANCH_PERIOD, ANY));
	pv_pmu_thread_start(&pthread, &thread);
	while (pthread_tryjoin_np(pthread, NULL)) {
		CPU_ZERO(&set);
		CPU_SET(cpu ^= 1, &set);
		pthread_setaffinity_np(pthread, sizeof(set), &set);
		usleep(200);
	}
	close(fd);
	TEST_ASSERT_EQ(thread.ret, 0);
	assert_loop(self->vcpu);
	TEST_ASSERT_EQ(found_branches(self->vcpu)->outside, 0);
}

int main(int argc, char *argv[])
{
	branch_test_init();
	return test_harness_run(argc, argv);
}
