#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test "make deb" with the lab's configuration: the packages are built and hold
# what a user installs them for. Prints KTAP.

. "$(dirname "$0")/../../lib.sh"

nr=0 failed=0

# holds PACKAGE PATH: a package matching the name holds the file, not empty
holds()
{
	nr=$((nr + 1))
	if dpkg-deb -c "$OUT/deb/$1"_*.deb |
	   awk -v path="./$2" '$6 == path && $3 > 0 { found = 1 } END { exit !found }'; then
		echo "ok $nr deb: $1 has /$2"
	else
		echo "not ok $nr deb: $1 has /$2"
		failed=1
	fi
}

echo "TAP version 13"
echo "1..6"
CONFIG='' lab/ship/deb.sh 2>&1 | sed 's/^/# /'
release=$(cat "$(kernel_dir lab)/include/config/kernel.release")
holds "linux-image-$release" "boot/vmlinuz-$release"
holds "linux-image-$release" "boot/System.map-$release"
holds "linux-image-$release" "boot/config-$release"
holds linux-libc-dev "usr/include/linux/perf_event.h"
holds guestperf-perf "opt/guestperf/bin/perf"

# the image in the package is the one that the tests have booted
nr=$((nr + 1))
if dpkg-deb --fsys-tarfile "$OUT/deb/linux-image-${release}"_*.deb |
   tar -xO "./boot/vmlinuz-$release" | cmp -s - "$(kernel_dir lab)/arch/x86/boot/bzImage"; then
	echo "ok $nr deb: the packaged image is the one that was tested"
else
	echo "not ok $nr deb: the packaged image is the one that was tested"
	failed=1
fi
exit $failed
