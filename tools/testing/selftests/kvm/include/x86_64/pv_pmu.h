/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tests of the paravirtual PMU: guests with an area for each vCPU, calls in the
 * guest, and checks of counts and statuses.
 */
#ifndef SELFTEST_KVM_PV_PMU_H
#define SELFTEST_KVM_PV_PMU_H

#include <linux/perf_event.h>
#include <pthread.h>
#include <stdint.h>

#include <asm/kvm_para.h>
#include <asm/kvm_pv_pmu.h>

#include "kvm_util.h"
#include "processor.h"

#define NR_VCPUS	2
#define NR_SLOTS	KVM_PV_PMU_NR_SLOTS
#define ALL_SLOTS	((1ull << NR_SLOTS) - 1)

/* Each vCPU has two areas, mapped at virtual = physical address. */
#define AREA_SLOT	1
#define AREA_GPA	0x10000000ul
#define AREAS		(2 * NR_VCPUS)
#define COOKIE		0xc00c1e

#define LOOPS		10000
#define PERIOD		5000

#define MAX_COUNTERS	64

/* Instructions and branches between the two hypercalls of pv_pmu_guest_count(). */
#define INSTRUCTIONS(loops)	(2 * (loops) + 3)
#define BRANCHES(loops)		(loops)

/*
 * Arguments of a call in the guest, and the results of the NMI handler. GS of each
 * vCPU points to a mailbox.
 */
struct pv_pmu_mailbox {
	struct pv_pmu_mailbox *self;
	uint64_t (*fn)(uint64_t a, uint64_t b);
	uint64_t a, b;
	struct kvm_pv_pmu_area *area;
	bool look;		/* the NMI handler clears the overflow bits */
	uint64_t loops_before;	/* of the next NMI's handler, before it clears the bits */
	uint64_t loops_after;
	uint64_t nmis;
	uint64_t empty;		/* NMIs without an overflow bit */
	uint64_t overflows[NR_SLOTS];
	uint64_t counts[NR_SLOTS];	/* of the reports, as the last NMI found them */
};

struct pv_pmu_thread {
	struct kvm_vcpu *vcpu;
	uint64_t (*fn)(uint64_t a, uint64_t b);
	uint64_t a, b;
	uint64_t ret;
};

/* The layout of an area: tests find a field through these functions only. */
static inline struct kvm_pv_pmu_header *area_header(struct kvm_pv_pmu_area *area)
{
	return &area->header;
}

static inline struct kvm_pv_pmu_request *area_request(struct kvm_pv_pmu_area *area, int slot)
{
	return &area->slots[slot].request;
}

static inline struct kvm_pv_pmu_report *area_report(struct kvm_pv_pmu_area *area, int slot)
{
	return &area->slots[slot].report;
}

struct pv_pmu_mailbox *pv_pmu_guest_mailbox(void);
uint64_t pv_pmu_guest_count(uint64_t mask, uint64_t loops);
uint64_t pv_pmu_host_faults(void);
struct pv_pmu_mailbox *pv_pmu_mailbox(struct kvm_vcpu *vcpu);
uint64_t pv_pmu_area_gpa(struct kvm_vcpu *vcpu, int nr);
struct kvm_pv_pmu_area *pv_pmu_area(struct kvm_vcpu *vcpu);
struct kvm_pv_pmu_header *pv_pmu_area_header(struct kvm_vcpu *vcpu);
struct kvm_pv_pmu_report *pv_pmu_report(struct kvm_vcpu *vcpu, int slot);
void pv_pmu_set_memslot(struct kvm_vm *vm, uint32_t flags, uint64_t size);
struct kvm_vm *pv_pmu_vm_create(struct kvm_vcpu *vcpus[NR_VCPUS]);
struct kvm_vcpu *pv_pmu_vm_finish(struct kvm_vm *vm);
uint64_t pv_pmu_call(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
		     uint64_t a, uint64_t b);
void pv_pmu_thread_start(pthread_t *pthread, struct pv_pmu_thread *t);
uint64_t pv_pmu_call_in_thread(struct kvm_vcpu *vcpu, uint64_t (*fn)(uint64_t a, uint64_t b),
			       uint64_t a, uint64_t b);
void pv_pmu_set_user_mode(struct kvm_vcpu *vcpu, bool user);
uint64_t pv_pmu_wrmsr(struct kvm_vcpu *vcpu, uint64_t val);
uint64_t pv_pmu_rdmsr(struct kvm_vcpu *vcpu);
void pv_pmu_spin(struct kvm_vcpu *vcpu, uint64_t loops);
void pv_pmu_enable(struct kvm_vcpu *vcpu);
void pv_pmu_request(struct kvm_vcpu *vcpu, int slot,
		    const struct kvm_pv_pmu_request *request);
void pv_pmu_set_running(struct kvm_vcpu *vcpu, int slot, bool running);
long pv_pmu_hypercall(struct kvm_vcpu *vcpu, uint64_t op, uint64_t mask);
void pv_pmu_commit(struct kvm_vcpu *vcpu, uint64_t mask);
void pv_pmu_sync(struct kvm_vcpu *vcpu, uint64_t mask);
void pv_pmu_count(struct kvm_vcpu *vcpu, uint64_t mask, uint64_t loops);
void pv_pmu_stop_vcpu(struct kvm_vcpu *vcpu);
void pv_pmu_stop(struct kvm_vcpu *vcpu, int slot);
uint64_t pv_pmu_dirty_areas(struct kvm_vm *vm);
bool pv_pmu_is_count(uint64_t n, uint64_t expected);
void pv_pmu_assert_untouched(const struct kvm_pv_pmu_area *area,
			     const struct kvm_pv_pmu_area *copy);
void pv_pmu_assert_no_report(struct kvm_vcpu *vcpu, int slot);
void pv_pmu_assert_wrmsr_faults(struct kvm_vcpu *vcpu, uint64_t val);
void pv_pmu_assert_refused(struct kvm_vcpu *vcpu,
			   const struct kvm_pv_pmu_request *bad, int status);
uint64_t pv_pmu_stat(struct kvm_vcpu *vcpu, const char *name);
uint64_t pv_pmu_live_events(struct kvm_vcpu *vcpu);
int pv_pmu_take_counters(int fds[MAX_COUNTERS], int leave);
void pv_pmu_give_counters(int fds[MAX_COUNTERS], int n);
int pv_pmu_host_event_open(struct perf_event_attr *attr, pid_t pid, int cpu);
bool pv_pmu_write_setting(const char *path, const char *val);
void pv_pmu_read_setting(const char *path, char *val, size_t size);
uint64_t pv_pmu_slab_objects(const char *cache);
void pv_pmu_test_init(void);

/* Settings of the host */
#define PARAMETER(name)	"/sys/module/kvm/parameters/" name

#define REQUEST(...) (&(struct kvm_pv_pmu_request) { __VA_ARGS__ })

/* A running event of PERF_TYPE_HARDWARE. */
#define HARDWARE(event, ...)							\
	REQUEST(.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_##event,	\
		.flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN, ##__VA_ARGS__)

#define SAMPLING(event, period)							\
	REQUEST(.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_##event,	\
		.flags = KVM_PV_PMU_OPEN | KVM_PV_PMU_RUN | KVM_PV_PMU_SAMPLE,	\
		.sample_period = period)

#define ASSERT_COUNT(n, expected) do {						\
	uint64_t __n = (n), __expected = (expected);				\
										\
	TEST_ASSERT(pv_pmu_is_count(__n, __expected), #n " is %lu, want %lu",	\
		    __n, __expected);						\
} while (0)

#define ASSERT_STATUS(vcpu, slot, expected) do {				\
	int __slot = (slot), __expected = (expected);				\
	int __status = pv_pmu_report(vcpu, __slot)->status;			\
										\
	TEST_ASSERT(__status == __expected,					\
		    "the status of slot %d is %d, want %d",			\
		    __slot, __status, __expected);				\
} while (0)

#endif /* SELFTEST_KVM_PV_PMU_H */
