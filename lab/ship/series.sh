#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Write the series as mailable patches, git format-patch output with a cover
# letter, to out/series: each patch of patches/linux with the overlay files named
# in it, and at last the entry of MAINTAINERS. They are made in a small git repository
# of the files that the series touches; git am applies them to a pristine 6.12 tree.
#
#   lab/ship/series.sh [DIR]	write to DIR instead
#
# The patches carry the name and address of the user's git configuration.
# Environment: SIGNOFF=1, sign the patches off, as with git config format.signOff true.

. "$(dirname "$0")/../lib.sh"

tree=$BUILD/linux
out=${1:-$OUT/series}

case ${SIGNOFF:-} in
'')	signoff=$(git config --type=bool --default=false format.signOff) ;;
1)	signoff=true ;;
0)	signoff=false ;;
*)	die "SIGNOFF=$SIGNOFF is neither 1 nor 0: with 1 the patches are signed off" ;;
esac
# git would make up an address from the names of the user and of the machine
ident=$(git -c user.useConfigOnly=true var GIT_AUTHOR_IDENT 2> /dev/null) ||
	die "the patches need an author: git config user.name and user.email"
name=${ident%% <*} mail=${ident#*<}
mail=${mail%%>*}

# The mails depend on the identity and on format.* of the user's git configuration,
# but not on hooks and on other forms of a diff.
series_git()
{
	git -C "$repo" -c user.name="$name" -c user.email="$mail" \
		-c commit.gpgSign=false -c core.hooksPath=/dev/null -c core.autocrlf=false \
		-c diff.noprefix=false -c diff.mnemonicPrefix=false \
		-c format.useAutoBase=false -c format.signOff="$signoff" "$@"
}

# base: the line of the cover letter about the base of the series. A commit is named
# only if Linux is a git tree without changes of its own.
base()
{
	local state source commit package

	state=$(< "$tree/.guestperf/source")	# the source and two words
	source=${state% * *} commit=${state##* }
	if [ -d "$source" ]; then
		if [ "$commit" = - ] ||
		   [ "$(git -C "$source" rev-parse --show-toplevel 2> /dev/null)" != "$source" ]; then
			echo "base: Linux $version"
		elif git -C "$source" diff --quiet "$commit" -- 2> /dev/null; then
			echo "base-commit: $commit"
		else
			echo "base: Linux $version (commit $commit with local changes)"
		fi
	elif package=$(dpkg-query -S "$source" 2> /dev/null); then
		package=${package%%:*}
		echo "base: Linux $version (Debian $package $(dpkg-query -W -f '${Version}' "$package"))"
	else
		echo "base: Linux $version (${source##*/})"
	fi
}

# commit MESSAGE: all that has changed in the repository
commit()
{
	series_git add -A
	series_git commit -q -F "$1"
}

# Commit one patch of patches/linux, with the overlay files named in it.
commit_patch()
{
	local patch=$1 subject f

	git mailinfo -k "$work/msg" "$work/diff" < "$patch" > "$work/info" 2> /dev/null
	subject=$(sed -n 's/^Subject: \(\[PATCH\] \)\?//p' "$work/info")
	[ -n "$subject" ] || die "$patch has no Subject: line"
	series_git apply -p1 "$work/diff"
	while read -r f; do
		mkdir -p "$repo/$(dirname "$f")"
		cp "$f" "$repo/$f"
	done < <(sed -n 's/^Overlay: //p' "$patch")
	{ echo "$subject"; echo; grep -v '^Overlay: ' "$work/msg"; } > "$work/message"
	commit "$work/message"
}

# has_maintainer FILE: a pattern of our entry matches the file
has_maintainer()
{
	local pattern

	while read -r pattern; do
		# shellcheck disable=SC2254 # a pattern
		case $1 in
		$pattern)	return ;;
		"$pattern"*)	[ "${pattern: -1}" != / ] || return 0 ;;
		esac
	done < <(sed -n 's/^F:\t//p' "$work/entry")
	return 1
}

# The entry of MAINTAINERS in this repository becomes one of the kernel's. Without an
# M: line in the entry, the sender of the mails is the maintainer.
commit_maintainers()
{
	local f

	awk -v RS= '/\nF:\t/' MAINTAINERS > "$work/entry"
	while read -r f; do
		has_maintainer "$f" ||
			die "MAINTAINERS has no F: line for $f: add one"
	done < <(sed -n 's/^Overlay: //p' patches/linux/*.patch)
	grep -q '^M:' "$work/entry" || sed -i "1a M:\t$name <$mail>" "$work/entry"

	awk -v entry="$work/entry" -f lab/ship/maintainers.awk \
		"$tree/.guestperf/orig/MAINTAINERS" > "$repo/MAINTAINERS" ||
		die "$tree/MAINTAINERS is not in the format known to lab/ship/maintainers.awk"
	cat > "$work/message" <<-'END'
		MAINTAINERS: Add an entry for guest profiling with perf

		Name the new files of this series: guests' call chains and the paravirtual
		PMU in KVM, the driver in the guest, perf's handling of guests' files, and
		the self-tests and documentation of all these. Existing files stay with
		their maintainers.
	END
	commit "$work/message"
}

build tree
lock "$BUILD/series"
version=$(linux_version "$tree")
work=$(mktemp -d)
repo=$work/repo
new=$out.new
trap 'rm -rf "$work" "$new"' EXIT

# the pristine text of every file that the series changes
[ -e "$tree/.guestperf/orig/MAINTAINERS" ] || cp -p "$tree/MAINTAINERS" "$tree/.guestperf/orig/"
cp -r "$tree/.guestperf/orig" "$repo"
series_git -c init.defaultBranch=linux init -q
series_git add -A
series_git commit -q --allow-empty -m "Linux $version"
series_git tag base

for patch in patches/linux/*.patch; do
	commit_patch "$patch"
done
commit_maintainers

rm -rf "$new"
mkdir -p "$new"
new=$(realpath "$new")
series_git config branch.linux.description "$(cat patches/linux/cover-letter)"
series_git format-patch -q --cover-letter --cover-from-description=subject -o "$new" base..
# above git's signature, if there is one, as format-patch would have it
base=$(base)
if grep -q '^-- $' "$new"/0000-*.patch; then
	sed -i "/^-- \$/i $base" "$new"/0000-*.patch
else
	echo "$base" >> "$new"/0000-*.patch
fi
replace "$out"
say SERIES "$(find "$out" -name '*.patch' | wc -l) mails in $out, for Linux $version"
