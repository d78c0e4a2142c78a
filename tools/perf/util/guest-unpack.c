// SPDX-License-Identifier: GPL-2.0
/*
 * Read a kernel or a module of a guest: an ELF file, an ELF file packed with gzip, xz or
 * zstd, or a vmlinuz (bzImage), whose payload is a packed ELF file.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/kernel.h>
#include <linux/types.h>
#ifdef HAVE_LZMA_SUPPORT
#include <lzma.h>
#endif
#ifdef HAVE_ZLIB_SUPPORT
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD_SUPPORT
#include <zstd.h>
#endif

#include "guest-options.h"
#include "guest-unpack.h"

/* A kernel with debug information is some hundred MiB. */
#define MAX_UNPACKED	((size_t)1 << 30)

/* Documentation/arch/x86/boot.rst */
#define BOOT_SETUP_SECTS	0x1f1
#define BOOT_MAGIC		0x202	/* HdrS */
#define BOOT_VERSION		0x206
#define BOOT_KERNEL_VERSION	0x20e
#define BOOT_PAYLOAD_OFFSET	0x248
#define BOOT_PAYLOAD_LENGTH	0x24c
#define BOOT_HEADER_END		0x250

static const char elf_magic[] = { 0x7f, 'E', 'L', 'F' };

struct unpack {
	const u8 *in;
	size_t in_size;
	u8 *out;
	size_t out_size;
	size_t room;
};

static u32 le32_at(const u8 *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24;
}

static __printf(3, 4) int fail(char *msg, size_t msg_size, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(msg, msg_size, fmt, args);
	va_end(args);
	return -EINVAL;
}

/* Not called in a build without a library for any format. */
static bool __maybe_unused unpack_grow(struct unpack *u)
{
	size_t room = u->room ? 2 * u->room : (size_t)1 << 20;
	u8 *out = room > MAX_UNPACKED ? NULL : realloc(u->out, room);

	if (!out)
		return false;
	u->out = out;
	u->room = room;
	return true;
}

#ifdef HAVE_ZLIB_SUPPORT
static bool unpack_gzip(struct unpack *u)
{
	z_stream z = { .next_in = (u8 *)u->in, .avail_in = u->in_size };
	int ret;

	/* 16: with the header of gzip */
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return false;
	do {
		if (u->out_size == u->room && !unpack_grow(u)) {
			ret = Z_MEM_ERROR;
			break;
		}
		z.next_out = u->out + u->out_size;
		z.avail_out = u->room - u->out_size;
		ret = inflate(&z, Z_NO_FLUSH);
		u->out_size = u->room - z.avail_out;
	} while (ret == Z_OK);
	inflateEnd(&z);
	return ret == Z_STREAM_END;
}
#endif

#ifdef HAVE_LZMA_SUPPORT
static bool unpack_xz(struct unpack *u)
{
	lzma_stream xz = LZMA_STREAM_INIT;
	lzma_ret ret;

	if (lzma_stream_decoder(&xz, UINT64_MAX, 0) != LZMA_OK)
		return false;
	xz.next_in = u->in;
	xz.avail_in = u->in_size;
	do {
		if (u->out_size == u->room && !unpack_grow(u)) {
			ret = LZMA_MEM_ERROR;
			break;
		}
		xz.next_out = u->out + u->out_size;
		xz.avail_out = u->room - u->out_size;
		ret = lzma_code(&xz, LZMA_RUN);
		u->out_size = u->room - xz.avail_out;
	} while (ret == LZMA_OK);
	lzma_end(&xz);
	return ret == LZMA_STREAM_END;
}
#endif

#ifdef HAVE_ZSTD_SUPPORT
/* Stop at the end of the frame: the payload of a vmlinuz has its size behind the frame. */
static bool unpack_zstd(struct unpack *u)
{
	ZSTD_inBuffer in = { .src = u->in, .size = u->in_size };
	ZSTD_DStream *zstd = ZSTD_createDStream();
	ZSTD_outBuffer out;
	size_t ret = 1, in_pos, out_pos;

	if (!zstd)
		return false;
	ZSTD_initDStream(zstd);
	do {
		if (u->out_size == u->room && !unpack_grow(u))
			break;
		out = (ZSTD_outBuffer) { .dst = u->out, .size = u->room, .pos = u->out_size };
		in_pos = in.pos;
		out_pos = out.pos;
		ret = ZSTD_decompressStream(zstd, &out, &in);
		u->out_size = out.pos;
	} while (ret && !ZSTD_isError(ret) && (in.pos != in_pos || out.pos != out_pos));
	ZSTD_freeDStream(zstd);
	return ret == 0;
}
#endif

static const struct packer {
	const char *name;
	const char *magic;
	size_t magic_size;
	bool (*unpack)(struct unpack *u);
} packers[] = {
#ifdef HAVE_ZLIB_SUPPORT
	{ "gzip", "\x1f\x8b", 2, unpack_gzip },
#else
	{ "gzip", "\x1f\x8b", 2, NULL },
#endif
#ifdef HAVE_LZMA_SUPPORT
	{ "xz", "\xfd\067zXZ", 6, unpack_xz },
#else
	{ "xz", "\xfd\067zXZ", 6, NULL },
#endif
#ifdef HAVE_ZSTD_SUPPORT
	{ "zstd", "\x28\xb5\x2f\xfd", 4, unpack_zstd },
#else
	{ "zstd", "\x28\xb5\x2f\xfd", 4, NULL },
#endif
	{ "lz4", "\x02\x21\x4c\x18", 4, NULL },
	{ "bzip2", "BZh", 3, NULL },
	{ "lzop", "\x89LZO", 4, NULL },
	{ "lzma", "\x5d\0\0", 3, NULL },
};

static const struct packer *find_packer(const u8 *data, size_t size)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(packers); i++)
		if (size >= packers[i].magic_size &&
		    !memcmp(data, packers[i].magic, packers[i].magic_size))
			return &packers[i];
	return NULL;
}

/* Returns true if @u->in is a vmlinuz, and lets @u->in be its payload. */
static bool find_payload(struct unpack *u, char *release, size_t release_size)
{
	size_t base, offset, length, version;

	if (u->in_size < BOOT_HEADER_END || memcmp(u->in + BOOT_MAGIC, "HdrS", 4) ||
	    u->in[BOOT_VERSION + 1] < 2 || u->in[BOOT_VERSION] < 8)
		return false;

	version = (u->in[BOOT_KERNEL_VERSION] | u->in[BOOT_KERNEL_VERSION + 1] << 8) + 0x200;
	if (version < u->in_size)
		snprintf(release, release_size, "%.*s",
			 (int)strcspn((const char *)u->in + version, " "),
			 (const char *)u->in + version);

	base = (u->in[BOOT_SETUP_SECTS] + 1) * 512;
	offset = le32_at(u->in + BOOT_PAYLOAD_OFFSET);
	length = le32_at(u->in + BOOT_PAYLOAD_LENGTH);
	if (base >= u->in_size || offset > u->in_size - base ||
	    length > u->in_size - base - offset) {
		u->in_size = 0;
		return true;
	}
	u->in += base + offset;
	u->in_size = length;
	return true;
}

static int unpack_file(struct unpack *u, struct guest_image_data *image, char *msg,
		       size_t msg_size)
{
	bool is_vmlinuz = find_payload(u, image->release, sizeof(image->release));
	const struct packer *packer = find_packer(u->in, u->in_size);

	if (!packer || !packer->unpack) {
		if (packer)
			return fail(msg, msg_size,
				    "is packed with %s, which this perf cannot unpack: use %s%s first",
				    packer->name,
				    is_vmlinuz ? "scripts/extract-vmlinux" : packer->name,
				    is_vmlinuz ? "" : " -d");
		if (is_vmlinuz && !u->in_size)
			return fail(msg, msg_size, "is not complete");
		return fail(msg, msg_size, "is neither an ELF file nor a packed one");
	}
	if (!packer->unpack(u))
		return fail(msg, msg_size, "is damaged: %s does not unpack it", packer->name);
	return 0;
}

/* Read a file. A 0 behind its last byte terminates strings. */
static int read_file(const char *path, u8 **data, size_t *size, char *msg, size_t msg_size)
{
	struct stat st;
	ssize_t n;
	int fd, err;

	*size = 0;
	*data = NULL;
	err = guest_file__open(path, &fd);
	if (err == GUEST_FILE_NOT_REGULAR)
		return fail(msg, msg_size, "is not a regular file");
	if (err)
		return fail(msg, msg_size, "cannot be read: %s", strerror(-err));

	if (!fstat(fd, &st) && st.st_size < (off_t)MAX_UNPACKED)
		*data = malloc(st.st_size + 1);
	while (*data && *size < (size_t)st.st_size) {
		n = read(fd, *data + *size, st.st_size - *size);
		if (n <= 0)
			break;
		*size += n;
	}
	close(fd);
	if (!*data)
		return fail(msg, msg_size, "is too large");
	(*data)[*size] = 0;
	return 0;
}

/* Returns 0 with data for the caller to free, or -EINVAL with the reason in msg. */
int guest_unpack(const char *path, struct guest_image_data *image, char *msg, size_t msg_size)
{
	struct unpack u = {};
	u8 *file;
	int err;

	memset(image, 0, sizeof(*image));
	err = read_file(path, &file, &u.in_size, msg, msg_size);
	if (err)
		return err;

	u.in = file;
	if (u.in_size >= sizeof(elf_magic) && !memcmp(file, elf_magic, sizeof(elf_magic))) {
		image->data = file;
		image->size = u.in_size;
		return 0;
	}

	err = unpack_file(&u, image, msg, msg_size);
	free(file);
	if (err) {
		free(u.out);
		return err;
	}
	image->data = u.out;
	image->size = u.out_size;
	return 0;
}
