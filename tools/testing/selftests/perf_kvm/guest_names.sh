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
#  - A program with the calls of callgraph at the same addresses, but to other functions,
#    names nothing, nor does callgraph without symbols, nor two copies of it.
#  - The same file twice is as once. A position independent program is where its address
#    says.
#  - Below --guestmount, proof and names are of the VM's file, not of the host's with the
#    same path. A VM that is not below it has no names.
#  - Without call chains, nothing is named, and perf says so.
#  - With ",all" the file names what is at its addresses, without chains too. What the
#    chains show of another file comes first.
#
# Arguments: the event and the period, as for guest_callchain.sh.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs callgraph and recurse_low,
#			and callgraph_other
#
# shellcheck disable=SC2086

. "$(dirname "$(readlink -f "$0")")/profiling.sh"
. "$DIR/chains.sh"

start_profiling callgraph_other

event=${1:-cpu-clock}
period=${2:-97001}

# record NAME OPTION...: profile the guest while both programs run
record()
{
	name=$1
	shift
	profile "$name" callgraph,1000+recurse_low,5,1000,yield \
		record -q "$@" -a -e "$event" -c "$period"
}

# user_chains: the lines of fold for user space, without "user"
user_chains()
{
	fold | sed -n 's/^user//p'
}

# script NAME [PROGRAM[,all]...]: the samples of a recording, with the programs' names.
# A program is one of the guest's, or has a path.
script()
{
	recording=$1
	shift
	for program; do
		case $program in
		/*)	set -- "$@" --guestbinary="$program" ;;
		*)	set -- "$@" --guestbinary="$GUEST_PROGRAMS/$program" ;;
		esac
		shift
	done
	perf script -F misc,ip,sym --guestkallsyms="$data/kallsyms" "$@" -i "$data/$recording"
}

# chains FILE [PROGRAM[,all]...]: the user chains
chains()
{
	file=$1
	shift
	script chains "$@" | user_chains > "$data/$file"
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
				exit bad || NR < 300 || named < 0.9 * NR
			}'
}

nothing_named()
{
	[ "$(samples none.txt .)" -ge 300 ] && [ "$(samples none.txt 'qux|bar|foo|spin|down')" = 0 ]
}

# patched FILE OFFSET BYTES: callgraph with other bytes in its ELF header
patched()
{
	cp "$GUEST_PROGRAMS/callgraph" "$data/$1" &&
	printf '%b' "$3" | dd of="$data/$1" bs=1 seek="$2" conv=notrunc 2> "$data/err"
}

# as_callgraph FILE: the chains have the names that callgraph has given
as_callgraph()
{
	[ "$(samples callgraph.txt "$callgraph")" -ge 300 ] &&
		cmp "$data/callgraph.txt" "$data/$1"
}

# unnamed FILE: the chains have no names
unnamed()
{
	[ "$(samples none.txt .)" -ge 300 ] && cmp "$data/none.txt" "$data/$1"
}

other_calls()
{
	chains other.txt callgraph_other 2> "$data/err" && unnamed other.txt &&
		grep 'names no sample: no call chain' "$data/err"
}

# e_shoff and e_shnum are 0
no_symbols()
{
	patched stripped 40 '\0\0\0\0\0\0\0\0' &&
	printf '\0\0' | dd of="$data/stripped" bs=1 seek=60 conv=notrunc 2> "$data/err" &&
	chains stripped.txt "$data/stripped" && unnamed stripped.txt
}

two_copies()
{
	cp "$GUEST_PROGRAMS/callgraph" "$data/copy" &&
	chains copies.txt callgraph "$data/copy" 2> "$data/err" && unnamed copies.txt &&
		[ "$(grep -c 'fit another' "$data/err")" = 2 ]
}

twice()
{
	ln -s "$GUEST_PROGRAMS/callgraph" "$data/link" &&
	chains twice.txt callgraph callgraph "$data/link" 2> "$data/err" &&
		! grep 'names no sample' "$data/err" && as_callgraph twice.txt
}

# The address in the file is 400000.
position_independent()
{
	patched pie 16 '\0003' &&
	chains pie.txt "$data/pie@400000" && as_callgraph pie.txt &&
	chains moved.txt "$data/pie@500000" && unnamed moved.txt
}

# mounted FILE DIRECTORY: the chains with names of $data/program below DIRECTORY
mounted()
{
	perf script -F misc,ip,sym --guestmount="$2" --guestbinary="$data/program" \
		-i "$data/chains" 2> "$data/err" | user_chains > "$data/$1"
}

# The program of the VM is callgraph, the host's with that path another one.
below_mount()
{
	vmm=$(perf script -F misc,pid --guestkallsyms="$data/kallsyms" -i "$data/chains" |
		awk '$2 == "KGg" { print $1; exit } $1 == "KGg" { print $2; exit }') &&
	[ -n "$vmm" ] &&
	for pid in "mount/$vmm" other/1; do
		mkdir -p "$data/$pid/proc" "$data/$pid/$data" &&
		cp "$data/kallsyms" "$data/$pid/proc" &&
		cp "$GUEST_PROGRAMS/callgraph" "$data/$pid/$data/program" || return
	done
	cp "$GUEST_PROGRAMS/recurse_low" "$data/program" &&
	mounted mounted.txt "$data/mount" && as_callgraph mounted.txt
}

not_below_mount()
{
	cp "$GUEST_PROGRAMS/callgraph" "$data/program" &&
	mounted other-vm.txt "$data/other" && unnamed other-vm.txt
}

# What is of recurse_low only by ",all" is of callgraph by its calls.
proof_before_all()
{
	chains before.txt recurse_low,all callgraph &&
	[ "$(samples before.txt "$callgraph")" = "$(samples callgraph.txt "$callgraph")" ]
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

ktap_set_plan 17
ktap_test_result "recorded" recorded
ktap_test_result "no program named" nothing_named
ktap_test_result "callgraph named" callgraph_named
ktap_test_result "recurse_low named" recurse_named
ktap_test_result "both named" both_named
ktap_test_result "calls of other functions" other_calls
ktap_test_result "no symbols" no_symbols
ktap_test_result "two copies" two_copies
ktap_test_result "one file twice" twice
ktap_test_result "position independent" position_independent
ktap_test_result "below --guestmount" below_mount
ktap_test_result "not below --guestmount" not_below_mount
ktap_test_result "report of both" report_of_both
ktap_test_result "without chains" without_chains
ktap_test_result "all is one program" all_named
ktap_test_result "calls before all" proof_before_all
ktap_test_result "the guest ends" guest_ends
ktap_finished
