// SPDX-License-Identifier: GPL-2.0
/*
 * What commands that look at guests can be told about them, as the parent of
 * their own options; and whether what they are told is of use.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <subcmd/parse-options.h>
#include <symbol/kallsyms.h>

#include "debug.h"
#include "dso.h"
#include "guest-binary.h"
#include "guest-options.h"
#include "symbol.h"
#include "symbol_conf.h"
#include "symsrc.h"
#include "util.h"

const struct option guest_options[] = {
	OPT_STRING(0, "guestmount", &symbol_conf.guestmount, "directory",
		   "guest mount directory under which every guest os instance has a subdir"),
	OPT_STRING(0, "guestvmlinux", &symbol_conf.default_guest_vmlinux_name,
		   "file", "file saving guest os vmlinux"),
	OPT_STRING(0, "guestkallsyms", &symbol_conf.default_guest_kallsyms,
		   "file", "file saving guest os /proc/kallsyms"),
	OPT_STRING(0, "guestmodules", &symbol_conf.default_guest_modules,
		   "file", "file saving guest os /proc/modules"),
	OPT_CALLBACK(0, "guestbinary", NULL, "file[@address][,all]",
		     "program that the guest runs", guest_binary__option),
	OPT_BOOLEAN(0, "guest-code", &symbol_conf.guest_code,
		    "Guest code can be found in hypervisor process"),
	OPT_END()
};

/* To have any of them is to ask for the guests' samples. */
bool guest_options__given(void)
{
	return symbol_conf.guestmount ||
	       symbol_conf.default_guest_vmlinux_name ||
	       symbol_conf.default_guest_kallsyms ||
	       symbol_conf.default_guest_modules ||
	       guest_binary__given() ||
	       symbol_conf.guest_code;
}

/* Files of /proc and their copies are read more than once: no pipes. */
static int check_readable(const char *option, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK);

	if (fd < 0) {
		pr_err("%s: %s cannot be read: %s\n", option, path, strerror(errno));
		return -EINVAL;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		pr_err("%s: %s is not a regular file\n", option, path);
		close(fd);
		return -EINVAL;
	}
	close(fd);
	return 0;
}

#define NO_ADDRESSES \
	"has no addresses: copy it as root of the guest (see kernel.kptr_restrict)"

struct kallsyms_check {
	unsigned long symbols;
	bool has_addresses;
	bool has_text;
};

static int check_symbol(void *arg, const char *name, char type __maybe_unused, u64 start)
{
	struct kallsyms_check *check = arg;

	check->symbols++;
	if (start)
		check->has_addresses = true;
	if (!strcmp(name, "_text") || !strcmp(name, "_stext"))
		check->has_text = true;
	return 0;
}

static int check_kallsyms(const char *option, const char *path)
{
	struct kallsyms_check check = {};
	const char *problem = NULL;

	if (check_readable(option, path))
		return -EINVAL;

	if (kallsyms__parse(path, &check, check_symbol) || !check.symbols)
		problem = "is no copy of a /proc/kallsyms";
	else if (!check.has_addresses)
		problem = NO_ADDRESSES;
	else if (!check.has_text)
		problem = "has no _text and no _stext: it is no complete copy of a /proc/kallsyms";

	if (!problem)
		return 0;
	pr_err("%s: %s %s\n", option, path, problem);
	return -EINVAL;
}

static bool is_module_line(const char *line, unsigned long long *address)
{
	char name[128], by[4096], state[32];
	unsigned long size;
	int refs;

	return sscanf(line, "%127s %lu %d %4095s %31s 0x%llx",
		      name, &size, &refs, by, state, address) == 6;
}

static int check_modules(const char *path)
{
	unsigned long long address;
	const char *problem = NULL;
	char *line = NULL;
	size_t n = 0;
	FILE *file;

	if (check_readable("--guestmodules", path))
		return -EINVAL;
	file = fopen(path, "r");
	if (!file)
		return -errno;

	while (!problem && getline(&line, &n, file) > 0) {
		if (!is_module_line(line, &address))
			problem = "is no copy of a /proc/modules";
		else if (!address)
			problem = NO_ADDRESSES;
	}
	free(line);
	fclose(file);

	if (!problem)
		return 0;
	pr_err("--guestmodules: %s %s\n", path, problem);
	return -EINVAL;
}

static int check_vmlinux(const char *path)
{
	struct dso *dso;
	struct symsrc ss;
	int err = -EINVAL;

	if (check_readable("--guestvmlinux", path))
		return -EINVAL;
	dso = dso__new(path);
	if (!dso)
		return -ENOMEM;

	if (symsrc__init(&ss, dso, path, DSO_BINARY_TYPE__GUEST_VMLINUX)) {
		pr_err("--guestvmlinux: %s is no vmlinux (ELF file)\n", path);
	} else {
		if (symsrc__has_symtab(&ss))
			err = 0;
		else
			pr_err("--guestvmlinux: %s has no symbols\n", path);
		symsrc__destroy(&ss);
	}
	dso__put(dso);
	return err;
}

static bool is_pid(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name);
}

/* Each guest has a directory with the PID of its VMM as the name. */
static int check_guestmount(const char *mount)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir(mount);
	int guests = 0, err = 0;

	if (!dir) {
		pr_err("--guestmount: %s cannot be read: %s\n", mount, strerror(errno));
		return -EINVAL;
	}
	while (!err && (entry = readdir(dir))) {
		if (!is_pid(entry->d_name))
			continue;
		guests++;
		scnprintf(path, sizeof(path), "%s/%s/proc/kallsyms", mount, entry->d_name);
		err = check_kallsyms("--guestmount", path);
		scnprintf(path, sizeof(path), "%s/%s", mount, entry->d_name);
		guest_binary__open(path);
	}
	closedir(dir);
	if (err || guests)
		return err;
	pr_err("--guestmount: %s has no directory with the PID of a VMM as its name\n", mount);
	return -EINVAL;
}

/* Is all of use that the user says of the guests? If not, one line says why. */
int guest_options__check(void)
{
	int err = 0;

	symbol__elf_init();
	if (symbol_conf.guestmount)
		err = check_guestmount(symbol_conf.guestmount);
	else
		guest_binary__open("");
	if (!err)
		err = guest_binary__check();
	if (!err && symbol_conf.default_guest_kallsyms)
		err = check_kallsyms("--guestkallsyms", symbol_conf.default_guest_kallsyms);
	if (!err && symbol_conf.default_guest_modules)
		err = check_modules(symbol_conf.default_guest_modules);
	if (!err && symbol_conf.default_guest_vmlinux_name)
		err = check_vmlinux(symbol_conf.default_guest_vmlinux_name);
	return err;
}

/* For commands that show guests if the user says something of them. */
int guest_options__apply(void)
{
	if (!guest_options__given())
		return 0;
	perf_guest = true;
	return guest_options__check();
}
