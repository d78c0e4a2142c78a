/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_OBJECT_H
#define __PERF_GUEST_OBJECT_H

#include <errno.h>
#include <stdbool.h>
#include <linux/compiler.h>
#include <linux/list.h>
#include <linux/types.h>

struct dso;

/* A file whose code a process has mapped, with one bias. */
struct guest_object {
	struct list_head node;
	char *name;		/* the path, without --symfs */
	int err;
	struct dso *dso;
	bool has_bias;
	u64 bias;		/* from the addresses in the file to those in the process */
	struct guest_code *code;	/* the segments that have code */
	unsigned int nr_code;
	struct guest_function *functions;	/* sorted by address; none if not known */
	unsigned int nr_functions;
	bool is_64_bit;
	bool is_position_independent;
};

struct guest_code {
	u64 vaddr;		/* in the file */
	u64 offset;
	u64 size;
	u8 *bytes;
};

struct guest_function {
	u64 start;		/* in the file */
	bool has_handlers;	/* of exceptions */
};

#ifdef HAVE_DWARF_SUPPORT
int guest_object__open(struct guest_object *object, const char *path);
int guest_object__find_bias(struct guest_object *object, u64 start, u64 end, u64 pgoff);
void guest_object__close(struct guest_object *object);
bool guest_object__is_behind_call(const struct guest_object *object, u64 addr, u64 below);
#else
static inline int guest_object__open(struct guest_object *object __maybe_unused,
				     const char *path __maybe_unused)
{
	return -ENOTSUP;
}

static inline int guest_object__find_bias(struct guest_object *object __maybe_unused,
					  u64 start __maybe_unused, u64 end __maybe_unused,
					  u64 pgoff __maybe_unused)
{
	return -ENOTSUP;
}

static inline void guest_object__close(struct guest_object *object __maybe_unused) {}
#endif

#endif /* __PERF_GUEST_OBJECT_H */
