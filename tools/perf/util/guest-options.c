// SPDX-License-Identifier: GPL-2.0
/*
 * The options that all commands for guests share, as the parent of each command's own
 * options; and the checks of the files that the options name.
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
#include <linux/compiler.h>
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

/* Overridden where kernels of guests are unwound. */
bool __weak guest_unwind__given(void)
{
	return false;
}

/* Overridden where user space of guests is unwound. */
bool __weak guest_user__given(void)
{
	return false;
}

/* Each of these options asks for the samples of guests. */
bool guest_options__given(void)
{
	return symbol_conf.guestmount ||
	       symbol_conf.default_guest_vmlinux_name ||
	       symbol_conf.default_guest_kallsyms ||
	       symbol_conf.default_guest_modules ||
	       guest_binary__given() ||
	       guest_unwind__given() ||
	       guest_user__given() ||
	       symbol_conf.guest_code;
}

/*
 * Open a file to read it. Returns 0, -errno or GUEST_FILE_NOT_REGULAR. Files are read more
 * than once: refuse a pipe, and do not wait in open() for its writer.
 */
int guest_file__open(const char *path, int *fd)
{
	struct stat st;

	*fd = open(path, O_RDONLY | O_NONBLOCK);
	if (*fd < 0)
		return -errno;
	if (!fstat(*fd, &st) && S_ISREG(st.st_mode))
		return 0;
	close(*fd);
	return GUEST_FILE_NOT_REGULAR;
}

/* Read a part of a file into new memory: 0, -errno, or -ENOEXEC if the file is shorter. */
int guest_file__read(int fd, u64 offset, u64 size, u8 **bytes)
{
	ssize_t len;

	*bytes = malloc(size);
	if (!*bytes)
		return -ENOMEM;
	for (u64 done = 0; done < size; done += len) {
		len = pread(fd, *bytes + done, size - done, offset + done);
		if (len < 0)
			return -errno;
		if (!len)
			return -ENOEXEC;
	}
	return 0;
}

/* What is wrong with a file, to be printed behind its name */
struct problem {
	char text[256];
};

static int check_readable(const char *path, struct problem *problem)
{
	int fd, err = guest_file__open(path, &fd);

	if (!err) {
		close(fd);
		return 0;
	}
	if (err == GUEST_FILE_NOT_REGULAR)
		scnprintf(problem->text, sizeof(problem->text), "is not a regular file");
	else
		scnprintf(problem->text, sizeof(problem->text), "cannot be read: %s",
			  strerror(-err));
	return -EINVAL;
}

static int set_problem(struct problem *problem, const char *text)
{
	scnprintf(problem->text, sizeof(problem->text), "%s", text);
	return -EINVAL;
}

#define NO_ADDRESSES \
	"has no addresses: copy it as root of the guest (see kernel.kptr_restrict)"

#define NO_TEXT \
	"has no _text and no _stext: it is no complete copy of a /proc/kallsyms"

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

static int check_kallsyms(const char *path, struct problem *problem)
{
	struct kallsyms_check check = {};

	if (check_readable(path, problem))
		return -EINVAL;

	if (kallsyms__parse(path, &check, check_symbol) || !check.symbols)
		return set_problem(problem, "is no copy of a /proc/kallsyms");
	if (!check.has_addresses)
		return set_problem(problem, NO_ADDRESSES);
	if (!check.has_text)
		return set_problem(problem, NO_TEXT);
	return 0;
}

/*
 * NAME SIZE REFS USERS STATE ADDRESS. REFS is "-" if the kernel does not unload modules.
 * USERS may be long.
 */
static bool is_module_line(const char *line, unsigned long long *address)
{
	char name[128], refs[16], state[32];
	unsigned long size;

	return sscanf(line, "%127s %lu %15s %*s %31s 0x%llx",
		      name, &size, refs, state, address) == 5 &&
	       (!strcmp(refs, "-") || strspn(refs, "-0123456789") == strlen(refs)) &&
	       (!strcmp(state, "Live") || !strcmp(state, "Loading") ||
		!strcmp(state, "Unloading"));
}

static int check_modules(const char *path, struct problem *problem)
{
	unsigned long long address;
	char *line = NULL;
	size_t n = 0;
	FILE *file;
	int err = 0;

	if (check_readable(path, problem))
		return -EINVAL;
	file = fopen(path, "r");
	if (!file)
		return set_problem(problem, "cannot be read");

	while (!err && getline(&line, &n, file) > 0) {
		if (!is_module_line(line, &address))
			err = set_problem(problem, "is no copy of a /proc/modules");
		else if (!address)
			err = set_problem(problem, NO_ADDRESSES);
	}
	free(line);
	fclose(file);
	return err;
}

static int check_vmlinux(const char *path, struct problem *problem)
{
	struct symsrc ss;
	struct dso *dso;
	int err = 0;

	if (check_readable(path, problem))
		return -EINVAL;
#ifndef HAVE_LIBELF_SUPPORT
	return set_problem(problem, "cannot be used: this perf is built without libelf");
#endif
	dso = dso__new(path);
	if (!dso)
		return set_problem(problem, "cannot be read: no memory");

	if (symsrc__init(&ss, dso, path, DSO_BINARY_TYPE__GUEST_VMLINUX)) {
		err = set_problem(problem, "is no vmlinux (ELF file)");
	} else {
		if (!symsrc__has_symtab(&ss))
			err = set_problem(problem, "has no symbols");
		symsrc__destroy(&ss);
	}
	dso__put(dso);
	return err;
}

static bool is_pid(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name);
}

/*
 * Each guest has a directory with the PID of its VMM as the name. Directories that cannot
 * be used are left out with a warning. At least one must be usable.
 */
static int check_guestmount(const char *mount)
{
	char path[PATH_MAX], first[PATH_MAX] = "";
	struct problem problem, first_problem = {};
	struct dirent *entry;
	DIR *dir = opendir(mount);
	int usable = 0;

	if (!dir) {
		pr_err("--guestmount: %s cannot be read: %s\n", mount, strerror(errno));
		return -EINVAL;
	}
	while ((entry = readdir(dir))) {
		if (!is_pid(entry->d_name))
			continue;
		scnprintf(path, sizeof(path), "%s/%s/proc/kallsyms", mount, entry->d_name);
		if (!check_kallsyms(path, &problem)) {
			usable++;
			scnprintf(path, sizeof(path), "%s/%s", mount, entry->d_name);
			guest_binary__open(path);
		} else if (*first) {
			pr_debug("--guestmount: %s %s\n", path, problem.text);
		} else {
			scnprintf(first, sizeof(first), "%s", path);
			first_problem = problem;
		}
	}
	closedir(dir);

	if (*first && usable)
		pr_warning("--guestmount: %s %s. The kernel of this VM has no symbols.\n", first,
			   first_problem.text);
	else if (*first)
		pr_err("--guestmount: %s %s\n", first, first_problem.text);
	else if (!usable)
		pr_err("--guestmount: %s has no directory with the PID of a VMM as its name\n",
		       mount);
	return usable ? 0 : -EINVAL;
}

static int check_file(const char *option, const char *path,
		      int (*check)(const char *path, struct problem *problem))
{
	struct problem problem;

	if (!path || !check(path, &problem))
		return 0;
	pr_err("%s: %s %s\n", option, path, problem.text);
	return -EINVAL;
}

/* Overridden where kernels of guests are unwound. */
int __weak guest_unwind__check(void)
{
	return 0;
}

/* Overridden where user space of guests is unwound. */
int __weak guest_user__check(void)
{
	return 0;
}

/* Check all that the user says of the guests. An error prints one line. */
int guest_options__check(void)
{
	int err;

	symbol__elf_init();
	err = guest_binary__parse_all();
	if (err)
		return err;
	if (symbol_conf.guestmount)
		err = check_guestmount(symbol_conf.guestmount);
	else
		guest_binary__open("");
	return err ?:
	       guest_binary__check() ?:
	       check_file("--guestkallsyms", symbol_conf.default_guest_kallsyms,
			  check_kallsyms) ?:
	       check_file("--guestmodules", symbol_conf.default_guest_modules,
			  check_modules) ?:
	       check_file("--guestvmlinux", symbol_conf.default_guest_vmlinux_name,
			  check_vmlinux) ?:
	       guest_unwind__check() ?:
	       guest_user__check();
}

/* For commands that show guests only if the user says something of guests. */
int guest_options__apply(void)
{
	if (!guest_options__given())
		return 0;
	perf_guest = true;
	return guest_options__check();
}
