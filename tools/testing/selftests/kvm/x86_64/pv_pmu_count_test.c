// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the paravirtual PMU counts instructions and branches exactly.
 *
 *  - A sync reports the instructions and branches since the commit.
 *  - A stopped event keeps the count. A closed event does not.
 *  - EXCLUDE_USER and EXCLUDE_KERNEL hold.
 *  - Counting continues when another thread runs the vCPU.
 *  - Without a free counter of the host, an event does not run, and the report says
 *    so by time_running.
 *
 * Counts must be equal if an event of the host counts a guest's instructions
 * exactly. If not, counts may be about 1 % higher.
 */
#include <linux/perf_event.h>

#include "kvm_util.h"
#include "processor.h"
#include "pv_pmu_harness.h"
#include "test_util.h"

/* ---- counting */

TEST_F(pv_pmu, counts)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint32_t seq;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 30, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0) | BIT(30), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_STATUS(self->vcpu, 30, 0);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 30)->count, BRANCHES(LOOPS));
	TEST_ASSERT(r->time_running, "time_running is zero");
	TEST_ASSERT_EQ(r->time_running, r->time_enabled);
	TEST_ASSERT_EQ(r->overflows | r->period_sum | r->throttled, 0);
	TEST_ASSERT_EQ(r->rdpmc_index, 0);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 2);

	seq = r->seq;
	TEST_ASSERT(!(seq & 1), "the sequence count of a finished report is odd");
	pv_pmu_sync(self->vcpu, BIT(0));
	TEST_ASSERT(!(r->seq & 1) && r->seq != seq, "the sequence count goes from %u to %u",
		    seq, r->seq);
}

TEST_F(pv_pmu, reports_what_it_is_asked_for)
{
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, 3);
	pv_pmu_sync(self->vcpu, BIT(1));
	n = pv_pmu_report(self->vcpu, 1)->count;
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	TEST_ASSERT(n, "the count of slot 1 is zero");

	/* a commit updates all reports */
	pv_pmu_commit(self->vcpu, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count > n, "the report of slot 0 is not updated");
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count > n, "the report of slot 1 is not updated");
}

TEST_F(pv_pmu, stops_and_goes_on)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = KVM_PV_PMU_OPEN));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(r->count, 0);
	TEST_ASSERT_EQ(r->time_enabled, 0);

	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));

	pv_pmu_stop(self->vcpu, 0);
	n = r->count;
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_sync(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(r->count, n);

	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, n + INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

TEST_F(pv_pmu, closes)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(3), LOOPS);

	/* a request without OPEN may be invalid */
	pv_pmu_request(self->vcpu, 3, REQUEST(.type = -1, .flags = (uint32_t)~KVM_PV_PMU_OPEN,
					      .reserved[1] = 1));
	pv_pmu_commit(self->vcpu, BIT(3));
	pv_pmu_assert_no_report(self->vcpu, 3);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 0);

	pv_pmu_request(self->vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(3), LOOPS);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 3)->count, INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, another_event_starts_at_zero)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	pv_pmu_request(self->vcpu, 0, HARDWARE(BRANCH_INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, BRANCHES(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);
}

TEST_F(pv_pmu, privilege_levels)
{
	const uint32_t user = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_EXCLUDE_KERNEL;
	const uint32_t kernel = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_EXCLUDE_USER;
	uint64_t n[2];

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .flags = user));
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS, .flags = kernel));
	pv_pmu_request(self->vcpu, 2, HARDWARE(INSTRUCTIONS, .flags = user | kernel));
	pv_pmu_count(self->vcpu, 7, LOOPS);
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 0)->count, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 2)->count, 0);

	/* two calls that differ in the loops: all else cancels out */
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_sync(self->vcpu, 7);
	n[0] = pv_pmu_report(self->vcpu, 0)->count;
	n[1] = pv_pmu_report(self->vcpu, 1)->count;
	pv_pmu_set_user_mode(self->vcpu, true);
	pv_pmu_spin(self->vcpu, 2 * LOOPS);
	pv_pmu_set_user_mode(self->vcpu, false);
	pv_pmu_sync(self->vcpu, 7);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count - 2 * n[0], 2 * LOOPS);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count - n[1] < LOOPS,
		    "the event with EXCLUDE_USER counted the loop in user mode");
	TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, 2)->count, 0);
}

TEST_F(pv_pmu, another_thread)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	uint64_t n;

	/* first all calls are on this thread; then the last call is on another thread */
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, BIT(0));
	pv_pmu_call(self->vcpu, pv_pmu_guest_count, BIT(0), LOOPS);
	n = r->count;

	pv_pmu_enable(self->vcpu);
	pv_pmu_commit(self->vcpu, BIT(0));
	TEST_ASSERT_EQ(pv_pmu_call_in_thread(self->vcpu, pv_pmu_guest_count, BIT(0), LOOPS), 0);
	ASSERT_COUNT(r->count, n);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 1);

	/* back to this thread: the other thread has ended */
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	TEST_ASSERT(r->count > n + INSTRUCTIONS(LOOPS), "the event has not counted on this thread");
	TEST_ASSERT(r->time_running && r->time_running <= r->time_enabled,
		    "time_running is %llu, time_enabled %llu", r->time_running, r->time_enabled);
}

/* ---- the host takes its counters */

/* ---- groups */

/* A running event of the group whose leader is in slot 0. */
#define MEMBER(event, ...) HARDWARE(event, .group = 1, ##__VA_ARGS__)

TEST_F(pv_pmu, group)
{
	pv_pmu_enable(self->vcpu);
	/* slot 3 is the leader: it need not come first */
	pv_pmu_request(self->vcpu, 1, HARDWARE(BRANCH_INSTRUCTIONS, .group = 4));
	pv_pmu_request(self->vcpu, 3, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 7, HARDWARE(INSTRUCTIONS, .group = 4));
	pv_pmu_count(self->vcpu, BIT(1) | BIT(3) | BIT(7), LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 1)->count, BRANCHES(LOOPS));
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 3)->count, INSTRUCTIONS(LOOPS));
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 7)->count, INSTRUCTIONS(LOOPS));
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 3);
}

/* A member counts only while the leader does. */
TEST_F(pv_pmu, group_leader_stops)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 1);
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, MEMBER(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 3, LOOPS);
	pv_pmu_stop(self->vcpu, 0);
	n = r->count;
	pv_pmu_count(self->vcpu, 0, LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	TEST_ASSERT_EQ(r->count, n);

	/* a member stops, the leader goes on */
	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_set_running(self->vcpu, 1, false);
	pv_pmu_count(self->vcpu, 3, LOOPS);
	TEST_ASSERT_EQ(r->count, n);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count >= n + INSTRUCTIONS(LOOPS),
		    "the leader does not count without its member");

	pv_pmu_set_running(self->vcpu, 1, true);
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_COUNT(r->count, n + INSTRUCTIONS(LOOPS));
}

/* Without its leader, a member does not count. */
TEST_F(pv_pmu, group_leader_closes)
{
	int i;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < 2; i++) {
		pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
		pv_pmu_request(self->vcpu, 1, MEMBER(INSTRUCTIONS));
		pv_pmu_commit(self->vcpu, 3);
		ASSERT_STATUS(self->vcpu, 1, 0);

		/* closed, or another event */
		pv_pmu_request(self->vcpu, 0, i ? HARDWARE(BRANCH_INSTRUCTIONS) : REQUEST());
		pv_pmu_commit(self->vcpu, BIT(0));
		pv_pmu_sync(self->vcpu, BIT(1));
		ASSERT_STATUS(self->vcpu, 1, -EINVAL);
		TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), i);
	}

	/* with a leader, the member can be committed again */
	pv_pmu_count(self->vcpu, 3, LOOPS);
	ASSERT_STATUS(self->vcpu, 1, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 1)->count >= INSTRUCTIONS(LOOPS),
		    "the member has not counted");
}

/* Refused as by perf_event_open(2): the leader is a member, a member is pinned. */
TEST_F(pv_pmu, group_bad)
{
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 1, MEMBER(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 2, HARDWARE(INSTRUCTIONS, .group = 2));
	pv_pmu_request(self->vcpu, 3, MEMBER(INSTRUCTIONS, .flags = KVM_PV_PMU_OPEN |
					     KVM_PV_PMU_RUN | KVM_PV_PMU_PINNED));
	pv_pmu_commit(self->vcpu, 0xf);
	ASSERT_STATUS(self->vcpu, 1, 0);
	ASSERT_STATUS(self->vcpu, 2, -EINVAL);
	ASSERT_STATUS(self->vcpu, 3, -EINVAL);
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 2);
}

/* A group with more events than the host has counters is refused. */
TEST_F(pv_pmu, group_too_large)
{
	struct kvm_pv_pmu_header *header = pv_pmu_area_header(self->vcpu);
	int i, refused = 0;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	for (i = 1; i <= header->nr_counters; i++)
		pv_pmu_request(self->vcpu, i, MEMBER(INSTRUCTIONS));
	pv_pmu_commit(self->vcpu, ALL_SLOTS);
	for (i = 1; i <= header->nr_counters; i++)
		refused += pv_pmu_report(self->vcpu, i)->status == -EINVAL;
	TEST_ASSERT(refused >= 1, "more events in a group than counters");
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), header->nr_counters + 1 - refused);
}

/* Members have a counter at the same time, or not at all. */
TEST_F(pv_pmu, group_without_counters)
{
	int fds[MAX_COUNTERS], n, i;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(self->vcpu);
	n = pv_pmu_take_counters(fds, 2);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	for (i = 1; i < 3; i++)
		pv_pmu_request(self->vcpu, i, MEMBER(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, 7, LOOPS);
	for (i = 0; i < 3; i++) {
		ASSERT_STATUS(self->vcpu, i, 0);
		TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, i)->count, 0);
		TEST_ASSERT_EQ(pv_pmu_report(self->vcpu, i)->time_running, 0);
		TEST_ASSERT(pv_pmu_report(self->vcpu, i)->time_enabled, "no time is enabled");
	}

	/* with one event less, the group fits into the counters that are left */
	pv_pmu_request(self->vcpu, 2, REQUEST());
	pv_pmu_set_running(self->vcpu, 0, false);
	pv_pmu_commit(self->vcpu, 7);
	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_count(self->vcpu, 3, LOOPS);
	pv_pmu_give_counters(fds, n);
	for (i = 0; i < 2; i++)
		ASSERT_COUNT(pv_pmu_report(self->vcpu, i)->count, INSTRUCTIONS(LOOPS));
}

/* The events of the thread that now runs the vCPU are in groups as well. */
TEST_F(pv_pmu, group_on_another_thread)
{
	uint64_t n;

	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 1, HARDWARE(INSTRUCTIONS));
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS, .group = 2));
	pv_pmu_count(self->vcpu, 3, LOOPS);
	n = pv_pmu_report(self->vcpu, 0)->count;
	TEST_ASSERT_EQ(pv_pmu_call_in_thread(self->vcpu, pv_pmu_guest_count, 3, LOOPS), 0);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT(pv_pmu_report(self->vcpu, 0)->count >= n + INSTRUCTIONS(LOOPS),
		    "the member has not counted on another thread");
	TEST_ASSERT_EQ(pv_pmu_live_events(self->vcpu), 2);
}

/* A guest that opens events in a loop is held back, and may go on. */
TEST_F(pv_pmu, opens_are_limited)
{
	int i, j, opened = 0, refused = 0;

	pv_pmu_enable(self->vcpu);
	for (i = 0; i < 20; i++) {
		for (j = 0; j < NR_SLOTS; j++)
			pv_pmu_request(self->vcpu, j,
				       HARDWARE(INSTRUCTIONS, .flags = KVM_PV_PMU_OPEN));
		pv_pmu_commit(self->vcpu, ALL_SLOTS);
		for (j = 0; j < NR_SLOTS; j++) {
			opened += !pv_pmu_report(self->vcpu, j)->status;
			refused += pv_pmu_report(self->vcpu, j)->status == -EAGAIN;
			pv_pmu_request(self->vcpu, j, REQUEST());
		}
		pv_pmu_commit(self->vcpu, ALL_SLOTS);
	}
	/* one of the 128 came with the area */
	TEST_ASSERT(opened >= 127 && refused, "%d events opened, %d refused", opened, refused);
	TEST_ASSERT_EQ(opened + refused, 20 * NR_SLOTS);

	usleep(200000);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	ASSERT_COUNT(pv_pmu_report(self->vcpu, 0)->count, INSTRUCTIONS(LOOPS));
}

TEST_F(pv_pmu, counters_taken)
{
	struct kvm_pv_pmu_report *r = pv_pmu_report(self->vcpu, 0);
	int fds[MAX_COUNTERS], n;
	uint64_t counted, running;

	kvm_pin_this_task_to_pcpu(0);
	pv_pmu_enable(self->vcpu);
	pv_pmu_request(self->vcpu, 0, HARDWARE(INSTRUCTIONS));
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, INSTRUCTIONS(LOOPS));
	pv_pmu_stop(self->vcpu, 0);
	counted = r->count;
	running = r->time_running;

	n = pv_pmu_take_counters(fds, 0);
	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_STATUS(self->vcpu, 0, 0);
	TEST_ASSERT_EQ(r->count, counted);
	TEST_ASSERT_EQ(r->time_running, running);
	TEST_ASSERT(r->time_enabled > running, "time_enabled is %llu, want more than %lu",
		    r->time_enabled, running);
	pv_pmu_stop(self->vcpu, 0);

	pv_pmu_give_counters(fds, n);
	pv_pmu_set_running(self->vcpu, 0, true);
	pv_pmu_count(self->vcpu, BIT(0), LOOPS);
	ASSERT_COUNT(r->count, counted + INSTRUCTIONS(LOOPS));
	TEST_ASSERT(r->time_running > running, "time_running is %llu, want more than %lu",
		    r->time_running, running);
}

int main(int argc, char *argv[])
{
	pv_pmu_test_init();
	return test_harness_run(argc, argv);
}
