#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Profile a guest from its host with "perf kvm --guest record", and check the
# profile:
#
#  - The functions of a CPU-bound program have the expected shares of time.
#  - A program that spends most time in the kernel shows kernel functions.
#  - Samples of guest user and guest kernel are told apart.
#
# Argument: the event. The default, cpu-clock, needs no PMU. Samples of cycles are
# taken in NMIs.
#
# Environment:
#  GUEST_LIB		a shell library with guest_start, guest_say, guest_expect, guest_wait,
#			guest_quit and guest_qmp. "guest_start workload" boots a guest: the
#			guest copies /proc/kallsyms to $GUEST_DIR/kallsyms, says "ready", and
#			reads a line PROGRAM[,ARG...]... It runs the programs, one after the
#			other, says "done", and reads the next line. An empty line is the
#			end.
#  GUEST_PROGRAMS	a directory with the guest's programs callgraph and pingpong
#  GUEST_CALLGRAPH_NM	the output of nm -S of the guest's program callgraph
#
# shellcheck disable=SC2086

. "$(dirname "$(readlink -f "$0")")/profiling.sh"

start_profiling callgraph
if [ ! -r "$GUEST_CALLGRAPH_NM" ]; then
	ktap_skip_all "GUEST_CALLGRAPH_NM names no file"
	exit "$KSFT_SKIP"
fi

event=${1:-cpu-clock}

# record PROGRAM ARG: profile the guest while PROGRAM runs. The rounds of work have
# different lengths: samples do not get in step.
record()
{
	profile "$1" "$1,$2" record -q -a -e "$event" -c 97001 &&
	perf script -F misc,ip,sym --guestkallsyms="$data/kallsyms" \
		-i "$data/$1" > "$data/$1.txt"
}

# "perf script" prints a letter for each bit of the mode, and modes share bits.
guest_kernel=G
guest_user=KGg

# share PROGRAM MIN MAX CONDITION [OF]: of the guest's samples with condition OF, MIN
# to MAX per cent have CONDITION (awk conditions on mode, ip, sym)
share()
{
	awk -v min="$2" -v max="$3" \
	    -v guest_kernel="$guest_kernel" -v guest_user="$guest_user" '
		{ mode = $1; ip = sprintf("%16s", $2); sym = $3 }
		mode != guest_kernel && mode != guest_user { next }
		!('"${5:-1}"') { next }
		{ all++ }
		'"$4"' { n++ }
		END {
			percent = all ? 100 * n / all : 0
			printf "# %d of %d guest samples, %.1f %%; want %d to %d %%\n",
				n, all, percent, min, max
			exit !(all >= 500 && percent >= min && percent <= max)
		}' "$data/$1.txt"
}

# in_function NAME MIN MAX: the share of a function of callgraph. Compare addresses
# as strings of equal width: not every awk has 64-bit integers.
in_function()
{
	set -- "$@" $(grep " $1$" "$GUEST_CALLGRAPH_NM")
	share callgraph "$2" "$3" "$(printf \
		'ip >= "%16x" && ip < "%16x"' $((0x$4)) $((0x$4 + 0x$5)))" \
		'mode == guest_user'
}

in_kernel()
{
	share pingpong "$@" 'mode == guest_kernel'
}

in_pipe()
{
	share pingpong "$@" 'sym == "pipe_read" || sym == "pipe_write"'
}

without_symbol()
{
	share pingpong "$@" 'mode == guest_kernel && sym !~ /^[a-zA-Z_]/'
}

# Sampling error: with 5000 samples, a share of 40 % has a standard deviation of 0.7
# points. The limits are more than four standard deviations.
ktap_set_plan 10
ktap_test_result "callgraph: recorded" record callgraph 5000
ktap_test_result "callgraph: qux has 40 %" in_function qux 37 43
ktap_test_result "callgraph: bar has 30 %" in_function bar 27 33
ktap_test_result "callgraph: foo has 20 %" in_function foo 17 23
ktap_test_result "callgraph: main has 10 %" in_function main 7 13
ktap_test_result "pingpong: recorded" record pingpong 10000
ktap_test_result "pingpong: lives in the kernel" in_kernel 80 100
ktap_test_result "pingpong: passes through pipe_read and pipe_write" in_pipe 2 50
ktap_test_result "pingpong: every kernel sample has a symbol" without_symbol 0 0
ktap_test_result "the guest ends" guest_ends
ktap_finished
