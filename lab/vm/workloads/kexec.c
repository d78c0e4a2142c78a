// SPDX-License-Identifier: GPL-2.0
/*
 * Boot another kernel from the running kernel, see kexec_file_load(2):
 *
 *	kexec KERNEL INITRD PARAMETERS		now
 *	kexec -p KERNEL INITRD PARAMETERS	on a panic of the running kernel, in the
 *						memory set aside by crashkernel=
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	int on_panic = argc > 1 && !strcmp(argv[1], "-p");
	char **arg = argv + 1 + on_panic;

	if (argc - on_panic != 4)
		errx(2, "usage: kexec [-p] KERNEL INITRD PARAMETERS");

	if (syscall(SYS_kexec_file_load, open_file(arg[0]), open_file(arg[1]),
		    strlen(arg[2]) + 1, arg[2], on_panic ? KEXEC_FILE_ON_CRASH : 0))
		err(1, "kexec_file_load");
	if (on_panic)
		return 0;

	reboot(LINUX_REBOOT_CMD_KEXEC);
	err(1, "reboot");
}
