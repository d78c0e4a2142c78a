/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_BINARY_H
#define __PERF_GUEST_BINARY_H

struct machine;
struct thread;

int guest_binary__map(struct machine *machine, struct thread *thread);

#endif /* __PERF_GUEST_BINARY_H */
