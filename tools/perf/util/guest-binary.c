// SPDX-License-Identifier: GPL-2.0
/*
 * Symbols for the user space of a guest that is profiled from its host.
 *
 * The host does not see what a guest maps where. The user names the programs of the
 * guest with --guestbinary. Each file is opened once, readable or not.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/zalloc.h>
#include <subcmd/parse-options.h>

#include "debug.h"
#include "dso.h"
#include "guest-binary.h"
#include "machine.h"
#include "map.h"
#include "maps.h"
#include "symbol.h"
#include "thread.h"

/* Instead of -errno */
enum {
	NOT_ELF = 1,
	NO_CODE,
	NO_ADDRESS,
};

LIST_HEAD(guest_binaries);

bool guest_binary__given(void)
{
	return !list_empty(&guest_binaries);
}

static int parse_hex(const char *text, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 16);
	return errno || end == text || *end ? -EINVAL : 0;
}

/* FILE[@ADDRESS][,all] */
static int guest_binary__parse(struct guest_binary *binary)
{
	size_t len = strlen(binary->name), all = strlen(",all");
	char *at;

	if (!*binary->name)
		return -EINVAL;
	if (access(binary->name, F_OK) == 0)
		return 0;

	if (len > all && !strcmp(binary->name + len - all, ",all")) {
		binary->name[len - all] = '\0';
		binary->all = true;
	}
	at = strrchr(binary->name, '@');
	if (!at || access(binary->name, F_OK) == 0)
		return 0;

	*at = '\0';
	return parse_hex(at + 1, &binary->bias);
}

int guest_binary__option(const struct option *opt __maybe_unused, const char *spec,
			 int unset __maybe_unused)
{
	struct guest_binary *binary = zalloc(sizeof(*binary));

	if (!binary)
		return -ENOMEM;
	binary->spec = spec;
	binary->name = strdup(spec);
	INIT_LIST_HEAD(&binary->images);
	if (!binary->name || guest_binary__parse(binary)) {
		pr_err("--guestbinary=%s is not FILE[@ADDRESS][,all], with a hexadecimal address\n",
		       spec);
		free(binary->name);
		free(binary);
		return -1;
	}
	list_add_tail(&binary->node, &guest_binaries);
	return 0;
}

static int guest_image__add_segment(u64 start, u64 len, u64 pgoff, void *data)
{
	struct guest_image *image = data;
	struct guest_segment *segments;

	if (pgoff > image->size || len > image->size - pgoff)
		return NOT_ELF;

	segments = realloc(image->segments, (image->nr_segments + 1) * sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	image->segments = segments;
	segments[image->nr_segments++] = (struct guest_segment){ start, len, pgoff };
	return 0;
}

/* e_type comes after e_ident, in files of 32 and of 64 bits. */
static bool guest_image__is_relocatable(struct guest_image *image)
{
	return *(const u16 *)(image->data + EI_NIDENT) == ET_DYN;
}

static int guest_image__read(struct guest_image *image, struct guest_binary *binary, int fd)
{
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < EI_NIDENT + 4)
		return NOT_ELF;

	image->size = st.st_size;
	image->data = mmap(NULL, image->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (image->data == MAP_FAILED) {
		image->data = NULL;
		return -errno;
	}
	if (memcmp(image->data, ELFMAG, SELFMAG))
		return NOT_ELF;

	err = file__read_maps(fd, /*exe=*/true, guest_image__add_segment, image,
			      /*is_64_bit=*/NULL);
	if (err)
		return err < 0 && err != -ENOMEM ? NOT_ELF : err;
	if (!image->nr_segments)
		return NO_CODE;
	if (guest_image__is_relocatable(image) && !binary->bias)
		return NO_ADDRESS;

	for (unsigned int i = 0; i < image->nr_segments; i++)
		image->segments[i].start += binary->bias;
	return 0;
}

/* The image for the machine with this root directory; image->err if it is of no use. */
struct guest_image *guest_binary__image(struct guest_binary *binary, const char *root_dir)
{
	struct guest_image *image;
	char path[PATH_MAX];
	int fd;

	/* as the symbols will be: below --guestmount, if that is given */
	scnprintf(path, sizeof(path), "%s%s", root_dir, binary->name);
	list_for_each_entry(image, &binary->images, node) {
		if (!strcmp(image->path, path))
			return image;
	}

	image = zalloc(sizeof(*image));
	if (!image)
		return NULL;
	image->path = strdup(path);
	if (!image->path) {
		free(image);
		return NULL;
	}
	list_add_tail(&image->node, &binary->images);

	fd = open(path, O_RDONLY);
	if (fd < 0) {
		image->err = -errno;
		return image;
	}
	image->err = guest_image__read(image, binary, fd);
	close(fd);
	return image;
}

static void guest_image__print_error(struct guest_image *image, struct guest_binary *binary)
{
	switch (image->err) {
	case NOT_ELF:
		pr_err("--guestbinary=%s: %s is no program (ELF file)\n", binary->spec,
		       image->path);
		break;
	case NO_CODE:
		pr_err("--guestbinary=%s: %s has no code\n", binary->spec, image->path);
		break;
	case NO_ADDRESS:
		pr_err("--guestbinary=%s: %s is position independent: add @ADDRESS, where the guest has loaded it (see its /proc/PID/maps)\n",
		       binary->spec, image->path);
		break;
	default:
		pr_err("--guestbinary=%s: %s cannot be read: %s\n", binary->spec, image->path,
		       strerror(-image->err));
	}
}

/* Open the files of all binaries for the machine with this root directory. */
void guest_binary__open(const char *root_dir)
{
	struct guest_binary *binary;

	list_for_each_entry(binary, &guest_binaries, node)
		guest_binary__image(binary, root_dir);
}

/* Are all binaries of use, each in one machine at least? */
int guest_binary__check(void)
{
	struct guest_binary *binary;
	struct guest_image *image;
	bool usable;

	list_for_each_entry(binary, &guest_binaries, node) {
		usable = false;
		list_for_each_entry(image, &binary->images, node)
			usable |= !image->err;
		if (usable)
			continue;
		if (list_empty(&binary->images))
			return -ENOMEM;
		image = list_first_entry(&binary->images, struct guest_image, node);
		guest_image__print_error(image, binary);
		return -EINVAL;
	}
	return 0;
}

/* Map the code of @binary into the maps of a thread of a guest. */
int guest_binary__map(struct guest_binary *binary, struct machine *machine,
		      struct thread *thread)
{
	struct guest_image *image = guest_binary__image(binary, machine->root_dir);
	struct guest_segment *segment;
	struct dso_id id = {};
	struct map *map;
	int err;

	if (!image)
		return -ENOMEM;
	if (image->err)
		return -EINVAL;

	for (unsigned int i = 0; i < image->nr_segments; i++) {
		segment = &image->segments[i];
		map = map__new(machine, segment->start, segment->len, segment->pgoff, &id,
			       PROT_READ | PROT_EXEC, MAP_PRIVATE, /*bid=*/NULL,
			       binary->name, thread);
		if (!map)
			return -ENOMEM;
		err = thread__insert_map(thread, map);
		map__put(map);
		if (err)
			return err;
	}
	return 0;
}
