#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Test "perf stat" in a guest with the paravirtual PMU.
#
#  - Counts are exact: equal to the length of a loop, and to the host's count of the
#    same program; alone and in groups, per task, per CPU, per cgroup, by intervals,
#    inherited, on a task that moves between two CPUs, and on a CPU that was offline.
#  - The counts of user space and kernel add up to the count of both.
#  - Scaled counts are correct, with more events than counters, and while the host
#    uses counters. A group counts as a whole or not at all.
#  - Tasks that take turns do not take each other's counters.
#  - A pinned event without a counter is not counted.
#  - The host's count of the guest agrees.
#  - The guest supports no event that the host does not support.
#  - A perf of another version counts the same, and its own tests pass as on the host.
#  - A guest that counts nothing costs the host nothing.
#  - kvm_pv_pmu=off disables the paravirtual PMU. With a virtual PMU, the paravirtual
#    PMU is not used.
#
# Needs CONFIG_KVM_PV_PMU in the host, CONFIG_KVM_GUEST_PV_PMU in the guest with a v2
# hierarchy of cgroups at /sys/fs/cgroup, and a PMU with six counters.
#
# Arguments: the cases to run; default: all
#
# Environment, in addition to counting.sh:
#  GUEST_OTHER_PERF	a perf of another version, in guests with
#			GUEST_ADD=$GUEST_OTHER_PERF_IMAGE
#  GUEST_PERF_TESTS_NOT	cases of "perf test" for the host alone
#
# shellcheck disable=SC2086,SC2046,SC2016,SC2015

. "$(dirname "$(readlink -f "$0")")/counting.sh"

# host_counts ARG...: the counts of "perf stat" on the host, in one line
host_counts()
{
	$perf stat -x, -o "$data/host" "$@" > /dev/null || return
	results < "$data/host" | cut -d, -f1 | tr '\n' ' '
}

found()
{
	guest_run "dmesg" > "$data/dmesg"
	grep 'PV PMU' "$data/dmesg" | sed 's/^/# /'
	grep -q 'PV PMU: "cpu", [0-9]* slots, [1-9][0-9]* of' "$data/dmesg"
}

sysfs()
{
	devices=/sys/bus/event_source/devices/cpu
	equal "the type of the PMU" "$(guest_run "cat $devices/type")" 4 &&
	equal "the format of event" "$(guest_run "cat $devices/format/event")" \
		"$(cat $devices/format/event)" &&
	equal "cpu-cycles" "$(guest_run "cat $devices/events/cpu-cycles")" \
		"$(cat $devices/events/cpu-cycles)" &&
	guest_run "perf list hw" > "$data/list" &&
	grep -q '^ *cpu-cycles OR cycles' "$data/list"
}

counted()
{
	cut -d, -f1,3 | sed 's/^[0-9.]*,/counted,/' | grep -v clock
}

# Of perf's default events, the guest supports the same as the host.
default_events()
{
	stat -d loop 100000000
	counted < "$data/stat" > "$data/guest-default"
	host_counts -d loop 100000000 > /dev/null
	results < "$data/host" | counted > "$data/host-default"
	[ $(grep -c counted "$data/host-default") -ge 6 ] &&
	diff "$data/host-default" "$data/guest-default" | sed 's/^/# /' &&
	cmp -s "$data/host-default" "$data/guest-default"
}

# Start and end of a process take the same number of instructions each time.
loop_exact()
{
	short=$(counts -e instructions:u loop 10000000)
	long=$(counts -e instructions:u loop 20000000)
	again=$(counts -e instructions:u loop 20000000)
	equal "the difference of two loops" $((long - short)) 10000000 &&
	equal "the second run" "$again" "$long" &&
	host_short=$(host_counts -e instructions:u loop 10000000)
	host_long=$(host_counts -e instructions:u loop 20000000)
	equal "the host's difference" $((host_long - host_short)) 10000000 &&
	equal_but_for_start "the host's count" $host_short $short &&
	within "instructions outside the loop" $((short - 10000000)) 1 50000
}

user_and_kernel()
{
	set -- $(counts -e "'{instructions,instructions:u,instructions:k}'" pingpong 500)
	[ $# = 3 ] && [ "$2" -gt 0 ] && [ "$3" -gt "$2" ] || fail "counts: $*" || return
	equal "user plus kernel" $(($2 + $3)) "$1"
}

repeated()
{
	stat -r 5 -e instructions:u loop
	equal_but_for_start "the mean of five" $(cut -d, -f1 "$data/stat") $short &&
	equal "the variance of five" "$(cut -d, -f4 "$data/stat")" "0.00%"
}

# User space runs perf and the loop.
on_all_cpus()
{
	near "the count" $(counts -a -e instructions:u loop 200000000) 200000000 10
}

# The loop runs before perf attaches. Some versions of perf attach later.
of_a_process()
{
	within "the count of a running loop" \
		$(counts -e instructions:u -p '$(loop 300000000 > /dev/null & echo $!)') \
		240000000 300100000
}

by_intervals()
{
	stat -I 10 -e instructions:u loop 100000000
	set -- $(awk -F, '{ sum += $2 } END { print NR, sum }' "$data/stat")
	within "intervals" "$1" 5 20 &&
	equal_but_for_start "the sum of the intervals" "$2" $((long + 80000000))
}

# in_cgroups OPTIONS COUNT: the counts of the cgroups "busy", with a loop, and "idle"
in_cgroups()
{
	stat -a $1 sh -c "'echo 0 > $cgroup/busy/cgroup.procs; exec loop $2'"
	cut -d, -f1,4 "$data/stat" | tr ',\n' '  ' | sed 's/<not counted>/0/g'
}

# of_two_cgroups OPTIONS: a shell moves into the cgroup, and becomes the loop
of_two_cgroups()
{
	set -- "$1" $(in_cgroups "$1" 10000000) $(in_cgroups "$1" 20000000)
	equal "the cgroups with $1" "$3 $5 $7 $9" "busy idle busy idle" &&
	equal "the difference of two loops" $(($6 - $2)) 10000000 &&
	within "beside the loop" $(($2 - 10000000)) 1 50000 &&
	equal "the counts of the other cgroup" "$4 $8" "0 0"
}

of_cgroups()
{
	cgroup=/sys/fs/cgroup
	guest_run "mkdir $cgroup/busy $cgroup/idle" &&
	of_two_cgroups "-e instructions:u --for-each-cgroup busy,idle" &&
	of_two_cgroups "-e instructions:u,instructions:u -G busy,idle" &&
	guest_run "rmdir $cgroup/busy $cgroup/idle"
}

per_thread()
{
	stat --per-thread -e instructions:u \
		-p '$(loop 300000000 > /dev/null & echo $!),$(loop 200000000 > /dev/null & echo $!)'
	set -- $(cut -d, -f2 "$data/stat")
	[ $# = 2 ] || fail "counts: $*" || return
	within "the first loop" "$1" 240000000 300100000 &&
	within "the second loop" "$2" 160000000 200100000
}

group()
{
	set -- $(counts -e "'{instructions:u,r4d1:u}'" loop 10000000)
	equal_but_for_start "the first" $1 $short &&
	equal_but_for_start "the second" $2 $(host_counts -e r4d1:u loop 10000000) &&
	equal "the number of events that ran all the time" \
		"$(grep -c ',100.00,' "$data/stat")" 2
}

inherited()
{
	set -- $(counts -e instructions:u sh -c "'loop 10000000; loop 10000000; :'") \
		$(counts --no-inherit -e instructions:u sh -c "'loop 10000000; loop 10000000; :'")
	within "the count of the children" $(($1 - $2)) $((2 * short)) $((2 * short + 20000))
}

same_event_twice()
{
	set -- $(counts -e instructions:u -e instructions:u loop 10000000)
	equal_but_for_start "the first" $1 $short && equal "the second" $2 $1
}

raw()
{
	set -- $(counts -e cpu/event=0xc0/u,cpu/instructions/u,rc0:u,cpu/event=0x76/ loop 10000000)
	equal_but_for_start "event=0xc0" $1 $short &&
	equal "instructions" "$2" "$1" &&
	equal "rc0" "$3" "$1" &&
	[ "$4" -gt 10000000 ] || fail "cycles: $4"
}

# The CPU model of the lab has no bus-cycles and no precise events.
not_supported()
{
	equal "bus-cycles" "$(counts -e bus-cycles loop)" "<not supported> " &&
	equal "with precise ip" "$(counts -e instructions:up loop)" "<not supported> " &&
	equal "on the host" "$(host_counts -e bus-cycles loop)" "<not supported> "
}

count_of()
{
	awk -F, -v event="$1" '$3 == event { print $1 }' "$data/stat"
}

# Eight events share six counters. The loop is uniform: scaled counts are correct.
multiplexed()
{
	stat -e instructions:u,cycles:u,branches:u,r4d1:u,r4c4:u,r4c8:u,r4c6:u,instructions:k \
		loop 400000000
	grep 'instructions:u' "$data/stat" | sed 's/^/# /'
	[ $(awk -F, '/^[0-9]/ && $5 < 100' "$data/stat" | wc -l) -ge 2 ] ||
		fail "nothing was multiplexed" || return
	near "instructions" $(count_of instructions:u) 400000000 2 &&
	near "branches" $(count_of r4d1:u) 40000000 2
}

many_events()
{
	events=
	for cmask in $(seq 1 40); do
		events="$events,cpu/event=0xc0,cmask=$((cmask % 3)),umask=$cmask/u"
	done
	stat -e instructions:u$events loop 400000000
	set -- $(head -n 1 "$data/stat" | tr , ' ')
	echo "# $*"
	near "instructions" "$1" 400000000 5
}

# moved: count a loop while the task moves between two CPUs
moved()
{
	guest_run "$perf stat -x, -o stat.out -e instructions:u,migrations loop 200000000 & \
		while ! pid=\$(pidof loop); do :; done; \
		while taskset -p 1 \$pid && taskset -p 2 \$pid; do :; done > /dev/null 2>&1; \
		wait; cat stat.out" | results > "$data/stat"
	sed 's/^/# /' "$data/stat"
	set -- $(cut -d, -f1 "$data/stat")
	equal_but_for_start "the count" $1 $((long + 180000000)) && within "migrations" $2 4 1000000
}

# hypercalls COMMAND: the number of the guest's hypercalls while COMMAND runs
hypercalls()
{
	before=$(cat $debugfs/hypercalls)
	guest_run "$1" > /dev/null
	echo $(($(cat $debugfs/hypercalls) - before))
}

# Only one of two tasks is counted: each switch is from or to the counted task.
exits_of_a_switch()
{
	count="taskset 1 perf stat --no-inherit -e instructions,cycles,branches"
	few=$(hypercalls "$count pingpong 500")
	many=$(hypercalls "$count pingpong 2500")
	echo "# $((many - few)) hypercalls in 4000 switches"
	within "hypercalls" $((many - few)) 1 4400
}

# unplugged: count a loop while the CPU of the loop goes offline again and again
unplugged()
{
	guest_run "$perf stat -x, -o stat.out -e instructions:u,migrations loop 500000000 & \
		while ! pid=\$(pidof loop); do :; done; \
		while taskset -p 2 \$pid; do \
			for online in 0 1; do \
				echo \$online > /sys/devices/system/cpu/cpu1/online; \
			done; \
		done > /dev/null 2>&1; \
		wait; cat stat.out" | results > "$data/stat"
	sed 's/^/# /' "$data/stat"
	set -- $(cut -d, -f1 "$data/stat")
	equal_but_for_start "the count" $1 $((long + 480000000)) && within "migrations" $2 2 1000000
}

hotplug()
{
	guest_run "echo 0 > /sys/devices/system/cpu/cpu1/online" &&
	equal_but_for_start "on the other CPU" $(counts -e instructions:u loop 10000000) $short &&
	guest_run "echo 1 > /sys/devices/system/cpu/cpu1/online" &&
	guest_run "taskset 2 $perf stat -x, -o stat.out -e instructions:u loop 10000000" &&
	guest_run "cat stat.out" | results > "$data/stat" &&
	equal_but_for_start "on the CPU that is back" $(cut -d, -f1 "$data/stat") $short
}

# on_host EVENTS COMMAND...: run COMMAND while the host counts EVENTS on all CPUs. The
# counts go to $data/host. Counting has begun when perf's child, sleep, runs.
on_host()
{
	perf stat -a -x, -o "$data/host" -e "$1" sleep 1000 > /dev/null &
	pid=$!
	until pidof sleep > /dev/null; do
		! grep -q zombie /proc/$pid/status || fail "the host does not count" || return
	done
	shift
	"$@"
	kill -INT $(pidof sleep)
	wait $pid
	[ -s "$data/host" ]
}

# User space runs perf and a shell besides the loop.
host_sees_the_same()
{
	on_host instructions:Gu stat -a -e instructions:u loop 400000000 || return
	guest=$(cut -d, -f1 "$data/stat")
	host=$(awk -F, '/^[0-9]/ { sum += $1 } END { print sum }' "$data/host")
	near "the host's count" "$host" "$guest" 5 && [ "$host" -ge "$guest" ]
}

# taken N COMMAND...: run COMMAND while the host has N pinned events
taken()
{
	events=
	for _ in $(seq "$1"); do
		events="$events,cycles:D"
	done
	shift
	on_host "${events#,}" "$@" || return
	! results < "$data/host" | grep -v ',100.00,'
}

counters_shared()
{
	taken 5 stat -e instructions:u,cycles:u,branches:u loop 400000000 || return
	sed 's/^/# /' "$data/stat"
	set -- $(awk -F, '$3 == "instructions:u" { print $1, int($5) }' "$data/stat")
	near "instructions" "$1" 400000000 3 && within "per cent of the time" "$2" 25 42
}

# truth EVENTS LENGTH: $data/truth gets a line "event count" for each event of a group
truth()
{
	stat -e $1 loop $2
	awk -F, '$5 == "100.00" { print $3, $1 }' "$data/stat" > "$data/truth"
	equal "the number of events with a counter" "$(wc -l < "$data/truth")" \
		"$(wc -l < "$data/stat")"
}

# honest: each count of $data/stat, which is scaled, is the truth, or is none; the
# counts of hardware events and percentages go to $data/counted
honest()
{
	awk -F, -v counted="$data/counted" '
		FILENAME ~ /truth/ { split($0, f, " "); truth[f[1]] = f[2]; next }
		!($3 in truth) || !/^[0-9]/ { next }
		{
			print $1, $5 >> counted
			off = ($1 - truth[$3]) / truth[$3]
			if (off > 0.03 || off < -0.03) {
				print "# " $3 ": " $1 " at " $5 " %, want " truth[$3]
				bad = 1
			}
		}
		END { exit bad }' "$data/truth" "$data/stat"
}

# Two groups at a time: of two, and of two to five. With a software event as leader and
# without, and as groups that perf may break up.
groups()
{
	for members in branches:u branches:u,rc0:u branches:u,rc0:u,cycles:u \
			branches:u,rc0:u,cycles:u,r4d1:u; do
		for lead in "" cpu-clock,; do
			for weak in "" :W; do
				stat -e "'{${lead}instructions:u,$members}$weak'" \
					-e "'{${lead}rc0:u,r4d1:u}$weak'" loop 100000000
				honest || fail "{${lead}instructions:u,$members}$weak" || return
			done
		done
	done
}

# groups_while_taken N ALL PART: of ALL counts, so many are counted, and so many of these
# for a part of the time
groups_while_taken()
{
	rm -f "$data/counted"
	taken $1 groups && touch "$data/counted" || return
	echo "# $1 counters taken: $(wc -l < "$data/counted") counts," \
		"$(grep -c -v ' 100.00' "$data/counted") of a part of the time"
	within "counts" "$(wc -l < "$data/counted")" $2 88 &&
	within "counts of a part of the time" "$(grep -c -v ' 100.00' "$data/counted")" $3 88
}

groups_shared()
{
	truth instructions:u,branches:u,rc0:u,cycles:u,r4d1:u 100000000 &&
	groups_while_taken 5 0 0 &&
	groups_while_taken 3 32 32 || return

	# more events than counters: only a weak group can be opened
	group=instructions:u,branches:u,rc0:u,cycles:u,r4d1:u,r4c4:u,r4c8:u
	stat -e "'{$group}:W'" loop 100000000
	honest && within "events of a weak group that are counted" \
		"$(grep -c '^[0-9]' "$data/stat")" 7 7
}

# A metric of perf's own: the quotient of two events of a weak group
metrics()
{
	stat -M branch_misprediction_ratio loop 10000000
	sed 's/^/# /' "$data/stat"
	awk -F, '
		$3 == "ex_ret_brn"	{ branches = $1; share = $5; ratio = $6 }
		$3 == "ex_ret_brn_misp"	{ missed = $1; same = $5 == share }
		END {
			exit !(branches >= 1000000 && missed > 0 && same &&
			       share == "100.00" &&
			       ratio == sprintf("%.1f", 100 * missed / branches))
		}' "$data/stat" || return

	taken 5 stat -M branch_misprediction_ratio loop || return
	equal "without counters" "$(cut -d, -f1 "$data/stat" | sort -u)" "<not counted>"
}

# Two tasks with four events each take turns: the host has six counters.
two_tasks()
{
	one=instructions:u,branches:u,r4d1:u,cycles:u
	other=rc0:u,r4c4:u,r4c8:u,r4c6:u
	switches=context-switches:k
	set -- $(counts -e $one,$switches loop 400000000) \
		$(counts -e $other,$switches loop 400000000)
	guest_run "for events in $one $other; do \
			$perf stat -x, -o \$events -e \$events,$switches loop 400000000 & \
		done; wait; cat $one $other" | results > "$data/stat"
	sed 's/^/# /' "$data/stat"
	equal "the number of events that ran all the time" \
		"$(grep -c ',100.00,' "$data/stat")" 10 || return
	cut -d, -f1,3 "$data/stat" | tr , ' ' > "$data/both"
	while read -r count event; do
		case $event in
		$switches)	within $event $count 10 1000 ;;
		cycles:u)	near $event $count $1 1 ;;
		*)		equal_but_for_start $event $count $1 ;;
		esac || return
		shift
	done < "$data/both"
}

# allow_pinned COMMAND...: run COMMAND while the host lets guests have pinned events
allow_pinned()
{
	pinned=/sys/module/kvm/parameters/pv_pmu_pinned
	before=$(cat $pinned)
	echo Y > $pinned
	"$@"
	result=$?
	echo "$before" > $pinned
	return $result
}

no_counter_left()
{
	equal "pinned, without permission" "$(counts -e instructions:uD loop)" \
		"<not supported> " &&
	allow_pinned pinned_without_counter
}

pinned_without_counter()
{
	pinned_events="-e instructions:u,instructions:uD -e '{branches:uD,cycles:u}'"
	taken 6 stat "$pinned_events" loop || return
	equal "instructions" "$(cut -d, -f1 "$data/stat" | sort -u)" "<not counted>" || return
	usleep 200000	# until the guest has closed all slots
	set -- $(counts "$pinned_events" loop 10000000)
	equal_but_for_start "afterwards" $1 $short && equal "pinned" $2 $1 &&
	[ "$3" -gt 1000000 ] && [ "$4" -gt 10000000 ] || fail "pinned group: $3 $4"
}

# seen_by_perf COMMAND...: how many switches of the host's tasks the host's perf looks
# at while COMMAND runs
seen_by_perf()
{
	echo 'p:seen_by_perf __perf_event_task_sched_out' >> $tracing/kprobe_events
	echo 1 > $tracing/events/kprobes/seen_by_perf/enable
	"$@" > /dev/null
	awk '$1 == "seen_by_perf" { print $2 }' $tracing/kprobe_profile
	echo 0 > $tracing/events/kprobes/seen_by_perf/enable
	echo '-:seen_by_perf' >> $tracing/kprobe_events
}

# perf forgets a second late that a task had events.
costs_nothing()
{
	tracing=/sys/kernel/debug/tracing
	stat -e instructions:u loop
	usleep 2000000
	equal "events of the host" "$(cat $debugfs/pv_pmu_events)" 0 &&
	equal "switches seen while the guest is idle" "$(seen_by_perf usleep 300000)" 0 || return
	seen=$(seen_by_perf stat -e instructions:u loop 100000000)
	[ "$seen" -gt 0 ] || fail "no switches seen while the guest counts"
}

# pv_pmu_max_events limits the events of a vCPU. After a refusal the guest's perf
# multiplexes within the limit, until the guest has counted nothing for a while.
limited()
{
	limit=/sys/module/kvm/parameters/pv_pmu_max_events
	before=$(cat $limit)
	four=instructions:u,cycles:u,branches:u,r4d1:u
	six=$four,r4c4:u,r4c8:u
	echo 3 > $limit
	stat -a -e $four loop 400000000
	cp "$data/stat" "$data/limited"
	stat -e $six loop 400000000
	cat "$data/stat" >> "$data/limited"
	usleep 200000	# until the guest has closed all slots and forgotten the limit
	echo 0 > $limit
	equal "with a limit of zero" "$(counts -e $four loop)" \
		"<not counted> <not counted> <not counted> <not counted> "
	none=$?
	echo "$before" > $limit
	sed 's/^/# /' "$data/limited"
	[ $none = 0 ] || return

	equal "the number of multiplexed events" \
		"$(awk -F, '$5 > 20 && $5 < 90' "$data/limited" | wc -l)" 10 || return
	set -- $(awk -F, '$3 == "instructions:u" { print $1, int($5) }' "$data/limited")
	near "instructions of all tasks" "$1" 400000000 10 &&
	within "per cent of the time" "$2" 60 90 &&
	near "instructions" "$3" 400000000 5 && within "per cent of the time" "$4" 35 65 || return

	usleep 200000
	stat -e $six loop
	equal "the number of events that ran all the time afterwards" \
		"$(grep -c ',100.00,' "$data/stat")" 6
}

off()
{
	GUEST_APPEND=kvm_pv_pmu=off booted not_counted
}

not_counted()
{
	equal "instructions" "$(counts -e instructions loop)" "<not supported> "
}

beside_a_virtual_pmu()
{
	GUEST_CPU=host,migratable=off booted stays_away
}

stays_away()
{
	! found && grep -q 'PV PMU: not used' "$data/dmesg" &&
	grep -q 'AMD PMU driver' "$data/dmesg" &&
	equal_but_for_start "instructions" $(counts -e instructions:u loop 10000000) $short
}

forced()
{
	GUEST_CPU=host,migratable=off GUEST_APPEND=kvm_pv_pmu=force booted counts_both
}

counts_both()
{
	set -- $(counts -e instructions:u,kvm_pv/event=0xc0/u loop 10000000)
	equal_but_for_start "the virtual PMU's" $1 $short &&
	equal_but_for_start "the paravirtual PMU's" $2 $1
}

# Count with the perf of a distribution.
other_perf()
{
	tree_perf=$perf
	perf="env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin $GUEST_OTHER_PERF"
	GUEST_ADD=$GUEST_OTHER_PERF_IMAGE booted counts_the_same
	result=$?
	perf=$tree_perf
	return $result
}

counts_the_same()
{
	guest_run "$perf --version" | sed 's/^/# /'
	short=$(counts -e instructions:u loop 10000000)
	long=$(counts -e instructions:u loop 20000000)
	equal "the difference of two loops" $((long - short)) 10000000 &&
	user_and_kernel && repeated && on_all_cpus && of_a_process && by_intervals &&
	per_thread && same_event_twice && raw && multiplexed && samples && passes_its_tests &&
	equal "bus-cycles" "$(counts -e bus-cycles loop)" "<not supported> "
}

# on_the_host ARG...: the same perf on the host, with its own libraries
on_the_host()
{
	if [ ! -d "$data/other" ]; then
		mkdir "$data/other"
		(cd "$data/other" && cpio -idm < "$GUEST_OTHER_PERF_IMAGE" 2> /dev/null)
	fi
	"$data"/other/lib64/ld-linux-x86-64.so.2 --library-path \
		"$data/other/lib/x86_64-linux-gnu" "$data/other$GUEST_OTHER_PERF" "$@"
}

# passed: the names of the cases of "perf test" that have passed
passed()
{
	sed -n 's/^ *[0-9.]*: \(.*[^ ]\) *: Ok$/\1/p' | sort
}

# The cases of the host pass in the guest, but for $GUEST_PERF_TESTS_NOT. "PMU events" and
# "vmlinux symtab" are skipped: they read tables for minutes. "Number of exit events" is
# skipped: with one CPU, its 1000 polls may end before the task does.
passes_its_tests()
{
	skip=$(on_the_host test list 2>&1 | sed -n -e 's/^ *\([0-9]*\): PMU events$/\1/p' \
		-e 's/^ *\([0-9]*\): vmlinux symtab.*/\1/p' \
		-e 's/^ *\([0-9]*\): Number of exit events.*/\1/p' | tr '\n' ,)
	on_the_host test -s "${skip%,}" 2>&1 | passed > "$data/host-passed"
	guest_run "$perf test -s ${skip%,} 2>&1" > "$data/guest-tests"
	passed < "$data/guest-tests" > "$data/guest-passed"
	sed -e 's/#.*//' -e '/^$/d' "$GUEST_PERF_TESTS_NOT" | sort > "$data/not"
	echo "# $(wc -l < "$data/host-passed") cases pass on the host"
	grep -vxF -f "$data/guest-passed" "$data/host-passed" > "$data/not-passed"
	[ -s "$data/host-passed" ] && cmp -s "$data/not-passed" "$data/not" ||
		fail "$(diff "$data/not" "$data/not-passed" | tr '\n' ';')"
}

samples()
{
	guest_run "$perf record -q -o perf.data -e instructions:u -c 50021 loop 50000000 && \
		$perf script -i perf.data -F ip 2> /dev/null | wc -l" > "$data/samples"
	equal "samples" "$(cat "$data/samples")" $((50000000 / 50021))
}

two_cpus()
{
	GUEST_CPUS=2 GUEST_APPEND=maxcpus=1 booted on_two_cpus
}

on_two_cpus()
{
	guest_run "echo 1 > /sys/devices/system/cpu/cpu1/online" &&
	moved && hotplug && unplugged
}

cases="start found sysfs default_events loop_exact user_and_kernel repeated
on_all_cpus of_a_process of_cgroups by_intervals per_thread group inherited same_event_twice raw
not_supported multiplexed many_events exits_of_a_switch two_tasks
host_sees_the_same counters_shared groups_shared metrics no_counter_left limited costs_nothing stop
off beside_a_virtual_pmu forced other_perf two_cpus"

[ $# -gt 0 ] || set -- $cases
ktap_set_plan $#
for case; do
	if [ $case = other_perf ] && [ -z "$GUEST_OTHER_PERF" ]; then
		ktap_test_skip "$case"
	else
		ktap_test_result "$case" $case
	fi
done
ktap_finished
