# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The configuration of a real machine: CONFIG= of "make kernel" and "make deb".
# Sourced after lib.sh. All but check_config are for kernel.sh, which defines dir, out,
# tree and kmake.
#
# shellcheck disable=SC2154

# running_config: the configuration of the running kernel
running_config()
{
	cat "/boot/config-$(uname -r)" 2> /dev/null || zcat /proc/config.gz 2> /dev/null
}

# check_config: CONFIG= is a configuration for this architecture
check_config()
{
	if [ "${CONFIG:-}" = localmodconfig ]; then
		running_config > /dev/null ||
			die "CONFIG=localmodconfig needs /boot/config-$(uname -r) or /proc/config.gz: name a configuration file"
	elif [ -n "${CONFIG:-}" ]; then
		if [ ! -f "$CONFIG" ] || [ ! -r "$CONFIG" ]; then
			die "CONFIG=$CONFIG is not there: name a kernel configuration file, or localmodconfig"
		fi
		[ -n "$(zcat -f "$CONFIG" | sed -n '/^CONFIG_X86_64=y/p')" ] ||
			die "CONFIG=$CONFIG is not the configuration of a 64-bit x86 kernel"
	fi
}

# config_inputs: the contents of CONFIG=, and the versions of tools with options of their own
config_inputs()
{
	if [ "$CONFIG" = localmodconfig ]; then
		running_config
	else
		cat "$CONFIG"
	fi | cksum
	"${CC:-gcc}" --version | head -n 1
	ld --version | head -n 1
	pahole --version 2> /dev/null || echo "no pahole"
}

# configure_from CONFIG: the user's configuration with the options of this series.
# asked.config holds the user's options.
configure_from()
{
	if [ "$1" = localmodconfig ]; then
		running_config > "$dir/.config" || return
		kmake localmodconfig < <(yes '') || return
		# all of the running kernel's, but only the modules in use
		{ running_config | grep -v '=m$'; grep '=m$' "$dir/.config"; } > "$dir/asked.config"
	else
		zcat -f "$1" > "$dir/.config" || return
		cp "$dir/.config" "$dir/asked.config"
	fi
	# a distribution's keys are not here to sign with
	"$tree/scripts/config" --file "$dir/.config" \
		--set-str SYSTEM_TRUSTED_KEYS '' --set-str SYSTEM_REVOCATION_KEYS '' || return
	# the last value counts; merge_config.sh takes a minute for as many options
	cat lab/build/config/guestperf.config >> "$dir/.config"
	kmake olddefconfig
}

# is_set OPTION...: at least one option is y
is_set()
{
	local option

	for option; do
		! grep -qx "CONFIG_$option=y" "$dir/.config" || return 0
	done
	return 1
}

# no_btf: the reason for the loss of DEBUG_INFO_BTF, if known
no_btf()
{
	local version

	version=$(sed -n 's/^CONFIG_PAHOLE_VERSION=//p' "$dir/.config")
	if ! is_set DEBUG_INFO; then
		echo "no debug information"
	elif is_set DEBUG_INFO_REDUCED; then
		echo "not with DEBUG_INFO_REDUCED"
	elif is_set DEBUG_INFO_SPLIT; then
		echo "not with DEBUG_INFO_SPLIT"
	elif ! is_set BPF_SYSCALL; then
		echo "not without BPF_SYSCALL"
	elif is_set GCC_PLUGIN_RANDSTRUCT; then
		echo "not with GCC_PLUGIN_RANDSTRUCT"
	elif [ "${version:-0}" = 0 ]; then
		echo "pahole is missing: install the package dwarves"
	elif [ "$version" -lt 121 ]; then
		echo "pahole is older than 1.21"
	fi
}

# The Kconfig files of this architecture, relative to the tree
kconfig_files()
{
	(cd "$tree" && find . \( -path './build-*' -o -path ./tools -o -path ./scripts/kconfig \
		-o -path './arch/*' -type d ! -path './arch/x86*' -o -name '.?*' \) -prune \
		-o -name 'Kconfig*' -printf '%P\n')
}

# say_lost: name the options of the user's configuration that are not in the kernel's
say_lost()
{
	local files lost line top=$PWD

	mapfile -t files < <(kconfig_files)
	lost=$(cd "$tree" && awk -v version="Linux $(linux_version .)" -v btf="$(cd "$top" && no_btf)" \
		-v report="$out/lost" -f "$top/lab/build/lost.awk" kind=kconfig "${files[@]}" \
		kind=final "$out/.config" kind=asked "$out/asked.config")
	[ -z "$lost" ] || while read -r line; do
		say LOST "$line"
	done <<< "${lost//"$out"/"$dir"}"
}

# build_gib: the space for the build and the packages, less the space already in use. An
# estimate: Debian's debug symbols of 6.12 are 1.6 MiB per module, kernel included, and a
# build holds them three times.
build_gib()
{
	local modules mib

	modules=$(grep -c '=m$' "$dir/.config") || :
	if is_set DEBUG_INFO; then
		mib=$((5000 + modules * 5))
	else
		mib=$((2000 + modules * 3 / 2))
	fi
	mib=$((mib - $(du -sm "$dir" | cut -f1)))
	echo $(((mib > 0 ? mib : 0) / 1024 + 1))
}
