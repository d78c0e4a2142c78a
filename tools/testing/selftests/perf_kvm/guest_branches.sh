#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Test branch stacks of a guest, by perf in the guest with the paravirtual PMU, and by perf
# on the host.
#
#  - "perf record -b" in the guest: the stacks of a loop are full, and have the loop's
#    branch alone. So are those of the host's samples of the guest.
#  - Filters by kind and privilege level hold, of two events at once as well.
#  - No stack has branches of another process, or of another machine: not those of the guest
#    branches of the host, nor those of the host branches of the guest, while both record.
#  - perf shows the stacks. What branch records cannot do is refused as on the host.
#  - A host that cannot refuses in one line, and its guest as a CPU without branch records
#    does (the case absent, which is not among the default ones).
#
# Needs CONFIG_KVM_PV_PMU in the host and CONFIG_KVM_GUEST_PV_PMU in the guest; and a CPU
# with LBR virtualization, AMD's LBR stack, and its freeze.
#
# Arguments: the cases to run
#
# Environment, in addition to counting.sh: the guest has the programs branches and
# branches_other, and the host has branches.
#  GUEST_DIR		a directory with the guest's kallsyms
# GUEST_LIB takes the nice value of the VMM from GUEST_NICE, which is set here.
#
# shellcheck disable=SC2086,SC2046,SC2016,SC2015,SC2153

. "$(dirname "$(readlink -f "$0")")/counting.sh"

# The guest's programs never end by themselves, and would have half the time of the host's perf.
export GUEST_NICE=19

caps=/sys/bus/event_source/devices/cpu/caps
entries=16
period=10000
length=20000000
# Functions that run on a host alone
host_functions='svm_|vcpu_enter_guest|kvm_arch_vcpu|amd_pmu|perf_event_nmi_handler'

# host_record ARG...: record on the host, while a program runs in the guest
host_record()
{
	$perf "$@" -q -a -o "$data/host.data" usleep 50000 > "$data/out" 2> "$data/err"
	result=$?
	sed 's/^/# /' "$data/err"
	return $result
}

# host_script FIELDS: $data/script gets a line for each sample in the host's recording
host_script()
{
	$perf script -i "$data/host.data" -F $1 --guestkallsyms="$GUEST_DIR/kallsyms" \
		> "$data/script" 2> "$data/err" || fail "$(cat "$data/err")"
}

# start_in_guest COMMAND...: in the background, until it runs the program branches
start_in_guest()
{
	guest_run "$* > /dev/null & until pidof branches > /dev/null; do :; done"
}

stop_in_guest()
{
	guest_run "kill \$(pidof branches); while pidof branches perf > /dev/null; do :; done"
}

# pairs: "SAMPLE FROM TO" for each branch of $data/script
pairs()
{
	awk '{ for (i = 1; i <= NF; i++)
		if (split($i, a, "/") > 3)
			print NR, a[1], a[2] }' "$data/script" > "$data/pairs"
}

# known KIND...: "FROM TO" of these branches of the program branches
known()
{
	for kind; do
		branches list | awk -v kind=$kind '$1 == kind || kind == "all" { print $2, $3 }'
	done > "$data/known"
}

# only_known [SKIP]: each branch in $data/script is in $data/known, but for the first SKIP
# samples, and the last one, which may be of a program's start and end
only_known()
{
	pairs
	awk -v skip="${1:-0}" -v samples="$(wc -l < "$data/script")" '
		FILENAME ~ /known$/ { known[$1, $2]; next }
		$1 <= skip || (skip && $1 == samples) { next }
		{ n++ }
		($2, $3) in known { good++; next }
		++bad <= 5 { print "# sample " $1 ": " $2 " to " $3 }
		END { printf "# %d of %d branches in %d samples are known\n", good, n, samples
		      exit bad || !n }' "$data/known" "$data/pairs"
}

# all_full: each stack but the first and those after a task switch
all_full()
{
	pairs
	awk -v want=$entries -v samples="$(wc -l < "$data/script")" '
		{ n[$1]++ }
		END {
			for (i = 1; i <= samples; i++)
				full += n[i] == want
			printf "# %d of %d stacks are full\n", full, samples
			exit !(samples > 100 && full >= samples - 2 - samples / 50)
		}' "$data/pairs"
}

# loop_alone [SKIP]: the branch of the program loop: from its 10th instruction to its first
loop_alone()
{
	pairs
	cut -d' ' -f2,3 "$data/pairs" | sort | uniq -c | sort -rn | head -n 1 |
		awk '{ print $2, $3 }' > "$data/known"
	read -r from to < "$data/known"
	equal "bytes that the branch goes back" $((from - to)) 11 && only_known ${1:-1}
}

described()
{
	equal "caps/branches" "$(guest_run "cat $caps/branches")" $entries &&
	equal "caps/guest_branches of the host" "$(cat $caps/guest_branches)" $entries &&
	equal "caps/guest_branches of the guest" \
		"$(guest_run "ls $caps | grep -c guest_branches")" 0
}

loop_exact()
{
	record -b -e branches:u -c $period loop $length && script brstack || return
	set -- $(counts -e branches:u loop $length)
	within "samples" "$(wc -l < "$data/script")" $(($1 / period)) $(($1 / period)) &&
	all_full && loop_alone
}

# The same of each kind of event
other_events()
{
	for event in instructions:u cycles:u r4c4:u; do
		record -b -e $event -c 100003 loop $length && script brstack &&
			loop_alone || fail "$event" || return
	done
	# to find the period takes some samples, while the program is being started
	record -b -F 2000 -e cycles:u loop 200000000 && script brstack && loop_alone 20
}

# filtered FILTER KIND...
filtered()
{
	known $(echo "$*" | cut -d' ' -f2-)
	record -j $1,u -e instructions:u -c 100003 branches 1000000 && script brstack &&
	all_full && only_known 1 || fail "-j $1"
}

kinds()
{
	filtered any all &&
	filtered any_ret ret &&
	filtered any_call call ind_call &&
	filtered ind_call ind_call &&
	filtered call call &&
	filtered cond cond &&
	filtered ind_jmp ind_jmp &&
	filtered any_ret,cond ret cond
}

# none_empty: each stack but the first two and those after a task switch has a branch
none_empty()
{
	pairs
	set -- $(cut -d' ' -f1 "$data/pairs" | uniq | wc -l) $(wc -l < "$data/script")
	echo "# $1 of $2 stacks have branches"
	[ $2 -gt 100 ] && [ $1 -ge $(($2 - 2 - $2 / 50)) ]
}

# Two events record at once. The branch records have one filter, and each event gets a part
# of the stack.
two_filters()
{
	record -e branches/branch_type=any_ret,period=50021/u \
		-e instructions/branch_type=ind_call,period=100003/u branches 1000000 &&
	script event,brstack || return
	cp "$data/script" "$data/both"
	for filter in "any_ret ret" "ind_call ind_call"; do
		set -- $filter
		known $2
		grep "branch_type=$1" "$data/both" > "$data/script"
		none_empty && only_known 1 || fail "$1" || return
	done
}

# levels_of_targets: how many branches go to the kernel, and how many to user space
levels_of_targets()
{
	pairs
	awk '{ if ($3 ~ /^0xffff/) kernel++; else user++ }
	     END { print kernel + 0, user + 0 }' "$data/pairs"
}

privilege_levels()
{
	for level in u k; do
		record -j any,$level -e branches -c 1009 pingpong 1000 && script brstack || return
		set -- $(levels_of_targets)
		echo "# -j any,$level: $1 branches to the kernel, $2 to user space"
		case $level in
		u)	[ $1 = 0 ] && [ $2 -gt 250 ] ;;
		k)	[ $1 -gt 2500 ] && [ $2 = 0 ] ;;
		esac || fail "-j any,$level" || return
	done
}

# Guest and host may have the same kernel: names tell what a guest does not do.
no_branch_of_the_host()
{
	record -a -b -e branches -c 20011 pingpong 5000 && script brstacksym || return
	pairs
	echo "# $(wc -l < "$data/script") samples, $(wc -l < "$data/pairs") branches"
	[ "$(wc -l < "$data/pairs")" -gt 5000 ] || fail "too few branches" || return
	equal "samples with functions of a host" \
		"$(grep -cE "$host_functions" "$data/script")" 0
}

# Two programs take turns all the time, and inherit the event. Each task switch empties the
# stack. The turns have 677 branches, and there is a sample each 7.4 turns: with a sample
# each 7.0 turns, nearly all of them can hit one program alone, as the sample itself makes the
# turn longer, and the scheduler makes up for that.
programs()
{
	record -b -e branches:u -c 5003 \
		"sh -c 'branches 95 3000 & branches_other 95 3000; wait'" &&
	script comm,brstack || return
	cp "$data/script" "$data/both"
	of_program branches 0x7000 && of_program branches_other 0x6000
}

# of_program NAME OTHER: the samples of a program have no address of the other one
of_program()
{
	grep -w $1 "$data/both" > "$data/script"
	pairs
	echo "# $1: $(wc -l < "$data/script") samples, $(wc -l < "$data/pairs") branches"
	[ "$(wc -l < "$data/pairs")" -gt 2500 ] || fail "too few branches" || return
	equal "branches of the other program" "$(grep -c " $2" "$data/pairs")" 0
}

# Two processes of one program take turns as well, each with branches of its own. No stack
# has branches of both: what the code at an address is tells nothing here.
processes()
{
	record -b -e branches:u -c 397 \
		"sh -c 'branches 20 1500 & branches 100 1500 other; wait'" &&
	script brstack || return
	pairs
	known all
	awk -v "other=$(branches list other | cut -d' ' -f2)" '
		FILENAME ~ /known$/ { known[$1]; next }
		$2 in known { of_one[$1] }
		$2 == other { of_other[$1] }
		END {
			for (i in of_one)
				both += i in of_other
			printf "# %d stacks of one, %d of the other, %d of both\n",
				length(of_one), length(of_other), both
			exit !(length(of_one) > 100 && length(of_other) > 100 && !both)
		}' "$data/known" "$data/pairs"
}

reports()
{
	record -b -e branches:u -c $period loop $length || return
	guest_run "$perf report -i perf.data --stdio --sort symbol_from,symbol_to 2> /dev/null" \
		> "$data/report"
	grep -E '^ +(9[0-9]\.[0-9]+|100\.00)% .*main .*main' "$data/report" ||
		fail "$(grep -m 5 % "$data/report")"
}

# refused_alike ARG...: "perf record ARG..." fails in the guest and on the host, and says
# the same
refused_alike()
{
	! $perf record -o "$data/perf.data" "$@" true > "$data/host-out" 2>&1 &&
	guest_run "! $perf record -o refused.data $* true 2>&1" > "$data/out" ||
		fail "perf record $* is not refused" || return
	sed 's/^/# /' "$data/out"
	cmp "$data/host-out" "$data/out"
}

call_graph_lbr()
{
	refused_alike --call-graph lbr -e cycles:u
}

# ---- on the host

# The guest runs branches, whose addresses no program of the host has.
of_the_guest()
{
	known all
	start_in_guest branches 2000000000 || return
	host_record kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" record -b -e branches:Gu \
		-c 100003 && host_script brstack && all_full && only_known &&
	host_record record -b -e branches:Gu -c 100003 && host_script brstack && all_full &&
		only_known &&
	known call ind_call &&
	host_record record -j any_call,u -e instructions:Gu -c 100003 && host_script brstack &&
		all_full && only_known &&
	known ret &&
	host_record kvm --guest record -j any_ret,u -e branches:Gu -c 100003 &&
		host_script brstack && all_full && only_known
	result=$?
	stop_in_guest
	return $result
}

# not_of_the_guest: the host's recording has branches, and none of the guest's program. The
# dump has each sample: also one whose counter overflowed in the host and whose NMI came in
# the guest.
not_of_the_guest()
{
	$perf script -D -i "$data/host.data" 2> "$data/err" |
		awk '$1 == "....." && $4 == "->" { print $3, $5 }' > "$data/pairs"
	echo "# $(wc -l < "$data/pairs") branches of the host"
	[ "$(wc -l < "$data/pairs")" -gt 100 ] || fail "no branches: $(cat "$data/err")" || return
	equal "branches of the guest" "$(grep -cE '(^| )000000006000' "$data/pairs")" 0
}

# The host's own samples, without and with an event of the guest.
of_the_host()
{
	start_in_guest branches 2000000000 || return
	host_record record -b -e branches:H -c 1009 && not_of_the_guest
	result=$?
	stop_in_guest
	[ $result = 0 ] || return

	start_in_guest "$perf record -q -b -o perf.data -e branches:u -c 3000017 branches 300000000"
	host_record record -b -e branches:H -c 1009 && not_of_the_guest
	result=$?
	stop_in_guest
	known all
	script brstack && all_full && only_known 1 && return $result
}

# An event of both: the samples of each have branches of its own.
of_both()
{
	start_in_guest branches 2000000000 || return
	host_record kvm --host --guest --guestkallsyms="$GUEST_DIR/kallsyms" record -b \
		-e branches -c 10007 && host_script ip,brstack
	result=$?
	stop_in_guest
	[ $result = 0 ] || return
	cp "$data/script" "$data/both"
	awk '$1 ~ /^6000/' "$data/both" > "$data/script"
	pairs
	echo "# $(wc -l < "$data/script") samples of the guest's program"
	[ "$(wc -l < "$data/script")" -gt 500 ] || fail "no samples" || return
	# a tick of the guest is in some stacks
	near "branches of the program" "$(grep -c ' 0x6000' "$data/pairs")" \
		"$(wc -l < "$data/pairs")" 5 && of_one_machine_each
}

# samples_with KIND PATTERN: the samples of the guest (G) or the host (H) with PATTERN
samples_with()
{
	case $1 in
	G)	awk '$1 ~ /[Gg]/' "$data/script" ;;
	H)	awk '$1 !~ /[Gg]/' "$data/script" ;;
	esac | grep -cE "$2"
}

# The guest's kernel may have the functions of a host, and does not run them.
of_one_machine_each()
{
	host_script misc,brstack || return
	echo "# samples: $(samples_with G /) of the guest, $(samples_with H /) of the host"
	within "samples of the host" "$(samples_with H /)" 10 1000000 &&
	equal "samples of the host with the guest's program" "$(samples_with H ' 0x6000')" 0 &&
	host_script misc,brstacksym &&
	equal "samples of the guest with functions of the host" \
		"$(samples_with G "$host_functions")" 0
}

# ---- a host that does not give guests' branches

# refused PATTERN ARG...: "perf ARG..." fails with one line
refused()
{
	pattern=$1
	shift
	$perf "$@" -o "$data/refused" true > "$data/out" 2> "$data/err"
	status=$?
	sed 's/^/# /' "$data/err"
	[ $status -ne 0 ] && [ "$(wc -l < "$data/err")" = 1 ] && grep -q "$pattern" "$data/err"
}

absent()
{
	equal "caps/guest_branches of the host" "$(cat $caps/guest_branches)" 0 || return
	equal "caps/branches of the guest" "$(guest_run "ls $caps | grep -c branches")" 0 &&
	refused "the branches of the host" kvm --guest record -a -b -e branches &&
	refused "the branches of the host" record -a -b -e branches:G || return
	guest_run "! $perf record -b -e branches:u -o refused.data true 2>&1" > "$data/out" ||
		fail "-b is not refused in the guest" || return
	sed 's/^/# /' "$data/out"
	grep -q "branch stack" "$data/out"
}

cases="start described loop_exact other_events kinds two_filters privilege_levels
no_branch_of_the_host programs processes reports call_graph_lbr
of_the_guest of_the_host of_both stop"

if [ "$(cat $caps/guest_branches 2> /dev/null || echo 0)" = 0 ] && [ $# = 0 ]; then
	ktap_skip_all "KVM gives guests no branch stacks: kvm_amd.lbrv is off, or the CPU cannot"
	exit "$KSFT_SKIP"
fi
[ $# -gt 0 ] || set -- $cases
run_cases "$@"
