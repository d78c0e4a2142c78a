// SPDX-License-Identifier: GPL-2.0
/*
 * Find the programs that name the samples of a guest.
 *
 * The host does not know which program the guest runs, and programs are at the same
 * addresses. The call chain of a sample tells programs apart: in the right file, a call is
 * before each return address, and a direct call leads to the function of the frame below. A
 * file names a sample if
 *
 *  - for at least one return address, a direct call leads to the function of the frame
 *    below, by the symbols of the file;
 *  - for no return address, a direct call leads to another function, if the frame below is
 *    in the code of the file;
 *  - a call is before each return address that is in the code of the file;
 *  - no other file that passes these tests overlaps the file.
 *
 * A call by a pointer or through a PLT proves nothing: the file does not say where the call
 * leads.
 *
 * The chain lacks the caller of the sampled function if that function has not set up its
 * frame yet, never does, or is about to return. The next call in the chain then leads to
 * the missing caller. Such a call passes if the missing caller has a direct call of the
 * sampled function. A call of the sampled function itself proves nothing in this case.
 *
 * A chain with a tail call has no names: tail calls are not looked for.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/zalloc.h>

#include "debug.h"
#include "event.h"
#include "guest-binary.h"
#include "guest-code.h"
#include "guest-names.h"
#include "machine.h"
#include "map.h"
#include "maps.h"
#include "sample.h"
#include "symbol.h"
#include "thread.h"

/* A thread of a guest, for those of its samples that the same programs name. */
struct named_thread {
	struct list_head node;
	struct machine *machine;
	guest_names__map_t map;
	u64 programs;
	struct thread *thread;
};

static LIST_HEAD(named_threads);

/* A bit for each binary */
static u64 binaries_used;
static u64 binaries_ambiguous;
static bool guests_sampled;

static bool is_x86(struct guest_image *image)
{
	return image->machine == EM_X86_64 || image->machine == EM_386;
}

enum call_kind { NO_CODE_THERE, NO_CALL, INDIRECT_CALL, DIRECT_CALL, SIGNAL_RETURN };

/* mov $__NR_rt_sigreturn, %rax; syscall, where a signal handler returns to */
static const u8 sigreturn_code[] = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 };

/* The kind of call in the file before the return address @ret */
static enum call_kind call_before(struct guest_image *image, u64 ret, u64 *target)
{
	struct guest_segment *segment = guest_image__segment(image, ret);
	const u8 *code;
	u64 size;

	if (!segment)
		return NO_CODE_THERE;

	size = ret - segment->start;
	code = segment->code + size;
	if (is_direct_call_before(code, size)) {
		*target = call_target(code, ret);
		return DIRECT_CALL;
	}
	if (is_indirect_call_before(code, size))
		return INDIRECT_CALL;
	if (segment->len - size >= sizeof(sigreturn_code) &&
	    !memcmp(code, sigreturn_code, sizeof(sigreturn_code)))
		return SIGNAL_RETURN;
	return NO_CALL;
}

/* The code of @sym, the function at @addr; NULL if the code is not in one segment */
static const u8 *function_code(struct guest_image *image, struct symbol *sym, u64 addr,
			       u64 *start, u64 *end)
{
	struct guest_segment *segment = guest_image__segment(image, addr);

	*start = map__unmap_ip(segment->map, sym->start);
	*end = map__unmap_ip(segment->map, sym->end);
	if (*start < segment->start || *end < *start || *end > segment->start + segment->len)
		return NULL;
	return segment->code + (*start - segment->start);
}

/* Is there a direct call of @target in the function @sym? */
static bool has_call(struct guest_image *image, struct symbol *sym, u64 addr, u64 target)
{
	u64 start, end;
	const u8 *code = function_code(image, sym, addr, &start, &end);

	for (addr = start; code && addr + CALL_LEN <= end; addr++, code++) {
		if (*code == CALL_OPCODE &&
		    call_target(code + CALL_LEN, addr + CALL_LEN) == target)
			return true;
	}
	return false;
}

/* push %rbp; mov %rsp, %rbp; and in 32 bits */
static const u8 frame_code[] = { 0x55, 0x48, 0x89, 0xe5 };
static const u8 frame_code32[] = { 0x55, 0x89, 0xe5 };

#define RET_OPCODE	0xc3

/* Can the frame pointer at @ip in the function @sym still be the caller's? */
static bool may_lack_frame(struct guest_image *image, struct symbol *sym, u64 ip)
{
	bool is_32 = image->machine == EM_386;
	size_t len = is_32 ? sizeof(frame_code32) : sizeof(frame_code);
	const u8 *frame = is_32 ? frame_code32 : frame_code;
	u64 start, end;
	const u8 *code = function_code(image, sym, ip, &start, &end);

	if (!code)
		return false;
	if (code[ip - start] == RET_OPCODE)
		return true;
	for (; start + len <= ip; start++, code++) {
		if (!memcmp(code, frame, len))
			return false;
	}
	return true;
}

static bool is_plt(struct symbol *sym)
{
	return sym->namelen > 4 && !strcmp(sym->name + sym->namelen - 4, "@plt");
}

/* The frame below the current one */
struct frame {
	u64 ip;
	bool known;
	bool own;		/* ip is the address of the sample itself, no return address */
};

enum proof { REFUTED, UNKNOWN, PROVEN };

/* Does a direct call of @target lead to the frame below? */
static enum proof prove_call(struct guest_image *image, u64 target, struct frame *below)
{
	/* A call that does not return may be the last instruction of a function. */
	u64 ip = below->own ? below->ip : below->ip - 1;
	struct guest_segment *segment = guest_image__segment(image, ip);
	struct symbol *called, *sym;
	bool lacks_caller;
	u64 start;

	if (!below->known || !segment)
		return UNKNOWN;
	called = guest_image__symbol(image, target);
	sym = guest_image__symbol(image, ip);
	if (!called || !sym)
		return REFUTED;

	start = map__unmap_ip(segment->map, sym->start);
	lacks_caller = below->own && may_lack_frame(image, sym, ip);
	if (called == sym && target != start)
		return REFUTED;
	if (called == sym)
		return lacks_caller ? UNKNOWN : PROVEN;
	if (is_plt(called))
		return UNKNOWN;
	if (lacks_caller && has_call(image, called, target, start))
		return PROVEN;
	return REFUTED;
}

/*
 * Compare the user space part of @chain with the code of @image. Return true if all of this
 * part can be in the code, and at least one call proves it.
 */
static bool image_fits(struct guest_image *image, struct ip_callchain *chain)
{
	bool in_user = false, fits = false;
	struct frame below = {};

	for (u64 i = 0; i < chain->nr; i++) {
		enum call_kind kind = NO_CODE_THERE;
		enum proof proof = UNKNOWN;
		u64 ip = chain->ips[i], target;

		if (ip >= PERF_CONTEXT_MAX) {
			in_user = ip == PERF_CONTEXT_GUEST_USER;
			below = (struct frame){};
			continue;
		}
		if (!in_user)
			continue;

		if (below.ip) {
			kind = call_before(image, ip, &target);
			if (kind == DIRECT_CALL)
				proof = prove_call(image, target, &below);
		}
		if (kind == NO_CALL || proof == REFUTED)
			return false;
		if (proof == PROVEN)
			fits = true;
		/* The chain lacks the function that a signal has interrupted. */
		below = (struct frame){
			.ip = ip, .own = !below.ip, .known = kind != SIGNAL_RETURN,
		};
	}
	return fits;
}

static struct guest_image *usable_image(struct guest_binary *binary, struct machine *machine)
{
	struct guest_image *image = guest_binary__image(binary, machine->root_dir);

	return image && !image->err ? image : NULL;
}

/* The binaries that the chain of @sample proves, a bit for each */
static u64 proven_binaries(struct machine *machine, struct perf_sample *sample)
{
	struct guest_binary *binary;
	struct guest_image *image;
	u64 proven = 0, bit = 1;

	if (!sample->callchain)
		return 0;
	list_for_each_entry(binary, &guest_binaries, node) {
		image = usable_image(binary, machine);
		if (image && is_x86(image) && image_fits(image, sample->callchain))
			proven |= bit;
		bit <<= 1;
	}
	return proven;
}

/* Does another binary that is proven overlap @image? */
static bool is_other_proven(struct machine *machine, u64 proven, struct guest_binary *binary,
			    struct guest_image *image)
{
	struct guest_binary *other;
	u64 bit = 1;

	list_for_each_entry(other, &guest_binaries, node) {
		if (other != binary && proven & bit &&
		    guest_image__overlaps(image, usable_image(other, machine)))
			return true;
		bit <<= 1;
	}
	return false;
}

/*
 * The binaries that name @sample, a bit for each. A proof by the chain comes before the
 * user's ",all".
 */
static u64 naming_binaries(struct machine *machine, struct perf_sample *sample)
{
	u64 proven = proven_binaries(machine, sample), named = 0, bit = 1;
	struct guest_binary *binary;
	struct guest_image *image;

	list_for_each_entry(binary, &guest_binaries, node) {
		image = usable_image(binary, machine);
		if (image && (binary->all || proven & bit)) {
			if (!is_other_proven(machine, proven, binary, image))
				named |= bit;
			else if (proven & bit)
				binaries_ambiguous |= bit;
		}
		bit <<= 1;
	}
	return named;
}

static struct thread *new_thread(struct machine *machine, struct perf_sample *sample,
				 guest_names__map_t map, u64 programs)
{
	struct thread *thread = thread__new(sample->pid, sample->tid);

	if (!thread)
		return NULL;
	thread__set_maps(thread, maps__new(machine));
	if (thread__maps(thread) && !map(machine, thread, programs))
		return thread;
	thread__put(thread);
	return NULL;
}

/*
 * Return a thread with the PID and TID of @sample, in whose maps @map has put @programs. The
 * thread is none of the machine's threads: each of those has one map for all that the guest
 * runs. A later sample with the same arguments gets the same thread.
 */
struct thread *guest_names__findnew(struct machine *machine, struct perf_sample *sample,
				    guest_names__map_t map, u64 programs)
{
	struct named_thread *t;

	list_for_each_entry(t, &named_threads, node) {
		if (t->machine == machine && t->map == map && t->programs == programs &&
		    thread__tid(t->thread) == (pid_t)sample->tid &&
		    thread__pid(t->thread) == (pid_t)sample->pid)
			return thread__get(t->thread);
	}
	t = zalloc(sizeof(*t));
	if (!t)
		return NULL;
	t->machine = machine;
	t->map = map;
	t->programs = programs;
	t->thread = new_thread(machine, sample, map, programs);
	if (!t->thread) {
		free(t);
		return NULL;
	}
	list_add(&t->node, &named_threads);
	return thread__get(t->thread);
}

/* @binaries: a bit for each */
static int map_binaries(struct machine *machine, struct thread *thread, u64 binaries)
{
	struct guest_binary *binary;
	u64 bit = 1;
	int err;

	list_for_each_entry(binary, &guest_binaries, node) {
		err = binaries & bit ?
			guest_image__map(usable_image(binary, machine), thread) : 0;
		if (err)
			return err;
		bit <<= 1;
	}
	return 0;
}

/*
 * A thread with the maps of the binaries that name the sample. NULL for the host's samples,
 * where no binary is given, and where the maps of the guest's programs are known ("perf
 * inject --guest-data").
 */
struct thread *guest_names__findnew_thread(struct machine *machine, struct perf_sample *sample)
{
	u64 binaries;

	if (machine__is_host(machine) || !guest_binary__given() || sample->machine_pid)
		return NULL;
	guests_sampled = true;
	binaries = naming_binaries(machine, sample);
	binaries_used |= binaries;
	return guest_names__findnew(machine, sample, map_binaries, binaries);
}

/* To be called before the samples of a session are looked at. */
void guest_names__start(void)
{
	binaries_used = 0;
	binaries_ambiguous = 0;
	guests_sampled = false;
}

/* To be called when all samples have been looked at. */
void guest_names__finish(void)
{
	struct guest_binary *binary;
	const char *why;
	u64 bit = 1;

	if (!guests_sampled)
		return;
	list_for_each_entry(binary, &guest_binaries, node) {
		why = binaries_ambiguous & bit ?
			"the call chains fit another --guestbinary as well" :
			"no call chain shows that the guest runs it (see perf-kvm(1))";
		if (!(binaries_used & bit))
			ui__warning("--guestbinary=%s names no sample: %s.\n", binary->spec, why);
		bit <<= 1;
	}
}

/* To be called before the machines of a session are deleted. */
void guest_names__forget(struct machines *machines)
{
	struct named_thread *t, *next;

	list_for_each_entry_safe(t, next, &named_threads, node) {
		if (t->machine->machines != machines)
			continue;
		list_del(&t->node);
		thread__put(t->thread);
		free(t);
	}
}
