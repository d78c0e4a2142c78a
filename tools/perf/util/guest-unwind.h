/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_UNWIND_H
#define __PERF_GUEST_UNWIND_H

#include <stdbool.h>
#include <linux/types.h>
#include <subcmd/parse-options.h>

struct evsel;
struct machine;
struct perf_sample;

extern const struct option guest_unwind_options[];

void guest_unwind__disable(void);
bool guest_unwind__is_disabled(void);
void guest_unwind__sample(struct machine *machine, struct evsel *evsel,
			  struct perf_sample *sample);
bool guest_unwind__user_regs(const struct perf_sample *sample, u64 *addr);
void guest_unwind__finish(void);

#endif /* __PERF_GUEST_UNWIND_H */
