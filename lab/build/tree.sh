#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Assemble the kernel tree: Linux (LINUX=, a directory or tarball of any
# 6.12.y) unpacked, patches/linux applied in order with no fuzz, and the
# overlay linked in. A second run touches only what has changed.
#
#   lab/build/tree.sh [STEPS]		STEPS: stop after so many patches of the series,
#				with the overlay files that those patches name
# Environment: TREE, where to (build/linux). Beside it TREE.state keeps the
# pristine copies of the patched files and the list of overlay links.

. "$(dirname "$0")/../lib.sh"

linux=${LINUX:-/usr/src/linux-source-6.12.tar.xz}
tree=${TREE:-$BUILD/linux}
state=$tree.state
overlay_dirs=(arch include kernel virt tools Documentation)

mapfile -t patches < <(find patches/linux -name '*.patch' | sort | head -n "${1:--0}")

linux_version()
{
	[ ! -f "$1/Makefile" ] ||
		sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$1/Makefile" | paste -sd.
}

# source_id: changes when LINUX= names something else than what was unpacked
source_id()
{
	if [ -d "$linux" ]; then
		printf '%s %s %s\n' "$(realpath "$linux")" "$(linux_version "$linux")" \
			"$(git -C "$linux" rev-parse -q --verify HEAD 2> /dev/null || echo -)"
	else
		printf '%s %s\n' "$(realpath "$linux")" "$(stat -Lc '%s %Y' "$linux")"
	fi
}

unpack()
{
	local new=$tree.new

	say UNPACK "$linux"
	rm -rf "$tree" "$state" "$new"
	mkdir -p "$new"
	need_space 8 "$new"
	if [ -d "$linux" ]; then
		tar -C "$linux" --exclude-vcs --exclude='*.o' -cf - . | tar -C "$new" -xf -
	elif ! tar -C "$new" --strip-components=1 -xf "$linux" 2> "$new.log"; then
		die "LINUX=$linux does not unpack: $(head -n 1 "$new.log")"
	fi
	check_version "$new"
	# a directory may have been built in; an O= build wants it clean
	if [ -e "$new/.config" ] || [ -d "$new/include/config" ]; then
		logged "$BUILD/mrproper.log" "make mrproper of the copy of $linux" \
			make -C "$new" mrproper
	fi
	mkdir -p "$state/orig"
	mv "$new" "$tree"
	rm -f "$new.log"
	source_id > "$state/source"
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

# patched_files PATCH...: the existing files that the patches change
patched_files()
{
	[ $# -eq 0 ] || sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$@" | sort -u
}

overlay_files()
{
	local dir

	if [ ${#patches[@]} -lt "$(find patches/linux -name '*.patch' | wc -l)" ]; then
		[ ${#patches[@]} -eq 0 ] || sed -n 's/^Overlay: //p' "${patches[@]}"
	else
		for dir in "${overlay_dirs[@]}"; do
			[ ! -d "$dir" ] || find "$dir" -type f ! -name '.*' ! -name '*~'
		done
	fi | sort
}

# Patch copies of the pristine files first, so that a patch that does not
# apply leaves the tree as it was.
apply_patches()
{
	local new=$state/new f patch

	rm -rf "$new"
	mkdir -p "$new"
	patched_files "${patches[@]}" > "$state/patched.new"
	while read -r f; do
		[ -e "$tree/$f" ] ||
			die "patches/linux changes $f, which Linux $version does not have: a new file belongs into the overlay"
		mkdir -p "$(dirname "$new/$f")" "$(dirname "$state/orig/$f")"
		[ -e "$state/orig/$f" ] || cp -p "$tree/$f" "$state/orig/$f"
		cp "$state/orig/$f" "$new/$f"
	done < "$state/patched.new"

	for patch in "${patches[@]}"; do
		if ! patch -d "$new" -p1 -F0 -N --no-backup-if-mismatch -r - \
				< "$patch" > "$state/patch.log"; then
			die "$patch does not apply to Linux $version: $(grep -B 1 -m 1 FAILED "$state/patch.log" | paste -sd ' '); refresh it"
		fi
	done

	touch "$state/patched"
	sort -u "$state/patched" "$state/patched.new" | while read -r f; do
		[ -e "$new/$f" ] || { mkdir -p "$(dirname "$new/$f")"; cp "$state/orig/$f" "$new/$f"; }
		cmp -s "$new/$f" "$tree/$f" && continue
		say PATCH "$f"
		cp --remove-destination "$new/$f" "$tree/$f"
	done
	mv "$state/patched.new" "$state/patched"
}

link_overlay()
{
	local f

	overlay_files > "$state/overlay.new"
	while read -r f; do
		[ -e "$f" ] || die "an Overlay: trailer names $f, which is not there"
		[ "$tree/$f" -ef "$f" ] && continue
		if [ -e "$tree/$f" ] && [ ! -L "$tree/$f" ]; then
			die "$f is in Linux $version: change it with a patch; the overlay holds new files only"
		fi
		say LINK "$f"
		mkdir -p "$(dirname "$tree/$f")"
		ln -srfn "$f" "$tree/$f"
	done < "$state/overlay.new"

	touch "$state/overlay"
	comm -23 "$state/overlay" "$state/overlay.new" | while read -r f; do
		say UNLINK "$f"
		rm -f "$tree/$f"
		rmdir -p --ignore-fail-on-non-empty "$tree/$(dirname "$f")"
	done
	mv "$state/overlay.new" "$state/overlay"
}

lock "$tree"
[ -e "$linux" ] || die "LINUX=$linux is not there: name a directory or tarball of Linux 6.12.y"
if [ ! -d "$tree" ] || [ "$(cat "$state/source" 2> /dev/null)" != "$(source_id)" ]; then
	unpack
fi
version=$(linux_version "$tree")
apply_patches
link_overlay
