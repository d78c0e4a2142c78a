/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_NAMES_H
#define __PERF_GUEST_NAMES_H

struct machine;
struct machines;
struct perf_sample;
struct thread;

void guest_names__start(void);
struct thread *guest_names__findnew_thread(struct machine *machine, struct perf_sample *sample);
void guest_names__finish(void);
void guest_names__forget(struct machines *machines);

#endif /* __PERF_GUEST_NAMES_H */
