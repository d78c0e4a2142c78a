/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_KERNEL_H
#define __PERF_GUEST_KERNEL_H

#include <stddef.h>
#include <linux/types.h>
#include "unwind-orc.h"

struct guest_kernel;

extern const struct orc_kernel_ops guest_kernel_ops;

struct guest_kernel *guest_kernel__new(const char *vmlinuz, const char *kallsyms,
				       const char *moddir, char *msg, size_t msg_size);
void guest_kernel__delete(struct guest_kernel *kernel);
const struct orc_entry *guest_kernel__find(struct guest_kernel *kernel, u64 ip);
bool guest_kernel__has_text(struct guest_kernel *kernel, u64 ip);

#endif /* __PERF_GUEST_KERNEL_H */
