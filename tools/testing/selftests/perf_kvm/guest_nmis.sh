#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Test that no NMI of the paravirtual PMU gets lost in a guest with two CPUs, while
# its CPUs go from one CPU of the host to another.
#
#  - All of the guest is sampled, by two events, while short processes, pipes and system
#    calls keep both CPUs busy.
#  - The periods of the guest's samples stand for as many overflows as the host has had.
#  - The guest has handled as many NMIs as the host has injected, and not more than there
#    were overflows. None was for an unknown reason.
#  - Each CPU has samples until the end.
#
# Needs a host with two CPUs, CONFIG_KVM_PV_PMU in the host and CONFIG_KVM_GUEST_PV_PMU in
# the guest.
#
# Arguments: the number of overflows (50000)
#
# Environment: see counting.sh. GUEST_LIB also has guest_qmp.
#
# shellcheck disable=SC2086,SC2046,SC2015

. "$(dirname "$(readlink -f "$0")")/counting.sh"

wanted=${1:-50000}
period=20011

overflows()
{
	cat $debugfs/pv_pmu_overflows
}

# handled: the NMIs that the guest has taken for its PMU
handled()
{
	guest_run "cat /proc/interrupts" |
		awk '$1 == "PMI:" { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i; print n }'
}

# load: a command of the guest that works like a build, as long as there is a file
load()
{
	echo "while [ -e busy ]; do" \
		"for f in /bin/*; do echo \$f | cat | wc -c; done;" \
		"ls -lR /sys/class; pingpong 100; done > /dev/null 2>&1"
}

# Move the guest's CPUs, until the overflows are there.
move_cpus()
{
	threads=$(guest_qmp query-cpus-fast | tr , '\n' |
		sed -n 's/.*"thread-id": \([1-9][0-9]*\).*/\1/p')
	[ $(echo $threads | wc -w) = 2 ] || fail "threads of the guest's CPUs: $threads" || return
	echo 0 > "$data/moves"
	while [ "$(overflows)" -lt $end ]; do
		for mask in 1 2; do
			for thread in $threads; do
				taskset -p $mask $thread > /dev/null || return
				mask=$((3 - mask))
			done
			usleep 3000
		done
		echo $(($(cat "$data/moves") + 4)) > "$data/moves"
	done
}

accounted()
{
	end=$(($(overflows) + wanted))
	before="$(overflows) $(cat $debugfs/pv_pmu_nmis) $(handled)"
	guest_run "touch busy; { $(load); } & { $(load); } & \
		$perf record -q -a --period -m 512 -o perf.data -e instructions/period=$period/ \
		-e branches/period=$period/ > /dev/null 2> err & :" &&
	move_cpus || return
	guest_run "rm busy; kill -INT \$(pidof perf); while pidof perf; do :; done > /dev/null; \
		cat err" > "$data/err"
	[ ! -s "$data/err" ] || fail "$(head -n 1 "$data/err")" || return
	guest_run "$perf script -i perf.data -F cpu,time,period | tr -d '[]:'" > "$data/output"
	awk 'NF == 3' "$data/output" > "$data/script"
	awk 'NF && NF != 3 { print "#", $0 }' "$data/output"
	set -- $before $(overflows) $(cat $debugfs/pv_pmu_nmis) $(handled) \
		$(awk '{ sum += $3 } END { printf "%d\n", sum / '$period' }' "$data/script")
	echo "# $(($4 - $1)) overflows, in samples $7, $(($5 - $2)) NMIs, $(($6 - $3)) handled," \
		"$(wc -l < "$data/script") samples, $(cat "$data/moves") moves"
	[ "$(cat "$data/moves")" -gt 100 ] || fail "the CPUs have not moved" || return
	# each slot of each CPU may have overflowed when perf had stopped
	within "overflows in samples" $7 $(($4 - $1 - 4)) $(($4 - $1)) &&
	within "NMIs" $(($5 - $2)) 1 $(($4 - $1)) &&
	equal "NMIs handled" $(($6 - $3)) $(($5 - $2)) &&
	equal "strange NMIs" "$(guest_run "dmesg | grep -c -e Uhhuh -e Dazed")" 0 &&
	until_the_end
}

# Each CPU has a third of the samples or more, and has some in the last 100 ms.
until_the_end()
{
	awk '{ n[$1 + 0]++; t = $2 + 0; last[$1 + 0] = t; if (t > end) end = t }
	     END {
		for (cpu = 0; cpu < 2; cpu++) {
			printf "# CPU %d: %d samples, the last %.3f s before the end\n", cpu,
				n[cpu], end - last[cpu]
			bad += n[cpu] < NR / 3 || end - last[cpu] > 0.1
		}
		exit bad
	     }' "$data/script"
}

two_cpus()
{
	GUEST_CPUS=2 booted accounted
}

ktap_set_plan 1
ktap_test_result "NMIs of two CPUs" two_cpus
ktap_finished
