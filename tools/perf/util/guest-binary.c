// SPDX-License-Identifier: GPL-2.0
/*
 * Symbols for the user space of a guest that is profiled from its host.
 *
 * The host does not see the mappings of a guest. The user names the programs of the guest
 * with --guestbinary. Each file is opened once, even if that fails. The code is read at
 * once, the symbols with the first sample. The same code and symbols tell whether the file
 * names a sample, and are its names.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/unaligned.h>
#include <linux/zalloc.h>
#include <subcmd/parse-options.h>

#include "debug.h"
#include "dso.h"
#include "guest-binary.h"
#include "guest-options.h"
#include "map.h"
#include "symbol.h"
#include "symbol_conf.h"
#include "thread.h"

/* Errors beside -errno and GUEST_FILE_NOT_REGULAR */
enum {
	NOT_ELF = GUEST_FILE_NOT_REGULAR + 1,
	NO_CODE,
	NO_ADDRESS,
	OTHER_ADDRESS,
	NO_PAGE,
	NO_LIBELF,
};

#define GUEST_PAGE_MASK	0xfffULL

LIST_HEAD(guest_binaries);

bool guest_binary__given(void)
{
	return !list_empty(&guest_binaries);
}

static void guest_binary__delete(struct guest_binary *binary)
{
	struct guest_image *image, *next;

	list_for_each_entry_safe(image, next, &binary->images, node) {
		for (unsigned int i = 0; i < image->nr_segments; i++) {
			map__put(image->segments[i].map);
			free(image->segments[i].code);
		}
		free(image->segments);
		free(image->root_dir);
		free(image->name);
		free(image);
	}
	list_del(&binary->node);
	free(binary->name);
	free(binary);
}

/* guest_binary__parse_all() parses: an error here would make perf print all options. */
int guest_binary__option(const struct option *opt __maybe_unused, const char *spec, int unset)
{
	struct guest_binary *binary, *next;

	if (unset) {
		list_for_each_entry_safe(binary, next, &guest_binaries, node)
			guest_binary__delete(binary);
		return 0;
	}

	binary = zalloc(sizeof(*binary));
	if (!binary)
		return -ENOMEM;
	binary->spec = spec;
	INIT_LIST_HEAD(&binary->images);
	list_add_tail(&binary->node, &guest_binaries);
	return 0;
}

static int parse_hex(const char *text, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 16);
	return errno || !isxdigit(*text) || *end ? -EINVAL : 0;
}

/* FILE[@ADDRESS][,all] */
static int guest_binary__parse(struct guest_binary *binary)
{
	size_t len = strlen(binary->name), all = strlen(",all");
	char *at;

	if (len >= all && !strcmp(binary->name + len - all, ",all")) {
		binary->name[len - all] = '\0';
		binary->all = true;
	}
	at = strrchr(binary->name, '@');
	if (at) {
		*at = '\0';
		binary->has_address = true;
		if (parse_hex(at + 1, &binary->address))
			return -EINVAL;
	}
	return *binary->name ? 0 : -EINVAL;
}

int guest_binary__parse_all(void)
{
	struct guest_binary *binary;
	unsigned int n = 0;

	list_for_each_entry(binary, &guest_binaries, node) {
		if (++n > MAX_GUEST_BINARIES) {
			pr_err("--guestbinary can be given %d times only\n", MAX_GUEST_BINARIES);
			return -EINVAL;
		}
		if (binary->name)
			continue;
		binary->name = strdup(binary->spec);
		if (!binary->name)
			return -ENOMEM;
		if (guest_binary__parse(binary)) {
			pr_err("--guestbinary=%s is not FILE[@ADDRESS][,all], with a hexadecimal address\n",
			       binary->spec);
			return -EINVAL;
		}
	}
	return 0;
}

static int add_segment(u64 start, u64 len, u64 pgoff, void *data)
{
	struct guest_image *image = data;
	struct guest_segment *segments;

	segments = realloc(image->segments, (image->nr_segments + 1) * sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	image->segments = segments;
	segments[image->nr_segments++] = (struct guest_segment){
		.start = start, .len = len, .pgoff = pgoff,
	};
	return 0;
}

static int find_lowest(u64 start, u64 len __maybe_unused, u64 pgoff __maybe_unused, void *data)
{
	struct guest_image *image = data;

	start &= ~GUEST_PAGE_MASK;
	if (image->lowest > start)
		image->lowest = start;
	return 0;
}

/* e_type and e_machine come after e_ident, in files of 32 and of 64 bits. */
static int guest_image__read_header(struct guest_image *image, int fd)
{
	u8 header[EI_NIDENT + 4];

	if (pread(fd, header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header, ELFMAG, SELFMAG))
		return NOT_ELF;

	if (header[EI_DATA] == ELFDATA2MSB) {
		image->type = get_unaligned_be16(header + EI_NIDENT);
		image->machine = get_unaligned_be16(header + EI_NIDENT + 2);
	} else {
		image->type = get_unaligned_le16(header + EI_NIDENT);
		image->machine = get_unaligned_le16(header + EI_NIDENT + 2);
	}
	return image->type == ET_EXEC || image->type == ET_DYN ? 0 : NOT_ELF;
}

static int guest_image__read_segments(struct guest_image *image, int fd)
{
	int err;

#ifndef HAVE_LIBELF_SUPPORT
	return NO_LIBELF;
#endif
	image->lowest = ULLONG_MAX;
	err = file__read_maps(fd, /*exe=*/true, add_segment, image, /*is_64_bit=*/NULL) ?:
	      file__read_maps(fd, /*exe=*/true, find_lowest, image, /*is_64_bit=*/NULL) ?:
	      file__read_maps(fd, /*exe=*/false, find_lowest, image, /*is_64_bit=*/NULL);
	if (err)
		return err == -ENOMEM ? err : NOT_ELF;
	return image->nr_segments ? 0 : NO_CODE;
}

/* The file has the address of a program that is not position independent. */
static int guest_image__find_bias(struct guest_image *image, struct guest_binary *binary)
{
	if (image->type == ET_EXEC)
		return binary->has_address && binary->address != image->lowest ?
			OTHER_ADDRESS : 0;
	if (!binary->has_address)
		return NO_ADDRESS;
	if (binary->address & GUEST_PAGE_MASK)
		return NO_PAGE;
	image->bias = binary->address - image->lowest;
	return 0;
}

/* All maps share one dso: proofs and reports use the same symbols. */
static int guest_image__make_maps(struct guest_image *image)
{
	struct dso *dso = dso__new(image->name);
	char *slash = strrchr(image->name, '/');
	int err = dso ? 0 : -ENOMEM;

	if (!err)
		dso__set_short_name(dso, slash ? slash + 1 : image->name,
				    /*name_allocated=*/false);
	for (unsigned int i = 0; !err && i < image->nr_segments; i++) {
		struct guest_segment *segment = &image->segments[i];

		segment->map = map__new2(segment->start, dso);
		if (!segment->map) {
			err = -ENOMEM;
			break;
		}
		map__set_end(segment->map, segment->start + segment->len);
		map__set_pgoff(segment->map, segment->pgoff);
	}
	dso__put(dso);
	return err;
}

static int guest_image__read(struct guest_image *image, struct guest_binary *binary, int fd)
{
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	image->dev = st.st_dev;
	image->ino = st.st_ino;

	err = guest_image__read_header(image, fd) ?:
	      guest_image__read_segments(image, fd) ?:
	      guest_image__find_bias(image, binary);
	if (err)
		return err;

	for (unsigned int i = 0; i < image->nr_segments; i++) {
		struct guest_segment *segment = &image->segments[i];

		if (segment->pgoff > (u64)st.st_size ||
		    segment->len > (u64)st.st_size - segment->pgoff)
			return NOT_ELF;
		if (segment->len > ULLONG_MAX - segment->start)
			return NOT_ELF;
		/* start and end may not wrap around the end of the address space */
		if (segment->start - image->lowest + segment->len >
		    ULLONG_MAX - (image->lowest + image->bias))
			return NO_PAGE;
		segment->start += image->bias;
		err = guest_file__read(fd, segment->pgoff, segment->len, &segment->code);
		if (err)
			return err == -ENOEXEC ? NOT_ELF : err;
	}
	return guest_image__make_maps(image);
}

static int guest_image__open(struct guest_image *image, struct guest_binary *binary)
{
	char path[PATH_MAX];
	int fd, err;

	/* the path that dso__load() opens */
	symbol__join_symfs(path, image->name);
	err = guest_file__open(path, &fd);
	if (err)
		return err;
	err = guest_image__read(image, binary, fd);
	close(fd);
	return err;
}

/*
 * The image for the machine with this root directory. image->err is set if the image cannot
 * be used. NULL for VMs that are not below --guestmount: their programs are not known.
 */
struct guest_image *guest_binary__image(struct guest_binary *binary, const char *root_dir)
{
	struct guest_image *image;

	if (symbol_conf.guestmount && !*root_dir)
		return NULL;
	list_for_each_entry(image, &binary->images, node) {
		if (!strcmp(image->root_dir, root_dir))
			return image;
	}

	image = zalloc(sizeof(*image));
	if (!image)
		return NULL;
	image->root_dir = strdup(root_dir);
	if (!image->root_dir ||
	    asprintf(&image->name, "%s%s%s", root_dir,
		     *root_dir && *binary->name != '/' ? "/" : "", binary->name) < 0) {
		free(image->root_dir);
		free(image);
		return NULL;
	}
	list_add_tail(&image->node, &binary->images);
	image->err = guest_image__open(image, binary);
	return image;
}

static void guest_image__print_error(struct guest_image *image, struct guest_binary *binary)
{
	const char *spec = binary->spec, *name = image->name;

	switch (image->err) {
	case GUEST_FILE_NOT_REGULAR:
		pr_err("--guestbinary=%s: %s is not a regular file\n", spec, name);
		break;
	case NOT_ELF:
		pr_err("--guestbinary=%s: %s is no program (ELF file)\n", spec, name);
		break;
	case NO_CODE:
		pr_err("--guestbinary=%s: %s has no code\n", spec, name);
		break;
	case NO_ADDRESS:
		pr_err("--guestbinary=%s: %s is position independent: add @ADDRESS, the lowest address of its mappings in the guest (see its /proc/PID/maps)\n",
		       spec, name);
		break;
	case OTHER_ADDRESS:
		pr_err("--guestbinary=%s: %s is not position independent, its address is %llx\n",
		       spec, name, (unsigned long long)image->lowest);
		break;
	case NO_PAGE:
		pr_err("--guestbinary=%s: %llx is not the address of a page to load %s at\n",
		       spec, (unsigned long long)binary->address, name);
		break;
	case NO_LIBELF:
		pr_err("--guestbinary=%s: this perf is built without libelf\n", spec);
		break;
	default:
		pr_err("--guestbinary=%s: %s cannot be read: %s\n", spec, name,
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

/* Can @binary be used in at least one machine? */
static int guest_binary__check_images(struct guest_binary *binary)
{
	struct guest_image *image;

	list_for_each_entry(image, &binary->images, node) {
		if (!image->err)
			return 0;
	}
	if (list_empty(&binary->images))
		return -ENOMEM;
	image = list_first_entry(&binary->images, struct guest_image, node);
	guest_image__print_error(image, binary);
	return -EINVAL;
}

bool guest_image__overlaps(struct guest_image *image, struct guest_image *other)
{
	for (unsigned int i = 0; i < image->nr_segments; i++) {
		for (unsigned int j = 0; j < other->nr_segments; j++) {
			struct guest_segment *s = &image->segments[i], *t = &other->segments[j];

			if (s->start < t->start + t->len && t->start < s->start + s->len)
				return true;
		}
	}
	return false;
}

static bool guest_image__equals(struct guest_image *image, struct guest_image *other)
{
	return !image->err && !other->err && image->dev == other->dev &&
	       image->ino == other->ino && image->bias == other->bias;
}

/* Are two binaries the same file, in all machines? */
static bool guest_binary__equals(struct guest_binary *binary, struct guest_binary *other)
{
	struct guest_image *image, *image2;

	list_for_each_entry(image, &binary->images, node) {
		image2 = guest_binary__image(other, image->root_dir);
		if (!image2 || !guest_image__equals(image, image2))
			return false;
	}
	return true;
}

static bool guest_binary__overlaps(struct guest_binary *binary, struct guest_binary *other)
{
	struct guest_image *image, *image2;

	list_for_each_entry(image, &binary->images, node) {
		image2 = guest_binary__image(other, image->root_dir);
		if (!image->err && image2 && !image2->err &&
		    guest_image__overlaps(image, image2))
			return true;
	}
	return false;
}

/* A file that is given twice is one binary, with ",all" if either has it. */
static void guest_binary__merge_equals(struct guest_binary *binary)
{
	struct guest_binary *other = binary, *next;

	list_for_each_entry_safe_continue(other, next, &guest_binaries, node) {
		if (!guest_binary__equals(binary, other))
			continue;
		binary->all |= other->all;
		guest_binary__delete(other);
	}
}

static int guest_binary__check_all(struct guest_binary *binary)
{
	struct guest_binary *other = binary;

	list_for_each_entry_continue(other, &guest_binaries, node) {
		if (!binary->all || !other->all ||
		    !guest_binary__overlaps(binary, other))
			continue;
		pr_err("--guestbinary=%s and --guestbinary=%s are at the same addresses, which cannot all be of either\n",
		       binary->spec, other->spec);
		return -EINVAL;
	}
	return 0;
}

/* Can all binaries be used, and be used together? */
int guest_binary__check(void)
{
	struct guest_binary *binary;
	int err;

	list_for_each_entry(binary, &guest_binaries, node) {
		err = guest_binary__check_images(binary);
		if (err)
			return err;
	}
	list_for_each_entry(binary, &guest_binaries, node)
		guest_binary__merge_equals(binary);
	list_for_each_entry(binary, &guest_binaries, node) {
		err = guest_binary__check_all(binary);
		if (err)
			return err;
	}
	return 0;
}

struct guest_segment *guest_image__segment(struct guest_image *image, u64 addr)
{
	for (unsigned int i = 0; i < image->nr_segments; i++) {
		struct guest_segment *segment = &image->segments[i];

		if (addr >= segment->start && addr - segment->start < segment->len)
			return segment;
	}
	return NULL;
}

/* The symbol at an address in the guest */
struct symbol *guest_image__symbol(struct guest_image *image, u64 addr)
{
	struct guest_segment *segment = guest_image__segment(image, addr);

	if (!segment)
		return NULL;
	return map__find_symbol(segment->map, map__map_ip(segment->map, addr));
}

/* Map the code of @image into the maps of a thread of a guest. */
int guest_image__map(struct guest_image *image, struct thread *thread)
{
	for (unsigned int i = 0; i < image->nr_segments; i++) {
		struct map *map = map__clone(image->segments[i].map);
		int err;

		if (!map)
			return -ENOMEM;
		err = thread__insert_map(thread, map);
		map__put(map);
		if (err)
			return err;
	}
	return 0;
}
