// SPDX-License-Identifier: GPL-2.0
/*
 * Call chains of guests' user space from the stacks in their samples.
 *
 * The host does not know which process of the guest a sample is of. The user names some
 * processes with --guestmaps. A sample is of such a process if
 *
 *  - its IP is in a file that the process has mapped;
 *  - its stack pointer is in memory that can be a stack of the process;
 *  - the stack can be unwound with the files of the process to the start of the program
 *    or the thread, or for MIN_CALLS return addresses;
 *  - each return address is behind a call;
 *  - no other process with other files passes these tests.
 *
 * All other samples keep their IP alone, and have no names.
 *
 * The chain of a sample of the guest's kernel goes on in the same way where a process entered
 * the kernel, with the registers that the kernel has saved there.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/perf_event.h>
#include <linux/zalloc.h>
#include <subcmd/parse-options.h>

#include "../arch/x86/include/uapi/asm/perf_regs.h"
#include "debug.h"
#include "event.h"
#include "evsel.h"
#include "guest-cfi.h"
#include "guest-dump.h"
#include "guest-names.h"
#include "guest-object.h"
#include "guest-options.h"
#include "guest-process.h"
#include "guest-record.h"
#include "guest-unwind.h"
#include "guest-user.h"
#include "machine.h"
#include "sample.h"
#include "symbol_conf.h"

#define MAX_FRAMES	1024

/* Few words of a stack look like return addresses by accident, and no four in a row. */
#define MIN_CALLS	4

struct guest_maps {
	struct list_head node;
	const char *option;
	unsigned int samples;
};

/* The processes of a machine. Below --guestmount each machine has its own files. */
struct guest_processes {
	struct list_head node;
	char *root;
	struct list_head list;
};

static LIST_HEAD(guest_maps);
static LIST_HEAD(machines_processes);
static const char *guest_root;
static bool guests_sampled;

/* The chain of the sample at hand: that of the kernel before that of user space, two markers */
static struct {
	u64 nr;
	u64 ips[PERF_MAX_STACK_DEPTH + MAX_FRAMES + 2];
} unwound;

static u64 other_ips[MAX_FRAMES];
static struct guest_process *unwound_process;

static int add_maps(const struct option *opt __maybe_unused, const char *option, int unset)
{
	struct guest_maps *maps, *next;

	if (unset) {
		list_for_each_entry_safe(maps, next, &guest_maps, node) {
			list_del(&maps->node);
			free(maps);
		}
		return 0;
	}
	maps = zalloc(sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	maps->option = option;
	list_add_tail(&maps->node, &guest_maps);
	return 0;
}

const struct option guest_user_options[] = {
	OPT_CALLBACK(0, "guestmaps", NULL, "file",
		     "/proc/PID/maps of a process of the guest, to unwind it", add_maps),
	OPT_STRING(0, "guestroot", &guest_root, "directory",
		   "where the files are that --guestmaps names"),
	OPT_PARENT(guest_unwind_options)
};

bool guest_user__given(void)
{
	return !list_empty(&guest_maps) || guest_root;
}

static int read_process(struct guest_processes *processes, struct guest_maps *maps,
			bool is_mounted)
{
	char path[PATH_MAX], msg[PATH_MAX + 128];
	struct guest_process *process;

	snprintf(path, sizeof(path), "%s%s%s", is_mounted ? processes->root : "",
		 is_mounted && *maps->option != '/' ? "/" : "", maps->option);
	process = guest_process__new(maps->option, path, processes->root, msg, sizeof(msg));
	if (!process) {
		pr_err("--guestmaps: %s %s\n", path, msg);
		return -EINVAL;
	}
	list_add_tail(&process->node, &processes->list);
	return 0;
}

/* @root: the directory of the guest's files. NULL without memory. */
static struct guest_processes *new_processes(const char *root)
{
	struct guest_processes *processes = zalloc(sizeof(*processes));

	if (!processes)
		return NULL;
	processes->root = strdup(root);
	if (!processes->root) {
		free(processes);
		return NULL;
	}
	INIT_LIST_HEAD(&processes->list);
	list_add_tail(&processes->node, &machines_processes);
	return processes;
}

static int read_default_processes(void)
{
	/* The paths in the maps begin with a slash. */
	struct guest_processes *processes = new_processes(strcmp(guest_root, "/") ? guest_root :
										    "");
	struct guest_maps *maps;
	int err = processes ? 0 : -ENOMEM;

	list_for_each_entry(maps, &guest_maps, node)
		err = err ?: read_process(processes, maps, /*is_mounted=*/false);
	return err;
}

/* Check the options. Read the files that they name, if they were not read before. */
int guest_user__check(void)
{
	if (!guest_user__given())
		return 0;
	if (symbol_conf.guestmount) {
		if (!guest_root)
			return 0;
		pr_err("--guestroot: --guestmount has the files of each VM, leave --guestroot out\n");
		return -EINVAL;
	}
	if (list_empty(&guest_maps)) {
		pr_err("--guestroot: there is no --guestmaps whose files are to be looked for\n");
		return -EINVAL;
	}
	if (!guest_root) {
		pr_err("--guestmaps: --guestroot=DIR is needed, a directory with the guest's files (/ if this machine has the same)\n");
		return -EINVAL;
	}
	return list_empty(&machines_processes) ? read_default_processes() : 0;
}

static struct guest_processes *read_mounted_processes(const char *root)
{
	struct guest_processes *processes = new_processes(root);
	struct guest_maps *maps;

	if (processes)
		list_for_each_entry(maps, &guest_maps, node)
			read_process(processes, maps, /*is_mounted=*/true);
	return processes;
}

/* NULL if no process of the VM is known */
static struct guest_processes *find_processes(struct machine *machine)
{
	struct guest_processes *processes;

	if (!symbol_conf.guestmount)
		return list_first_entry_or_null(&machines_processes, struct guest_processes,
						node);
	if (machine__is_default_guest(machine) || !machine->root_dir || !*machine->root_dir)
		return NULL;
	list_for_each_entry(processes, &machines_processes, node)
		if (!strcmp(processes->root, machine->root_dir))
			return processes;
	return read_mounted_processes(machine->root_dir);
}

/* Registers in the order of DWARF */
static const u8 regs64[] = {
	PERF_REG_X86_AX, PERF_REG_X86_DX, PERF_REG_X86_CX, PERF_REG_X86_BX,
	PERF_REG_X86_SI, PERF_REG_X86_DI, PERF_REG_X86_BP, PERF_REG_X86_SP,
	PERF_REG_X86_R8, PERF_REG_X86_R9, PERF_REG_X86_R10, PERF_REG_X86_R11,
	PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14, PERF_REG_X86_R15,
	PERF_REG_X86_IP,
};

static const u8 regs32[] = {
	PERF_REG_X86_AX, PERF_REG_X86_CX, PERF_REG_X86_DX, PERF_REG_X86_BX,
	PERF_REG_X86_SP, PERF_REG_X86_BP, PERF_REG_X86_SI, PERF_REG_X86_DI,
	PERF_REG_X86_IP,
};

/* The offsets of the registers in the pt_regs of a 64-bit kernel */
static const u8 pt_offsets[] = {
	[PERF_REG_X86_R15] = 0, [PERF_REG_X86_R14] = 8, [PERF_REG_X86_R13] = 16,
	[PERF_REG_X86_R12] = 24, [PERF_REG_X86_BP] = 32, [PERF_REG_X86_BX] = 40,
	[PERF_REG_X86_R11] = 48, [PERF_REG_X86_R10] = 56, [PERF_REG_X86_R9] = 64,
	[PERF_REG_X86_R8] = 72, [PERF_REG_X86_AX] = 80, [PERF_REG_X86_CX] = 88,
	[PERF_REG_X86_DX] = 96, [PERF_REG_X86_SI] = 104, [PERF_REG_X86_DI] = 112,
	[PERF_REG_X86_IP] = 128, [PERF_REG_X86_CS] = 136, [PERF_REG_X86_SP] = 152,
};

/* Linux's selector of 64-bit code of user space */
#define USER_CS		0x33

/* @pt_regs: where the kernel has saved registers of user space; 0 for those of the sample */
static bool get_reg(const struct guest_dump *dump, u64 pt_regs, int reg, u64 *val)
{
	return pt_regs ? guest_dump__word(dump, pt_regs + pt_offsets[reg], val) :
			 guest_dump__reg(dump, reg, val);
}

static bool is_64_bit_code(const struct guest_dump *dump, u64 pt_regs)
{
	u64 cs;

	if (!pt_regs)
		return dump->abi == PERF_SAMPLE_REGS_ABI_64;
	return get_reg(dump, pt_regs, PERF_REG_X86_CS, &cs) && cs == USER_CS;
}

static bool get_regs(const struct guest_dump *dump, u64 pt_regs, struct guest_regs *regs)
{
	const bool is_64_bit = is_64_bit_code(dump, pt_regs);
	const u8 *order = is_64_bit ? regs64 : regs32;
	const size_t nr = is_64_bit ? ARRAY_SIZE(regs64) : ARRAY_SIZE(regs32);

	regs->is_64_bit = is_64_bit;
	for (size_t i = 0; i < nr; i++) {
		if (!get_reg(dump, pt_regs, order[i], &regs->dwarf[i]))
			return false;
		if (!is_64_bit)
			regs->dwarf[i] = (u32)regs->dwarf[i];
		if (order[i] == PERF_REG_X86_IP)
			regs->ip = regs->dwarf[i];
		if (order[i] == PERF_REG_X86_SP)
			regs->sp = regs->dwarf[i];
	}
	return true;
}

static bool is_proven(enum guest_cfi_end end, const struct guest_chain *chain)
{
	switch (end) {
	case GUEST_CFI_ROOT:
		return chain->calls;
	case GUEST_CFI_STOP:
		return chain->calls >= MIN_CALLS;
	case GUEST_CFI_BAD:
	default:
		return false;
	}
}

static bool unwind(struct guest_process *process, const struct guest_regs *regs,
		   const struct guest_dump *dump, struct guest_chain *chain)
{
	enum guest_cfi_end end;

	if (!guest_process__may_be_at(process, regs->ip, regs->sp, regs->is_64_bit))
		return false;
	end = guest_cfi__unwind(process->cfi, regs, dump, chain);
	pr_debug4("guest: %s: %u frames, %u calls, end %d\n", process->path, chain->nr,
		  chain->calls, end);
	return is_proven(end, chain);
}

static bool is_same_code(const struct guest_process *process,
			 const struct guest_process *other, u64 addr)
{
	const struct guest_object *a = guest_process__mapping(process, addr)->object;
	const struct guest_object *b = guest_process__mapping(other, addr)->object;

	return a == b || (a && b && a->bias == b->bias && !strcmp(a->name, b->name));
}

/* Do the chains in two processes have the same names? */
static bool is_same_chain(const struct guest_process *process, const struct guest_chain *chain,
			  const struct guest_process *other,
			  const struct guest_chain *other_chain)
{
	if (chain->nr != other_chain->nr ||
	    memcmp(chain->ips, other_chain->ips, chain->nr * sizeof(*chain->ips)))
		return false;
	for (unsigned int i = 0; i < chain->nr; i++)
		if (!is_same_code(process, other, chain->ips[i]))
			return false;
	return true;
}

/* The process of the sample, and its chain; NULL if no process fits, or more than one */
static struct guest_process *find_process(struct guest_processes *processes,
					  const struct guest_regs *regs,
					  const struct guest_dump *dump,
					  struct guest_chain *chain)
{
	struct guest_process *process, *found = NULL;

	list_for_each_entry(process, &processes->list, node) {
		struct guest_chain other = { .ips = other_ips, .max = MAX_FRAMES };

		if (!found) {
			if (unwind(process, regs, dump, chain))
				found = process;
		} else if (unwind(process, regs, dump, &other) &&
			   !is_same_chain(found, chain, process, &other)) {
			return NULL;
		}
	}
	return found;
}

static void count_sample(const struct guest_process *process)
{
	struct guest_maps *maps;

	list_for_each_entry(maps, &guest_maps, node)
		if (maps->option == process->maps)
			maps->samples++;
}

static bool is_of_interest(struct machine *machine, struct evsel *evsel,
			   const struct perf_sample *sample)
{
	return !list_empty(&guest_maps) && !guest_unwind__is_disabled() && machine &&
	       evsel__dumps_guests(evsel) && sample->guest_dump.abi && !sample->machine_pid;
}

/* Start the chain with what is before the IP of user space. */
static bool start_chain(const struct perf_sample *sample, u64 *pt_regs)
{
	*pt_regs = 0;
	if (sample->cpumode == PERF_RECORD_MISC_GUEST_USER) {
		unwound.ips[0] = PERF_CONTEXT_GUEST_USER;
		unwound.nr = 1;
		return true;
	}
	if (sample->cpumode != PERF_RECORD_MISC_GUEST_KERNEL ||
	    !guest_unwind__user_regs(sample, pt_regs))
		return false;
	unwound.nr = sample->callchain->nr - 1;
	memcpy(unwound.ips, sample->callchain->ips, unwound.nr * sizeof(*unwound.ips));
	return true;
}

void guest_user__sample(struct machine *machine, struct evsel *evsel,
			struct perf_sample *sample)
{
	struct guest_chain chain = { .max = MAX_FRAMES };
	struct guest_processes *processes;
	struct guest_regs regs;
	u64 pt_regs;

	unwound_process = NULL;
	if (!is_of_interest(machine, evsel, sample) || !start_chain(sample, &pt_regs))
		return;

	guests_sampled = true;
	processes = find_processes(machine);
	if (!processes || !get_regs(&sample->guest_dump, pt_regs, &regs))
		return;
	chain.ips = unwound.ips + unwound.nr;
	unwound_process = find_process(processes, &regs, &sample->guest_dump, &chain);
	if (!unwound_process)
		return;
	count_sample(unwound_process);
	unwound.nr += chain.nr;
	sample->callchain = (struct ip_callchain *)&unwound;
}

static int map_process(struct machine *machine __maybe_unused, struct thread *thread,
		       u64 process)
{
	return guest_process__map((struct guest_process *)(uintptr_t)process, thread);
}

/* A thread with the maps of the process of the sample. NULL if the process is not known. */
struct thread *guest_user__findnew_thread(struct machine *machine, struct perf_sample *sample)
{
	if (!unwound_process || sample->callchain != (struct ip_callchain *)&unwound)
		return NULL;
	return guest_names__findnew(machine, sample, map_process, (uintptr_t)unwound_process);
}

/* To be called when all samples have been looked at. */
void guest_user__finish(void)
{
	struct guest_maps *maps;

	if (!guests_sampled)
		return;
	list_for_each_entry(maps, &guest_maps, node) {
		if (!maps->samples)
			pr_warning("--guestmaps=%s: no sample is known to be of this process (see perf-kvm(1)).\n",
				   maps->option);
		maps->samples = 0;
	}
	guests_sampled = false;
}
