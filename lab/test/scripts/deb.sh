#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test "make deb": with the lab's configuration the packages hold the files that users
# need, and a failed run leaves the old packages. Prints KTAP.
#
#	lab/test/scripts/deb.sh [modules]
#
# modules: build another kernel, with modules (lab/test/deb.config). Lost options are
# named, and external modules build with the package of the headers.
#
# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

# the user's own packages, in out/deb, stay
export OUT=$OUT/test-deb
tree=$BUILD/linux
work=$(mktemp -d)
trap 'rm -rf "$work" "$ktap_log"' EXIT

# has PACKAGE PATH: a package of this name holds the file, not empty
has()
{
	dpkg-deb -c "$OUT/deb/$1"_*.deb |
		awk -v path="./$2" '$6 == path && $3 > 0 { found = 1 } END { exit !found }'
}

holds()
{
	check "deb: $1 has /$2" has "$@"
}

# Package the lab's kernel, and keep the image of the time before.
package_lab()
{
	CONFIG='' LAB_KERNEL='' lab/build/kernel.sh || return
	cp "$(kernel_dir lab)/arch/x86/boot/bzImage" "$work/tested"
	CONFIG='' LAB_KERNEL='' lab/ship/deb.sh
}

# the image in the package is the image that the tests have booted
tested_image()
{
	dpkg-deb --fsys-tarfile "$OUT/deb/linux-image-${release}"_*.deb |
		tar -xO "./boot/vmlinuz-$release" | cmp - "$work/tested"
}

# config NAME [LINE...]: a complete configuration, in the file NAME: lab/test/deb.config
# without the options of the lines, and then the lines
config()
{
	local file=$work/$1 line

	mkdir -p "$work/merge"
	(cd "$tree" && scripts/kconfig/merge_config.sh -n -O "$work/merge" \
		"$top/lab/test/deb.config") > "$work/merge.log" || return
	cp "$work/merge/.config" "$file"
	shift
	for line; do
		sed -i "/^\(# \)\?${line%%[= ]*}[= ]/d" "$file"
		echo "$line" >> "$file"
	done
}

# make_deb CONFIG: with its own build directory: that of the user's kernel stays
make_deb()
{
	CONFIG=$1 LAB_KERNEL=test-deb lab/ship/deb.sh
}

# The configuration has an option without its dependency, and an unknown option.
says_lost()
{
	cat "$work/said"
	grep -qF 'LOST     lib/Kconfig.debug: DEBUG_INFO_BTF (no debug information)' "$work/said" &&
		grep -q 'LOST     1 lost, 0 set by Kconfig alone, 1 not known to Linux 6.12' "$work/said" &&
		grep -qx CONFIG_NO_SUCH_OPTION=y "$(kernel_dir test-deb)/lost"
}

# No link leads out of the headers' package, and the overlay's files are files.
no_links()
{
	local header=arch/x86/include/uapi/asm/kvm_pv_pmu.h

	[ -L "$tree/$header" ] && [ -f "$headers/$header" ] && [ ! -L "$headers/$header" ] || return
	while read -r link; do
		echo "$link -> $(readlink "$link")"
		[[ $(realpath -m "$link") = "$headers"/* ]] || return
	done < <(find "$headers" -type l)
}

# An external module builds with the headers' package alone, and for this kernel.
external_module()
{
	mkdir -p "$work/module"
	echo 'obj-m := trivial.o' > "$work/module/Makefile"
	cat > "$work/module/trivial.c" <<-'END'
		#include <linux/module.h>
		#include <linux/kvm_host.h>
		#include <asm/kvm_pv_pmu.h>

		static int __init trivial_init(void)
		{
			pr_info("%zu\n", sizeof(struct kvm_vcpu));
			return 0;
		}
		module_init(trivial_init);
		MODULE_DESCRIPTION("Trivial");
		MODULE_LICENSE("GPL");
	END
	submake -C "$headers" M="$work/module" modules || return
	modinfo -F vermagic "$work/module/trivial.ko"
	[[ $(modinfo -F vermagic "$work/module/trivial.ko") = "$(cat "$(kernel_dir test-deb)/include/config/kernel.release") "* ]]
}

# keeps_old PATTERN COMMAND...: the command fails with one line on stderr that matches,
# and the packages are the old ones
keeps_old()
{
	local pattern=$1 said

	shift
	find "$OUT/deb" -type f -printf '%f %T@ %i\n' | sort > "$work/before"
	said=$("$@" 2>&1 > /dev/null) && { echo "no failure"; return 1; }
	echo "$said"
	[ "$(wc -l <<< "$said")" = 1 ] && grep -qE "$pattern" <<< "$said" || return
	find "$OUT/deb" -type f -printf '%f %T@ %i\n' | sort | diff "$work/before" - &&
		[ -s "$work/before" ] && [ ! -e "$OUT/deb.new" ]
}

# a disk with 100 MiB
small_disk()
{
	cat > "$work/bash_env" <<-'END'
		df() { printf "Avail\n100M\n"; }
	END
	BASH_ENV=$work/bash_env make_deb "$1"
}

if [ "${1:-}" = modules ]; then
	plan 16
else
	plan 11
fi
top=$PWD

check "deb: packages the lab's kernel" package_lab
release=$(cat "$(kernel_dir lab)/include/config/kernel.release")
holds "linux-image-$release" "boot/vmlinuz-$release"
holds "linux-image-$release" "boot/System.map-$release"
holds "linux-image-$release" "boot/config-$release"
holds linux-libc-dev "usr/include/linux/perf_event.h"
holds guestperf-perf "opt/guestperf/bin/perf"
check "deb: the packaged image is the one that was tested" tested_image

config good CONFIG_NO_SUCH_OPTION=y CONFIG_DEBUG_INFO_BTF=y
config no-kvm '# CONFIG_KVM is not set'
echo CONFIG_ARM64=y > "$work/other"
if [ "${1:-}" = modules ]; then
	check "deb: packages a kernel with modules" make_deb "$work/good"
	cp "$ktap_log" "$work/said"
	check "deb: names the options that are lost" says_lost
	release=$(cat "$(kernel_dir test-deb)/include/config/kernel.release")
	holds "linux-image-$release" "lib/modules/$release/kernel/arch/x86/kvm/kvm.ko.zst"
	dpkg-deb -x "$OUT/deb/linux-headers-${release}"_*.deb "$work/headers"
	headers=$work/headers/usr/src/linux-headers-$release
	check "deb: the headers are files, and lead nowhere else" no_links
	check "deb: an external module builds with the headers alone" external_module
fi

check "deb: CONFIG= that is not there is refused, and the packages stay" \
	keeps_old 'CONFIG=/nonexistent is not there' make_deb /nonexistent
check "deb: CONFIG= of another architecture is refused, and the packages stay" \
	keeps_old 'not the configuration of a 64-bit x86 kernel' make_deb "$work/other"
check "deb: CONFIG= without KVM is refused, and the packages stay" \
	keeps_old 'asks for .*CONFIG_KVM_PV_PMU=y' make_deb "$work/no-kvm"
check "deb: a disk that is too small is refused, and the packages stay" \
	keeps_old '100 MiB free and this needs' small_disk "$work/good"
finish
