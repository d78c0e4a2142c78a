#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Compare profiles of a program: recorded by the host's perf on the host, and by the
# guest's perf in guests with the paravirtual PMU and with KVM's virtual PMU.
#
#  - On the host, the shares are those of the program: 40 to 30 to 20 to 10.
#  - In the guest with the paravirtual PMU, the share of each function is the host's,
#    within one point, and so is the number of samples, within 1 %.
#
# The shares with the virtual PMU are shown beside the others, and not judged: a virtual
# PMU must only have recorded as many samples.
#
# One point is more than chance makes of it. A loop has, in each of 3000 rounds of varying
# length, as many samples as there are periods in it, or one more: of 29000 samples, a
# standard deviation of 0.1 points. A call of random() takes 50 instructions, and the
# period is a prime: chance decides which function a sample of the calls hits, with a
# standard deviation of 0.15 points. The difference of two recordings has 1.4 times that.
#
# Needs CONFIG_KVM_PV_PMU in the host, CONFIG_KVM_GUEST_PV_PMU in the guest, and a PMU.
#
# Environment, in addition to counting.sh: host and guest have the program callgraph.
#
# shellcheck disable=SC2086,SC2015

. "$(dirname "$(readlink -f "$0")")/counting.sh"

functions="qux bar foo main random random_r"
period=16001
program="callgraph 3000 1000"
samples=20000

# No throttling by the time that the handler of the samples takes
percent=/proc/sys/kernel/perf_cpu_time_max_percent
record="perf record -q -e cycles:u -c $period -o precision.data $program"
report="perf report -i precision.data --stdio --stdio-color never -n --sort sym"

# shares NAME: the output of "perf report", as lines "function share samples"
shares()
{
	awk '$1 ~ /^[0-9.]+%$/ { sub(/^_+/, "", $4); print $4, $1 + 0, $2 }' > "$data/$1"
}

share()
{
	awk -v name="$2" '$1 == name { sum += $2 } END { printf "%.2f", sum }' "$data/$1"
}

nr_samples()
{
	awk '{ sum += $3 } END { print sum + 0 }' "$data/$1"
}

enough()
{
	nr=$(nr_samples "$1")
	[ "$nr" -ge $samples ] || fail "$1: $nr samples, want $samples or more"
}

on_the_host()
{
	before=$(cat $percent)
	echo 0 > $percent
	(cd "$data" && $record && $report 2> /dev/null) | shares host
	echo "$before" > $percent
	enough host
}

# in_the_guest NAME: boot a guest, and record in the guest
in_the_guest()
{
	booted recorded "$1"
}

recorded()
{
	guest_run "echo 0 > $percent; $record && $report 2> /dev/null" | shares "$1"
	enough "$1"
}

with_virtual_pmu()
{
	GUEST_CPU=host,migratable=off in_the_guest vpmu
}

table()
{
	printf '# %-14s%10s%10s%10s\n' "share in %" host "pv PMU" vPMU
	for f in $functions; do
		printf '# %-14s%10s%10s%10s\n' $f \
			"$(share host $f)" "$(share pv $f)" "$(share vpmu $f)"
	done
	printf '# %-14s%10d%10d%10d\n' samples \
		"$(nr_samples host)" "$(nr_samples pv)" "$(nr_samples vpmu)"
}

# The program has other functions besides, and bar has the loop around random().
shares_of_the_program()
{
	awk '
		{ share[$1] += $2 }
		function ratio(name, want) {
			got = share[name] / (share["main"] / 10)
			if (got > want - 1 && got < want + 1)
				return 1
			printf "# %s to main: %.2f to 10, want %d\n", name, got, want
		}
		END {
			for (name in share)
				all += share[name]
			exit !(all > 99.5 && share["main"] >= 5 &&
			       ratio("qux", 40) && ratio("foo", 20) &&
			       share["random"] >= 5 && share["random_r"] >= 5)
		}' "$data/host"
}

agree()
{
	result=0
	near "samples" "$(nr_samples pv)" "$(nr_samples host)" 1 || result=1
	for f in $functions; do
		awk -v f=$f -v host="$(share host $f)" -v guest="$(share pv $f)" 'BEGIN {
			if (host > 0 && guest - host <= 1 && host - guest <= 1)
				exit 0
			print "# " f ": " guest " % in the guest, " host " % on the host"
			exit 1
		}' || result=1
	done
	return $result
}

ktap_set_plan 5
ktap_test_result "recorded on the host" on_the_host
ktap_test_result "recorded with the paravirtual PMU" in_the_guest pv
ktap_test_result "recorded with the virtual PMU" with_virtual_pmu
table
ktap_test_result "the host's shares are the program's" shares_of_the_program
ktap_test_result "the guest's shares are the host's" agree
ktap_finished
