#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compare the lists of self-tests with the self-tests in the host's image: each test is
# in a list of lab/test/suites, or is left out for a reason; and no list has a test which
# does not exist. Prints KTAP.

# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

suites=lab/test/suites
left_out=$suites/kvm.left_out

# names FILE...: a line is a test, then arguments, or the reason to leave the test out
names()
{
	sed -e 's/#.*//' -e 's/[[:space:]].*//' -e '/^$/d' "$@" | sort -u
}

# all_in NAMES OTHERS COMPLAINT: each name is one of the others
all_in()
{
	local name bad=0

	while read -r name; do
		echo "$name $3"
		bad=1
	done < <(comm -23 <(echo "$1") <(echo "$2"))
	return "$bad"
}

# none_in NAMES OTHERS COMPLAINT: no name is one of the others
none_in()
{
	all_in "$1" "$(comm -23 <(echo "$1") <(echo "$2"))" "$3"
}

# Only comments, and a test, a tab and a reason.
reasons()
{
	! grep -nvP '^(#.*|\w+:[\w.]+\t+\w.*)?$' "$left_out"
}

[ -s "$BUILD/kselftest/kselftest-list.txt" ] ||
	die "there are no self-tests yet to compare the lists with: run \"make lab\""
mapfile -t lists < <(find "$suites" -type f ! -name '*.left_out')
installed=$(names "$BUILD/kselftest/kselftest-list.txt")
listed=$(names "${lists[@]}")
not_listed=$(names "$left_out")
known=$(sort -u <<< "$listed"$'\n'"$not_listed")

plan 5
check "lists: each test is listed or left out" \
	all_in "$installed" "$known" "is in no list of $suites, and not in $left_out"
check "lists: each listed test exists" \
	all_in "$listed" "$installed" "is in a list of $suites, but the build has no such test"
check "lists: each test that is left out exists" \
	all_in "$not_listed" "$installed" "is in $left_out, but the build has no such test"
check "lists: no test is both listed and left out" \
	none_in "$listed" "$not_listed" "is in a list of $suites, and in $left_out, too"
check "lists: each test that is left out has a reason" reasons
finish
