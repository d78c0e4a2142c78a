// SPDX-License-Identifier: GPL-2.0
/*
 * Call chains of guests' kernels from the stacks in their samples, with the tables in the
 * vmlinuz. An unwound chain replaces the chain of the sample, which is the IP alone.
 * Commands that show or convert chains take an unwound chain for a recorded one.
 */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/list.h>
#include <linux/perf_event.h>
#include <linux/zalloc.h>
#include <subcmd/parse-options.h>

#include "debug.h"
#include "event.h"
#include "evsel.h"
#include "guest-dump.h"
#include "guest-kernel.h"
#include "guest-options.h"
#include "guest-record.h"
#include "guest-unwind.h"
#include "machine.h"
#include "sample.h"
#include "symbol_conf.h"
#include "util.h"

/* The number of samples that tells whether the symbols are those of the guest */
#define MIN_SAMPLES	64

static const char *guest_vmlinuz;
static const char *guest_moddir;

const struct option guest_unwind_options[] = {
	OPT_STRING(0, "guestvmlinuz", &guest_vmlinuz, "file",
		   "vmlinuz or vmlinux of the guest, to unwind its kernel"),
	OPT_STRING(0, "guestmoddir", &guest_moddir, "directory",
		   "directory of the guest's modules, to unwind them"),
	OPT_PARENT(guest_options)
};

/* What is known of a VM's kernel */
struct guest_vm {
	struct list_head node;
	pid_t pid;
	struct guest_kernel *kernel;
	const char *symbols;	/* the file with its symbols */
	unsigned int samples;
	unsigned int in_text;
	unsigned int chains;
	unsigned int rooted;	/* chains that end where calls begin */
	bool is_stale;
	pid_t refused;		/* the first VM that was found to have another kernel */
};

static LIST_HEAD(vms);
static bool is_disabled;
static bool has_dumps;
static struct guest_vm default_vm;

/* The chain of the sample at hand: with two markers, and the IP of user space. */
static struct {
	u64 nr;
	u64 ips[PERF_MAX_STACK_DEPTH + 3];
} unwound;

static u64 unwound_user_regs;

bool guest_unwind__given(void)
{
	return guest_vmlinuz || guest_moddir;
}

static int check_moddir(void)
{
	if (!guest_moddir)
		return 0;
	if (!guest_vmlinuz) {
		pr_err("--guestmoddir: modules cannot be unwound without --guestvmlinuz\n");
		return -EINVAL;
	}
	if (access(guest_moddir, R_OK | X_OK)) {
		pr_err("--guestmoddir: %s cannot be read: %s\n", guest_moddir, strerror(errno));
		return -EINVAL;
	}
	return 0;
}

/* Check the options. Read the files that they name, if they were not read before. */
int guest_unwind__check(void)
{
	const char *kallsyms = symbol_conf.default_guest_kallsyms;
	char msg[PATH_MAX + 128];

	if (check_moddir())
		return -EINVAL;
	if (!guest_vmlinuz || default_vm.kernel)
		return 0;
	if (!kallsyms) {
		pr_err("--guestvmlinuz: --guestkallsyms is needed, it tells where the kernel is\n");
		return -EINVAL;
	}

	default_vm.symbols = kallsyms;
	default_vm.kernel = guest_kernel__new(guest_vmlinuz, kallsyms, guest_moddir, msg,
					      sizeof(msg));
	if (default_vm.kernel)
		return 0;
	pr_err("--guestvmlinuz: %s %s\n", guest_vmlinuz, msg);
	return -EINVAL;
}

/* For commands that do not show chains. */
void guest_unwind__disable(void)
{
	is_disabled = true;
}

bool guest_unwind__is_disabled(void)
{
	return is_disabled;
}

static void forget_samples(struct guest_vm *vm)
{
	vm->samples = 0;
	vm->in_text = 0;
	vm->chains = 0;
	vm->rooted = 0;
	vm->is_stale = false;
}

/* The release in the copy of /proc/sys/kernel/osrelease below @root */
static bool read_release(const char *root, char *release, size_t size)
{
	char path[PATH_MAX];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/proc/sys/kernel/osrelease", root);
	if (guest_file__open(path, &fd))
		return false;
	len = read(fd, release, size - 1);
	close(fd);
	if (len <= 0)
		return false;
	release[len] = 0;
	release[strcspn(release, "\n")] = 0;
	return *release && !strchr(release, '/');
}

/* Below --guestmount, a VM's kernel and modules have the paths that distributions use. */
static struct guest_kernel *read_mounted_kernel(const char *root)
{
	char vmlinuz[PATH_MAX], moddir[PATH_MAX], kallsyms[PATH_MAX], release[80];
	char msg[PATH_MAX + 128];
	struct guest_kernel *kernel;

	if (!read_release(root, release, sizeof(release)))
		return NULL;
	snprintf(vmlinuz, sizeof(vmlinuz), "%s/boot/vmlinuz-%s", root, release);
	snprintf(moddir, sizeof(moddir), "%s/lib/modules/%s", root, release);
	snprintf(kallsyms, sizeof(kallsyms), "%s/proc/kallsyms", root);
	if (access(vmlinuz, R_OK))
		return NULL;
	kernel = guest_kernel__new(vmlinuz, kallsyms, moddir, msg, sizeof(msg));
	if (!kernel)
		pr_warning("--guestmount: %s %s\n", vmlinuz, msg);
	return kernel;
}

static struct guest_vm *find_mounted_vm(struct machine *machine)
{
	struct guest_vm *vm;

	list_for_each_entry(vm, &vms, node)
		if (vm->pid == machine->pid)
			return vm;

	vm = zalloc(sizeof(*vm));
	if (!vm)
		return NULL;
	vm->pid = machine->pid;
	vm->symbols = machine->root_dir;
	vm->kernel = read_mounted_kernel(machine->root_dir);
	list_add_tail(&vm->node, &vms);
	return vm;
}

/*
 * The vmlinuz is the kernel of one VM, and the user does not say which. Take the first VM
 * that was sampled; if that VM has another kernel, take the next VM.
 */
static struct guest_vm *find_default_vm(pid_t pid)
{
	static bool warned;

	if (!default_vm.kernel)
		return NULL;
	if (default_vm.is_stale && default_vm.pid != pid && !default_vm.refused) {
		default_vm.refused = default_vm.pid;
		forget_samples(&default_vm);
	}
	if (!default_vm.samples || default_vm.pid == pid) {
		default_vm.pid = pid;
		return &default_vm;
	}
	if (!warned)
		pr_warning("--guestvmlinuz: there are samples of the VMs of PID %d and of PID %d. Only the kernel of the former is unwound. Have --guestmount for several VMs.\n",
			   default_vm.pid, pid);
	warned = true;
	return NULL;
}

static struct guest_vm *find_vm(struct machine *machine, struct perf_sample *sample)
{
	if (machine__is_default_guest(machine))
		return find_default_vm(sample->pid);
	if (machine__is_host(machine) || !machine->root_dir || !*machine->root_dir)
		return NULL;
	return find_mounted_vm(machine);
}

/* If few samples of a guest's kernel are in the text, the guest runs another kernel. */
static void check_text(struct guest_vm *vm)
{
	if (vm->is_stale || 2 * vm->in_text >= vm->samples)
		return;
	vm->is_stale = true;
	pr_warning("Only %u of %u samples of the VM of PID %d are in the code of its kernel: %s is that of another VM, or the guest has booted again. Call chains of the kernel are left out.\n",
		   vm->in_text, vm->samples, vm->pid, vm->symbols);
}

/* Symbols of another boot may pass check_text(), but chains unwound with them lead nowhere. */
static void check_roots(const struct guest_vm *vm)
{
	if (vm->is_stale || vm->chains < MIN_SAMPLES || 2 * vm->rooted >= vm->chains)
		return;
	pr_warning("Only %u of %u call chains of the kernel of the VM of PID %d end where calls begin: do not trust them if %s may be of an earlier boot of the guest. Otherwise, files of modules (--guestmoddir) or larger stacks (--call-graph=dwarf,<size>) may help.\n",
		   vm->rooted, vm->chains, vm->pid, vm->symbols);
}

static bool count_sample(struct guest_vm *vm, u64 ip)
{
	vm->samples++;
	if (guest_kernel__has_text(vm->kernel, ip))
		vm->in_text++;
	if (vm->samples % MIN_SAMPLES == 0)
		check_text(vm);
	return !vm->is_stale;
}

static void unwind_kernel(struct guest_vm *vm, struct perf_sample *sample)
{
	struct orc_chain chain = { .ips = unwound.ips + 1, .max = PERF_MAX_STACK_DEPTH };
	enum orc_result result;

	result = orc_unwind(&guest_kernel_ops, vm->kernel, &sample->guest_dump, &chain);
	pr_debug4("guest: %u frames, result %d\n", chain.nr, result);
	vm->chains++;
	if (result == ORC_RESULT_ROOT || result == ORC_RESULT_USER)
		vm->rooted++;
	/* the sample has the IP already */
	if (chain.nr < 2 && result != ORC_RESULT_USER)
		return;

	unwound.ips[0] = PERF_CONTEXT_GUEST_KERNEL;
	unwound.nr = 1 + chain.nr;
	if (result == ORC_RESULT_USER) {
		unwound.ips[unwound.nr++] = PERF_CONTEXT_GUEST_USER;
		unwound.ips[unwound.nr++] = chain.user_ip;
		unwound_user_regs = chain.user_regs;
	}
	sample->callchain = (struct ip_callchain *)&unwound;
}

void guest_unwind__sample(struct machine *machine, struct evsel *evsel,
			  struct perf_sample *sample)
{
	struct guest_vm *vm;

	if (is_disabled || !machine || !evsel__dumps_guests(evsel) || !sample->guest_dump.abi ||
	    sample->cpumode != PERF_RECORD_MISC_GUEST_KERNEL)
		return;

	has_dumps = true;
	unwound_user_regs = 0;
	vm = find_vm(machine, sample);
	if (vm && vm->kernel && count_sample(vm, sample->ip))
		unwind_kernel(vm, sample);
}

/*
 * Has the sample just been unwound to where user space entered the kernel? Its chain ends
 * with the IP of user space. At @addr in the stacks are the pt_regs with all registers of
 * user space.
 */
bool guest_unwind__user_regs(const struct perf_sample *sample, u64 *addr)
{
	*addr = unwound_user_regs;
	return *addr && sample->callchain == (struct ip_callchain *)&unwound;
}

static bool has_kernel(void)
{
	struct guest_vm *vm;

	list_for_each_entry(vm, &vms, node)
		if (vm->kernel)
			return true;
	return default_vm.kernel;
}

static void check_vm(struct guest_vm *vm)
{
	check_text(vm);
	check_roots(vm);
}

/* Tell users who see chains without callers of --guestvmlinuz. */
static void hint_at_vmlinuz(void)
{
	static bool hinted;

	if (hinted || !symbol_conf.use_callchain || dump_trace || has_kernel())
		return;
	pr_warning("The samples have the stacks of the guest's kernel: --guestvmlinuz=FILE would show its call chains.\n");
	hinted = true;
}

/* To be called when all samples have been looked at. */
void guest_unwind__finish(void)
{
	struct guest_vm *vm;

	if (is_disabled || !has_dumps)
		return;
	check_vm(&default_vm);
	list_for_each_entry(vm, &vms, node)
		check_vm(vm);
	hint_at_vmlinuz();
	has_dumps = false;
	/* the next file may be of other VMs */
	forget_samples(&default_vm);
	default_vm.refused = 0;
}
