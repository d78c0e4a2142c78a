#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Profile a guest from its host with "perf kvm --guest record -g", and check the
# call chains:
#
#  - A program with a known call tree: each chain is a path of the tree, and 99 % of
#    the chains are complete to main.
#  - A program that spends most time in the kernel: all frames of the kernel are in the
#    text of the guest's kernel, and chains go on from the entry of the system call to
#    the program's main.
#  - A program with page faults, while a timer expires: chains go from the handlers
#    through the interrupted code to main.
#  - Two programs on one vCPU: chains do not mix, even if the programs switch after
#    the last VM exit, so that the host's copy of CR3 is old.
#  - Other commands of perf show the chains, live as well, and cope without the
#    guest's symbols.
#  - perf in the guest records the same chains in the same run.
#
# Needs CONFIG_KVM_GUEST_CALLCHAIN in the host, and CONFIG_FRAME_POINTER in the
# guest.
#
# Arguments: the event and the period. The default event, cpu-clock, needs no PMU;
# samples of cycles are taken in NMIs. The default period is 97001.
#
# Samples hit instructions by chance, and the limits leave room for chance: a wanted
# share of 99 % is 99.9 % or more on average, of 300 samples or more. The rounds of
# work of the programs have different lengths: samples do not get in step.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_profile.sh. Programs with a
#			plus sign between them run at once. The guest has perf;
#			$GUEST_DIR gets the guest's files in /results
#  GUEST_PROGRAMS	a directory with the guest's programs callgraph, faults,
#			pingpong and recurse
#
# shellcheck disable=SC2086

. "$(dirname "$(readlink -f "$0")")/profiling.sh"
. "$DIR/chains.sh"

start_profiling recurse

event=${1:-cpu-clock}
export period=${2:-97001}
depth=20

# record NAME PROGRAM[,ARG]... [EVENT]: profile the guest while PROGRAM runs
record()
{
	profile "$1" "$2" record -q -g -a -e "${3:-$event}" -c "$period"
}

# chains NAME [PROGRAM]: the chains of a recording, with symbols of the guest's
# kernel and of one program
chains()
{
	perf script -F misc,ip,sym --guestkallsyms="$data/kallsyms" \
		${2:+--guestbinary="$GUEST_PROGRAMS/$2,all"} -i "$data/$1" | fold
}

tree='^user (qux|bar|foo|main)( |$)'

# The caller of main is the C library, without frame pointers: a chain has at most the
# return address in the C library.
library='( __libc_start_call_main| 0x[0-9a-f]+)'

recorded_callgraph()
{
	record callgraph callgraph,1000 && chains callgraph callgraph > "$data/callgraph.txt"
}

complete_to_main()
{
	share "$1" 99 "$tree" "^user (((qux )?bar )?foo )?main$library?\$"
}

# At the first two instructions of a function, and at the last, the function has no frame,
# and the walk starts at the frame of the caller: the caller is missing. These are 3 of the
# 100000 instructions of a round, for each of qux, bar and foo: a few runs in 100 have a
# sample in foo of this kind. The caller of foo is main: without main, the chain has only
# the C library.
path_of_the_tree()
{
	share "$1" 100 "$tree" \
		"^user ((((qux )?bar )?foo |qux foo |bar )?main$library?|foo$library)\$"
}

recorded_pingpong()
{
	record pingpong pingpong,10000 && chains pingpong pingpong > "$data/pingpong.txt"
}

# The program calls by functions of its own.
through_the_system_call()
{
	share pingpong.txt 99 '^kernel .* ksys_(read|write)( |$)' \
		" do_syscall_64 entry_SYSCALL_64_after_hwframe call pass main$library?\$"
}

recorded_faults()
{
	record faults faults,2000 && chains faults faults > "$data/faults.txt"
}

through_the_page_fault()
{
	share faults.txt 99 '^kernel .* handle_mm_fault( |$)' \
		" asm_exc_page_fault touch main$library?\$"
}

# Interrupts hit whatever runs. In the program, and in the kernel as it handles a page
# fault, all callers have frames.
through_the_interrupt()
{
	share faults.txt 99 '^kernel .* asm_sysvec_apic_timer_interrupt( |$)' \
		' asm_sysvec_apic_timer_interrupt [^ ]' 30 &&
	share faults.txt 99 '^kernel .* asm_sysvec_apic_timer_interrupt .*handle_mm_fault ' \
		" asm_exc_page_fault touch main$library?\$" 10
}

# The entry and exit code of the kernel has no frame, and a function called from there
# has no caller at the first instruction. __switch_to_asm has the stack of one task and
# the frame pointer of another task.
has_callers()
{
	entry='(entry|syscall_return|asm|exc|sysvec|error|paranoid|ret)_[^ ]*|sync_regs'
	entry="$entry|(common_interrupt|swapgs_restore_regs|native_irq)_[^ ]*return[^ ]*"
	entry="$entry|__irqentry_text_end|do_syscall_64|__switch_to_asm"
	share pingpong.txt 99 '^kernel ' "^kernel ([^ ]+ [^ ]|($entry)\$)"
}

recorded_both()
{
	record both "callgraph,1000+recurse,$depth,1000" &&
	chains both callgraph > "$data/both-callgraph.txt" &&
	chains both recurse > "$data/both-recurse.txt"
}

both_recurse()
{
	share both-recurse.txt 99 '^user spin( |$)' \
		"^user spin (down ){$depth}main$library?\$"
}

# callgraph is linked below 0x10000000, recurse above.
both_apart()
{
	share both-recurse.txt 100 '^user (spin|down|main)( |$)' \
		'^user( spin)?( down| main| __[^ ]*| 0x1[0-9a-f]{7})+$' &&
	share both-callgraph.txt 100 "$tree" \
		'^user( qux| bar| foo| main| __[^ ]*| 0x[0-9a-f]{6})+$'
}

# In callgraph alone, qux has the time for one program; in both, for one of two.
diff_of_both()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph,all" \
		diff -q --sort sym "$data/callgraph" "$data/both" > "$data/diff" || return
	grep ' qux$' "$data/diff" | sed 's/^/# /'
	awk '$NF == "qux" && $1 + 0 >= 30 && $2 + 0 <= -10 && $2 + 0 >= -30 { found = 1 }
	     END { exit !found }' "$data/diff"
}

recorded_turns()
{
	record turns "recurse,5,1000,yield+recurse,$depth,1000,yield" &&
	chains turns recurse > "$data/turns.txt"
}

turns_complete()
{
	share turns.txt 99 '^user spin( |$)' \
		"^user spin (down ){5}((down ){$((depth - 5))})?main( [^ ]+)?\$"
}

recorded_cut()
{
	record cut "recurse,$depth,1000" "$event/max-stack=5/" &&
	chains cut recurse > "$data/cut.txt" &&
	share cut.txt 100 '^user spin ' '^user spin( down){4}$'
}

# report ARG...: the output of "perf kvm report"
report()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph,all" report -i "$data/callgraph" \
		--stdio --stdio-color never -q --sort sym "$@"
}

# The time of a function with children is the function's own time plus the time of the
# next function in the tree, except for some instructions of the C library.
report_children()
{
	report --children -g none --percent-limit 5 > "$data/report" || return
	sed 's/^/# /' "$data/report"
	awk '
		{ children[$NF] = $1 + 0; self[$NF] = $2 + 0 }
		function is(share, want) { return share > want - 1 && share < want + 1 }
		END {
			exit !(self["qux"] >= 5 && self["qux"] >= 0.3 * children["main"] &&
			       is(children["qux"], self["qux"]) &&
			       is(children["bar"], self["bar"] + children["qux"]) &&
			       is(children["foo"], self["foo"] + children["bar"]) &&
			       is(children["main"], self["main"] + children["foo"]))
		}' "$data/report"
}

# report_graph GRAPH ORDER FUNCTIONS: the chains of qux have FUNCTIONS in this order.
# -g caller prints the outermost frame first, callee the innermost. A sample at the
# first instruction of qux has no bar, and makes a branch in the tree: strip the lines
# and percentages before the name.
report_graph()
{
	report --no-children -S qux -g "$1,0.5,$2" | tr -- '-|%' '   ' > "$data/report"
	awk -v order="$3" '
		BEGIN { n = split(order, want, " "); i = 1 }
		$NF == want[i] && i <= n { i++ }
		END { exit i <= n }' "$data/report" ||
		{ sed 's/^/# /' "$data/report"; return 1; }
}

report_caller()
{
	report_graph graph caller "main foo bar qux"
}

report_callee()
{
	report_graph graph callee "qux bar foo main"
}

report_flat()
{
	report_graph flat callee "qux bar foo main"
}

report_fractal()
{
	report_graph fractal callee "qux bar foo main"
}

to_json()
{
	perf data convert --to-json "$data/json" -i "$data/callgraph" \
		--guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph,all" &&
	grep '"symbol"' "$data/json" | tr -d '", ' | cut -d: -f2 |
		awk 'last == "qux" && $0 == "bar" { n++ }
		     { last = $0 }
		     END { print "# " n + 0 " calls of qux by bar"; exit n < 200 }'
}

injected()
{
	perf inject -b -i "$data/callgraph" -o "$data/injected" &&
	chains injected callgraph > "$data/injected.txt" &&
	cmp "$data/callgraph.txt" "$data/injected.txt"
}

# Without --guestbinary, frames of the guest's user space have no symbol. A symbol of
# a host program would be wrong.
without_program()
{
	chains callgraph > "$data/without.txt" &&
	share without.txt 100 '^user ' '^user( 0x[0-9a-f]+)+$'
}

# Without perf kvm --guest, samples of guests are left out. The recording has samples
# of the host only for cpu-clock, because cpu-clock cannot exclude the host.
without_guest()
{
	perf script -F misc,ip,sym -i "$data/callgraph" > "$data/without" &&
	fold K U < "$data/without" > "$data/host.txt" &&
	fold < "$data/without" > "$data/guest.txt" &&
	{ [ "$event" != cpu-clock ] || [ -s "$data/host.txt" ]; } &&
	[ ! -s "$data/guest.txt" ]
}

# tables: the number of tables that perf top has printed
tables()
{
	grep -c PerfTop: "$data/tables"
}

# top COMMAND...: run "perf top" while the guest runs two programs; $data/top is the last
# table
#
# perf samples as soon as the display thread runs. When the programs end, the output of
# perf is not complete in the file: wait for three more tables. The last of the three
# started after the end of the programs, and is complete when perf has ended. If perf
# ends early, the programs still run to the end.
#
# The period is ten times longer: perf top itself is sampled most, and few samples are
# enough. perf drops samples older than the delay of 3 s. Reading two kallsyms takes
# less.
top()
{
	guest_runs || return
	rm -f "$data/keys"
	mkfifo "$data/keys"
	: > "$data/tables"
	COLUMNS=200 "$@" --stdio -d 3 -E 10000 --no-children -s sym \
		--call-graph fp,graph,0,callee -e "$event" -c "${period}0" \
		<> "$data/keys" > "$data/tables" 2> "$data/complaints" &
	pid=$!
	until grep -qsx perf-top-UI /proc/$pid/task/*/comm; do
		kill -0 $pid || break
		sleep 0.1
	done

	{ guest_say "callgraph,1000 pingpong,3000" && guest_expect "done"; } || kill $pid
	want=$(($(tables) + 3))
	until [ "$(tables)" -ge $want ]; do
		kill -0 $pid || break
		sleep 1
	done
	printf q 1<> "$data/keys"
	wait $pid || return

	tr -- '-|%' '   ' < "$data/tables" |
		awk '/PerfTop:/	{ table = "" }
		     { table = table $0 "\n" }
		     END { printf "%s", table }' > "$data/top"
	awk '$2 ~ /^\[.\]$/ && $1 >= 1 { print "# " $0 }' "$data/top"
}

# entry MODE FUNCTION CALLER...: the table has FUNCTION (a regular expression), with
# the callers in this order
entry()
{
	awk -v names="$*" '
		BEGIN { n = split(names, name, " ") }
		$2 ~ /^\[.\]$/ { i = $2 == name[1] && $3 ~ "^" name[2] "$" ? 3 : 0; next }
		i && $NF == name[i] && ++i > n { exit }
		END { exit i <= n }' "$data/top"
}

entries_of_guest()
{
	entry "[u]" qux bar foo main &&
	entry "[g]" ".*" do_syscall_64 entry_SYSCALL_64_after_hwframe
}

top_of_guest()
{
	top perf kvm --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph,all" top &&
	entries_of_guest && ! grep '^ *[0-9.]* *\[[^gu]\] ' "$data/top"
}

# Guest functions have no callers in the host, and the host has no guest functions.
top_of_both()
{
	top perf kvm --host --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/callgraph,all" top &&
	entries_of_guest && entry "[k]" ".*" entry_SYSCALL_64_after_hwframe &&
	awk '$2 ~ /^\[.\]$/	{ guest = $2 ~ /[gu]/ }
	     guest && $NF ~ /^(kvm_vcpu_ioctl|kvm_arch_vcpu_ioctl_run)$/ ||
	     !guest && $NF ~ /^(qux|bar|foo)$/ { print "# " $0; bad = 1 }
	     END { exit bad }' "$data/top"
}

top_of_host()
{
	top perf top &&
	entry "[k]" ".*" entry_SYSCALL_64_after_hwframe &&
	! grep -E '^ *[0-9.]* *\[[^k.]\] | (qux|bar|foo)$' "$data/top"
}

recorded_inside()
{
	record outside \
		perf,record,-q,-g,-e,cpu-clock,-c,"$period",-o,/results/inside,callgraph,10000 &&
	guest_ends &&
	chains outside callgraph > "$data/outside.txt" &&
	perf script -F misc,ip,sym -i "$GUEST_DIR/inside" 2> /dev/null |
		fold K U > "$data/inside.txt"
}

inside_agrees()
{
	agree "$tree" inside.txt outside.txt
}

ktap_set_plan 33
ktap_test_result "callgraph: recorded" recorded_callgraph
ktap_test_result "callgraph: chains are complete to main" complete_to_main callgraph.txt
ktap_test_result "callgraph: chains are paths of the call tree" path_of_the_tree callgraph.txt
ktap_test_result "callgraph: report --children" report_children
ktap_test_result "callgraph: report -g caller" report_caller
ktap_test_result "callgraph: report -g callee" report_callee
ktap_test_result "callgraph: report -g flat" report_flat
ktap_test_result "callgraph: report -g fractal" report_fractal
ktap_test_result "callgraph: data convert --to-json" to_json
ktap_test_result "callgraph: inject" injected
ktap_test_result "pingpong: recorded" recorded_pingpong
ktap_test_result "pingpong: kernel chains have callers" has_callers
ktap_test_result "pingpong: kernel chains go on into main" through_the_system_call
ktap_test_result "pingpong: frames are in the guest kernel's text" in_kernel_text pingpong
ktap_test_result "faults: recorded" recorded_faults
ktap_test_result "faults: chains of page faults go on into main" through_the_page_fault
ktap_test_result "faults: chains of interrupts go on" through_the_interrupt
ktap_test_result "faults: frames are in the guest kernel's text" in_kernel_text faults
ktap_test_result "both: recorded" recorded_both
ktap_test_result "both: chains of callgraph are complete" complete_to_main both-callgraph.txt
ktap_test_result "both: chains of recurse are complete" both_recurse
ktap_test_result "both: chains do not mix" both_apart
ktap_test_result "both: diff to callgraph alone" diff_of_both
ktap_test_result "taking turns: recorded" recorded_turns
ktap_test_result "taking turns: chains are complete" turns_complete
ktap_test_result "max-stack: chains are cut" recorded_cut
ktap_test_result "top: of the guest" top_of_guest
ktap_test_result "top: of the host and the guest" top_of_both
ktap_test_result "top: of the host" top_of_host
ktap_test_result "callgraph: recorded from inside as well" recorded_inside
ktap_test_result "callgraph: inside and outside agree" inside_agrees
ktap_test_result "no program named: addresses in user space" without_program
ktap_test_result "no guest named: only the host's samples" without_guest
ktap_finished
