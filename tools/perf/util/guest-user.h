/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_USER_H
#define __PERF_GUEST_USER_H

#include <stdbool.h>
#include <subcmd/parse-options.h>

struct evsel;
struct machine;
struct perf_sample;
struct thread;

extern const struct option guest_user_options[];

void guest_user__sample(struct machine *machine, struct evsel *evsel,
			struct perf_sample *sample);
struct thread *guest_user__findnew_thread(struct machine *machine, struct perf_sample *sample);
void guest_user__finish(void);

#endif /* __PERF_GUEST_USER_H */
