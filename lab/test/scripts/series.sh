#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test "make series": the mails apply, end in the entry of MAINTAINERS, name their
# base, and are signed off only on request; a failed run leaves the old mails. Prints
# KTAP.
#
# The mails are made from the assembled tree. A git tree for LINUX=, and the faults,
# are planted in a copy of the repository, with a Linux of only the files that the
# series changes.
#
# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

work=$(mktemp -d)
trap 'rm -rf "$work" "$ktap_log"' EXIT
orig=$BUILD/linux/.guestperf/orig

# an identity of the test's own, and no git configuration of the user's
export HOME=$work XDG_CONFIG_HOME=$work GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME='A. Tester' GIT_AUTHOR_EMAIL=tester@example.org
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
unset SIGNOFF EMAIL
signed="Signed-off-by: $GIT_AUTHOR_NAME <$GIT_AUTHOR_EMAIL>"

# refuses PATTERN COMMAND...: the command fails with one line that matches
refuses()
{
	local pattern=$1 said

	shift
	said=$("$@" 2>&1 > /dev/null) && { echo "no failure"; return 1; }
	echo "$said"
	[ "$(wc -l <<< "$said")" = 1 ] && grep -qE "$pattern" <<< "$said"
}

# series DIR [VARIABLE=VALUE...]: the series of this repository
series()
{
	env "${@:2}" lab/ship/series.sh "$1"
}

# copy_series DIR: the series of the copy
copy_series()
{
	env BUILD="$work/build" LINUX="$work/linux" DEPS=no "$work/repo/lab/ship/series.sh" "$1"
}

mails() { find "$1" -name '*.patch' ! -name '0000-*' | sort; }
cover() { cat "$1"/0000-cover-letter.patch; }
last() { mails "$1" | tail -n 1; }

complete()
{
	local patches

	patches=$(find patches/linux -name '*.patch' | wc -l)
	echo "$patches patches and MAINTAINERS; mails: $(mails "$work/plain" | wc -l)"
	[ "$(mails "$work/plain" | wc -l)" = $((patches + 1)) ] &&
		cover "$work/plain" | grep -q "^Subject: \[PATCH 0*/$((patches + 1))\] "
}

# has_base DIR PATTERN: one line of the cover letter names the base, and matches
has_base()
{
	cover "$1" | grep '^base'
	[ "$(cover "$1" | grep -c '^base')" = 1 ] && cover "$1" | grep -qE "$2"
}

apply()
{
	rm -rf "$work/am"
	cp -r "$orig" "$work/am"
	git -C "$work/am" init -q
	git -C "$work/am" add -A
	git -C "$work/am" commit -q -m Linux
	mails "$work/plain" | xargs git -C "$work/am" am -q
}

# git am of the mails makes what the tree has, which is built and tested
same_as_tree()
{
	local f

	git -C "$work/am" diff --name-only HEAD~"$(mails "$work/plain" | wc -l)" > "$work/changed"
	while read -r f; do
		[ "$f" = MAINTAINERS ] || cmp "$work/am/$f" "$BUILD/linux/$f" || return 1
	done < "$work/changed"
	{ cat "$BUILD/linux/.guestperf/patched" "$BUILD/linux/.guestperf/overlay"; echo MAINTAINERS; } |
		sort -u | diff - <(sort "$work/changed")
}

# The last mail changes only MAINTAINERS. The titles around the new one are in order,
# and checkpatch has no remark but the missing sign-off.
maintainers()
{
	local mail

	mail=$(last "$work/plain")
	[ "$(sed -n 's,^+++ b/,,p' "$mail")" = MAINTAINERS ] || return 1
	awk '/^[A-Z]:\t/ && before == "" { print title }
	     { before = title; title = $0 }' "$work/am/MAINTAINERS" > "$work/titles"
	grep -x -B 1 -A 1 "$(awk -v RS= -F'\n' '/\nF:\t/ { print $1 }' MAINTAINERS)" \
		"$work/titles" > "$work/neighbours"
	cat "$work/neighbours"
	[ "$(wc -l < "$work/neighbours")" = 3 ] && sort -fc "$work/neighbours" &&
		"$BUILD/linux/scripts/checkpatch.pl" --root="$BUILD/linux" --strict \
			--ignore MISSING_SIGN_OFF "$mail"
}

# signed_off DIR NUMBER: so many mails have a sign-off of the sender
signed_off()
{
	local found

	# shellcheck disable=SC2016
	found=$(mails "$1" | xargs awk -v line="$signed" '
		$0 == line { n++; nextfile }
		END { print n + 0 }')
	echo "$found are signed off"
	[ "$found" = "$2" ]
}

all_signed_off() { signed_off "$1" "$(mails "$1" | wc -l)"; }

# keeps_old PATTERN COMMAND...: "series $work/old" fails with one line, and leaves
# the old mails
keeps_old()
{
	rm -rf "$work/old"
	cp -r "$work/plain" "$work/old"
	refuses "$@" && diff -r "$work/plain" "$work/old" && [ ! -e "$work/old.new" ]
}

# Git looks for an identity in the repository, too: let it look in an empty one.
no_identity()
{
	env -u GIT_AUTHOR_NAME -u GIT_AUTHOR_EMAIL -u GIT_COMMITTER_NAME -u GIT_COMMITTER_EMAIL \
		GIT_DIR="$work/empty/.git" lab/ship/series.sh "$1"
}

# git format-patch writes the mails, and fails
late_failure()
{
	cat > "$work/bash_env" <<-'END'
		git()
		{
			command git "$@" || return
			[[ " $* " != *" format-patch "* ]] || { echo "no format-patch" >&2; false; }
		}
	END
	BASH_ENV=$work/bash_env lab/ship/series.sh "$1"
}

plain_git() { git -C "$work/linux" "$@"; }

plan 19
git init -q "$work/empty"

check "series: writes the mails" series "$work/plain"
check "series: has a mail for each patch, for MAINTAINERS, and a cover letter" complete
check "series: git am applies them to the pristine files" apply
check "series: and that makes the tree that the lab builds" same_as_tree
check "series: the last mail is an entry for MAINTAINERS, in its place" maintainers
check "series: has one line about the base" has_base "$work/plain" \
	"^base(-commit: [0-9a-f]{40}$|: Linux $(linux_version "$BUILD/linux")( |$))"
check "series: is not signed off" signed_off "$work/plain" 0
check "series: SIGNOFF=1 writes the mails" series "$work/signed" SIGNOFF=1
check "series: SIGNOFF=1 signs off each patch" all_signed_off "$work/signed"
check "series: SIGNOFF=yes is refused" refuses 'SIGNOFF=yes is neither 1 nor 0' series "$work/x" SIGNOFF=yes
check "series: without an identity it refuses and leaves the old mails" \
	keeps_old 'git config user.name' no_identity "$work/old"
check "series: a failure of git leaves the old mails" \
	keeps_old 'no format-patch' late_failure "$work/old"

# a copy of the repository, and a Linux of few files
mkdir "$work/repo"
cp -r lab patches Makefile MAINTAINERS "$work/repo/"
for dir in $OVERLAY_DIRS; do
	[ ! -d "$dir" ] || cp -r "$dir" "$work/repo/"
done
cp -r "$orig" "$work/linux"
printf 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 99\n' > "$work/linux/Makefile"
check "series: writes the mails for a Linux that is no git tree" copy_series "$work/copy"
check "series: and names only the version" has_base "$work/copy" '^base: Linux 6\.12\.99$'
plain_git init -q
plain_git add -A
plain_git commit -q -m Linux
check "series: writes the mails for a git tree, with its commit" copy_series "$work/copy"
check "series: base-commit: is the head of the git tree" \
	has_base "$work/copy" "^base-commit: $(plain_git rev-parse HEAD)\$"
echo >> "$work/linux/Makefile"
check "series: writes the mails for a git tree with local changes" copy_series "$work/copy"
check "series: and these are named, and not the commit alone" \
	has_base "$work/copy" '^base: Linux 6\.12\.99 .*local changes'
sed -i '/^F:.*guest_peek/d' "$work/repo/MAINTAINERS"
check "series: a new file that MAINTAINERS does not name is refused" \
	refuses 'MAINTAINERS has no F: line for arch/x86/kvm/mmu/guest_peek.c' copy_series "$work/copy"
finish
