// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the paravirtual PMU and its host survive a hostile guest.
 *
 *  - Two vCPUs share an area.
 *  - A vCPU writes to a request while another vCPU commits the request.
 *  - Two vCPUs make 400,000 random commits while the VMM changes the memory of the areas.
 *  - Two vCPUs open and close all their events for three seconds.
 *  - Two vCPUs enable their areas again and again for three seconds.
 *
 * Afterwards an event counts exactly, and the host has not warned.
 */
#include <linux/perf_event.h>
#include <pthread.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

TEST_F(pv_pmu, two_vcpus_one_area)
{
	const uint64_t msr = pv_pmu_area_gpa(self->vcpu, 0) | KVM_PV_PMU_ENABLED;
	struct pv_pmu_thread t[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i, round;

	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpus[1], msr), 0);
	pv_pmu_mailbox(self->vcpus[1])->area = pv_pmu_mailbox(self->vcpu)->area;
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, SAMPLING(INSTRUCTIONS, PERIOD));
	for (round = 0; round < 10; round++) {
		for (i = 0; i < NR_VCPUS; i++) {
			t[i] = (struct pv_pmu_thread) {
				self->vcpus[i], pv_pmu_guest_count, 3, 10 * LOOPS
			};
			pv_pmu_thread_start(&pthreads[i], &t[i]);
		}
		for (i = 0; i < NR_VCPUS; i++) {
			pthread_join(pthreads[i], NULL);
			TEST_ASSERT_EQ(t[i].ret, 0);
		}
	}

	/* the first vCPU continues alone */
	TEST_ASSERT_EQ(pv_pmu_wrmsr(self->vcpus[1], 0), 0);
	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, REQUEST());
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, BRANCHES(LOOPS));
}

/* Rewrite a request, of any vCPU's area, with good and bad values in turn. */
static uint64_t guest_rewrite(uint64_t address, uint64_t times)
{
	struct kvm_pv_pmu_request *r = (void *)address;
	uint64_t i;

	for (i = 0; i < times; i++) {
		WRITE_ONCE(r->config, i % (PERF_COUNT_HW_MAX + 2));
		WRITE_ONCE(r->type, i % 7 ? PERF_TYPE_HARDWARE : i);
		WRITE_ONCE(r->flags, i % 5 ? KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN : i);
		WRITE_ONCE(r->sample_period, i % 11 ? 0 : PERIOD);
		WRITE_ONCE(r->reserved[i % 2], !(i % 13));
		WRITE_ONCE(r->group, i % 3 ? 0 : i % (NR_SLOTS + 3));
	}
	return 0;
}

static uint64_t guest_commit_often(uint64_t mask, uint64_t times)
{
	uint64_t ret = 0;

	while (times--)
		ret |= kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, mask, 0, 0);
	return ret;
}

TEST_F(pv_pmu, rewritten_during_commit)
{
	struct kvm_pv_pmu_area *area = (void *)pv_pmu_area_gpa(self->vcpu, 0);
	struct pv_pmu_thread t[] = {
		{ self->vcpus[0], guest_commit_often, 1, 10000 },
		{ self->vcpus[1], guest_rewrite, (uint64_t)area_request(area, 0), 10000000 },
	};
	pthread_t pthreads[2];

	pv_pmu_enable(self->vcpu);
	pv_pmu_thread_start(&pthreads[0], &t[0]);
	pv_pmu_thread_start(&pthreads[1], &t[1]);
	pthread_join(pthreads[0], NULL);
	pthread_join(pthreads[1], NULL);
	TEST_ASSERT_EQ(t[0].ret, 0);

	pv_pmu_request(self->vcpu, 0, REQUEST());
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

/* ---- random */

#define RANDOM_COMMITS	100000	/* on each vCPU */

static uint64_t guest_random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Make most requests valid: valid events run, and replace each other. */
static void guest_random_request(struct kvm_pv_pmu_request *r, uint64_t x)
{
	static const uint64_t periods[] = { 0, 20000, 1ull << 32, 1ull << 63 };
	bool sane = x >> 60;
	uint32_t flags;

	if (sane)
		flags = x >> 24 & 1 ? KVM_PV_PMU_OPEN | (x >> 25 & 0x3f) : 0;
	else
		flags = x >> 32;
	WRITE_ONCE(r->type, sane ? PERF_TYPE_HARDWARE : x >> 8 & 7);
	WRITE_ONCE(r->config, sane ? x >> 16 & 7 : x >> 12);
	WRITE_ONCE(r->config1, sane ? 0 : x >> 20 & 1);
	WRITE_ONCE(r->flags, flags);
	WRITE_ONCE(r->sample_period,
		   flags & KVM_PV_PMU_SAMPLE || !sane ? periods[x >> 34 & 3] : 0);
	WRITE_ONCE(r->group, x >> 41 & 1 ? x >> 42 & 0x3f : 0);
	WRITE_ONCE(r->reserved[1], !sane && !(x >> 40 & 7));
}

static uint64_t guest_random(uint64_t commits, uint64_t x)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t mask, op, ret;
	int slot;

	while (commits) {
		guest_random_next(&x);
		slot = x & 3 ? x >> 2 & 3 : (x >> 2) % NR_SLOTS;
		guest_random_request(area_request(m->area, slot), x);
		if (!(x >> 44 & 0xff)) {
			area_header(m->area)->cookie = COOKIE;
			wrmsr_safe(MSR_KVM_PV_PMU, (uint64_t)m->area | KVM_PV_PMU_ENABLED);
		}
		if (!(x >> 44 & 0xfff))
			wrmsr_safe(MSR_KVM_PV_PMU, x);

		mask = x >> 56 & 0xf ? BIT(slot) : x & ALL_SLOTS;
		op = x >> 52 & 0xf ? KVM_PV_PMU_OP_COMMIT : x >> 48 & 3;
		ret = kvm_hypercall(KVM_HC_PV_PMU, op, mask, 0, 0);
		GUEST_ASSERT(!ret || ret == -KVM_EFAULT || ret == -KVM_EOPNOTSUPP);
		commits -= op == KVM_PV_PMU_OP_COMMIT;
	}
	return 0;
}

/* Run the guest. A write to an area without memory is an MMIO exit. */
static void *run_without_memory(void *arg)
{
	struct pv_pmu_thread *t = arg;
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(t->vcpu);
	struct ucall uc;

	m->fn = t->fn;
	m->a = t->a;
	m->b = t->b;
	do {
		vcpu_run(t->vcpu);
	} while (t->vcpu->run->exit_reason == KVM_EXIT_MMIO);
	TEST_ASSERT_KVM_EXIT_REASON(t->vcpu, KVM_EXIT_IO);
	if (get_ucall(t->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	__atomic_store_n(&t->ret, 0, __ATOMIC_RELEASE);
	return NULL;
}

static void disturb(struct kvm_vm *vm, unsigned int how)
{
	static const uint32_t flags[] = { 0, KVM_MEM_LOG_DIRTY_PAGES };
	void *areas = addr_gpa2hva(vm, AREA_GPA);

	switch (how % 4) {
	case 0:
		pv_pmu_set_memslot(vm, 0, 0);
		usleep(100);
		pv_pmu_set_memslot(vm, KVM_MEM_READONLY, AREAS * PAGE_SIZE);
		usleep(100);
		pv_pmu_set_memslot(vm, 0, 0);
		pv_pmu_set_memslot(vm, flags[how / 4 % 2], AREAS * PAGE_SIZE);
		break;
	case 1:
		pv_pmu_set_memslot(vm, KVM_MEM_LOG_DIRTY_PAGES, AREAS * PAGE_SIZE);
		pv_pmu_dirty_areas(vm);
		break;
	case 2:
		madvise(areas, AREAS * PAGE_SIZE, MADV_DONTNEED);
		break;
	case 3:
		pv_pmu_set_memslot(vm, 0, AREAS * PAGE_SIZE);
		break;
	}
}

TEST_F_TIMEOUT(pv_pmu, random_commits, 3600)
{
	pthread_t pthreads[NR_VCPUS];
	struct pv_pmu_thread t[NR_VCPUS];
	unsigned int how = 0;
	int i, running;

	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(self->vcpus[i]);
		t[i] = (struct pv_pmu_thread) {
			self->vcpus[i], guest_random, RANDOM_COMMITS, 0x123456789abcdef + i, 1
		};
		TEST_ASSERT(!pthread_create(&pthreads[i], NULL, run_without_memory, &t[i]),
			    "pthread_create failed");
	}
	do {
		disturb(self->vm, how++);
		usleep(20000);
		for (i = 0, running = 0; i < NR_VCPUS; i++)
			running += __atomic_load_n(&t[i].ret, __ATOMIC_ACQUIRE);
	} while (running);
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(pthreads[i], NULL);

	/* with valid requests, all works as at the start */
	pv_pmu_set_memslot(self->vm, 0, AREAS * PAGE_SIZE);
	memset(pv_pmu_area(self->vcpu), 0, PAGE_SIZE);
	pv_pmu_enable(self->vcpu);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, ALL_SLOTS, LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT(pv_pmu_stat(self->vcpu, "pv_pmu_commits") > RANDOM_COMMITS / 20,
		    "%lu commits, want more than %d", pv_pmu_stat(self->vcpu, "pv_pmu_commits"),
		    RANDOM_COMMITS / 20);
}

/* Open all slots and close them again, until the test says stop. */
static uint64_t guest_open_close(uint64_t unused, uint64_t unused2)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();
	uint64_t opened = 0;
	int i;

	while (READ_ONCE(m->look)) {
		for (i = 0; i < NR_SLOTS; i++)
			area_request(m->area, i)->flags = KVM_PV_PMU_OPEN;
		kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, ALL_SLOTS, 0, 0);
		for (i = 0; i < NR_SLOTS; i++) {
			opened += !area_report(m->area, i)->status;
			area_request(m->area, i)->flags = 0;
		}
		kvm_hypercall(KVM_HC_PV_PMU, KVM_PV_PMU_OP_COMMIT, ALL_SLOTS, 0, 0);
	}
	return opened;
}

/* Enable the area again and again, until the test says stop. */
static uint64_t guest_enable_often(uint64_t unused, uint64_t unused2)
{
	struct pv_pmu_mailbox *m = pv_pmu_guest_mailbox();

	while (READ_ONCE(m->look))
		wrmsr_safe(MSR_KVM_PV_PMU, (uint64_t)m->area | KVM_PV_PMU_ENABLED);
	return 0;
}

/* KASAN keeps freed objects in quarantine, where they count as in use. */
static bool host_keeps_freed_objects(void)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	char line[256];
	bool found = false;

	TEST_ASSERT(f, "/proc/kallsyms cannot be read");
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, " kasan_quarantine_put");
	fclose(f);
	return found;
}

static uint64_t now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#define MAX_OPENS	128

/*
 * Both vCPUs run a function of the guest that makes the host open and close events.
 * The events that the host has at a time are bounded; a task of the host has its share
 * of the CPU. Return the sum of the results, and the time in @ms.
 */
static uint64_t hostile(struct kvm_vcpu *vcpus[NR_VCPUS], uint64_t (*fn)(uint64_t a, uint64_t b),
			uint64_t *ms)
{
	const uint64_t objects = pv_pmu_slab_objects("perf_event");
	uint64_t start, end, cpu, max_objects = 0, sum = 0;
	struct pv_pmu_thread t[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i;

	TEST_ASSERT(pv_pmu_write_setting(PARAMETER("pv_pmu_max_opens"), "128"),
		    "the limit of events that are opened cannot be set");
	kvm_pin_this_task_to_pcpu(0);
	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(vcpus[i]);
		t[i] = (struct pv_pmu_thread) { vcpus[i], fn };
	}
	start = now_ms(CLOCK_MONOTONIC);
	cpu = now_ms(CLOCK_THREAD_CPUTIME_ID);
	for (i = 0; i < NR_VCPUS; i++)
		pv_pmu_thread_start(&pthreads[i], &t[i]);
	do {
		max_objects = max(max_objects, pv_pmu_slab_objects("perf_event"));
		end = now_ms(CLOCK_MONOTONIC);
	} while (end < start + *ms);
	cpu = now_ms(CLOCK_THREAD_CPUTIME_ID) - cpu;
	for (i = 0; i < NR_VCPUS; i++)
		pv_pmu_mailbox(vcpus[i])->look = false;
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		sum += t[i].ret;
	}
	end = now_ms(CLOCK_MONOTONIC);
	pv_pmu_write_setting(PARAMETER("pv_pmu_max_opens"), "0");

	pr_info("%lu events at most at a time; the host's task had %lu of %lu ms\n",
		max_objects - objects, cpu, *ms);
	/* those of two intervals, for the RCU grace period */
	TEST_ASSERT(max_objects - objects <= NR_VCPUS * (2 * MAX_OPENS + NR_SLOTS + 1) ||
		    host_keeps_freed_objects(),
		    "%lu perf events at a time", max_objects - objects);
	TEST_ASSERT(cpu >= *ms / (NR_VCPUS + 2), "the host's task had %lu of %lu ms", cpu, *ms);
	*ms = end - start;
	return sum;
}

TEST_F_TIMEOUT(pv_pmu, hostile_opens, 600)
{
	uint64_t ms = 3000, opened, bound;

	opened = hostile(self->vcpus, guest_open_close, &ms);
	bound = NR_VCPUS * MAX_OPENS * (ms / 100 + 2);
	pr_info("%lu events opened in %lu ms\n", opened, ms);
	TEST_ASSERT(opened >= NR_VCPUS * MAX_OPENS && opened <= bound,
		    "%lu events opened, want %lu at most", opened, bound);
}

/* Each enabled area has an event of the host. */
TEST_F_TIMEOUT(pv_pmu, hostile_enables, 600)
{
	uint64_t ms = 3000;

	hostile(self->vcpus, guest_enable_often, &ms);
}

/* Without the limit of events that are opened in a time, more of them are. */
int main(int argc, char *argv[])
{
	char max_opens[16];
	int r;

	pv_pmu_test_init();
	pv_pmu_read_setting(PARAMETER("pv_pmu_max_opens"), max_opens, sizeof(max_opens));
	TEST_ASSERT(pv_pmu_write_setting(PARAMETER("pv_pmu_max_opens"), "0"),
		    "the limit of events that are opened cannot be switched off");
	r = test_harness_run(argc, argv);
	pv_pmu_write_setting(PARAMETER("pv_pmu_max_opens"), max_opens);
	return r;
}
