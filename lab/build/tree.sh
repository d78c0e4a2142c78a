#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Assemble the kernel tree: Linux (LINUX=, a directory or tarball of any 6.12.y),
# patches/linux applied in order with no fuzz, and the overlay.
#
#   lab/build/tree.sh [STEPS]	STEPS: stop after so many patches of the series,
#				with the overlay files that those patches name
# Environment: TREE, the tree to assemble (build/linux).

. "$(dirname "$0")/../lib.sh"
. lab/build/assemble.sh

linux=${LINUX:-/usr/src/linux-source-6.12.tar.xz}
tree=${TREE:-$BUILD/linux}

# source_id: changes when LINUX= names another source than the unpacked one
source_id()
{
	if [ -d "$linux" ]; then
		printf '%s %s %s\n' "$(realpath "$linux")" "$(linux_version "$linux")" \
			"$(git -C "$linux" rev-parse -q --verify HEAD 2> /dev/null || echo -)"
	else
		printf '%s %s\n' "$(realpath "$linux")" "$(stat -Lc '%s %Y' "$linux")"
	fi
}

check_version()
{
	local version

	version=$(linux_version "$1")
	case $version in
	6.12.*)	;;
	'')	die "LINUX=$linux is no Linux source tree: name a directory or tarball of Linux 6.12.y" ;;
	*)	die "LINUX=$linux is Linux $version: guestperf needs 6.12.y" ;;
	esac
}

unpack_source()
{
	need_space 8 "$1"
	if [ -d "$linux" ]; then
		check_version "$linux"
		tar -C "$linux" --exclude-vcs --exclude='*.o' -cf - . | tar -C "$1" -xf -
	elif ! tar -C "$1" --strip-components=1 -xf "$linux" 2> "$1.log"; then
		die "LINUX=$linux does not unpack: $(head -n 1 "$1.log")"
	fi
	check_version "$1"
	# a directory may have been built in; an O= build wants it clean
	if [ -e "$1/.config" ] || [ -d "$1/include/config" ]; then
		logged "$BUILD/mrproper.log" "make mrproper of the copy of $linux" \
			make -C "$1" mrproper
	fi
}

mapfile -t all < <(find patches/linux -name '*.patch' | sort)
patches=("${all[@]:0:${1:-${#all[@]}}}")

overlay_files()
{
	local dir

	if [ ${#patches[@]} -lt ${#all[@]} ]; then
		[ ${#patches[@]} -eq 0 ] || sed -n 's/^Overlay: //p' "${patches[@]}"
	else
		for dir in $OVERLAY_DIRS; do
			[ ! -d "$dir" ] || find "$dir" -type f ! -name '.*' ! -name '*~'
		done
	fi
}

lock "$tree"
[ -e "$linux" ] || die "LINUX=$linux is not there: name a directory or tarball of Linux 6.12.y"
replace_tree "$tree" "$linux" "$(source_id)"
version="Linux $(linux_version "$tree")"
apply_patches "$tree" "$version" "${patches[@]}"
overlay_files | link_overlay "$tree" "$version" .
