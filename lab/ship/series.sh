#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Write the series as mailable patches, git format-patch output with a cover
# letter, to out/series: each patch of patches/linux with the overlay files
# that it names. They are made in a small git repository which holds only the
# files that the series touches; git am takes them on a pristine 6.12 tree.
#
#   lab/ship/series.sh [DIR]	write to DIR instead
#
# The patches carry the name and address of whoever runs this, who also signs
# them off: git config format.signOff true.

. "$(dirname "$0")/../lib.sh"

tree=$BUILD/linux
out=${1:-$OUT/series}

build tree
ident=$(git var GIT_AUTHOR_IDENT 2> /dev/null) ||
	die "the patches need an author: git config user.name and user.email"
name=${ident%% <*} mail=${ident#*<}
mail=${mail%%>*}
signoff=$(git config --type=bool --default=false format.signOff)
version=$(linux_version "$tree")

series_git()
{
	git -C "$repo" -c user.name="$name" -c user.email="$mail" -c commit.gpgSign=false \
		-c format.signOff="$signoff" "$@"
}

# the pristine text of every file that the series changes
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
repo=$work/repo
mkdir "$repo"
new=$out.new
rm -rf "$new"
mkdir -p "$new"
cp -r "$tree/.guestperf/orig/." "$repo/"
series_git -c init.defaultBranch=linux init -q
series_git add -A
series_git commit -q --allow-empty -m "Linux $version"
series_git tag base

for patch in patches/linux/*.patch; do
	git mailinfo -k "$work/msg" "$work/diff" \
		< "$patch" > "$work/info" 2> /dev/null
	subject=$(sed -n 's/^Subject: \(\[PATCH\] \)\?//p' "$work/info")
	[ -n "$subject" ] || die "$patch has no Subject: line"
	series_git apply -p1 "$(realpath "$work/diff")"
	while read -r f; do
		mkdir -p "$repo/$(dirname "$f")"
		cp "$f" "$repo/$f"
	done < <(sed -n 's/^Overlay: //p' "$patch")
	series_git add -A
	{ echo "$subject"; echo; grep -v '^Overlay: ' "$work/msg"; } |
		series_git commit -q -F -
done

series_git config branch.linux.description "$(cat patches/linux/cover-letter)"
series_git format-patch -q --cover-letter --cover-from-description=subject \
	-o "$(realpath "$new")" base..
replace "$out"
say SERIES "$(find "$out" -name '*.patch' | wc -l) mails in $out, for Linux $version"
