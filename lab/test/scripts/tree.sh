#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test the front door without building anything: how a tree is assembled, and
# what bad input gets to hear. Uses a repository of a handful of files, and a
# "Linux" of three. Prints KTAP.
#
# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

top=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work" "$ktap_log"' EXIT
# refuses PATTERN COMMAND...: the command fails, and says one line, which matches
refuses()
{
	local pattern=$1 said

	shift
	said=$("$@" 2>&1 > /dev/null) && { echo "it did not fail"; return 1; }
	said=$(grep -v '^make.*\*\*\* \[' <<< "$said")
	echo "$said"
	[ "$(wc -l <<< "$said")" = 1 ] && grep -qE "$pattern" <<< "$said"
}

make_in()
{
	env -u BUILD -u OUT -u ONLY -u LIST LINUX="$work/linux" DEPS=no make -s -C "$@"
}

front_door()
{
	make_in "$work/repo" "$@"
}

file() { cat "$work/repo/build/linux/$1"; }
has() { [ "$(file "$1")" = "$2" ]; }
mtimes() { find "$work/repo/build/linux" ! -type d -printf '%P %T@ %i\n' | sort; }

# patch FILE FROM TO: a patch that changes FILE's line FROM to TO
write_patch()
{
	cat <<-END
		Subject: [PATCH] test: Change $1

		Why it is changed.
		---
		--- a/$1
		+++ b/$1
		@@ -1 +1 @@
		-$2
		+$3
	END
}

untouched_by_second_run()
{
	mtimes > "$work/before"
	front_door tree && mtimes > "$work/after" && cmp "$work/before" "$work/after"
}

only_touches()
{
	mtimes > "$work/before"
	front_door tree || return 1
	mtimes > "$work/after"
	[ "$(comm -13 "$work/before" "$work/after" | cut -d' ' -f1)" = "$1" ]
}

edited_patch()
{
	write_patch kernel/a.c one TWO > "$work/repo/patches/linux/0001-a.patch"
	only_touches kernel/a.c && has kernel/a.c TWO
}

removed_patch()
{
	rm "$work/repo/patches/linux/0002-b.patch"
	front_door tree && has kernel/b.c one
}

removed_overlay()
{
	rm "$work/repo/kernel/new.c"
	front_door tree && [ ! -e "$work/repo/build/linux/kernel/new.c" ] &&
		[ ! -L "$work/repo/build/linux/kernel/new.c" ]
}

nothing_beside_the_tree()
{
	find "$work/repo/build" -mindepth 1 -maxdepth 1
	[ "$(find "$work/repo/build" -mindepth 1 -maxdepth 1 | wc -l)" = 2 ]
}

moved()
{
	local status=0

	mtimes > "$work/before"
	mv "$work/repo" "$work/elsewhere"
	make_in "$work/elsewhere" tree || status=$?
	mv "$work/elsewhere" "$work/repo"
	mtimes > "$work/after"
	[ "$status" = 0 ] && cmp "$work/before" "$work/after"
}

help_lists()
{
	local name

	front_door help > "$work/help"
	for name; do
		grep -q "^[^a-z]*$name=" "$work/help" || { echo "no $name"; return 1; }
	done
}

# builds_nothing COMMAND...: the command, where there is nothing built yet
builds_nothing()
{
	local status=0

	mv "$work/repo/build" "$work/build"
	"$@" || status=$?
	if [ -e "$work/repo/build" ]; then
		find "$work/repo/build"
		rm -r "$work/repo/build"
		status=1
	fi
	mv "$work/build" "$work/repo/build"
	return "$status"
}

keeps_results()
{
	[ "$(cat "$work/repo/out/$1/file")" = kept ] && [ ! -e "$work/repo/out/$1.new" ]
}

results_of()
{
	mkdir -p "$work/repo/out/$1"
	echo kept > "$work/repo/out/$1/file"
}

dry_run()
{
	results_of demo
	front_door demo DRYRUN=1 | grep -q 'qemu-system-x86_64 .*demo' && keeps_results demo
}

failed_build()
{
	results_of demo
	! front_door demo LINUX=/nonexistent && keeps_results demo
}

no_author()
{
	results_of series
	! GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null EMAIL='' \
		GIT_AUTHOR_NAME='' GIT_AUTHOR_EMAIL='' front_door series && keeps_results series
}

# The last lines of a run, after a suite with a self-test that fails, a test that fails,
# and one without a result.
names_failures()
{
	cat > "$work/repo/lab/test/scripts/series.sh" <<-END
		#!/bin/sh
		echo "1..3
		# selftests: perf_kvm: a.sh
		# ok 1 one
		# # why
		# not ok 2 two
		# ok 3 three
		not ok 1 selftests: perf_kvm: a.sh # exit=1
		# no reason
		not ok 2 four
		# the end"
		exit 1
	END
	! front_door test ONLY=series > "$work/output" || return
	cat "$work/output"
	diff - <(tail -n 4 "$work/output") <<-END
		# failed: series: a.sh: two (why)
		# failed: series: four (no reason)
		# failed: series: 1 of 3 tests have no result (the end)
		0 passed, 3 failed, 0 skipped
	END
}

# with FILE TEXT COMMAND...: run the command while the repository has that file
with()
{
	local file=$work/repo/$1 status=0

	echo "$2" > "$file"
	shift 2
	"$@" || status=$?
	rm "$file"
	return "$status"
}

linux_is()
{
	printf 'VERSION = %s\nPATCHLEVEL = %s\nSUBLEVEL = %s\n' "$@" > "$work/linux/Makefile"
}

mkdir -p "$work/linux/kernel" "$work/repo/kernel" "$work/repo/patches/linux" "$work/odd dir"
linux_is 6 12 3
echo one | tee "$work/linux/kernel/a.c" > "$work/linux/kernel/b.c"
cp -r "$top/lab" "$top/Makefile" "$work/repo/"
cp -r "$top/lab" "$top/Makefile" "$work/odd dir/"
echo new > "$work/repo/kernel/new.c"
write_patch kernel/a.c one two > "$work/repo/patches/linux/0001-a.patch"
write_patch kernel/b.c one two > "$work/repo/patches/linux/0002-b.patch"

plan 30

check "assembles patches and overlay" front_door tree
check "a patch is applied" has kernel/b.c two
check "the overlay is linked" [ "$work/repo/build/linux/kernel/new.c" -ef "$work/repo/kernel/new.c" ]
check "a second run touches nothing" untouched_by_second_run
check "an edited patch touches its file alone" edited_patch
check "a removed patch is undone" removed_patch
check "a removed overlay file is unlinked" removed_overlay
check "a patch that needs fuzz is refused, with file, hunk and version" \
	with patches/linux/0003-c.patch "$(write_patch kernel/b.c three four)" \
	refuses '0003-c.patch does not apply to Linux 6.12.3: .*kernel/b.c.*[Hh]unk #1' front_door tree
check "a patch of a file that is not there is refused" \
	with patches/linux/0003-c.patch "$(write_patch kernel/c.c three four)" \
	refuses '0003-c.patch|kernel/c.c, which Linux 6.12.3 does not have' front_door tree
check "an overlay file that Linux has is refused" \
	with kernel/b.c mine refuses 'kernel/b.c is in Linux 6.12.3' front_door tree
check "after all that the tree is as it was" untouched_by_second_run
check "CONFIG= that is not there is refused" \
	refuses 'CONFIG=/nonexistent is not there' front_door kernel CONFIG=/nonexistent
check "LINUX= that is not there is refused" \
	refuses 'LINUX=/nonexistent is not there' front_door tree LINUX=/nonexistent
check "LINUX= that is no archive is refused" \
	refuses 'does not unpack' front_door tree LINUX="$top/Makefile"
check "LINUX= that is not Linux is refused, before anything is copied" \
	refuses 'is no Linux source tree' front_door tree LINUX="$top/lab"
linux_is 6 18 1
check "LINUX= of another version is refused" \
	refuses 'is Linux 6.18.1: guestperf needs 6.12.y' front_door tree
linux_is 6 12 3
check "all these leave the tree as it was" untouched_by_second_run
check "and nothing beside it" nothing_beside_the_tree
check "a repository that was moved touches nothing" moved
check "an unknown target points to help" refuses 'no target "nosuch": "make help"' front_door nosuch
check "help lists what a boot heeds" help_lists TIMEOUT CPUS MEM PMU ICOUNT APPEND
check "a list of tests builds nothing" builds_nothing front_door test LIST=1
check "nor does a test that is not there" builds_nothing \
	refuses 'ONLY=nosuch names no suite and no test' front_door test ONLY=nosuch
check "nor does a dry run, which keeps the last results" builds_nothing dry_run
check "nor does a shell without a terminal" builds_nothing \
	refuses 'a shell needs a terminal' front_door shell
check "a build that fails keeps the last results" failed_build
check "the last lines of a run name the failures, with reasons" names_failures
check "series without an author keeps the last mails" no_author
check "a path with a space is refused" \
	refuses 'has a space' make -s -C "$work/odd dir" tree
check "a BUILD= with a colon is refused" \
	refuses 'space or a colon' front_door tree BUILD="$work/a:b"
finish
