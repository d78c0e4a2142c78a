/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_PROCESS_H
#define __PERF_GUEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/list.h>
#include <linux/types.h>

struct guest_cfi;
struct guest_object;
struct thread;

struct guest_mapping {
	u64 start;
	u64 end;
	u64 pgoff;
	bool exec;
	bool write;
	bool is_stack;
	struct guest_object *object;	/* of executable mappings of files */
};

/* A process of a guest: a copy of its /proc/PID/maps. */
struct guest_process {
	struct list_head node;
	const char *maps;	/* the argument of --guestmaps */
	char *path;
	struct guest_mapping *mappings;
	unsigned int nr;
	struct list_head objects;
	struct guest_cfi *cfi;
};

struct guest_process *guest_process__new(const char *maps, const char *path,
					 const char *root, char *msg, size_t size);
void guest_process__delete(struct guest_process *process);
const struct guest_mapping *guest_process__mapping(const struct guest_process *process,
						   u64 addr);
bool guest_process__may_be_at(const struct guest_process *process, u64 ip, u64 sp,
			      bool is_64_bit);
int guest_process__map(struct guest_process *process, struct thread *thread);

#endif /* __PERF_GUEST_PROCESS_H */
