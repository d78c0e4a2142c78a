// SPDX-License-Identifier: GPL-2.0
/*
 * What commands that look at guests can be told about them, as the parent of
 * their own options.
 */
#include <subcmd/parse-options.h>

#include "guest-options.h"
#include "symbol_conf.h"

const struct option guest_options[] = {
	OPT_STRING(0, "guestmount", &symbol_conf.guestmount, "directory",
		   "guest mount directory under which every guest os instance has a subdir"),
	OPT_STRING(0, "guestvmlinux", &symbol_conf.default_guest_vmlinux_name,
		   "file", "file saving guest os vmlinux"),
	OPT_STRING(0, "guestkallsyms", &symbol_conf.default_guest_kallsyms,
		   "file", "file saving guest os /proc/kallsyms"),
	OPT_STRING(0, "guestmodules", &symbol_conf.default_guest_modules,
		   "file", "file saving guest os /proc/modules"),
	OPT_STRING(0, "guestbinary", &symbol_conf.guest_binary,
		   "file[@address]", "program that the guest runs"),
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
	       symbol_conf.guest_binary ||
	       symbol_conf.guest_code;
}
