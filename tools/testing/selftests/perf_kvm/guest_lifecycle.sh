#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Test "perf stat" and "perf record" in a guest with the paravirtual PMU through the life
# cycle of the guest.
#
#  - The count of a loop is exact if the task sleeps until the guest stops the
#    event, if the guest is migrated, and after a reset or kexec.
#  - The count of a CPU survives a suspend to memory.
#  - The periods of all samples add up to the count if the guest is migrated or suspended
#    to memory, but for the period cut short. So do they if a CPU goes offline.
#  - A guest that samples is reset, or boots another kernel: sampling works afterwards. No
#    NMI is for an unknown reason.
#  - So do branch stacks after all this, where the host gives them to guests: each is full.
#  - After an error of the host, the count is of a part of the time, and scaled.
#  - No event is left in the host for a guest that sleeps, was reset, or has booted
#    another kernel by kexec or after a crash.
#
# Needs CONFIG_KVM_PV_PMU in the host; and in the guest CONFIG_KVM_GUEST_PV_PMU,
# CONFIG_SUSPEND, CONFIG_X86_MSR, CONFIG_KEXEC_FILE and CONFIG_CRASH_DUMP.
#
# Arguments: the cases to run; default: all but cpus_come_and_go (minutes under
# emulation)
#
# Environment, in addition to counting.sh:
#  GUEST_LIB		also has guest_pause, guest_continue, guest_reset, guest_asleep,
#			guest_wake, guest_migrate and guest_result. The guest has
#			"kexec [-p] KERNEL INITRD PARAMETERS"
#  GUEST_KERNEL		the guest's kernel and initramfs, added to the guest's files
#  GUEST_INITRD		with $GUEST_ADD
#
# shellcheck disable=SC2086,SC2046,SC2016,SC2015

. "$(dirname "$(readlink -f "$0")")/counting.sh"

# events: the number of the host's events for all guests
events()
{
	cat $debugfs/pv_pmu_events
}

# start_counting ARG...: run "perf stat" in the guest in the background, and wait
# until loop or sleep runs
start_counting()
{
	guest_run "$perf stat -x, -o stat.out $* > /dev/null 2> err & \
		until pidof loop sleep > /dev/null; do usleep 10000; done"
}

# stop_counting: wait until perf ends; the results are in $data/stat
stop_counting()
{
	guest_run "while pidof perf > /dev/null; do usleep 10000; done; cat err stat.out" |
		results > "$data/stat"
	sed 's/^/# /' "$data/stat"
}

period=100003

# The loop's samples have 16 branches each. The emulator is slow while branches are recorded.
full_stacks()
{
	$guest_branches || return 0
	guest_run "$perf record -q -b -o branches.data -c 100003 -e instructions:u loop 5000000 && \
		$perf script -i branches.data -F comm,brstack" |
		awk '
			$1 == "loop"	{ n++; full += NF == 17 }
			END {
				print "# " full + 0 " of " n + 0 " branch stacks are full"
				exit n < 49 || full < n - 1
			}'
}

# start_recording ARG...: the same for "perf record". It has samples when this returns.
start_recording()
{
	guest_run "n=\$(pidof loop sleep | wc -w); \
		$perf record -q --sample-cpu --period -o perf.data -c $period $* \
			> /dev/null 2> err.record & \
		until [ \$(pidof loop sleep | wc -w) -gt \$n ]; do usleep 10000; done; \
		usleep 100000"
}

# stop_recording: wait until perf ends; $data/script gets a line for each sample
stop_recording()
{
	guest_run "while pidof perf > /dev/null; do usleep 10000; done; cat err.record" \
		> "$data/record"
	sed 's/^/# /' "$data/record"
	[ ! -s "$data/record" ] &&
	guest_run "$perf script -i perf.data -F comm,cpu,period" > "$data/script"
}

# sum: the sum of the periods of the loop's samples
sum()
{
	awk '$1 == "loop" { sum += $3 } END { printf "%d\n", sum }' "$data/script"
}

# sampled_all LENGTH [CUT]: the samples are for all of a loop, but for the last period, and
# for those that the life cycle has cut short
sampled_all()
{
	within "the sum of the periods" "$(sum)" $(($1 - (${2:-0} + 1) * period)) \
		$(($1 + 100000))
}

# Record after a boot, or whatever else there was.
records_afresh()
{
	guest_run "$perf record -q --sample-cpu --period -o perf.data -c $period -e instructions:u \
		${1:-} loop 50000000 > /dev/null 2> err.record"
	stop_recording && sampled_all 50000000 && full_stacks && quiet
}

# No NMI came to the guest that was nobody's.
quiet()
{
	equal "strange NMIs" "$(guest_run "dmesg | grep -c -e Uhhuh -e Dazed")" 0
}

# counted_all LENGTH: the count is LENGTH plus the program's start, all the time
counted_all()
{
	set -- $(tr , ' ' < "$data/stat") $(counts -e instructions:u loop 10000000) $1
	equal_but_for_start "the count" "$1" $(($5 + $6 - 10000000)) &&
	equal "per cent of the time" "$4" 100.00
}

# Count, maybe after a boot.
counts_afresh()
{
	make_repeatable &&
	set -- $(counts -e instructions:u loop 10000000) \
		$(counts -e instructions:u loop 20000000)
	equal "the difference of two loops" $(($2 - $1)) 10000000
}

# The guest stops the event of a sleeping task: the counter is free for the host.
idle_task()
{
	booted idles
}

idles()
{
	start_counting -e instructions:u sh -c "'loop 400000000; sleep 1'" &&
	equal "events while the loop runs" "$(events)" 1 &&
	guest_run "until pidof sleep > /dev/null; do usleep 10000; done; usleep 300000" &&
	equal "events while the task sleeps" "$(events)" 0 &&
	stop_counting &&
	set -- $(cut -d, -f1 "$data/stat") \
		$(counts -e instructions:u sh -c "'loop 10000000; sleep 0'") &&
	equal_but_for_start "the count" "$1" $(($2 + 390000000))
}

suspended()
{
	GUEST_APPEND=no_console_suspend booted sleeps_twice
}

sleeps_twice()
{
	sleeps && sleeps_recording
}

fall_asleep_and_wake()
{
	guest_say "echo mem > /sys/power/state" && guest_asleep || return
	left=$(events)
	guest_wake && guest_result "suspend" &&
	equal "events of a suspended guest" "$left" 0
}

# Suspend freezes tasks first. An event of a CPU counts until the CPU stops.
sleeps()
{
	start_counting -a -e instructions:u sh -c "'loop 400000000; sleep 1'" &&
	guest_run "until pidof sleep > /dev/null; do usleep 10000; done" &&
	fall_asleep_and_wake && stop_counting &&
	within "the count of a CPU with a loop" $(cut -d, -f1 "$data/stat") \
		400000000 1200000000 && counts_afresh
}

# The loop goes on when the CPU wakes.
sleeps_recording()
{
	start_recording -e instructions:u loop 1000000000 && fall_asleep_and_wake &&
	stop_recording && sampled_all 1000000000 1 && records_afresh
}

migrated()
{
	booted goes_elsewhere_twice
}

goes_elsewhere_twice()
{
	goes_elsewhere && goes_elsewhere_recording
}

goes_elsewhere_recording()
{
	start_recording -e instructions:u loop 2000000000 || return
	guest_migrate || fail "the migration failed" || return
	equal "events on the new host" "$(events)" 1 || return
	guest_run "pidof loop" > /dev/null || fail "the loop ended before the migration" || return
	stop_recording && sampled_all 2000000000 1 && records_afresh
}

goes_elsewhere()
{
	start_counting -e instructions:u loop 2000000000 || return
	guest_migrate || fail "the migration failed" || return
	equal "events on the new host" "$(events)" 1 || return
	guest_run "pidof loop" > /dev/null || fail "the loop ended before the migration" || return
	stop_counting && counted_all 2000000000
}

recovered()
{
	booted loses_the_area
}

# MSR_KVM_PV_PMU becomes zero without the driver's knowledge. The driver sees an error,
# and enables the area again.
loses_the_area()
{
	start_counting -e instructions:u loop 2000000000 &&
	guest_run "dd if=/dev/zero of=/dev/cpu/0/msr bs=8 count=1 conv=notrunc \
		seek=$((0x4b564d10 / 8)) 2> /dev/null" || return
	equal "events without an area" "$(events)" 0 &&
	stop_counting || return
	set -- $(tr , ' ' < "$data/stat")
	near "the scaled count" "$1" 2000000000 2 &&
	within "per cent of the time" "${4%.*}" 50 99 &&
	equal "errors in the log" "$(guest_run "dmesg | grep -c 'PV PMU: error'")" 1 &&
	counts_afresh
}

start_counting_and_recording()
{
	start_counting -a -e instructions sleep 1000 &&
	start_recording -a -e instructions sleep 1000
}

reset()
{
	booted starts_over
}

starts_over()
{
	start_counting_and_recording && equal "events before" "$(events)" 2 &&
	guest_pause && guest_reset || return
	left=$(events)
	guest_continue && guest_expect ready &&
	equal "events after" "$left" 0 && counts_afresh && records_afresh
}

# pack: a command that packs the kernel, the initramfs, and the directory of both
pack()
{
	echo "ls -d ${GUEST_KERNEL%/*} $GUEST_KERNEL $GUEST_INITRD | cpio -o -H newc"
}

# The guest crashes on purpose: no console, because an oops there is an error.
other_kernels()
{
	eval "$(pack)" > "$data/files.cpio" 2> "$data/err" || fail "$(cat "$data/err")" || return
	GUEST_ADD=$data/files.cpio GUEST_MEM=1024 GUEST_CONSOLE=null booted boots
}

# load OPTION PARAMETERS: a command that calls kexec in the guest. The next kernel
# gets the same files.
load()
{
	echo "$(pack) | cat $GUEST_INITRD - > /tmp/initrd &&" \
		"kexec $1 $GUEST_KERNEL /tmp/initrd 'panic=-1 no5lvl $2 -- remote'"
}

boots()
{
	start_counting_and_recording && equal "events before kexec" "$(events)" 2 &&
	guest_say "$(load '' kvm_pv_pmu=off)" && guest_expect ready &&
	equal "events after kexec" "$(events)" 0 && quiet &&

	guest_say "$(load '' crashkernel=256M)" && guest_expect ready && counts_afresh &&
	records_afresh && guest_run "usleep 300000" &&

	start_counting_and_recording && equal "events before a crash" "$(events)" 2 &&
	guest_run "$(load -p kvm_pv_pmu=off)" &&
	guest_say "echo c > /proc/sysrq-trigger" && guest_expect ready &&
	equal "events after a crash" "$(events)" 0 && quiet
}

# Two loops, one on each CPU. When CPU 1 goes offline, its loop goes on on CPU 0.
cpus_come_and_go()
{
	GUEST_CPUS=2 booted goes_offline
}

# samples_on CPU: the number of the loops' samples on a CPU
samples_on()
{
	awk -v cpu="[00$1]" '$1 == "loop" && $2 == cpu { n++ } END { print n + 0 }' "$data/script"
}

goes_offline()
{
	online=/sys/devices/system/cpu/cpu1/online
	start_recording -a -e instructions:u \
		sh -c "'taskset 2 loop 1000000000 & taskset 1 loop 1000000000; wait'" &&
	equal "events of two CPUs" "$(events)" 2 &&
	guest_run "echo 0 > $online" && equal "events of one CPU" "$(events)" 1 &&
	guest_run "pidof loop" > /dev/null || fail "the loops ended too early" || return
	stop_recording && near "the sum of the periods" "$(sum)" 2000000000 1 &&
	within "samples on CPU 0" "$(samples_on 0)" 11000 19000 &&
	within "samples on CPU 1" "$(samples_on 1)" 1000 9000 &&
	guest_run "echo 1 > $online" && records_afresh "taskset 2" &&
	within "samples on CPU 1" "$(samples_on 1)" 498 500
}

guest_branches=false
[ "$(cat /sys/bus/event_source/devices/cpu/caps/guest_branches 2> /dev/null)" != 16 ] ||
	guest_branches=true

cases="idle_task suspended migrated recovered reset other_kernels"

[ $# -gt 0 ] || set -- $cases
run_cases "$@"
