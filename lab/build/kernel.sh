#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the kernel from the assembled tree.
#
#   lab/build/kernel.sh [TARGET...]	(bzImage; all, if CONFIG= is given)
# Environment: CONFIG, what to build: nothing for the lab's own configuration,
# a configuration file such as /boot/config-VERSION, or localmodconfig; LAB_KERNEL,
# an addition to the lab's own, such as debug, which is lab/build/config/debug.config;
# or a kernel of 32 bits for guests: i386, or i386_pae, which is an addition to that.
# With CONFIG, LAB_KERNEL is only the name of the build directory.
# The images of LAB_KERNELs are kept under ~/.cache/guestperf/kernel, named by the hash of all
# their inputs.

. "$(dirname "$0")/../lib.sh"
. lab/build/config.sh

tree=$BUILD/linux
targets=("$@")
if [ -n "${CONFIG:-}" ]; then
	check_config
	dir=$(kernel_dir "${LAB_KERNEL:-custom}")
	[ ${#targets[@]} -gt 0 ] || targets=(all)
else
	dir=$(kernel_dir "${LAB_KERNEL:-}")
	[ ${#targets[@]} -gt 0 ] || targets=(bzImage)
fi
mkdir -p "$dir"
out=$(realpath "$dir")
lock "$dir"

# The same sources make the same image: no user, host, time or build number in it.
export KBUILD_BUILD_USER=guestperf KBUILD_BUILD_HOST=lab
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970'
export KBUILD_BUILD_VERSION=1	# not how often it was built here

kmake()
{
	submake -C "$tree" O="$out" "${variables[@]}" "$@"
}

# survived FRAGMENT: every option asked for is in the final .config, which
# merge_config.sh and olddefconfig only warn of
survived()
{
	local lost

	lost=$(grep -E '^CONFIG_|^# CONFIG_.* is not set' "$1" | grep -vxFf "$dir/.config" |
		grep -v ' is not set' | paste -sd ' ') || :
	[ -z "$lost" ] ||
		die "$1 asks for $lost, which this Linux does not grant: a dependency is missing (see $dir/.config)"
}

merge()
{
	(cd "$tree" && scripts/kconfig/merge_config.sh -O "$out" "$@")
}

fragments=(lab/build/config/guestperf.config)
variables=()
if [ -z "${CONFIG:-}" ]; then
	case ${LAB_KERNEL:-} in
	debug)	# lockdep and the unwinder, which runs for each allocation, take most of the
		# time of this kernel: KASAN does not check their own accesses
		variables=(KASAN_SANITIZE_lockdep.o=n KASAN_SANITIZE_unwind_frame.o=n) ;;
	esac
	case ${LAB_KERNEL:-} in
	i386*)	export ARCH=i386
		fragments=(lab/build/config/i386.config) ;;
	*)	fragments+=(lab/build/config/lab.config) ;;
	esac
	case ${LAB_KERNEL:-} in
	''|i386) ;;
	*)	fragments+=("lab/build/config/$LAB_KERNEL.config") ;;
	esac
fi

# the inputs of the configuration
configured_from()
{
	echo "${CONFIG:-lab}"
	cat "${fragments[@]}"
	[ -z "${CONFIG:-}" ] || config_inputs
}

# merge again when the inputs have changed
id=$dir/configured-from
if [ ! -e "$dir/.config" ] || ! configured_from | cmp -s - "$id"; then
	say CONFIG "${CONFIG:-lab}"
	rm -f "$id"
	if [ -n "${CONFIG:-}" ]; then
		logged "$dir/config.log" "configuring from $CONFIG" configure_from "$CONFIG"
	else
		logged "$dir/config.log" "configuring the lab kernel" \
			merge -n "${fragments[@]/#/$PWD/}"
	fi
	configured_from > "$id"
fi

# the lab's kernels are not built again from the same inputs
stamp=
if [ -z "${CONFIG:-}" ] && [ $# = 0 ]; then
	stamp=$dir/built-from
	inputs=$(inputs -vE '^(tools/(perf|testing)|Documentation)/'
		 cat lab/build/kernel.sh "${fragments[@]}")
	! unchanged "$stamp" "$dir/arch/x86/boot/bzImage" <<< "$inputs" || exit 0
	rm -f "$stamp"
	# of LAB_KERNELs, only the image is wanted
	if [ -n "${LAB_KERNEL:-}" ]; then
		cache=$CACHE/kernel/$(sha256sum <<< "$inputs" | cut -c1-32)
		if [ -e "$cache" ]; then
			say KERNEL "from the cache ($cache)"
			mkdir -p "$dir/arch/x86/boot"
			cp "$cache" "$dir/arch/x86/boot/bzImage"
			echo "$inputs" > "$stamp"
			exit
		fi
	fi
fi

for fragment in "${fragments[@]}"; do
	survived "$fragment"
done
if [ -n "${CONFIG:-}" ]; then
	say_lost
	need_space "$(build_gib)" "$dir"
fi
say KERNEL "$dir: ${targets[*]}"
logged "$dir/build.log" "building the kernel" kmake "${targets[@]}"
for fragment in "${fragments[@]}"; do
	survived "$fragment"
done
[ -z "$stamp" ] || echo "$inputs" > "$stamp"
[ -z "${cache:-}" ] || keep "$dir/arch/x86/boot/bzImage" "$cache"
