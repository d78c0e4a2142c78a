/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_BINARY_H
#define __PERF_GUEST_BINARY_H

#include <stdbool.h>
#include <linux/list.h>
#include <linux/types.h>

struct machine;
struct option;
struct thread;

struct guest_segment {
	u64 start;		/* of the code, where the guest has loaded it */
	u64 len;
	u64 pgoff;
};

/* The file of a guest binary for one machine: below --guestmount each has its own. */
struct guest_image {
	struct list_head node;
	char *path;
	int err;
	const u8 *data;		/* the whole file */
	size_t size;
	struct guest_segment *segments;
	unsigned int nr_segments;
};

/* What one --guestbinary option says. */
struct guest_binary {
	struct list_head node;
	const char *spec;
	char *name;
	u64 bias;		/* from the addresses in the file to those in the guest */
	bool all;		/* of the guest's user space is its */
	struct list_head images;
};

extern struct list_head guest_binaries;

int guest_binary__option(const struct option *opt, const char *spec, int unset);
bool guest_binary__given(void);
void guest_binary__open(const char *root_dir);
int guest_binary__check(void);
struct guest_image *guest_binary__image(struct guest_binary *binary, const char *root_dir);
int guest_binary__map(struct guest_binary *binary, struct machine *machine,
		      struct thread *thread);

#endif /* __PERF_GUEST_BINARY_H */
