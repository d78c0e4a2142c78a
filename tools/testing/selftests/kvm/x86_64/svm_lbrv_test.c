// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that a guest's branch records and those of the host's perf stay apart.
 *
 *  - A guest that records its last branch by DEBUGCTL.LBR finds its own one, whatever the
 *    host's perf records of branches meanwhile: of the host, of the guest, or of both.
 *  - The guest's DEBUGCTL is what the guest wrote: no bit that the host sets for its
 *    events, such as the freeze of the records by an interrupt of the PMU.
 *  - The host's events have no branch of the guest in samples of the host, and branches of
 *    the guest alone in samples of the guest.
 */
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define LBRV			KVM_X86_CPU_FEATURE(0x8000000a, 0, EDX, 1)
#define DEBUGCTL_LBR		BIT(0)

/* The host has it if its perf records guests' branches: the entries. */
#define GUEST_BRANCHES		"/sys/bus/event_source/devices/cpu/caps/guest_branches"

#define ROUNDS			2000
#define LOOPS			500
#define BRANCH_PERIOD		5003

#define RING_PAGES		512

/* ---- the guest */

/* Addresses of guest_branch(), which the guest finds */
static struct {
	uint64_t start, jmp, target, end;
} code;

/* Loop, jump, and read the last branch. */
static noinline void guest_branch(uint64_t loops, uint64_t *from, uint64_t *to)
{
	asm volatile("lea 1f(%%rip), %[start]\n\t"
		     "lea 2f(%%rip), %[jmp]\n\t"
		     "lea 3f(%%rip), %[target]\n\t"
		     "lea 4f(%%rip), %[end]\n"
		     "1: dec %[loops]\n\t"
		     "jnz 1b\n"
		     "2: jmp 3f\n\t"
		     "nop\n"
		     "3: mov $0x1db, %%ecx\n\t"	/* MSR_IA32_LASTBRANCHFROMIP */
		     "rdmsr\n\t"
		     "shl $32, %%rdx\n\t"
		     "or %%rdx, %%rax\n\t"
		     "mov %%rax, %[from]\n\t"
		     "mov $0x1dc, %%ecx\n\t"	/* MSR_IA32_LASTBRANCHTOIP */
		     "rdmsr\n\t"
		     "shl $32, %%rdx\n\t"
		     "or %%rdx, %%rax\n\t"
		     "mov %%rax, %[to]\n"
		     "4:"
		     : [loops] "+r"(loops), [start] "=&r"(code.start), [jmp] "=&r"(code.jmp),
		       [target] "=&r"(code.target), [end] "=&r"(code.end),
		       [from] "=m"(*from), [to] "=m"(*to)
		     : : "rax", "rcx", "rdx", "cc");
}

static void guest_records(void)
{
	uint64_t from, to;
	int i;

	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_DEBUGCTLMSR), 0);
	for (i = 0; i < ROUNDS; i++) {
		wrmsr(MSR_IA32_DEBUGCTLMSR, DEBUGCTL_LBR);
		guest_branch(LOOPS, &from, &to);
		GUEST_ASSERT_EQ(rdmsr(MSR_IA32_DEBUGCTLMSR), DEBUGCTL_LBR);
		GUEST_ASSERT_EQ(from, code.jmp);
		GUEST_ASSERT_EQ(to, code.target);

		wrmsr(MSR_IA32_DEBUGCTLMSR, 0);
		guest_branch(LOOPS, &from, &to);
		GUEST_ASSERT_EQ(rdmsr(MSR_IA32_DEBUGCTLMSR), 0);
	}
	GUEST_DONE();
}

/* Loops and exits: the events of the host overflow on both sides. */
static void guest_exits(void)
{
	uint32_t eax, ebx, ecx, edx;
	uint64_t from, to;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		guest_branch(LOOPS, &from, &to);
		cpuid(0, &eax, &ebx, &ecx, &edx);
	}
	GUEST_DONE();
}

/* ---- events of the host */

struct event {
	int fd;
	struct perf_event_mmap_page *ring;
};

struct sample {
	struct perf_event_header header;
	uint64_t ip;
	uint64_t nr;
	struct perf_branch_entry branches[];
};

struct counts {
	uint64_t samples;
	uint64_t branches;
	uint64_t of_guest;	/* with both addresses in the guest's code */
	uint64_t of_host;	/* with neither */
};

static struct event open_event(bool exclude_guest, bool exclude_host, uint64_t types)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
		.sample_period = BRANCH_PERIOD,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_BRANCH_STACK,
		.branch_sample_type = types,
		.exclude_guest = exclude_guest,
		.exclude_host = exclude_host,
		.disabled = 1,
	};
	struct event e;

	e.fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);
	TEST_ASSERT(e.fd >= 0, __KVM_SYSCALL_ERROR("perf_event_open", e.fd));
	e.ring = mmap(NULL, (1 + RING_PAGES) * getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED,
		      e.fd, 0);
	TEST_ASSERT(e.ring != MAP_FAILED, __KVM_SYSCALL_ERROR("mmap", -1));
	ioctl(e.fd, PERF_EVENT_IOC_ENABLE, 0);
	return e;
}

/* An address of the guest's loop. The host maps the same program, and does not run this. */
static bool is_of_guest(uint64_t address)
{
	return address >= code.start && address < code.end;
}

static void count_branches(const struct sample *s, struct counts *c)
{
	int i;

	c->samples++;
	for (i = 0; i < s->nr; i++) {
		c->branches++;
		if (is_of_guest(s->branches[i].from) && is_of_guest(s->branches[i].to))
			c->of_guest++;
		else if (!is_of_guest(s->branches[i].from) && !is_of_guest(s->branches[i].to))
			c->of_host++;
	}
}

/* Copy what may wrap around the end of the ring. */
static void read_ring(void *to, const struct event *e, uint64_t at, size_t size)
{
	const uint64_t ring_size = RING_PAGES * getpagesize();
	const char *data = (char *)e->ring + getpagesize();
	size_t in_one = min(size, ring_size - at % ring_size);

	memcpy(to, data + at % ring_size, in_one);
	memcpy(to + in_one, data, size - in_one);
}

static struct counts read_samples(struct event *e, bool of_guest)
{
	uint64_t tail = e->ring->data_tail, head = e->ring->data_head;
	struct counts c = {};
	union {
		struct sample s;
		char bytes[4096];
	} copy;

	while (tail < head) {
		read_ring(&copy, e, tail, sizeof(copy.s.header));
		TEST_ASSERT(copy.s.header.size <= sizeof(copy), "a record of %u bytes",
			    copy.s.header.size);
		read_ring(&copy, e, tail, copy.s.header.size);
		if (copy.s.header.type == PERF_RECORD_SAMPLE &&
		    of_guest == ((copy.s.header.misc & PERF_RECORD_MISC_CPUMODE_MASK) ==
				 PERF_RECORD_MISC_GUEST_KERNEL))
			count_branches(&copy.s, &c);
		tail += copy.s.header.size;
	}
	return c;
}

static void close_event(struct event *e)
{
	munmap(e->ring, (1 + RING_PAGES) * getpagesize());
	close(e->fd);
}

/* ---- the tests */

static void run(void (*guest_code)(void))
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_DONE:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("unknown ucall %lu", uc.cmd);
	}
	memcpy(&code, addr_gva2hva(vm, (vm_vaddr_t)&code), sizeof(code));
	kvm_vm_free(vm);
}

#define ANY	(PERF_SAMPLE_BRANCH_ANY | PERF_SAMPLE_BRANCH_USER | PERF_SAMPLE_BRANCH_KERNEL)

/* The guest's own records, without an event of the host and with each sort */
static void test_guest_records(bool host_records_guests)
{
	struct event e;
	int i;

	pr_info("the guest's last branch\n");
	run(guest_records);
	for (i = 0; i < 3; i++) {
		if (i && !host_records_guests)
			break;
		e = open_event(i == 0, i == 1, ANY);
		run(guest_records);
		close_event(&e);
	}
}

/* Samples of the host */
static void test_host_samples(bool with_guests_event)
{
	struct event other = {}, e = open_event(true, false, ANY);
	struct counts c;

	pr_info("samples of the host%s\n", with_guests_event ? ", beside samples of guests" : "");
	if (with_guests_event)
		other = open_event(false, true, ANY);
	run(guest_exits);
	c = read_samples(&e, false);
	TEST_ASSERT(c.samples > 10 && c.branches, "%lu samples, %lu branches", c.samples,
		    c.branches);
	TEST_ASSERT(c.of_host == c.branches, "%lu of %lu branches of the host are a guest's",
		    c.branches - c.of_host, c.branches);
	close_event(&e);
	if (with_guests_event)
		close_event(&other);
}

/* Samples of the guest. Only the loop, and what is around the CPUID, has branches. */
static void test_guest_samples(bool with_host)
{
	struct event e = open_event(false, !with_host, ANY);
	struct counts c;

	pr_info("samples of the guest%s\n", with_host ? ", and of the host" : "");
	run(guest_exits);
	c = read_samples(&e, true);
	TEST_ASSERT(c.samples > 100 && c.branches, "%lu samples, %lu branches", c.samples,
		    c.branches);
	TEST_ASSERT(c.of_guest > c.branches * 9 / 10, "%lu of %lu branches are the guest's loop",
		    c.of_guest, c.branches);
	if (with_host) {
		c = read_samples(&e, false);
		TEST_ASSERT(c.of_host == c.branches,
			    "%lu of %lu branches of the host are a guest's",
			    c.branches - c.of_host, c.branches);
	}
	close_event(&e);
}

static bool host_records_branches(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_BRANCH_INSTRUCTIONS,
		.sample_period = BRANCH_PERIOD,
		.sample_type = PERF_SAMPLE_BRANCH_STACK,
		.branch_sample_type = ANY,
		.exclude_guest = 1,
	};
	int fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);

	close(fd);
	return fd >= 0;
}

int main(int argc, char *argv[])
{
	bool host_records_guests = !access(GUEST_BRANCHES, R_OK);

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	__TEST_REQUIRE(this_cpu_has(LBRV) && get_kvm_amd_param_integer("lbrv"),
		       "KVM does not virtualize the last branch");
	__TEST_REQUIRE(host_records_branches(), "the host's perf has no branch stacks");

	test_guest_records(host_records_guests);
	test_host_samples(false);
	if (!host_records_guests) {
		pr_info("the host's perf does not record the branches of guests\n");
		return 0;
	}
	test_host_samples(true);
	test_guest_samples(false);
	test_guest_samples(true);
	return 0;
}
