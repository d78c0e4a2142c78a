/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_NAMES_H
#define __PERF_GUEST_NAMES_H

#include <linux/types.h>

struct machine;
struct machines;
struct perf_sample;
struct thread;

/* Map @programs, which is a value of the caller's own, into the maps of @thread. */
typedef int (*guest_names__map_t)(struct machine *machine, struct thread *thread, u64 programs);

void guest_names__start(void);
struct thread *guest_names__findnew_thread(struct machine *machine, struct perf_sample *sample);
struct thread *guest_names__findnew(struct machine *machine, struct perf_sample *sample,
				    guest_names__map_t map, u64 programs);
void guest_names__finish(void);
void guest_names__forget(struct machines *machines);

#endif /* __PERF_GUEST_NAMES_H */
