// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the memory for branch stacks of the paravirtual PMU.
 *
 *  - Without a usable page, overflows arrive, and nothing is written anywhere.
 *  - The guest may change the page while an event runs. The page may lose its memory at
 *    any time, and so may the area: the record of an overflow that came meanwhile says
 *    LOST.
 *  - In another VM with the saved state, the stack starts empty, and the records' numbers
 *    go on.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_branches_harness.h"
#include "test_util.h"

#define NO_MEMORY	0x70000000ul

/* The host writes no record. The overflows arrive all the same. */
static void assert_no_record(struct kvm_vcpu *vcpu, uint64_t gpa)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(vcpu);
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(vcpu);
	const struct kvm_pv_pmu_slot zero = {};
	struct kvm_pv_pmu_header copy;
	uint8_t *pages = addr_gpa2hva(vcpu->vm, PAGES_GPA), before[PAGES_SIZE];
	int i;

	memcpy(before, pages, PAGES_SIZE);
	m->nmis = 0;
	header->branches = gpa;
	pv_pmu_enable(vcpu);
	pv_pmu_request(vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	copy = *header;
	run_branches(vcpu, BIT(0), 10 * BRANCH_PERIOD);
	ASSERT_STATUS(vcpu, 0, 0);
	TEST_ASSERT(m->nmis >= 10, "page %#lx: %lu NMIs", gpa, m->nmis);
	TEST_ASSERT_EQ(m->nmis, pv_pmu_report(vcpu, 0)->overflows);
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(found_branches(vcpu)->records, 0);
	TEST_ASSERT(!memcmp(header, &copy, sizeof(copy)), "page %#lx: the header has changed", gpa);
	for (i = 1; i < NR_SLOTS; i++)
		TEST_ASSERT(!memcmp(&pv_pmu_area(vcpu)->slots[i], &zero, sizeof(zero)),
			    "page %#lx: slot %d has changed", gpa, i);
	TEST_ASSERT(!memcmp(pages, before, PAGES_SIZE), "page %#lx: the host wrote to a page", gpa);
	TEST_ASSERT_EQ(pv_pmu_wrmsr(vcpu, 0), 0);
	memset(pv_pmu_area(vcpu), 0, sizeof(struct kvm_pv_pmu_area));
}

TEST_F(branches, hostile_page)
{
	const uint64_t gpa = branch_page_gpa(self->vcpu), area = pv_pmu_area_gpa(self->vcpu, 0);
	const uint64_t bad[] = {
		0, 1, gpa + 1, gpa + 8, gpa + 0x800, gpa | BIT_ULL(63), area, area | 1,
		NO_MEMORY, 1ull << 51, 1ull << 52, ~0xfffull, ~0ull,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_no_record(self->vcpu, bad[i]);

	set_branch_pages(self->vm, 0, 0);
	set_branch_pages(self->vm, KVM_MEM_READONLY, PAGES_SIZE);
	assert_no_record(self->vcpu, gpa);
	set_branch_pages(self->vm, 0, 0);
	set_branch_pages(self->vm, 0, PAGES_SIZE);
}

/* The VMM has no writable memory behind the memslot. */
TEST_F(branches, page_unmapped_in_the_host)
{
	void *pages = addr_gpa2hva(self->vm, PAGES_GPA);

	TEST_ASSERT(!mprotect(pages, PAGES_SIZE, PROT_READ), "mprotect failed");
	assert_no_record(self->vcpu, branch_page_gpa(self->vcpu));
	TEST_ASSERT(!mprotect(pages, PAGES_SIZE, PROT_READ | PROT_WRITE), "mprotect failed");
}

/* The guest names another page, and takes it back, while the event runs. */
TEST_F(branches, page_changes)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(self->vcpu);
	struct found_branches *f = found_branches(self->vcpu);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	run_branches(self->vcpu, BIT(0), 10 * BRANCH_PERIOD);
	assert_loop(self->vcpu);

	header->branches = branch_page_gpa(self->vcpus[1]);
	f->page = (void *)branch_page_gpa(self->vcpus[1]);
	run_branches(self->vcpu, BIT(0), 10 * BRANCH_PERIOD);
	assert_loop(self->vcpu);
	assert_record_each(self->vcpu);

	header->branches = 0;
	run_branches(self->vcpu, BIT(0), 10 * BRANCH_PERIOD);
	TEST_ASSERT(f->missing >= 10, "%lu overflows without a record", f->missing);
}

static bool stop_flipping;

static void *flip_pages(void *arg)
{
	struct kvm_vm *vm = arg;

	while (!READ_ONCE(stop_flipping)) {
		set_branch_pages(vm, 0, 0);
		usleep(100);
		set_branch_pages(vm, 0, PAGES_SIZE);
		usleep(100);
	}
	return NULL;
}

TEST_F(branches, page_comes_and_goes)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	pthread_t pthread;

	found_branches(self->vcpu)->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	TEST_ASSERT(!pthread_create(&pthread, NULL, flip_pages, self->vm), "pthread_create failed");
	run_branches(self->vcpu, BIT(0), 10000 * BRANCH_PERIOD);
	WRITE_ONCE(stop_flipping, true);
	pthread_join(pthread, NULL);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->nmis, r->overflows);

	/* there is the page, and all is well */
	pv_pmu_area_header(self->vcpu)->overflow = 0;
	found_branches(self->vcpu)->number = newest_record(self->vcpu)->number;
	found_branches(self->vcpu)->look = true;
	run_branches(self->vcpu, BIT(0), 10 * BRANCH_PERIOD);
	assert_loop(self->vcpu);
}

/* Overflows while the area has no memory come to one, whose branches are lost. */
TEST_F(branches, area_gone)
{
	struct found_branches *f = found_branches(self->vcpu);
	struct kvm_pv_pmu_branch_record *r;
	uint64_t number;

	f->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING_BRANCHES(BRANCH_PERIOD, ANY));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_call(self->vcpu, guest_loop_branches, 10 * BRANCH_PERIOD, 0);
	number = newest_record(self->vcpu)->number;
	TEST_ASSERT(number, "there is no record");
	TEST_ASSERT_EQ(newest_record(self->vcpu)->nr, ENTRIES);

	pv_pmu_set_memslot(self->vm, 0, 0);
	pv_pmu_call(self->vcpu, guest_loop_branches, 10 * BRANCH_PERIOD, 0);
	TEST_ASSERT_EQ(newest_record(self->vcpu)->number, number);
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	pv_pmu_call(self->vcpu, guest_loop_branches, 1, 0);
	r = &branch_page(self->vcpu)->records[(number + 1) % KVM_PV_PMU_NR_BRANCH_RECORDS];
	TEST_ASSERT_EQ(r->number, number + 1);
	TEST_ASSERT_EQ(r->flags, KVM_PV_PMU_BRANCHES_LOST);
	TEST_ASSERT_EQ(r->nr, 0);

	pv_pmu_call(self->vcpu, guest_loop_branches, 10 * BRANCH_PERIOD, 0);
	pv_pmu_stop(self->vcpu, 0);
	r = newest_record(self->vcpu);
	TEST_ASSERT(r->number > number + 1, "no record after that");
	TEST_ASSERT_EQ(r->flags, 0);
	TEST_ASSERT_EQ(r->nr, ENTRIES);
}

/* End the VM. Create another one with the same memory and the saved state. */
static struct kvm_vcpu *save_and_restore(struct kvm_vcpu *vcpu)
{
	struct kvm_vm *vm = vcpu->vm;
	struct kvm_x86_state *state = vcpu_save_state(vcpu);

	kvm_vm_release(vm);
	vcpu = vm_recreate_with_one_vcpu(vm);
	vcpu_load_state(vcpu, state);
	kvm_x86_state_cleanup(state);
	return vcpu;
}

TEST_F(branches, restored)
{
	struct found_branches *f = found_branches(self->vcpu);
	uint64_t number;

	pv_pmu_enable(self->vcpu);
	start_user_branches(self->vcpu, ENTRIES / 2, PERF_SAMPLE_BRANCH_USER);
	run_user_branches(self->vcpu, BRANCH_PERIOD);
	TEST_ASSERT_EQ(newest_record(self->vcpu)->nr, ENTRIES);
	number = f->number;

	self->vcpu = save_and_restore(self->vcpu);
	forget_records(self->vcpu);
	run_user_branches(self->vcpu, BRANCH_PERIOD);
	assert_well_formed(self->vcpu);
	assert_began_empty(self->vcpu, ENTRIES / 2);
	TEST_ASSERT(f->number > number, "the number was %lu, is %lu", number, f->number);
	TEST_ASSERT_EQ(newest_record(self->vcpu)->nr, ENTRIES);
}

int main(int argc, char *argv[])
{
	branch_test_init();
	return test_harness_run(argc, argv);
}
