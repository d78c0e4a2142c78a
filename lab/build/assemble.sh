# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Assemble a source tree of ours, of Linux or of the emulator: a pristine tree is
# unpacked, patches are applied, and the overlay's new files are linked in. A second
# run touches only files that have changed since. Sourced after lib.sh.
#
# TREE/.guestperf has the tree's state: the source's identity (source), the pristine
# copies of the patched files (orig), and the lists of patched and linked files.

assemble_tmp=$(mktemp -d)
unpacking=
trap 'rm -rf "$assemble_tmp" ${unpacking:+"$unpacking" "$unpacking.log"}' EXIT

# replace_tree TREE NAME IDENTITY: unless the tree was unpacked from the source of this
# identity, unpack it anew. The caller's function unpack_source DIR unpacks and checks;
# the old tree stays until unpack_source has succeeded.
replace_tree()
{
	local tree=$1 name=$2 identity=$3 new=$1.new

	[ "$(cat "$tree/.guestperf/source" 2> /dev/null)" != "$identity" ] || return 0
	say UNPACK "$name"
	unpacking=$new
	rm -rf "$new"
	mkdir -p "$new"
	unpack_source "$new"
	mkdir -p "$new/.guestperf/orig"
	echo "$identity" > "$new/.guestperf/source"

	replace "$tree"
}

# patched_files PATCH...: the existing files that the patches change
patched_files()
{
	[ $# -eq 0 ] || sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$@" | sort -u
}

# apply_patches TREE VERSION PATCH...: VERSION is for messages. The patches change
# copies of the pristine files first: a patch that does not apply leaves the tree alone.
apply_patches()
{
	local tree=$1 version=$2 state=$1/.guestperf new=$assemble_tmp/patched f patch

	shift 2
	mkdir "$new"
	patched_files "$@" > "$new.list"
	while read -r f; do
		[ -e "$tree/$f" ] ||
			die "${1%/*} changes $f, which $version does not have: a new file belongs into the overlay"
		mkdir -p "$(dirname "$new/$f")" "$(dirname "$state/orig/$f")"
		[ -e "$state/orig/$f" ] || cp -p "$tree/$f" "$state/orig/$f"
		cp "$state/orig/$f" "$new/$f"
	done < "$new.list"

	for patch; do
		patch -d "$new" -p1 -F0 -N --no-backup-if-mismatch -r - \
			< "$patch" > "$assemble_tmp/patch.log" ||
			die "$patch does not apply to $version: $(grep -B 1 -m 1 FAILED "$assemble_tmp/patch.log" | paste -sd ' '); refresh it"
	done

	[ -e "$state/patched" ] || touch "$state/patched"
	sort -u "$state/patched" "$new.list" | while read -r f; do
		[ -e "$new/$f" ] || { mkdir -p "$(dirname "$new/$f")"; cp "$state/orig/$f" "$new/$f"; }
		cmp -s "$new/$f" "$tree/$f" && continue
		say PATCH "$f"
		cp --remove-destination "$new/$f" "$tree/$f"
	done
	update "$state/patched" < "$new.list"
}

# link_overlay TREE VERSION ROOT: link the files of ROOT whose names come as standard
# input into the tree, and remove the links to files that are no longer named
link_overlay()
{
	local tree=$1 version=$2 root=$3 state=$1/.guestperf now=$assemble_tmp/overlay.list f

	sort > "$now"
	while read -r f; do
		[ -e "$root/$f" ] || die "an Overlay: trailer names $f, which is not there"
		[ "$tree/$f" -ef "$root/$f" ] && continue
		if [ -e "$tree/$f" ] && [ ! -L "$tree/$f" ]; then
			die "$f is in $version: change it with a patch; the overlay holds new files only"
		fi
		say LINK "$f"
		mkdir -p "$(dirname "$tree/$f")"
		ln -srfn "$root/$f" "$tree/$f"
	done < "$now"

	[ -e "$state/overlay" ] || touch "$state/overlay"
	comm -23 "$state/overlay" "$now" | while read -r f; do
		say UNLINK "$f"
		rm -f "$tree/$f"
		rmdir -p --ignore-fail-on-non-empty "$tree/$(dirname "$f")"
	done
	update "$state/overlay" < "$now"
}
