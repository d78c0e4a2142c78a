// SPDX-License-Identifier: GPL-2.0
/*
 * The mappings of a process of a guest: a copy of its /proc/PID/maps, and the mapped files.
 *
 * A file is used if its code fits the mappings: the offsets are the same, and so are the
 * distances between the segments.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/zalloc.h>

#include "debug.h"
#include "dso.h"
#include "guest-cfi.h"
#include "guest-object.h"
#include "guest-options.h"
#include "guest-process.h"
#include "map.h"
#include "symbol.h"
#include "thread.h"

/* How far the stack of a process may have grown since its maps were copied */
#define STACK_GROWTH	0x800000

static const char *object_problem(const struct guest_object *object)
{
	switch (object->err) {
	case GUEST_FILE_NOT_REGULAR:
		return "is not a regular file";
	case -ENOEXEC:
		return "is no program or library for x86 (ELF file)";
	case -EINVAL:
		return "is not the file that the process has mapped";
	case -ENOTSUP:
		return "cannot be used: this perf is built without libdw";
	default:
		return strerror(-object->err);
	}
}

static void guest_object__delete(struct guest_object *object)
{
	list_del(&object->node);
	guest_object__close(object);
	dso__put(object->dso);
	free(object->name);
	free(object);
}

/* A file that cannot be opened becomes an object, too, so that it is not opened again. */
static struct guest_object *guest_object__new(struct guest_process *process,
					      const char *root, const char *name)
{
	struct guest_object *object = zalloc(sizeof(*object));
	char path[PATH_MAX], *slash;

	if (!object)
		return NULL;
	if (asprintf(&object->name, "%s%s", root, name) < 0) {
		free(object);
		return NULL;
	}
	list_add_tail(&object->node, &process->objects);
	symbol__join_symfs(path, object->name);
	object->err = guest_object__open(object, path);
	object->dso = dso__new(object->name);
	if (!object->dso) {
		guest_object__delete(object);
		return NULL;
	}
	slash = strrchr(object->name, '/');
	dso__set_short_name(object->dso, slash ? slash + 1 : object->name,
			    /*name_allocated=*/false);
	return object;
}

static struct guest_object *findnew_object(struct guest_process *process, const char *root,
					   const char *name)
{
	struct guest_object *object;
	size_t len = strlen(root);

	list_for_each_entry(object, &process->objects, node)
		if (!strcmp(object->name + len, name))
			return object;
	return guest_object__new(process, root, name);
}

/* START-END PERMISSIONS OFFSET DEVICE INODE [NAME] */
static bool parse_line(char *line, struct guest_mapping *mapping, const char **name)
{
	char perms[8];
	int len = 0;

	line[strcspn(line, "\n")] = 0;
	*mapping = (struct guest_mapping){};
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*u %n",
		   &mapping->start, &mapping->end, perms, &mapping->pgoff, &len) != 4 ||
	    !len || strlen(perms) != 4 || mapping->start >= mapping->end)
		return false;
	mapping->write = perms[1] == 'w';
	mapping->exec = perms[2] == 'x';
	*name = line + len;
	mapping->is_stack = !strcmp(*name, "[stack]");
	return true;
}

static int add_mapping(struct guest_process *process, const struct guest_mapping *mapping)
{
	struct guest_mapping *mappings;

	/* the lines of a /proc/PID/maps are sorted */
	if (process->nr && mapping->start < process->mappings[process->nr - 1].end)
		return -EINVAL;
	mappings = realloc(process->mappings, (process->nr + 1) * sizeof(*mappings));
	if (!mappings)
		return -ENOMEM;
	process->mappings = mappings;
	mappings[process->nr++] = *mapping;
	return 0;
}

static int add_line(struct guest_process *process, const char *root, char *line)
{
	struct guest_mapping mapping;
	struct guest_object *object;
	const char *name;

	if (!parse_line(line, &mapping, &name))
		return -EINVAL;
	if (mapping.exec && *name == '/') {
		object = findnew_object(process, root, name);
		if (!object)
			return -ENOMEM;
		if (!object->err)
			object->err = guest_object__find_bias(object, mapping.start,
							      mapping.end, mapping.pgoff);
		mapping.object = object;
	}
	return add_mapping(process, &mapping);
}

static int read_maps(struct guest_process *process, const char *root, FILE *file)
{
	char *line = NULL;
	size_t n = 0;
	int err = 0;

	while (!err && getline(&line, &n, file) > 0)
		err = add_line(process, root, line);
	free(line);
	return err;
}

void guest_process__delete(struct guest_process *process)
{
	struct guest_object *object, *next;

	guest_cfi__delete(process->cfi);
	list_for_each_entry_safe(object, next, &process->objects, node)
		guest_object__delete(object);
	free(process->mappings);
	free(process->path);
	free(process);
}

/* Does the process have a file that can be used? */
static int check_objects(struct guest_process *process, char *msg, size_t size)
{
	struct guest_object *object, *first = NULL;
	bool is_usable = false;

	list_for_each_entry(object, &process->objects, node) {
		if (!object->err)
			is_usable = true;
		else if (!first)
			first = object;
	}
	if (is_usable) {
		list_for_each_entry(object, &process->objects, node)
			if (object->err)
				pr_warning("--guestmaps=%s: %s: %s. Its functions have no names.\n",
					   process->maps, object->name, object_problem(object));
		return 0;
	}
	if (first)
		snprintf(msg, size, "names no file that is of use: %s: %s", first->name,
			 object_problem(first));
	else
		snprintf(msg, size, "names no file that the process has code of");
	return -EINVAL;
}

/* NULL if the maps, or all files below @root, cannot be used: @msg tells why. */
struct guest_process *guest_process__new(const char *maps, const char *path,
					 const char *root, char *msg, size_t size)
{
	struct guest_process *process = zalloc(sizeof(*process));
	FILE *file;
	int err;

	snprintf(msg, size, "cannot be read: no memory");
	if (!process)
		return NULL;
	INIT_LIST_HEAD(&process->objects);
	process->maps = maps;
	process->path = strdup(path);
	if (!process->path)
		goto fail;

	file = fopen(path, "r");
	if (!file) {
		snprintf(msg, size, "cannot be read: %s", strerror(errno));
		goto fail;
	}
	err = read_maps(process, root, file);
	fclose(file);
	if (err == -EINVAL)
		snprintf(msg, size, "is no copy of a /proc/PID/maps");
	if (err || check_objects(process, msg, size))
		goto fail;
	snprintf(msg, size, "names files that libdw cannot read");
	process->cfi = guest_cfi__new(process);
	if (process->cfi)
		return process;
fail:
	guest_process__delete(process);
	return NULL;
}

const struct guest_mapping *guest_process__mapping(const struct guest_process *process,
						   u64 addr)
{
	unsigned int low = 0, high = process->nr, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (process->mappings[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < process->nr && addr >= process->mappings[low].start ?
		&process->mappings[low] : NULL;
}

/* Is @sp in memory that can be a stack? */
static bool may_be_stack(const struct guest_process *process, u64 sp)
{
	const struct guest_mapping *mapping = guest_process__mapping(process, sp);

	if (mapping)
		return mapping->write;
	for (mapping = process->mappings; mapping < process->mappings + process->nr; mapping++)
		if (mapping->is_stack)
			return sp < mapping->start && mapping->start - sp <= STACK_GROWTH;
	return false;
}

/* Can this process have run at @ip, with a stack at @sp? */
bool guest_process__may_be_at(const struct guest_process *process, u64 ip, u64 sp,
			      bool is_64_bit)
{
	const struct guest_mapping *mapping = guest_process__mapping(process, ip);

	return mapping && mapping->object && !mapping->object->err &&
	       mapping->object->is_64_bit == is_64_bit && may_be_stack(process, sp);
}

/* Map the code of a process into the maps of a thread of a guest. */
int guest_process__map(struct guest_process *process, struct thread *thread)
{
	const struct guest_mapping *mapping;
	struct map *map;
	int err;

	for (mapping = process->mappings; mapping < process->mappings + process->nr; mapping++) {
		if (!mapping->object || mapping->object->err)
			continue;
		map = map__new2(mapping->start, mapping->object->dso);
		if (!map)
			return -ENOMEM;
		map__set_end(map, mapping->end);
		map__set_pgoff(map, mapping->pgoff);
		err = thread__insert_map(thread, map);
		map__put(map);
		if (err)
			return err;
	}
	return 0;
}
