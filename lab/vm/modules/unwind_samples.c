// SPDX-License-Identifier: GPL-2.0
/*
 * Samples of this kernel with the call chains that its own unwinder finds, for comparison
 * with perf's unwinder (tools/perf/util/unwind-orc.c).
 *
 * At each overflow of a counter of cycles, which is an NMI, take the registers, the stacks
 * of the kernel that KVM's dump would have (arch/x86/kvm/guest_dump.c) and the call chain. So
 * both unwinders get the same registers and the same stacks.
 *
 * There are two files below unwind_samples in debugfs, in the format that perf has for
 * pipes: "dumps" has the registers, the stacks and the IP as call chain, "chains" has the
 * call chains.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/perf_event.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <asm/unwind.h>

#define MAX_STACKS		3
#define MAX_STACK_SIZE		8192
#define MAX_FRAMES		127
#define NR_REGS			20
#define REGS_MASK		0xff0fff

/* On a host, the samples of a guest are those of its VMM. */
#define VMM_TID			1ull

#define FIELDS			(PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | \
				 PERF_SAMPLE_CALLCHAIN)
#define GUEST_STACK		BIT(25)		/* PERF_SAMPLE_GUEST_STACK */

#define PIPE_MAGIC		0x32454c4946524550ull
#define RECORD_HEADER_ATTR	64
#define ATTR_WORDS		19		/* PERF_ATTR_SIZE_VER9 */
#define ATTR_SAMPLE_TYPE	3
#define ATTR_REGS_GUEST		17
#define ATTR_STACK_GUEST	18

/* header, IP, TID, time; and for each file what can follow */
#define MAX_CHAIN_RECORD	((4 + 2 + MAX_FRAMES) * sizeof(u64))
#define MAX_DUMP_RECORD		((4 + 3 + 1 + NR_REGS + 1 + 2 * MAX_STACKS) * sizeof(u64) + \
				 MAX_STACKS * MAX_STACK_SIZE)

static ulong period = 99991;
module_param(period, ulong, 0444);
MODULE_PARM_DESC(period, "cycles between two samples");

static ulong size = 16 << 20;
module_param(size, ulong, 0444);
MODULE_PARM_DESC(size, "bytes of the file of dumps, where sampling ends");

static bool sampling = true;
module_param(sampling, bool, 0644);
MODULE_PARM_DESC(sampling, "clear it before the files are read");

static struct debugfs_blob_wrapper dumps, chains;
static struct dentry *dir;
static struct perf_event *event;

/* Samples are taken by one CPU, whose NMIs do not nest. */
static u64 chain[1 + MAX_FRAMES];

static void put(struct debugfs_blob_wrapper *file, u64 val)
{
	*(u64 *)(file->data + file->size) = val;
	file->size += sizeof(val);
}

static void put_file_header(struct debugfs_blob_wrapper *file, u64 sample_type)
{
	u64 attr[ATTR_WORDS] = {
		(u64)sizeof(attr) << 32 | PERF_TYPE_HARDWARE,
		[ATTR_SAMPLE_TYPE] = sample_type,
	};
	struct perf_event_header header = {
		.type = RECORD_HEADER_ATTR, .size = sizeof(header) + sizeof(attr),
	};
	int i;

	if (sample_type & GUEST_STACK) {
		attr[ATTR_REGS_GUEST] = REGS_MASK;
		attr[ATTR_STACK_GUEST] = MAX_STACK_SIZE;
	}
	put(file, PIPE_MAGIC);
	put(file, 2 * sizeof(u64));
	put(file, *(u64 *)&header);
	for (i = 0; i < ATTR_WORDS; i++)
		put(file, attr[i]);
}

/* Returns the header, for the size, which comes last. */
static struct perf_event_header *put_sample_header(struct debugfs_blob_wrapper *file,
						   struct pt_regs *regs, u64 time)
{
	struct perf_event_header *header = file->data + file->size;

	put(file, 0);
	put(file, regs->ip);
	put(file, VMM_TID << 32 | VMM_TID);
	put(file, time);
	return header;
}

static void end_sample(struct debugfs_blob_wrapper *file, struct perf_event_header *header)
{
	header->type = PERF_RECORD_SAMPLE;
	header->misc = PERF_RECORD_MISC_GUEST_KERNEL;
	header->size = file->data + file->size - (void *)header;
}

static void put_chain(struct debugfs_blob_wrapper *file, unsigned int nr)
{
	unsigned int i;

	put(file, nr);
	for (i = 0; i < nr; i++)
		put(file, chain[i]);
}

/* As perf does it (perf_callchain_kernel()). */
static unsigned int unwind(struct pt_regs *regs)
{
	struct unwind_state state;
	unsigned long addr;
	unsigned int nr = 0;

	chain[nr++] = PERF_CONTEXT_GUEST_KERNEL;
	chain[nr++] = regs->ip;
	for (unwind_start(&state, current, regs, NULL); !unwind_done(&state);
	     unwind_next_frame(&state)) {
		addr = unwind_get_return_address(&state);
		if (!addr || nr == ARRAY_SIZE(chain))
			break;
		chain[nr++] = addr;
	}
	return nr;
}

static void put_regs(struct debugfs_blob_wrapper *file, const struct pt_regs *regs)
{
	const u64 vals[NR_REGS] = {
		regs->ax, regs->bx, regs->cx, regs->dx, regs->si, regs->di, regs->bp, regs->sp,
		regs->ip, regs->flags, regs->cs, regs->ss, regs->r8, regs->r9, regs->r10,
		regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
	};
	int i;

	put(file, PERF_SAMPLE_REGS_ABI_64);
	for (i = 0; i < NR_REGS; i++)
		put(file, vals[i]);
}

/* Returns the last word if the stack ends where the pages do, or 0. */
static u64 put_stack(struct debugfs_blob_wrapper *file, u64 addr)
{
	u64 *header = file->data + file->size;
	void *to = header + 2;
	unsigned int copied = 0, n;

	while (copied < MAX_STACK_SIZE) {
		n = min_t(unsigned int, MAX_STACK_SIZE - copied,
			  PAGE_SIZE - offset_in_page(addr + copied));
		if (copy_from_kernel_nofault(to + copied, (void *)addr + copied, n))
			break;
		copied += n;
	}
	if (!copied)
		return 0;
	header[0] = addr;
	header[1] = copied;
	file->size += 2 * sizeof(u64) + copied;
	return copied < MAX_STACK_SIZE ? *(u64 *)(to + copied - sizeof(u64)) : 0;
}

static bool is_kernel_stack(u64 addr)
{
	return IS_ALIGNED(addr, sizeof(u64)) && addr >= PAGE_OFFSET;
}

static bool is_put(const u64 *stacks, u64 nr, u64 addr)
{
	for (; nr; nr--, stacks += 2 + stacks[1] / sizeof(u64))
		if (addr - stacks[0] < stacks[1])
			return true;
	return false;
}

static void put_stacks(struct debugfs_blob_wrapper *file, u64 addr)
{
	u64 *nr = file->data + file->size;
	size_t before;

	put(file, 0);
	while (*nr < MAX_STACKS && is_kernel_stack(addr) && !is_put(nr + 1, *nr, addr)) {
		before = file->size;
		addr = put_stack(file, addr);
		if (file->size == before)
			break;
		(*nr)++;
	}
}

static void sample(struct perf_event *event, struct perf_sample_data *data,
		   struct pt_regs *regs)
{
	u64 time = ktime_get_mono_fast_ns();
	struct perf_event_header *header;

	if (!sampling || user_mode(regs) || dumps.size + MAX_DUMP_RECORD > size ||
	    chains.size + MAX_CHAIN_RECORD > size)
		return;

	header = put_sample_header(&chains, regs, time);
	put_chain(&chains, unwind(regs));
	end_sample(&chains, header);

	header = put_sample_header(&dumps, regs, time);
	put_chain(&dumps, 2);
	put_regs(&dumps, regs);
	put_stacks(&dumps, regs->sp);
	end_sample(&dumps, header);
}

static void unwind_samples_exit(void)
{
	if (!IS_ERR_OR_NULL(event))
		perf_event_release_kernel(event);
	debugfs_remove(dir);
	vfree(dumps.data);
	vfree(chains.data);
}

static int __init unwind_samples_init(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE, .config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr), .sample_period = period, .pinned = 1, .exclude_user = 1,
	};

	dumps.data = vzalloc(size);
	chains.data = vzalloc(size);
	if (!dumps.data || !chains.data) {
		unwind_samples_exit();
		return -ENOMEM;
	}
	put_file_header(&dumps, FIELDS | GUEST_STACK);
	put_file_header(&chains, FIELDS);

	dir = debugfs_create_dir("unwind_samples", NULL);
	debugfs_create_blob("dumps", 0400, dir, &dumps);
	debugfs_create_blob("chains", 0400, dir, &chains);

	event = perf_event_create_kernel_counter(&attr, 0, NULL, sample, NULL);
	if (IS_ERR(event)) {
		unwind_samples_exit();
		return PTR_ERR(event);
	}
	return 0;
}

module_init(unwind_samples_init);
module_exit(unwind_samples_exit);
MODULE_DESCRIPTION("Samples with the call chains of the kernel's own unwinder");
MODULE_LICENSE("GPL");
