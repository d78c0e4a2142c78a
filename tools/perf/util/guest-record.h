/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_RECORD_H
#define __PERF_GUEST_RECORD_H

#include <stdbool.h>

struct evlist;
struct evsel;
struct target;

bool evsel__dumps_guests(struct evsel *evsel);
bool evsel__samples_guests(struct evsel *evsel);
void guest_record__want_guests(void);
int guest_record__check(struct evlist *evlist);
void guest_record__add_guests(struct evlist *evlist);
int guest_record__check_samples(struct evlist *evlist, struct target *target);
int guest_data__check(struct evlist *evlist, const char *path);

#endif /* __PERF_GUEST_RECORD_H */
