// SPDX-License-Identifier: GPL-2.0
/*
 * Symbols for the user space of a guest that is profiled from its host.
 *
 * The host does not see what a guest maps where. If the user names a program
 * with --guestbinary, all that the guest runs in user space is looked up in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kernel.h>

#include "debug.h"
#include "dso.h"
#include "guest-binary.h"
#include "machine.h"
#include "map.h"
#include "maps.h"
#include "symbol.h"
#include "symbol_conf.h"
#include "thread.h"

struct guest_binary {
	struct machine *machine;
	struct thread *thread;
	char name[PATH_MAX];
	u64 bias;
};

/* FILE[@ADDRESS]: where the guest has loaded it, if not where it is linked to */
static int guest_binary__parse(struct guest_binary *binary, const char *spec)
{
	char *at, *end;

	if (snprintf(binary->name, sizeof(binary->name), "%s", spec) >= PATH_MAX)
		return -ENAMETOOLONG;

	at = strrchr(binary->name, '@');
	if (!at || access(spec, F_OK) == 0)
		return 0;

	errno = 0;
	binary->bias = strtoull(at + 1, &end, 16);
	if (errno || end == at + 1 || *end)
		return -EINVAL;
	*at = '\0';
	return 0;
}

static int guest_binary__map_segment(u64 start, u64 len, u64 pgoff, void *data)
{
	struct guest_binary *binary = data;
	struct dso_id id = {};
	struct map *map;
	int err;

	map = map__new(binary->machine, start + binary->bias, len, pgoff, &id,
		       PROT_READ | PROT_EXEC, MAP_PRIVATE, /*bid=*/NULL,
		       binary->name, binary->thread);
	if (!map)
		return -ENOMEM;

	err = thread__insert_map(binary->thread, map);
	map__put(map);
	return err;
}

static int guest_binary__map_file(struct guest_binary *binary)
{
	char path[PATH_MAX];
	int fd, err;

	/* as the symbols will be: below --guestmount, if that is given */
	scnprintf(path, sizeof(path), "%s%s", binary->machine->root_dir,
		  binary->name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;

	err = file__read_maps(fd, /*exe=*/true, guest_binary__map_segment, binary,
			      /*is_64_bit=*/NULL);
	close(fd);
	return err;
}

/* Map the guest's binary, if one is named, into a thread of the guest, once. */
int guest_binary__map(struct machine *machine, struct thread *thread)
{
	struct guest_binary binary = {
		.machine = machine,
		.thread = thread,
	};
	static bool warned;
	int err;

	if (!symbol_conf.guest_binary || machine__is_host(machine) ||
	    !maps__empty(thread__maps(thread)))
		return 0;

	err = guest_binary__parse(&binary, symbol_conf.guest_binary);
	if (!err)
		err = guest_binary__map_file(&binary);
	if (err && !warned) {
		pr_err("--guestbinary=%s cannot be used: %s\n", symbol_conf.guest_binary,
		       err == -1 ? "not an ELF file" : strerror(-err));
		warned = true;
	}
	return err;
}
