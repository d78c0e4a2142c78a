/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_BINARY_H
#define __PERF_GUEST_BINARY_H

#include <stdbool.h>
#include <sys/types.h>
#include <linux/list.h>
#include <linux/types.h>

struct dso;
struct map;
struct option;
struct symbol;
struct thread;

#define MAX_GUEST_BINARIES	64

struct guest_segment {
	u64 start;		/* the address of the code in the guest */
	u64 len;
	u64 pgoff;
	u8 *code;
	struct map *map;
};

/* The file of a guest binary for one machine: below --guestmount each machine has its own. */
struct guest_image {
	struct list_head node;
	char *root_dir;
	char *name;		/* the path, without --symfs */
	int err;
	dev_t dev;
	ino_t ino;
	u16 type;		/* e_type and e_machine of the ELF header */
	u16 machine;
	u64 lowest;		/* the lowest loaded address in the file */
	u64 bias;		/* from the addresses in the file to those in the guest */
	struct guest_segment *segments;
	unsigned int nr_segments;
};

/* What one --guestbinary option says. */
struct guest_binary {
	struct list_head node;
	const char *spec;
	char *name;
	bool has_address;
	u64 address;
	bool all;		/* all code at its addresses is of this file */
	struct list_head images;
};

extern struct list_head guest_binaries;

int guest_binary__option(const struct option *opt, const char *spec, int unset);
bool guest_binary__given(void);
int guest_binary__parse_all(void);
void guest_binary__open(const char *root_dir);
int guest_binary__check(void);
struct guest_image *guest_binary__image(struct guest_binary *binary, const char *root_dir);

bool guest_image__overlaps(struct guest_image *image, struct guest_image *other);
struct guest_segment *guest_image__segment(struct guest_image *image, u64 addr);
struct symbol *guest_image__symbol(struct guest_image *image, u64 addr);
int guest_image__map(struct guest_image *image, struct thread *thread);

#endif /* __PERF_GUEST_BINARY_H */
