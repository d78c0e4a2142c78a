// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that KVM uses what it has found for a sample of a guest's call chain in the next one
 * only while that is true (CONFIG_KVM_GUEST_CALLCHAIN):
 *
 *  - The host has another page there, because a write after fork() has copied it.
 *  - The host has freed its page tables, and uses their memory for others, or has moved them.
 *  - The VMM has put another page into the memslot.
 *  - The guest has other page tables.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest_callchain_harness.h"
#include "guest_sampler.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* An address of the VMM with host page tables of its own, up to those for 1G */
#define ASIDE		((void *)0x600000000000ul)
#define ASIDE_2		((void *)0x610000000000ul)
#define ASIDE_SIZE	0x400000ul

static void *map_aside(void *at, unsigned long size)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	TEST_ASSERT(p == at, "mmap at %p: %s", at, strerror(errno));
	return p;
}

/* The stack's first page is the guest's page at HIGH_GPA, and the VMM's at @page. */
static void set_stack_page(struct guest *g, void *page)
{
	vm_set_user_memory_region(g->vm, EXTRA_SLOT, 0, HIGH_GPA, PAGE_SIZE, page);
	*(uint64_t *)guest_find_entry(g, g->stack, 1) = HIGH_GPA | PTE_P | PTE_W;
}

static void put_last_frame(void *page, uint64_t ret)
{
	uint64_t *frame = page + 0x100;

	frame[0] = 0;
	frame[1] = ret;
}

static const char *check_caller(struct guest *g, const struct sample *sample, const void *data)
{
	const char *why = sample_check_start(g, sample);
	uint64_t caller = *(const uint64_t *)data;

	if (!why && sample->nr != 2 + !!caller)
		why = "the number of frames is wrong";
	if (!why && caller && sample->ips[2] != caller)
		why = "the return address is wrong";
	return why;
}

/* Each chain must have one caller, or none if @caller is 0. */
static void expect_caller(struct guest *g, uint64_t caller)
{
	struct perf_event_attr attr = {};

	expect_samples(g, &attr, check_caller, &caller);
}

/* Have the stack in memory aside, with one frame. */
static void *move_stack_aside(struct guest *g)
{
	void *page = map_aside(ASIDE, ASIDE_SIZE);

	put_last_frame(page, return_address(g, 0));
	set_stack_page(g, page);
	expect_caller(g, return_address(g, 0));
	return page;
}

/* Take what the host has freed, for page tables and for pages with frames. */
static void reuse_memory(struct guest *g)
{
	unsigned long at;

	for (at = 0; at < 64; at++)
		put_last_frame(map_aside(ASIDE_2 + (at << 30), PAGE_SIZE), return_address(g, 2));
}

static void forget_reused_memory(void)
{
	unsigned long at;

	for (at = 0; at < 64; at++)
		munmap(ASIDE_2 + (at << 30), PAGE_SIZE);
}

TEST_F(guest, host_page_replaced)
{
	struct guest *g = self->kernel;
	void *page = move_stack_aside(g);
	pid_t child;

	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		pause();
		_exit(0);
	}
	expect_caller(g, return_address(g, 0));
	put_last_frame(page, return_address(g, 1));
	expect_caller(g, return_address(g, 1));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	munmap(page, ASIDE_SIZE);
}

TEST_F(guest, host_tables_freed)
{
	struct guest *g = self->kernel;
	void *page = move_stack_aside(g);

	munmap(page, ASIDE_SIZE);
	reuse_memory(g);
	expect_caller(g, 0);

	map_aside(ASIDE, ASIDE_SIZE);
	put_last_frame(page, return_address(g, 1));
	expect_caller(g, return_address(g, 1));
	forget_reused_memory();
	munmap(page, ASIDE_SIZE);
}

/* KVM is not told of memory that is in no slot. Its page tables have led to the slot, too. */
TEST_F(guest, host_tables_freed_beside_the_slot)
{
	struct guest *g = self->kernel;
	void *beside = map_aside(ASIDE + PAGE_SIZE, PAGE_SIZE);

	put_last_frame(beside, return_address(g, 2));
	set_stack_page(g, ASIDE);
	expect_caller(g, 0);

	munmap(beside, PAGE_SIZE);
	reuse_memory(g);
	expect_caller(g, 0);
	forget_reused_memory();
}

/* mremap() moves a whole page table. */
TEST_F(guest, host_tables_moved)
{
	struct guest *g = self->kernel;
	void *page = move_stack_aside(g);
	int i;

	for (i = 0; i < 3; i++) {
		mremap(ASIDE, ASIDE_SIZE, ASIDE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, ASIDE_2);
		expect_caller(g, 0);
		mremap(ASIDE_2, ASIDE_SIZE, ASIDE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, ASIDE);
		expect_caller(g, return_address(g, 0));
	}
	munmap(page, ASIDE_SIZE);
}

TEST_F(guest, memslot_replaced)
{
	struct guest *g = self->kernel;
	void *page = move_stack_aside(g);

	put_last_frame(page + PAGE_SIZE, return_address(g, 1));
	vm_set_user_memory_region(g->vm, EXTRA_SLOT, 0, HIGH_GPA, 0, page);
	set_stack_page(g, page + PAGE_SIZE);
	expect_caller(g, return_address(g, 1));
	munmap(page, ASIDE_SIZE);
}

static void set_root(struct guest *g, uint64_t cr3)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cr3 = cr3;
	vcpu_sregs_set(g->vcpu, &sregs);
	g->cr3 = cr3;
}

/* Two processes: one stack address, two stacks, and the same code */
TEST_F(guest, roots_by_turns)
{
	struct guest *g = self->kernel;
	uint64_t first = g->cr3, second = guest_alloc_table(g);
	uint64_t stack_gpa = PAGE_4M + 0x10000;
	int i;

	memcpy(guest_hva(g, second), guest_hva(g, first), PAGE_SIZE);
	g->cr3 = second;
	guest_entry_set(g, guest_find_entry(g, g->stack, 4), 0);
	guest_map(g, g->stack, stack_gpa, 1, PTE_W);
	put_last_frame(guest_hva(g, stack_gpa), return_address(g, 1));

	for (i = 0; i < 3; i++) {
		set_root(g, first);
		expect_frames(g, 3);
		set_root(g, second);
		expect_caller(g, return_address(g, 1));
	}
}

int main(int argc, char *argv[])
{
	sampler_wait_for_timers();
	return test_harness_run(argc, argv);
}
