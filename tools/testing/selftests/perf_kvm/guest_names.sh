#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The names of --guestbinary are those of the program that the guest runs at the sample.
# Two programs linked to the same addresses, callgraph and recurse_low, run in turns in
# one guest:
#
#  - With one of them named, no sample of the other has a name. With both named, each
#    has its own names, and the same samples have them. The shares are right.
#  - The chains with names are chains of the program.
#  - Without call chains, nothing is named, and perf says so.
#  - With ",all" the file names what is at its addresses, without chains too.
#
# Arguments: the event and the period, as for guest_callchain.sh.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs callgraph and recurse_low
#
# shellcheck disable=SC2086

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"

ktap_print_header
if [ -z "$GUEST_LIB" ] || [ ! -r "$GUEST_PROGRAMS/recurse_low" ]; then
	ktap_skip_all "GUEST_LIB and GUEST_PROGRAMS name no guest to profile"
	exit "$KSFT_SKIP"
fi
. "$GUEST_LIB"

event=${1:-cpu-clock}
period=${2:-97001}
data=$(mktemp -d)
trap 'rm -r "$data"' EXIT

# record NAME OPTION...: profile the guest while both programs run
record()
{
	name=$1
	shift
	guest_start workload "callgraph,1000+recurse_low,5,1000,yield" &&
	guest_expect ready &&
	perf kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" \
		record -q "$@" -a -e "$event" -c "$period" -o "$data/$name" -- \
		sh -c '. "$GUEST_LIB" && guest_say go && guest_expect done' &&
	guest_wait &&
	cp "$GUEST_DIR/kallsyms" "$data/kallsyms"
}

# fold: print each sample of the guest's user space in one line: the names of the frames,
# innermost first. A frame without a name is an address.
fold()
{
	awk -v RS= -v FS='\n' '
		{ split($1, header, " ") }
		header[1] != "KGg"	{ next }
		{
			line = ""
			for (i = 2; i <= NF; i++) {
				split($i, frame, " ")
				unnamed = frame[2] == "" || frame[2] == "[unknown]"
				line = line " " (unnamed ? "0x" frame[1] : frame[2])
			}
			print line
		}'
}

# script NAME [PROGRAM[,all]...]: the samples of a recording, with the programs' names
script()
{
	recording=$1
	shift
	for program; do
		set -- "$@" --guestbinary="$GUEST_PROGRAMS/$program"
		shift
	done
	perf script -F misc,ip,sym --guestkallsyms="$data/kallsyms" "$@" -i "$data/$recording"
}

# chains FILE [PROGRAM[,all]...]: the user chains
chains()
{
	file=$1
	shift
	script chains "$@" | fold > "$data/$file"
}

# flat FILE [PROGRAM[,all]...]: the user samples of the recording without chains, as chains
flat()
{
	file=$1
	shift
	script flat "$@" | awk '$1 == "KGg" { print " " $3 " " }' > "$data/$file"
}

callgraph='^ (qux|bar|foo) '
recurse='^ (spin|down) '

# samples FILE CONDITION: the number of samples that match an extended regular expression
samples()
{
	grep -cE "$2" "$data/$1"
}

recorded()
{
	record chains -g && chains none.txt &&
	chains callgraph.txt callgraph && chains recurse.txt recurse_low &&
	chains both.txt callgraph recurse_low
}

# only FILE SAMPLES CHAINS: the samples that match are chains that match
only()
{
	! grep -E "$2" "$data/$1" | grep -vE "$3" | sed 's/^/# /' | grep .
}

# half FILE CONDITION: 40 to 55 % of the samples match. Each program has half of the time;
# 10 % of the samples of callgraph are in main, without a direct call in their chains.
half()
{
	all=$(samples "$1" .)
	n=$(samples "$1" "$2")
	echo "# $n of $all samples"
	[ "$n" -ge 300 ] && [ $((100 * n)) -ge $((40 * all)) ] && [ $((100 * n)) -le $((55 * all)) ]
}

# The names of the file's samples are those of one program.
callgraph_named()
{
	half callgraph.txt "$callgraph" && [ "$(samples callgraph.txt "spin|down")" = 0 ] &&
		only callgraph.txt "$callgraph" '^ (((qux )?bar )?foo |qux foo |bar )?main( |$)'
}

recurse_named()
{
	half recurse.txt "$recurse" && [ "$(samples recurse.txt "qux|bar|foo")" = 0 ] &&
		only recurse.txt "$recurse" '^ (spin )?(down )*main( |$)'
}

# Each sample has the names of at most one program, and with both given the same names.
both_named()
{
	paste -d '|' "$data/none.txt" "$data/callgraph.txt" "$data/recurse.txt" \
		"$data/both.txt" |
		awk -F '|' '
			$2 != $1 && $3 != $1	{ print "# two names: " $2 " and " $3; bad = 1 }
			{ want = $2 != $1 ? $2 : $3 }
			$4 != want		{ print "# " $4 " is not " want; bad = 1 }
			$4 != $1		{ named++ }
			END {
				print "# " named + 0 " of " NR " samples are named"
				exit bad || named < 0.9 * NR
			}'
}

nothing_named()
{
	[ "$(samples none.txt .)" -ge 300 ] && [ "$(samples none.txt 'qux|bar|foo|spin|down')" = 0 ]
}

report_of_both()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph" \
		--guestbinary="$GUEST_PROGRAMS/recurse_low" \
		report --stdio --stdio-color never -q --no-children -g none \
		--sort dso,sym -i "$data/chains" > "$data/report" || return
	sed -n '1,8s/^/# /p' "$data/report"
	grep -q '[ /]callgraph .* qux$' "$data/report" &&
		grep -q '[ /]recurse_low .* spin$' "$data/report"
}

without_chains()
{
	record flat && flat flat.txt callgraph recurse_low 2> "$data/err" || return
	sed 's/^/# /' "$data/err"
	[ "$(samples flat.txt .)" -ge 300 ] &&
		[ "$(samples flat.txt 'qux|bar|foo|spin|down')" = 0 ] &&
		[ "$(grep -c 'names no sample' "$data/err")" = 2 ]
}

all_named()
{
	flat all.txt callgraph,all &&
	n=$(samples all.txt "$callgraph") && all=$(samples all.txt .) &&
	echo "# $n of $all samples" &&
	[ "$all" -ge 300 ] && [ $((100 * n)) -ge $((40 * all)) ]
}

ktap_set_plan 8
ktap_test_result "recorded" recorded
ktap_test_result "no program named" nothing_named
ktap_test_result "callgraph named" callgraph_named
ktap_test_result "recurse_low named" recurse_named
ktap_test_result "both named" both_named
ktap_test_result "report of both" report_of_both
ktap_test_result "without chains" without_chains
ktap_test_result "all is one program" all_named
ktap_finished
