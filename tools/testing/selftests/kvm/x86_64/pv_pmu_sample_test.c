// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test the overflows and NMIs of the paravirtual PMU.
 *
 *  - The number of overflows is the count divided by the period.
 *  - An overflow raises an NMI, also if the guest has not cleared the bit of the last
 *    overflow. No NMI comes without an overflow bit.
 *  - A guest with the smallest period makes progress, and does not change the rate at
 *    which the host samples. The overflows of all its events together have a limit.
 *  - The period changes while the event runs, and starts anew if the guest says so. For a
 *    frequency the host chooses the period, within its own limit.
 *  - The NMI finds the reports of the whole group as of the overflow.
 *  - Sampling works for one privilege level, on two vCPUs at a time, in all slots at
 *    a time, and on a vCPU that moves to another thread.
 */
#include <pthread.h>

#include "linux/stringify.h"

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

/* The report has all overflows. The NMI handler has seen each overflow once. */
static void assert_overflows(struct kvm_vcpu *vcpu, int slot, uint64_t period)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, slot);

	ASSERT_STATUS(vcpu, slot, 0);
	ASSERT_COUNT(r->overflows, r->count / period);
	TEST_ASSERT_EQ(r->period_sum, r->overflows * period);
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->overflows[slot], r->overflows);
}

TEST_F(pv_pmu, samples)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	assert_overflows(self->vcpu, 0, PERIOD);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= INSTRUCTIONS(10 * LOOPS) / PERIOD,
		    "%llu overflows, want %d or more", pv_pmu_report(self->vcpu, 0)->overflows,
		    INSTRUCTIONS(10 * LOOPS) / PERIOD);
	TEST_ASSERT_EQ(m->nmis, pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(self->vcpu)->overflow, 0);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_nmis"), m->nmis);
	TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_overflows"), m->nmis);
}

TEST_F(pv_pmu, samples_not_looked_at)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	m->look = false;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	ASSERT_COUNT(r->overflows, r->count / PERIOD);
	TEST_ASSERT(r->overflows > 1, "%llu overflows, want more than one", r->overflows);
	TEST_ASSERT_EQ(m->nmis, r->overflows);
	TEST_ASSERT_EQ(pv_pmu_area_header(self->vcpu)->overflow, BIT(0));

	/* with the bit clear, the next overflow raises an NMI */
	pv_pmu_area_header(self->vcpu)->overflow = 0;
	m->look = true;
	pv_pmu_count(self->vcpu, 0, 10 * LOOPS);
	TEST_ASSERT_EQ(m->nmis, r->overflows);
	TEST_ASSERT_EQ(m->empty, 0);
}

TEST_F(pv_pmu, samples_with_another_period)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n, overflows, sum;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	n = r->count;
	overflows = r->overflows;
	sum = r->period_sum;
	TEST_ASSERT_EQ(sum, overflows * PERIOD);
	TEST_ASSERT(overflows, "no overflow before the period changes");

	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, 2 * PERIOD));
	pv_pmu_count(self->vcpu, BIT(0), 10 * LOOPS);
	TEST_ASSERT(r->count > n + INSTRUCTIONS(10 * LOOPS),
		    "the count restarted with the new period");
	TEST_ASSERT_EQ(r->period_sum - sum, (r->overflows - overflows) * 2 * PERIOD);
	n = (r->count - n) / (2 * PERIOD);
	TEST_ASSERT(r->overflows - overflows >= n - 1 && r->overflows - overflows <= n + 1,
		    "%llu overflows, want %lu", r->overflows - overflows, n);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);

	/* the same event with an invalid period */
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, 1ull << 63));
	pv_pmu_commit(self->vcpu, BIT(0));
	ASSERT_STATUS(self->vcpu, 0, -EINVAL);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);
}

/* The next overflow of slot 0 comes at this count. */
static void assert_next_overflow(struct kvm_vcpu *vcpu, uint64_t count)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, 0);
	uint64_t overflows = r->overflows, nmis = pv_pmu_mailbox(vcpu)->nmis;

	TEST_ASSERT(r->count < count, "the count is %llu before an overflow at %lu",
		    r->count, count);
	pv_pmu_spin(vcpu, (count - r->count) / 2);
	TEST_ASSERT_EQ(r->overflows, overflows + 1);
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->nmis, nmis + 1);
	ASSERT_COUNT(pv_pmu_mailbox(vcpu)->counts[0], count);
}

#define LONG_PERIOD	100000

/* The request of slot 0 has another number in @restart. */
TEST_F(pv_pmu, period_starts_anew)
{
	struct kvm_pv_pmu_request request = *SAMPLING(INSTRUCTIONS, LONG_PERIOD);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n;

	request.restart = 5;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &request);
	pv_pmu_commit(self->vcpu, BIT(0));
	assert_next_overflow(self->vcpu, LONG_PERIOD);

	/* the same number */
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_commit(self->vcpu, BIT(0));
	assert_next_overflow(self->vcpu, 2 * LONG_PERIOD);

	/* stopped and started, and in between committed once more */
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	pv_pmu_spin(self->vcpu, LONG_PERIOD);
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_commit(self->vcpu, BIT(0));
	assert_next_overflow(self->vcpu, 3 * LONG_PERIOD);

	/* another number, of an event that runs */
	pv_pmu_spin(self->vcpu, LOOPS);
	request.restart = 0;
	pv_pmu_request(self->vcpu, 0, &request);
	pv_pmu_commit(self->vcpu, BIT(0));
	n = r->count;
	TEST_ASSERT(n > 3 * LONG_PERIOD + 2 * LOOPS, "the count is %lu", n);
	assert_next_overflow(self->vcpu, n + LONG_PERIOD);
	assert_next_overflow(self->vcpu, n + 2 * LONG_PERIOD);

	/* of an event that has stopped */
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	n = r->count;
	request.restart = -1;
	pv_pmu_request(self->vcpu, 0, &request);
	pv_pmu_commit(self->vcpu, BIT(0));
	assert_next_overflow(self->vcpu, n + LONG_PERIOD);

	/* and another period */
	pv_pmu_spin(self->vcpu, LOOPS);
	request.sample_period = LONG_PERIOD / 2;
	pv_pmu_request(self->vcpu, 0, &request);
	pv_pmu_commit(self->vcpu, BIT(0));
	n = r->count;
	assert_next_overflow(self->vcpu, n + LONG_PERIOD / 2);

	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* The leader overflows, or a member. No hypercall follows but the last SYNC. */
TEST_F(pv_pmu, group_is_reported)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	struct kvm_pv_pmu_request sampling = *SAMPLING(INSTRUCTIONS, PERIOD);
	int i, slot;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < 2; i++) {
		slot = 2 * i;
		sampling.group = i;
		pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
		pv_pmu_request(self->vcpu, 1, HARDWARE(BRANCH_INSTRUCTIONS, .group = 1));
		pv_pmu_request(self->vcpu, 2, HARDWARE(INSTRUCTIONS, .group = 1));
		pv_pmu_request(self->vcpu, slot, &sampling);
		pv_pmu_count(self->vcpu, 7, PERIOD / 2 + 100);
		TEST_ASSERT_EQ(m->nmis, i + 1);
		TEST_ASSERT_EQ(m->overflows[slot], 1);
		TEST_ASSERT_EQ(pv_pmu_stat(self->vcpu, "pv_pmu_syncs"), i + 1);
		ASSERT_COUNT(m->counts[slot], PERIOD);
		TEST_ASSERT_EQ(m->counts[0], m->counts[2]);
		/* an instruction before the loop, then each second one is a branch */
		ASSERT_COUNT(m->counts[1], (PERIOD - 1) / 2);

		memset(pv_pmu_area(self->vcpu)->slots, 0, sizeof(struct kvm_pv_pmu_slot) * 3);
		pv_pmu_commit(self->vcpu, 7);
	}
}

TEST_F(pv_pmu, samples_by_frequency)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	struct kvm_pv_pmu_request freq = *SAMPLING(INSTRUCTIONS, 1000);

	freq.flags |= KVM_PV_PMU_FREQ;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &freq);
	pv_pmu_count(self->vcpu, BIT(0), 1000 * LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT(r->overflows, "no overflow");
	TEST_ASSERT(r->period_sum > r->overflows && r->period_sum <= r->count,
		    "%llu overflows stand for %llu of %llu events",
		    r->overflows, r->period_sum, r->count);
	/* the first periods are short: the guest sees several overflows in one NMI */
	TEST_ASSERT(pv_pmu_mailbox(self->vcpu)->overflows[0] &&
		    pv_pmu_mailbox(self->vcpu)->overflows[0] <= r->overflows,
		    "the guest has seen %lu of %llu overflows",
		    pv_pmu_mailbox(self->vcpu)->overflows[0], r->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

TEST_F(pv_pmu, samples_of_user)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, PERIOD);

	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &user);
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 10 * LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_stop(self->vcpu, 0);
	assert_overflows(self->vcpu, 0, PERIOD);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= 2 * 10 * LOOPS / PERIOD,
		    "%llu overflows, want %d or more", pv_pmu_report(self->vcpu, 0)->overflows,
		    2 * 10 * LOOPS / PERIOD);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

/* The smallest period: the guest gets slow, and still makes progress. */
TEST_F(pv_pmu, period_of_one)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, 1);
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, &user);
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 1000);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT(r->overflows && r->overflows <= r->count, "%llu overflows in %llu events",
		    r->overflows, r->count);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

#define SAMPLE_RATE	"/proc/sys/kernel/perf_event_max_sample_rate"
#define TIME_PERCENT	"/proc/sys/kernel/perf_cpu_time_max_percent"
#define LIMIT		PARAMETER("pv_pmu_max_sample_rate")

FIXTURE(pv_pmu_rate) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	char rate[16], percent[16], limit[16];
};

FIXTURE_SETUP(pv_pmu_rate)
{
	pv_pmu_read_setting(SAMPLE_RATE, self->rate, sizeof(self->rate));
	pv_pmu_read_setting(TIME_PERCENT, self->percent, sizeof(self->percent));
	pv_pmu_read_setting(LIMIT, self->limit, sizeof(self->limit));
	/* the rate can be set only while the time of samples has a limit */
	pv_pmu_write_setting(TIME_PERCENT, "25");
}

FIXTURE_TEARDOWN_PARENT(pv_pmu_rate)
{
	pv_pmu_write_setting(SAMPLE_RATE, self->rate);
	pv_pmu_write_setting(TIME_PERCENT, self->percent);
	pv_pmu_write_setting(LIMIT, self->limit);
}

/* The time for a guest's overflows does not lower the rate at which the host samples. */
TEST_F(pv_pmu_rate, is_the_hosts)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, 1);
	struct kvm_vcpu *vcpu;
	char rate[16];
	int i;

	/* with so small a share of the time for samples, each NMI is too long */
	TEST_ASSERT(pv_pmu_write_setting(TIME_PERCENT, "2"), "%s cannot be set", TIME_PERCENT);
	self->vm = pv_pmu_vm_create(self->vcpus);
	vcpu = self->vcpus[0];
	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(vcpu);
	for (i = 0; i < pv_pmu_area_header(vcpu)->nr_counters; i++)
		pv_pmu_request(vcpu, i, &user);
	pv_pmu_commit(vcpu, ALL_SLOTS);
	pv_pmu_set_user_mode(vcpu, true);
	pv_pmu_spin(vcpu, 1000);
	pv_pmu_set_user_mode(vcpu, false);
	pv_pmu_read_setting(SAMPLE_RATE, rate, sizeof(rate));
	TEST_ASSERT(!strcmp(self->rate, rate), "%s was %s, is %s", SAMPLE_RATE, self->rate, rate);
	/* the average of NMIs is taken of 128 */
	TEST_ASSERT(pv_pmu_stat(vcpu, "pv_pmu_overflows") > 128, "only %lu overflows",
		    pv_pmu_stat(vcpu, "pv_pmu_overflows"));
	kvm_vm_free(self->vm);
}

/* The overflows of slot 0 in this many iterations, and the time of these in ms */
static uint64_t overflows_in(struct kvm_vcpu *vcpu, uint64_t loops, uint64_t *ms)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(vcpu, 0);
	uint64_t n = r->overflows, time = r->time_enabled;

	pv_pmu_count(vcpu, BIT(0), loops);
	*ms = (r->time_enabled - time) / 1000000;
	return r->overflows - n;
}

/* The host halves the frequency until it is within the host's limit. */
TEST_F(pv_pmu_rate, limits_frequencies)
{
	const uint64_t freqs[] = { 2000, 2001, 1ull << 40, 1ull << 62 };
	struct kvm_pv_pmu_request freq = *SAMPLING(INSTRUCTIONS, 1000);
	uint64_t n, ms, want;
	struct kvm_vcpu *vcpu;
	int i;

	TEST_ASSERT(pv_pmu_write_setting(SAMPLE_RATE, "2000"), "%s cannot be set", SAMPLE_RATE);
	self->vm = pv_pmu_vm_create(self->vcpus);
	vcpu = self->vcpus[0];
	freq.flags |= KVM_PV_PMU_FREQ;
	pv_pmu_enable(vcpu);
	/* the event changes its frequency; then it is opened with the frequency */
	for (i = 0; i < 2 * ARRAY_SIZE(freqs); i++) {
		if (i >= ARRAY_SIZE(freqs)) {
			pv_pmu_request(vcpu, 0, REQUEST());
			pv_pmu_commit(vcpu, BIT(0));
		}
		want = freqs[i % ARRAY_SIZE(freqs)];
		freq.sample_freq = want;
		while (want > 2000)
			want /= 2;
		pv_pmu_request(vcpu, 0, &freq);
		overflows_in(vcpu, 3000 * LOOPS, &ms);
		ASSERT_STATUS(vcpu, 0, 0);
		n = overflows_in(vcpu, 10000 * LOOPS, &ms);
		want = want * ms / 1000;
		TEST_ASSERT(n >= want * 3 / 4 && n <= want * 5 / 4,
			    "frequency %llu: %lu overflows in %lu ms, want %lu",
			    freq.sample_freq, n, ms, want);
	}
	kvm_vm_free(self->vm);
}

#define LOW_LIMIT	5000
#define STORM		100000000

/* The time in ms of user mode that iterates, with overflows or without */
static uint64_t storm_ms(struct kvm_vcpu *vcpu)
{
	struct timespec start, end;

	pv_pmu_set_user_mode(vcpu, true);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
	pv_pmu_spin(vcpu, STORM);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	pv_pmu_set_user_mode(vcpu, false);
	end = timespec_sub(end, start);
	return end.tv_sec * 1000 + end.tv_nsec / 1000000;
}

/* Each event overflows at each instruction. The limit is that of all together. */
TEST_F(pv_pmu_rate, limits_overflows)
{
	struct kvm_pv_pmu_request user = *SAMPLING(INSTRUCTIONS, 1);
	uint64_t calm, storm, overflows, max, nr;
	struct kvm_pv_pmu_report *r, before;
	struct kvm_vcpu *vcpu;
	int i;

	TEST_ASSERT(pv_pmu_write_setting(LIMIT, __stringify(LOW_LIMIT)), "%s cannot be set", LIMIT);
	self->vm = pv_pmu_vm_create(self->vcpus);
	vcpu = self->vcpus[0];
	calm = storm_ms(vcpu);
	user.flags |= KVM_PV_PMU_EXCLUDE_KERNEL;
	pv_pmu_enable(vcpu);
	nr = pv_pmu_area_header(vcpu)->nr_counters;
	for (i = 0; i < nr; i++)
		pv_pmu_request(vcpu, i, &user);
	pv_pmu_commit(vcpu, ALL_SLOTS);
	storm = storm_ms(vcpu);

	/* the slots are stopped while they are held back: their times stand still */
	for (i = 0; i < nr; i++)
		pv_pmu_set_running(vcpu, i, false);
	pv_pmu_commit(vcpu, ALL_SLOTS);
	before = *pv_pmu_report(vcpu, 0);
	pv_pmu_spin(vcpu, STORM);
	pv_pmu_sync(vcpu, ALL_SLOTS);
	r = pv_pmu_report(vcpu, 0);
	TEST_ASSERT_EQ(r->time_enabled, before.time_enabled);
	TEST_ASSERT_EQ(r->time_running, before.time_running);

	overflows = pv_pmu_stat(vcpu, "pv_pmu_overflows");
	pr_info("%lu overflows in %lu ms, %lu ms without\n", overflows, storm, calm);
	/* beyond the limit of a tick, each event overflows twice */
	max = (LOW_LIMIT / 100 + 2 * nr) * (storm / 10 + 2);
	TEST_ASSERT(overflows >= max / 3 && overflows <= max, "%lu overflows, want %lu at most",
		    overflows, max);
	TEST_ASSERT(storm <= 2 * calm + 20, "%lu ms, %lu without overflows", storm, calm);
	for (i = 0; i < nr; i++) {
		r = pv_pmu_report(vcpu, i);
		TEST_ASSERT(r->throttled >= storm / 20, "slot %d was held back %u times", i,
			    r->throttled);
		TEST_ASSERT(r->time_running < r->time_enabled / 2,
			    "slot %d: time_running is %llu, time_enabled %llu", i,
			    r->time_running, r->time_enabled);
		TEST_ASSERT_EQ(r->period_sum, r->overflows);
	}
	TEST_ASSERT_EQ(pv_pmu_mailbox(vcpu)->empty, 0);
	kvm_vm_free(self->vm);
}

TEST_F(pv_pmu, all_slots_sample)
{
	struct pv_pmu_mailbox *m = pv_pmu_mailbox(self->vcpu);
	uint64_t overflows = 0;
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < NR_SLOTS; i++)
		pv_pmu_request(self->vcpu, i, SAMPLING(INSTRUCTIONS, PERIOD + 100 * i));
	pv_pmu_count(self->vcpu, ALL_SLOTS, 1000 * LOOPS);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), NR_SLOTS);
	for (i = 0; i < NR_SLOTS; i++)
		pv_pmu_set_running(self->vcpu, i, false);
	pv_pmu_commit(self->vcpu, ALL_SLOTS);
	for (i = 0; i < NR_SLOTS; i++) {
		struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, i);

		ASSERT_STATUS(self->vcpu, i, 0);
		TEST_ASSERT(r->time_running <= r->time_enabled,
			    "slot %d: time_running is %llu, time_enabled %llu",
			    i, r->time_running, r->time_enabled);
		TEST_ASSERT(m->overflows[i] <= r->overflows,
			    "slot %d: the guest has seen %lu of %llu overflows",
			    i, m->overflows[i], r->overflows);
		TEST_ASSERT(r->overflows <= r->count / (PERIOD + 100 * i) + 1,
			    "slot %d: %llu overflows in %llu events", i, r->overflows, r->count);
		overflows += r->overflows;
	}
	TEST_ASSERT(overflows, "no overflow in any slot");
	TEST_ASSERT_EQ(m->empty, 0);
	TEST_ASSERT_EQ(pv_pmu_area_header(self->vcpu)->overflow, 0);
}

TEST_F(pv_pmu, two_vcpus)
{
	struct pv_pmu_thread t[NR_VCPUS];
	pthread_t pthreads[NR_VCPUS];
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		pv_pmu_enable(self->vcpus[i]);
		pv_pmu_request(self->vcpus[i], 0, HARDWARE(INSTRUCTIONS));
		pv_pmu_request(self->vcpus[i], 1,
			       SAMPLING(BRANCH_INSTRUCTIONS, 100 * (i + 1) * LOOPS));
		t[i] = (struct pv_pmu_thread) {
			self->vcpus[i], pv_pmu_guest_count, 1, 1000 * (i + 1) * LOOPS
		};
	}
	for (i = 0; i < NR_VCPUS; i++)
		pv_pmu_thread_start(&pthreads[i], &t[i]);
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		TEST_ASSERT_EQ(t[i].ret, 0);
		ASSERT_COUNT(pv_pmu_report(self->vcpus[i], 0)->count,
			     INSTRUCTIONS(1000 * (i + 1) * LOOPS));
		pv_pmu_assert_no_report(self->vcpus[i], 1);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		t[i].a = 3;
		pv_pmu_thread_start(&pthreads[i], &t[i]);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		pthread_join(pthreads[i], NULL);
		TEST_ASSERT_EQ(t[i].ret, 0);
		pv_pmu_stop(self->vcpus[i], 1);
		assert_overflows(self->vcpus[i], 1, 100 * (i + 1) * LOOPS);
		TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpus[i])->empty, 0);
	}
}

TEST_F(pv_pmu, another_thread_samples)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, SAMPLING(INSTRUCTIONS, PERIOD));
	pv_pmu_commit(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_call_in_thread(self->vcpu, pv_pmu_guest_count, 0, 10 * LOOPS), 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->overflows >= 2 * 10 * LOOPS / PERIOD,
		    "%llu overflows, want %d or more", pv_pmu_report(self->vcpu, 0)->overflows,
		    2 * 10 * LOOPS / PERIOD);
	pv_pmu_stop(self->vcpu, 0);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->overflows[0],
		       pv_pmu_report(self->vcpu, 0)->overflows);
	TEST_ASSERT_EQ(pv_pmu_mailbox(self->vcpu)->empty, 0);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
