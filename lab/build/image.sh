#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the two initramfs images, build/host.cpio and build/guest.cpio, from
# what the other steps have built: busybox, our init, jobs, workloads, perf; for
# the host also the emulator as VMM, the kernel's self-tests, the guest's kernel
# and image, and images with Debian's perf and Python to add to that. Nothing of this
# machine but programs and their libraries is in them, and the same inputs make the
# same image.
#
# Environment: LAB_KERNEL, one of the lab's other kernels, such as debug: build only
# build/host-$LAB_KERNEL.cpio, which is the host's image with that kernel for guests.

. "$(dirname "$0")/../lib.sh"
. lab/build/cpio.sh

busybox=$(command -v busybox)
kselftest=$BUILD/kselftest
collections="kvm perf_kvm"

# strip_programs DIR...: three quarters of the self-tests are symbols
strip_programs()
{
	find "$@" -type f -perm /111 -exec sh -c '
		for f; do
			[ "$(head -c 4 "$f")" != "$(printf "\177ELF")" ] || strip "$f" || exit
		done' sh {} +
}

# common ROOT MACHINE: the files of both machines, and the jobs of MACHINE: host, guest
common()
{
	local root=$1

	rm -rf "$root"
	mkdir -p "$root/bin" "$root/lab"
	cp "$busybox" "$root/bin/busybox"
	cp lab/vm/init "$root/init"
	cp -r "lab/vm/$2" "$root/lab/jobs"
	cp lab/vm/common/* "$root/lab/jobs/"
	cp lab/vm/guest.sh lab/vm/command.sh "$root/lab/"
	mkdir -p "$root/usr/bin"
	find "$BUILD/workloads" -type f -exec cp -t "$root/usr/bin" {} +
	# so that the VMM and perf run under a user name
	mkdir -p "$root/etc"
	echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
}

guest_image()
{
	common "$BUILD/guest.root" guest
	add "$BUILD/guest.root" "$BUILD/perf/perf" usr/bin/perf
	pack "$BUILD/guest.root" "$BUILD/guest.cpio"
}

# Another version of perf. Few tests need the image, which is large.
linux_perf_image()
{
	local root=$BUILD/linux-perf.root

	rm -rf "$root"
	add "$root" /usr/bin/perf usr/lib/linux-perf/perf
	pack "$root" "$BUILD/linux-perf.cpio"
}

# The system's Python, with the modules that its start needs, for one test.
python_image()
{
	local root=$BUILD/python.root python=/usr/bin/python3 file

	rm -rf "$root"
	add "$root" $python
	mkdir -p "$root/usr/lib/$(basename "$(realpath $python)")/lib-dynload"
	$python -ISc 'import os, sys
for module in list(sys.modules.values()):
    print(getattr(module, "__file__", None) or "")' | grep '\.py$' | while read -r file; do
		add "$root" "$file"
	done
	pack "$root" "$BUILD/python.cpio"
}

host_image()
{
	local root=$BUILD/host.root

	common "$root" host
	add "$root" "$BUILD/perf/perf" usr/bin/perf
	add "$root" "$BUILD/qemu/bin/qemu-system-x86_64" vmm/bin/qemu-system-x86_64
	mkdir -p "$root/vmm/share" "$root/boot"
	cp -r "$BUILD/qemu/share/qemu" "$root/vmm/share/"
	cp "$(kernel_dir lab)/arch/x86/boot/bzImage" "$BUILD/guest.cpio" \
		"$BUILD/linux-perf.cpio" "$BUILD/python.cpio" "$root/boot/"
	[ ! -d "$BUILD/stock" ] || cp -r "$BUILD/stock" "$root/boot/stock"
	cp -r "$kselftest" "$root/kselftest"
	strip_programs "$root/kselftest" "$root/vmm/bin"
	cp -r lab/test/suites "$root/lab/suites"
	cp lab/test/perf-test.expect lab/test/perf-test.guest "$root/lab/"
	# the workload's functions: address, size, type, name
	nm -S "$BUILD/workloads/callgraph" > "$root/lab/callgraph.nm"
	pack "$root" "$BUILD/host.cpio"
}

other_kernel_image()
{
	local name=$BUILD/host-$LAB_KERNEL

	rm -rf "$name.root"
	mkdir -p "$name.root/boot"
	cp "$(kernel_dir "$LAB_KERNEL")/arch/x86/boot/bzImage" "$name.root/boot/"
	pack "$name.root" "$name.root.cpio"
	# a later file replaces an earlier file of the same name
	cat "$BUILD/host.cpio" "$name.root.cpio" | update "$name.cpio"
}

build_selftests()
{
	local kernel

	kernel=$(realpath "$(kernel_dir lab)")
	submake -C "$BUILD/linux" O="$kernel" headers_install
	# make knows objects by absolute names. With a base directory, ccache writes relative
	# names into the dependencies, and a changed header would rebuild nothing.
	CCACHE_BASEDIR='' submake -C "$BUILD/linux/tools/testing/selftests" O="$kernel" \
		TARGETS="$collections" INSTALL_PATH="$(realpath -m "$kselftest")" \
		FORCE_TARGETS=1 install
}

lock "$BUILD/image"
if [ -n "${LAB_KERNEL:-}" ]; then
	say IMAGE "$BUILD/host-$LAB_KERNEL.cpio"
	other_kernel_image
	exit
fi
# the self-tests are not built again from the same inputs
stamp=$BUILD/kselftest.built-from
inputs=$(inputs .
	 cat lab/build/image.sh)
if ! unchanged "$stamp" "$kselftest/run_kselftest.sh" <<< "$inputs"; then
	rm -f "$stamp"
	say TESTS "$kselftest"
	logged "$BUILD/kselftest.log" "building the self-tests" build_selftests
	echo "$inputs" > "$stamp"
fi
logged "$BUILD/workloads.log" "building the workloads" \
	make -C lab/vm/workloads O="$(realpath -m "$BUILD/workloads")"
say IMAGE "$BUILD/guest.cpio"
guest_image
say IMAGE "$BUILD/linux-perf.cpio"
linux_perf_image
say IMAGE "$BUILD/python.cpio"
python_image
say IMAGE "$BUILD/host.cpio"
host_image
