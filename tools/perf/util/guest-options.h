/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_OPTIONS_H
#define __PERF_GUEST_OPTIONS_H

#include <stdbool.h>
#include <linux/types.h>
#include <subcmd/parse-options.h>

/* An error beside -errno */
#define GUEST_FILE_NOT_REGULAR	1

extern const struct option guest_options[];

int guest_file__open(const char *path, int *fd);
int guest_file__read(int fd, u64 offset, u64 size, u8 **bytes);
bool guest_options__given(void);
int guest_options__check(void);
int guest_options__apply(void);
bool guest_unwind__given(void);
int guest_unwind__check(void);
bool guest_user__given(void);
int guest_user__check(void);

#endif /* __PERF_GUEST_OPTIONS_H */
