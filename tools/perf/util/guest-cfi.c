// SPDX-License-Identifier: GPL-2.0
/*
 * Call chains of a guest's processes: the registers and the stack of a sample are unwound
 * with the call frame information (CFI) of the files that the process has mapped.
 *
 * libdw unwinds. In code without CFI, libdw would follow frame pointers, which most
 * programs do not have: the chain ends at such code.
 *
 * The stack may be another process's. On such a stack, a return address soon has no call
 * before it.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <linux/kernel.h>
#include <linux/zalloc.h>

#include "debug.h"
#include "guest-cfi.h"
#include "guest-dump.h"
#include "guest-object.h"
#include "guest-process.h"
#include "symbol.h"

/* Linux maps nothing at lower addresses. */
#define LOWEST_CODE	0x1000

/* libdw finds threads by TID. The thread of the sample is the only one: any TID will do. */
#define ANY_TID		1

struct guest_cfi {
	Dwfl *dwfl;
	const struct guest_process *process;
	/* the sample at hand */
	const struct guest_regs *regs;
	const struct guest_dump *dump;
	struct guest_chain *chain;
	enum guest_cfi_end end;
	u64 last;		/* the address of the frame added last */
	u64 highest;		/* the highest address that libdw has read, or 0 */
	u64 last_highest;	/* @highest when the frame was added last */
};

static int stop(struct guest_cfi *cfi, enum guest_cfi_end end)
{
	cfi->end = end;
	return DWARF_CB_ABORT;
}

/* What the CFI says of the function at an address */
struct function_cfi {
	bool is_root;
	bool is_signal_frame;
};

static bool look_up(Dwarf_CFI *cfi, Dwarf_Addr addr, struct function_cfi *function)
{
	Dwarf_Op ops_mem[3], *ops;
	Dwarf_Frame *frame;
	size_t nr;
	int ra;

	if (dwarf_cfi_addrframe(cfi, addr, &frame))
		return false;
	ra = dwarf_frame_info(frame, NULL, NULL, &function->is_signal_frame);
	function->is_root = ra >= 0 && !dwarf_frame_register(frame, ra, ops_mem, &ops, &nr) &&
			    !nr && ops == ops_mem;
	free(frame);
	return true;
}

static bool find_function(struct guest_cfi *cfi, u64 addr, struct function_cfi *function)
{
	Dwfl_Module *module = dwfl_addrmodule(cfi->dwfl, addr);
	Dwarf_Addr bias;
	Dwarf_CFI *table;

	if (!module)
		return false;
	table = dwfl_module_eh_cfi(module, &bias);
	if (table && look_up(table, addr - bias, function))
		return true;
	table = dwfl_module_dwarf_cfi(module, &bias);
	return table && look_up(table, addr - bias, function);
}

/* Each return address is higher on the stack than the one before. */
static bool check_progress(struct guest_cfi *cfi)
{
	if (cfi->chain->nr && cfi->highest <= cfi->last_highest)
		return false;
	cfi->last_highest = cfi->highest;
	return true;
}

static bool is_in_object(struct guest_cfi *cfi, const struct guest_object *object, u64 addr)
{
	const struct guest_mapping *mapping = guest_process__mapping(cfi->process, addr);

	return mapping && mapping->object == object;
}

/* @is_call: @addr is the last byte of the call before a return address. */
static int add_frame(struct guest_cfi *cfi, u64 addr, bool is_call)
{
	const struct guest_mapping *mapping = guest_process__mapping(cfi->process, addr);
	struct function_cfi function = {};
	bool has_cfi;
	u64 below = 0;

	/* CFI of programs without a C library may not mark the outermost function. */
	if (addr + is_call < LOWEST_CODE)
		return stop(cfi, GUEST_CFI_STOP);
	if (!mapping || !mapping->exec)
		return stop(cfi, GUEST_CFI_BAD);
	if (cfi->chain->nr == cfi->chain->max)
		return stop(cfi, GUEST_CFI_STOP);

	if (cfi->chain->nr && is_in_object(cfi, mapping->object, cfi->last))
		below = cfi->last;
	cfi->last = addr;
	cfi->chain->ips[cfi->chain->nr++] = addr;
	if (!mapping->object || mapping->object->err)
		return stop(cfi, GUEST_CFI_STOP);
	has_cfi = find_function(cfi, addr, &function);
	/* No call is before the start of a thread, or where a signal handler returns to. */
	if (is_call && guest_object__is_behind_call(mapping->object, addr + 1, below))
		cfi->chain->calls++;
	else if (is_call && !function.is_root && !function.is_signal_frame)
		return stop(cfi, GUEST_CFI_BAD);
	if (!has_cfi)
		return stop(cfi, GUEST_CFI_STOP);
	return function.is_root ? stop(cfi, GUEST_CFI_ROOT) : DWARF_CB_OK;
}

static int frame_callback(Dwfl_Frame *state, void *arg)
{
	struct guest_cfi *cfi = arg;
	bool is_exact;
	Dwarf_Addr pc;

	if (!dwfl_frame_pc(state, &pc, NULL))
		return stop(cfi, GUEST_CFI_STOP);
	if (!check_progress(cfi))
		return stop(cfi, GUEST_CFI_BAD);
	/*
	 * The address is exact in a function that a signal has interrupted, and in one that
	 * a signal handler returns to. libdw unwinds the next frame to find out, and needs
	 * more of the stack.
	 */
	if (!cfi->chain->nr)
		is_exact = true;
	else if (!dwfl_frame_pc(state, &pc, &is_exact))
		return stop(cfi, GUEST_CFI_STOP);
	return add_frame(cfi, is_exact ? pc : pc - 1, !is_exact);
}

static pid_t next_thread(Dwfl *dwfl __maybe_unused, void *arg, void **thread_arg)
{
	if (*thread_arg)
		return 0;
	*thread_arg = arg;
	return ANY_TID;
}

static bool read_stack(Dwfl *dwfl __maybe_unused, Dwarf_Addr addr, Dwarf_Word *result,
		       void *arg)
{
	struct guest_cfi *cfi = arg;
	u32 word;

	if (cfi->regs->is_64_bit) {
		if (!guest_dump__word(cfi->dump, addr, result))
			return false;
	} else {
		if (!guest_dump__read(cfi->dump, addr, &word, sizeof(word)))
			return false;
		*result = word;
	}
	cfi->highest = max(cfi->highest, (u64)addr);
	return true;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
	struct guest_cfi *cfi = arg;

	return dwfl_thread_state_registers(thread, 0, cfi->regs->is_64_bit ? 17 : 9,
					   cfi->regs->dwarf);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
	.next_thread		= next_thread,
	.memory_read		= read_stack,
	.set_initial_registers	= set_registers,
};

/* Look for no debug information on this machine, nor on the network. */
static int find_debuginfo(Dwfl_Module *mod __maybe_unused, void **userdata __maybe_unused,
			  const char *modname __maybe_unused, Dwarf_Addr base __maybe_unused,
			  const char *file_name __maybe_unused,
			  const char *debuglink_file __maybe_unused,
			  GElf_Word debuglink_crc __maybe_unused,
			  char **debuginfo_file_name __maybe_unused)
{
	return -1;
}

static const Dwfl_Callbacks dwfl_callbacks = {
	.find_debuginfo = find_debuginfo,
};

void guest_cfi__delete(struct guest_cfi *cfi)
{
	if (cfi) {
		dwfl_end(cfi->dwfl);
		free(cfi);
	}
}

/* NULL if libdw cannot use the files. */
struct guest_cfi *guest_cfi__new(struct guest_process *process)
{
	struct guest_cfi *cfi = zalloc(sizeof(*cfi));
	struct guest_object *object;
	char path[PATH_MAX];

	if (!cfi)
		return NULL;
	cfi->process = process;
	cfi->dwfl = dwfl_begin(&dwfl_callbacks);
	if (!cfi->dwfl)
		goto fail;
	list_for_each_entry(object, &process->objects, node) {
		if (object->err)
			continue;
		symbol__join_symfs(path, object->name);
		if (!dwfl_report_elf(cfi->dwfl, object->name, path, -1, object->bias, true))
			pr_debug("guest: %s: %s\n", path, dwfl_errmsg(-1));
	}
	if (dwfl_report_end(cfi->dwfl, NULL, NULL) ||
	    !dwfl_attach_state(cfi->dwfl, NULL, ANY_TID, &thread_callbacks, cfi))
		goto fail;
	return cfi;

fail:
	pr_debug("guest: %s: %s\n", process->path, dwfl_errmsg(-1));
	guest_cfi__delete(cfi);
	return NULL;
}

enum guest_cfi_end guest_cfi__unwind(struct guest_cfi *cfi, const struct guest_regs *regs,
				     const struct guest_dump *dump, struct guest_chain *chain)
{
	cfi->regs = regs;
	cfi->dump = dump;
	cfi->chain = chain;
	cfi->highest = 0;
	/* without a call of stop(), libdw ends where the stack ends */
	cfi->end = GUEST_CFI_STOP;
	chain->nr = 0;
	chain->calls = 0;
	if (dwfl_getthread_frames(cfi->dwfl, ANY_TID, frame_callback, cfi) < 0)
		pr_debug4("guest: %s: %s\n", cfi->process->path, dwfl_errmsg(-1));
	return cfi->end;
}
