#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Test "perf record" and "perf top" in a guest with the paravirtual PMU.
#
#  - With a period, the number of samples is that of the host's own perf, and samples lie
#    on each instruction of a loop as often as there. With a frequency, the rate is right.
#  - The periods of all samples add up to what is counted.
#  - Signals come at the instructions where they come on the host. So do BPF programs,
#    and PERF_EVENT_IOC_REFRESH and PERF_EVENT_IOC_PERIOD have the same effect.
#  - User space, the kernel, call chains of both, all CPUs, processes, their children,
#    tasks that take turns, groups, several sessions at once, and output that is switched.
#  - Too many samples are throttled, and the guest is told. A guest that overflows with
#    each instruction gets on, and so does the host.
#  - Host and guest sample the guest at the same time.
#  - The hard lockup detector works, if the host lets it have a pinned event.
#  - "perf test" passes.
#
# Needs CONFIG_KVM_PV_PMU in the host and CONFIG_KVM_GUEST_PV_PMU in the guest.
#
# Arguments: the cases to run; default: all
#
# Environment, in addition to counting.sh: the guest and the host have the programs
# callgraph and overflow.
#  GUEST_DIR		a directory with the guest's kallsyms
#  GUEST_PERF_TESTS	a list of cases of "perf test", which pass on the host
#  GUEST_PERF_TESTS_NOT	those which fail in the guest
#
# shellcheck disable=SC2086,SC2046,SC2016,SC2015,SC2153

. "$(dirname "$(readlink -f "$0")")/counting.sh"

# Some 20000 samples a second: the host's limit is not met.
period=50021
length=50000000

# host_script FIELDS ARG...: the same of "perf record ARG..." on the host
host_script()
{
	fields=$1
	shift
	$perf record -q -o "$data/perf.data" "$@" > /dev/null || return
	$perf script -i "$data/perf.data" -F $fields > "$data/host-script"
}

samples()
{
	wc -l < "$data/script"
}

# sum: the sum of the first column
sum()
{
	awk '{ sum += $1 } END { printf "%d\n", sum }' "$data/${1:-script}"
}

sampled()
{
	record -e instructions:u -c $period loop $length && script ip,sym &&
	host_script ip,sym -e instructions:u -c $period loop $length || return
	set -- $(counts -e instructions:u loop $length)
	within "samples" "$(samples)" $(($1 / period)) $(($1 / period)) &&
	within "samples of the host" "$(wc -l < "$data/host-script")" \
		$(($1 / period - 1)) $(($1 / period + 1)) &&
	equal "samples outside of main" "$(grep -vc main "$data/script")" 0 &&
	awk '{ n[$1] += FILENAME ~ /host/ ? -1 : 1; all[$1]++ }
	     END {
		# the loop has ten instructions
		for (ip in n)
			if (n[ip] > 3 || n[ip] < -3) {
				printf "# %s: %d more than on the host\n", ip, n[ip]
				bad = 1
			}
		for (ip in all)
			addresses += all[ip] > 150
		if (addresses != 10)
			print "# addresses: " addresses
		exit bad || addresses != 10
	     }' "$data/script" "$data/host-script"
}

# The first sample of an event may come early, until the host knows the rate.
frequency()
{
	record -e cycles -F 1000 loop 1500000000 && script time,period || return
	awk -F '[: ]+' '{ t = $2; p = $3; if (!start) start = t;
			  if (t - start > 0.2 && t - start < 1.2) n++ }
			END { print n }' "$data/script" > "$data/rate"
	near "samples in a second" "$(cat "$data/rate")" 1000 5
}

# The first sample comes after one event, because perf does not know the rate.
periods_add_up()
{
	set -- $(counts -e instructions:u loop 300000000)
	record -e instructions:u -F 997 loop 300000000 && script period || return
	last=$(sort -n "$data/script" | tail -n 1)
	within "the sum of the periods" "$(sum)" $(($1 - last - start_differs)) \
		$(($1 + start_differs)) &&
	record --period -e instructions:u -c $period loop 300000000 && script period || return
	within "the sum of fixed periods" "$(sum)" $(($1 - period - start_differs)) \
		$(($1 + start_differs))
}

# same ARG...: "overflow ARG..." prints the same in the guest as on the host
same()
{
	guest_run "overflow $*" > "$data/overflow"
	overflow "$@" > "$data/host-overflow"
	[ "$(wc -l < "$data/host-overflow")" -gt 1 ] &&
	cmp -s "$data/overflow" "$data/host-overflow" ||
		fail "overflow $*: $(diff "$data/overflow" "$data/host-overflow" | tr '\n' ';')"
}

# A raw event: retired conditional branches, at an exact period, as debuggers that
# record and replay use them
signals()
{
	same signal && same signal 5003 0xd1 && same signal 5003 0xd1
}

refreshed()
{
	same refresh && same refresh
}

new_periods()
{
	same period && same period 5003 0xd1
}

orphaned()
{
	same orphan
}

bpf()
{
	same bpf
}

# kinds: how many samples are of the kernel and of user space
kinds()
{
	awk '{ if ($1 ~ /^ffff/) kernel++; else user++ }
	     END { print kernel + 0, user + 0 }' "$data/script"
}

# A period of the kernel may end with the instruction that returns to user space: its sample
# has the next IP, as on the host. With both modes, it is chance where a period ends, and the
# number of all samples is known.
modes()
{
	for mode in u k uk; do
		record -e instructions:$mode -c $period pingpong 2000 && script ip || return
		set -- $(kinds)
		echo "# :$mode: $1 of the kernel, $2 of user space"
		case $mode in
		u)	user=$2; [ $1 = 0 ] && [ $2 -gt 30 ] ;;
		k)	kernel=$1; [ $1 -gt 300 ] && [ $2 -le 3 ] ;;
		uk)	[ $1 -gt 300 ] && [ $2 -gt 10 ] &&
			near "samples of both" $(($1 + $2)) $((kernel + user)) 2 ;;
		esac || fail "mode $mode" || return
	done
}

# The chains of callgraph are known: each sample of qux came by way of main, foo, bar.
chains()
{
	record -g -e cycles:u -c 100003 callgraph && script ip,sym || return
	awk '$2 == "qux" { qux++; getline; bar += $2 == "bar"; getline; foo += $2 == "foo";
			   getline; main += $2 == "main" }
	     END { printf "# %d chains of qux\n", qux
		   exit !(qux > 200 && bar == qux && foo == qux && main == qux) }' "$data/script" &&
	record -g -e cycles -c 10007 pingpong 200 && script ip,sym || return
	awk '/entry_SYSCALL_64/ { entry++ } /main/ { main++ }
	     END { printf "# %d chains through a system call, %d with main\n", entry, main
		   exit !(entry > 100 && main > 100) }' "$data/script"
}

all_cpus()
{
	record -a -g -F 2000 loop 200000000 && script comm || return
	[ "$(grep -c loop "$data/script")" -gt 200 ] || fail "$(samples) samples"
}

process()
{
	guest_run "loop 2000000000 & pid=\$!; \
		$perf record -q -o perf.data -F 1000 -p \$pid -- usleep 200000 2>&1; \
		kill \$pid; wait" > "$data/record"
	script comm || return
	near "samples of a process" "$(grep -c loop "$data/script")" 200 20
}

# The remainder of a period goes from child to child.
children()
{
	ten_loops="sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do loop 100000; done'"
	set -- $(counts -e instructions:u "$ten_loops")
	record -e instructions:u -c 1000003 "$ten_loops" && script comm || return
	equal "samples" "$(samples)" $(($1 / 1000003))
}

# Two sessions with the same event, and one with two events. The two sessions share the
# event of the host: what one of them leaves of a period goes on in the other, so that only
# the sum of their samples is exact.
sessions()
{
	guest_run "for i in 1 2; do \
		$perf record -q -o \$i.data -e instructions:u -c $period loop $length & done; \
		wait; for i in 1 2; do \
		$perf script -i \$i.data -F period,comm | grep -c loop; done" > "$data/sessions"
	set -- $(counts -e instructions:u loop $length) $(cat "$data/sessions")
	echo "# $1 events a session, $2 and $3 samples"
	near "samples of the first" "$2" $(($1 / period)) 2 &&
	near "samples of the second" "$3" $(($1 / period)) 2 &&
	within "samples of both" $(($2 + $3)) $((2 * $1 / period - 1)) \
		$((2 * $1 / period)) || return
	record -e instructions/period=$period/u -e branches/period=5003/u loop $length &&
	script event,period || return
	within "samples of instructions" "$(grep -c instructions "$data/script")" \
		$(($1 / period)) $(($1 / period)) &&
	near "samples of branches" "$(grep -c branches "$data/script")" $((length / 10 / 5003)) 1
}

# Each sample of the leader has the counts of the members, as of the same instruction.
groups()
{
	record -e "'{instructions:u,branches:u,cycles:u}:S'" -c $period loop $length &&
	script event,period || return
	set -- $(counts -e instructions:u,branches:u,cycles:u loop $length)
	for event in instructions branches cycles; do
		awk -v event=$event '$2 ~ "^" event { print $1 }' "$data/script" > "$data/$event"
		within "$event" "$(sum $event)" $(($1 - period - start_differs)) $1 || return
		shift
	done
	awk '$1 != 5002 && $1 != 5003 { bad++ }
	     END { printf "# members with another count: %d of %d\n", bad, NR; exit bad > 4 }' \
		"$data/branches"
}

switched()
{
	guest_run "rm -f s.data*; $perf record -o s.data -m 8 --switch-output=20K \
		-e instructions:u -c 25013 loop $length > /dev/null 2>&1; ls s.data.* | wc -l; \
		for i in s.data.*; do $perf script -i \$i -F ip 2>&1; done | wc -l" \
		> "$data/switched"
	set -- $(cat "$data/switched") $(counts -e instructions:u loop $length)
	within "files" $1 2 100 && within "samples" $2 $(($3 / 25013)) $(($3 / 25013))
}

# perf looks for a key without a pause where the input has ended. The FIFO never ends. The
# rest is perf itself, which reads symbols.
top()
{
	guest_run "loop 4000000000 & mkfifo keys; \
		timeout -s INT 3 $perf top --stdio -d 1 -e cycles:u <> keys > top.out 2>&1; \
		kill \$!; wait; rm keys; cat top.out" > "$data/top"
	grep '%  *loop .* main' "$data/top" | sed 's/^/# /'
	grep -q '[89][0-9]\.[0-9]*%  *loop .* main' "$data/top" || fail "$(tail -n 20 "$data/top")"
}

# throttle_events KIND: how many records of a kind there are
throttle_events()
{
	guest_run "$perf report -i perf.data --stats 2> /dev/null" |
		awk -v kind="$1" '$1 == kind { n = $3 } END { print n + 0 }'
}

throttled()
{
	record -e instructions:u -c 20 loop 20000000 || return
	throttle=$(throttle_events THROTTLE)
	unthrottle=$(throttle_events UNTHROTTLE)
	echo "# throttled $throttle times, and $unthrottle times no more"
	[ $throttle -gt 0 ] && within "ends" $unthrottle $((throttle - 1)) $throttle || return
	guest_run "overflow signal 20" | tail -n 1 > "$data/overflow"
	sed 's/^/# /' "$data/overflow"
	set -- $(cat "$data/overflow")
	within "per cent of the time" $4 1 99
}

# perf must not forget a throttled member of a group.
throttled_member()
{
	record -a -e "'{instructions/period=10000019/u,cycles/period=20/u}'" loop 100000000 ||
		return
	throttle=$(throttle_events THROTTLE)
	echo "# throttled $throttle times"
	[ $throttle -gt 5 ]
}

# progress: the iterations of the loop in a second of each of the guest's CPUs
progress()
{
	guest_run "overflow storm $1" > "$data/storm"
	sed 's/^/# /' "$data/storm"
	awk '{ print $6 }' "$data/storm"
}

# Each instruction overflows, of each event, and the guest's own perf is no help: its limit
# is higher than the host's. The NMIs do not lower the rate of the host's own samples,
# though perf limits their time now: at this rate, to 100 ns each.
storm()
{
	echo 1 > $nmi_percent
	overflows_of_storm
	result=$?
	echo 0 > $nmi_percent
	return $result
}

overflows_of_storm()
{
	guest_run "$(fix_rate 1000000)" || return
	rate=$(cat $max_rate)
	calm=$(progress 1000000000 | tail -n 1)
	overflows=$(cat $debugfs/pv_pmu_overflows)
	stormy=$(progress 1 | tail -n 1)
	overflows=$(($(cat $debugfs/pv_pmu_overflows) - overflows))
	echo "# $stormy iterations of $calm, $overflows overflows"
	[ "$stormy" -gt $((calm / 4)) ] && within "overflows" $overflows 10000 100000 &&
	equal "the rate of the host" "$(cat $max_rate)" $rate
}

after_storm()
{
	guest_run "$(fix_rate 100000)" && sampled
}

# NMIs are what the host injected, and what it injected is what overflowed.
accounted()
{
	before=$(cat $debugfs/pv_pmu_overflows $debugfs/pv_pmu_nmis | tr '\n' ' ')
	nmis=$(nmis)
	record -e instructions:u -c $period loop 100000000 && script ip || return
	samples=$(samples)
	nmis=$(($(nmis) - nmis))
	set -- $before $(cat $debugfs/pv_pmu_overflows $debugfs/pv_pmu_nmis)
	echo "# $(($3 - $1)) overflows, $(($4 - $2)) NMIs injected, $nmis handled, $samples samples"
	equal "NMIs injected" $(($4 - $2)) $(($3 - $1)) &&
	equal "NMIs handled" $nmis $(($4 - $2)) &&
	within "samples" $samples $((nmis - 1)) $nmis
}

nmis()
{
	guest_run "cat /proc/interrupts" | awk '
		$1 == "PMI:" { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i; print n }'
}

# Host and guest use counters of their own.
both()
{
	guest_run "$perf record -q -g -o perf.data -e cycles:u -c 100003 callgraph 9000 \
		> /dev/null 2>&1 & until pidof callgraph > /dev/null; do usleep 10000; done"
	$perf kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" record -q -a -e cycles:Gu \
		-c 100003 -o "$data/host.data" usleep 200000 > "$data/err" 2>&1 ||
		fail "$(cat "$data/err")" || return
	guest_run "while pidof perf > /dev/null; do usleep 10000; done"
	$perf script -F misc,ip,sym --guestkallsyms="$GUEST_DIR/kallsyms" \
		--guestbinary="$(command -v callgraph),all" -i "$data/host.data" \
		> "$data/host-script"
	script ip,sym || return
	qux "on the host" < "$data/host-script" &&
	awk 'NF && !prev { print "user", $0 } { prev = NF }' "$data/script" | qux "in the guest"
}

# qux WHERE: of more than 1000 samples, qux has the share of its loop and random()'s
qux()
{
	set -- "$1" $(awk '/qux/ { qux++ } END { printf "%d %d\n", NR, NR ? 1000 * qux / NR : 0 }')
	echo "# $2 samples $1, $3 per mill in qux"
	[ $2 -gt 1000 ] && within "per mill" $3 350 450
}

# Two virtual CPUs, with a thread that goes from one to the other
two_cpus()
{
	GUEST_CPUS=2 booted on_two_cpus
}

# A CPU of the guest may lose its CPU of the host in the middle of an NMI. perf must not
# take such an NMI for a long one.
on_two_cpus()
{
	guest_run "echo 25 > $nmi_percent" || return
	guest_run "$perf record -q --sample-cpu -o perf.data -e instructions:u -c $period \
		loop 200000000 & \
		while ! pid=\$(pidof loop); do :; done; \
		while taskset -p 1 \$pid && taskset -p 2 \$pid; do :; done > /dev/null 2>&1; \
		wait" > "$data/record"
	sed 's/^/# /' "$data/record"
	script cpu,comm || return
	sort "$data/script" | uniq -c | sed 's/^/# /'
	set -- $(counts -e instructions:u loop 10000000)
	within "samples" "$(samples)" $((($1 + 190000000) / period - 100)) \
		$((($1 + 190000000) / period)) && offline
}

# The samples of a CPU that goes offline end, and those of the other go on.
offline()
{
	cpu1=/sys/devices/system/cpu/cpu1/online
	guest_run "$perf record -q -a --sample-cpu -o perf.data -F 1000 loop 800000000 & \
		until pidof loop > /dev/null; do :; done; \
		usleep 200000; echo 0 > $cpu1; usleep 100000; echo 1 > $cpu1; wait" > "$data/record"
	sed 's/^/# /' "$data/record"
	script cpu,comm || return
	sort "$data/script" | uniq -c | sed 's/^/# /'
	[ "$(grep -c loop "$data/script")" -gt 300 ] || fail "$(samples) samples"
}

# The hard lockup detector looks after each second of the CPU's cycles.
watchdog()
{
	pinned=/sys/module/kvm/parameters/pv_pmu_pinned
	was_pinned=$(cat $pinned)
	echo 1 > $pinned
	GUEST_APPEND="nmi_watchdog=1 watchdog_thresh=1" booted looks
	result=$?
	echo "$was_pinned" > $pinned
	return $result
}

looks()
{
	guest_run "dmesg" > "$data/dmesg"
	grep -q 'NMI watchdog: Enabled' "$data/dmesg" || fail "no watchdog" || return
	equal "events of the host" "$(cat $debugfs/pv_pmu_events)" 1 || return
	nmis=$(nmis)
	guest_run "loop 2500000000" && within "NMIs in 2.5 seconds" $(($(nmis) - nmis)) 2 3
}

# The cases of "perf test" that pass on the host
perf_test()
{
	[ -n "$GUEST_PERF_TESTS" ] || fail "GUEST_PERF_TESTS names no list" || return
	sed -e 's/#.*//' -e '/^$/d' "$GUEST_PERF_TESTS_NOT" > "$data/not"
	sed -e 's/#.*//' -e '/^$/d' "$GUEST_PERF_TESTS" > "$data/tests"
	while read -r name; do
		guest_run "$perf test '$name' 2>&1" > "$data/out"
		passes=$(grep -cE "^ *[0-9.]+: $name *: Ok" "$data/out")
		fails=$(grep -cxF "$name" "$data/not")
		[ $((passes + fails)) = 1 ] || echo "$name: passes $passes, ought to fail $fails"
	done < "$data/tests" > "$data/wrong"
	echo "# $(wc -l < "$data/tests") cases"
	[ ! -s "$data/wrong" ] || fail "$(cat "$data/wrong")"
}

cases="start sampled frequency periods_add_up signals refreshed new_periods orphaned bpf modes
chains all_cpus process children sessions groups switched top throttled throttled_member accounted
both storm after_storm perf_test stop watchdog two_cpus"

[ $# -gt 0 ] || set -- $cases
run_cases "$@"
