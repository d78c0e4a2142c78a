// SPDX-License-Identifier: GPL-2.0
/*
 * Which samples of a guest does a program name?
 *
 * The host does not know what program the guest runs, and programs are at the same
 * addresses. Call chains tell: each return address in the code of a program is behind a
 * call. A file names a sample if
 *
 *  - the sample's call chain has a return address behind a direct call in the file, and
 *    the call leads to the frame below;
 *  - the file has calls before all return addresses of the chain that are in its code;
 *  - no other file that passes these tests overlaps it.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/unaligned.h>
#include <linux/zalloc.h>

#include "debug.h"
#include "event.h"
#include "guest-binary.h"
#include "guest-names.h"
#include "machine.h"
#include "maps.h"
#include "sample.h"
#include "thread.h"

/* A call leads to the frame below if that is in the function called, or not far behind. */
#define MAX_FUNCTION	0x10000

#define MAX_BINARIES	64

/* A thread of a guest, as far as the same binaries name its samples. */
struct named_thread {
	struct list_head node;
	struct machine *machine;
	u64 binaries;		/* a bit for each */
	struct thread *thread;
};

static LIST_HEAD(named_threads);
static u64 binaries_used;

/* The code of @image before @addr: its number of bytes, which end at *@end. */
static size_t code_before(struct guest_image *image, u64 addr, const u8 **end)
{
	struct guest_segment *segment;

	for (unsigned int i = 0; i < image->nr_segments; i++) {
		segment = &image->segments[i];
		if (addr < segment->start || addr - segment->start >= segment->len)
			continue;
		*end = image->data + segment->pgoff + (addr - segment->start);
		return addr - segment->start;
	}
	return 0;
}

static bool is_x86(struct guest_image *image)
{
	/* e_machine comes after e_ident and e_type, in files of 32 and of 64 bits */
	u16 machine = *(const u16 *)(image->data + EI_NIDENT + 2);

	return machine == EM_X86_64 || machine == EM_386;
}

/* The length of an indirect call with this ModRM byte, prefixes aside. */
static size_t indirect_call_len(u8 modrm)
{
	unsigned int mod = modrm >> 6, rm = modrm & 7;
	size_t sib = rm == 4;

	switch (mod) {
	case 0:
		return rm == 5 ? 6 : 2 + sib;
	case 1:
		return 3 + sib;
	case 2:
		return 6 + sib;
	default:
		return 2;
	}
}

enum call_kind { NO_CODE_THERE, NO_CALL, INDIRECT_CALL, DIRECT_CALL, SIGNAL_RETURN };

/* mov $__NR_rt_sigreturn, %rax; syscall, where a signal handler returns to */
static const u8 sigreturn_code[] = { 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05 };

static bool is_signal_return(struct guest_image *image, const u8 *code)
{
	return (size_t)(image->data + image->size - code) >= sizeof(sigreturn_code) &&
	       !memcmp(code, sigreturn_code, sizeof(sigreturn_code));
}

/* What is in the file before the return address @ret? */
static enum call_kind call_before(struct guest_image *image, u64 ret, u64 *target)
{
	const u8 *end;
	size_t size = code_before(image, ret, &end);

	if (!size)
		return NO_CODE_THERE;
	if (size >= 5 && end[-5] == 0xe8) {
		*target = ret + (s32)get_unaligned_le32(end - 4);
		return DIRECT_CALL;
	}
	for (size_t len = 2; len <= 7 && len <= size; len++) {
		const u8 *call = end - len;

		if (call[0] == 0xff && ((call[1] >> 3) & 7) == 2 &&
		    indirect_call_len(call[1]) == len)
			return INDIRECT_CALL;
	}
	return is_signal_return(image, end) ? SIGNAL_RETURN : NO_CALL;
}

/*
 * Compare the chain in the guest's user space with the code of @image. Return true if
 * a call leads to the next frame, and all frames in the code are behind calls.
 */
static bool image_fits(struct guest_image *image, struct ip_callchain *chain)
{
	bool in_user = false, fits = false;
	u64 below = 0, target;

	for (u64 i = 0; i < chain->nr; i++) {
		u64 ip = chain->ips[i];

		if (ip >= PERF_CONTEXT_MAX) {
			in_user = ip == PERF_CONTEXT_GUEST_USER;
			below = 0;
			continue;
		}
		if (!in_user)
			continue;

		switch (below ? call_before(image, ip, &target) : NO_CODE_THERE) {
		case DIRECT_CALL:
			if (below >= target && below - target < MAX_FUNCTION)
				fits = true;
			break;
		case NO_CALL:
			return false;
		case INDIRECT_CALL:
		case NO_CODE_THERE:
		case SIGNAL_RETURN:
		default:
			break;
		}
		below = ip;
	}
	return fits;
}

static bool images_overlap(struct guest_image *a, struct guest_image *b)
{
	for (unsigned int i = 0; i < a->nr_segments; i++) {
		for (unsigned int j = 0; j < b->nr_segments; j++) {
			struct guest_segment *s = &a->segments[i], *t = &b->segments[j];

			if (s->start < t->start + t->len && t->start < s->start + s->len)
				return true;
		}
	}
	return false;
}

static struct guest_image *usable_image(struct guest_binary *binary, struct machine *machine)
{
	struct guest_image *image = guest_binary__image(binary, machine->root_dir);

	return image && !image->err ? image : NULL;
}

/* Does another binary that fits as well overlap @image? */
static bool is_ambiguous(struct machine *machine, u64 fits, struct guest_binary *binary,
			 struct guest_image *image)
{
	struct guest_binary *other;
	unsigned int i = 0;

	list_for_each_entry(other, &guest_binaries, node) {
		if (other != binary && i < MAX_BINARIES && fits & BIT_ULL(i) &&
		    images_overlap(image, usable_image(other, machine)))
			return true;
		i++;
	}
	return false;
}

/* The binaries whose calls fit @sample, a bit for each; those that name all are not asked. */
static u64 fitting_binaries(struct machine *machine, struct perf_sample *sample)
{
	struct guest_binary *binary;
	struct guest_image *image;
	unsigned int i = 0;
	u64 fits = 0;

	list_for_each_entry(binary, &guest_binaries, node) {
		if (i == MAX_BINARIES)
			break;
		image = usable_image(binary, machine);
		if (image && (binary->all ||
			      (sample->callchain && is_x86(image) &&
			       image_fits(image, sample->callchain))))
			fits |= BIT_ULL(i);
		i++;
	}
	return fits;
}

/* The binaries that name @sample, a bit for each. */
static u64 naming_binaries(struct machine *machine, struct perf_sample *sample)
{
	u64 fits = fitting_binaries(machine, sample), named = 0;
	struct guest_binary *binary;
	unsigned int i = 0;

	list_for_each_entry(binary, &guest_binaries, node) {
		if (i == MAX_BINARIES)
			break;
		if (fits & BIT_ULL(i) &&
		    !is_ambiguous(machine, fits, binary, usable_image(binary, machine)))
			named |= BIT_ULL(i);
		i++;
	}
	return named;
}

static struct thread *new_thread(struct machine *machine, struct perf_sample *sample,
				 u64 binaries)
{
	struct thread *thread = thread__new(sample->pid, sample->tid);
	struct guest_binary *binary;
	unsigned int i = 0;

	if (!thread)
		return NULL;
	thread__set_maps(thread, maps__new(machine));
	if (!thread__maps(thread)) {
		thread__put(thread);
		return NULL;
	}
	list_for_each_entry(binary, &guest_binaries, node) {
		if (i < MAX_BINARIES && binaries & BIT_ULL(i))
			guest_binary__map(binary, machine, thread);
		i++;
	}
	return thread;
}

/*
 * A thread with the sample's PID and TID, and with the maps of the binaries that name the
 * sample. It is none of the machine's threads: each of those has one map for all that
 * the guest runs. NULL for the host's samples, where no binary is given, and where the
 * maps of the guest's programs are known ("perf inject --guest-data").
 */
struct thread *guest_names__findnew_thread(struct machine *machine, struct perf_sample *sample)
{
	struct named_thread *t;
	u64 binaries;

	if (machine__is_host(machine) || !guest_binary__given() || sample->machine_pid)
		return NULL;
	binaries = naming_binaries(machine, sample);
	binaries_used |= binaries;

	list_for_each_entry(t, &named_threads, node) {
		if (t->machine == machine && t->binaries == binaries &&
		    thread__tid(t->thread) == (pid_t)sample->tid &&
		    thread__pid(t->thread) == (pid_t)sample->pid)
			return thread__get(t->thread);
	}
	t = zalloc(sizeof(*t));
	if (!t)
		return NULL;
	t->machine = machine;
	t->binaries = binaries;
	t->thread = new_thread(machine, sample, binaries);
	if (!t->thread) {
		free(t);
		return NULL;
	}
	list_add(&t->node, &named_threads);
	return thread__get(t->thread);
}

/* To be called before the samples of a session are looked at. */
void guest_names__start(void)
{
	struct named_thread *t, *next;

	list_for_each_entry_safe(t, next, &named_threads, node) {
		list_del(&t->node);
		thread__put(t->thread);
		free(t);
	}
	binaries_used = 0;
}

/* To be called when all samples have been looked at. */
void guest_names__finish(void)
{
	struct guest_binary *binary;
	unsigned int i = 0;

	if (list_empty(&named_threads))
		return;
	list_for_each_entry(binary, &guest_binaries, node) {
		if (i < MAX_BINARIES && !(binaries_used & BIT_ULL(i)))
			pr_warning("--guestbinary=%s names no sample: no call chain shows that the guest runs it (see perf-kvm(1)).\n",
				   binary->spec);
		i++;
	}
}
