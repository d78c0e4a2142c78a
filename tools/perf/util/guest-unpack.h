/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __PERF_GUEST_UNPACK_H
#define __PERF_GUEST_UNPACK_H

#include <stddef.h>

/* The contents of a file, unpacked. */
struct guest_image_data {
	void *data;
	size_t size;
	char release[80];	/* of a vmlinuz, as uname -r prints it; otherwise empty */
};

int guest_unpack(const char *path, struct guest_image_data *image, char *msg, size_t msg_size);

#endif /* __PERF_GUEST_UNPACK_H */
