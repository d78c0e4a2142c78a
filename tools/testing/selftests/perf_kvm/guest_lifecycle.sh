#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Count in a guest, by the paravirtual PMU, while something befalls its machine.
# What "perf stat" counts is a loop of known length, to the instruction
#
#  - if the task sleeps so long that the host is told to stop;
#  - if the guest is migrated, while it runs;
#  - in the kernel that runs after a reset of the machine, or after kexec.
#
# What has been counted for a CPU is not lost when the guest sleeps (suspend to memory).
# The host has no event left for a guest that sleeps, was reset, boots another
# kernel, or has crashed and boots one for that case.
#
# Needs CONFIG_KVM_PV_PMU in the host; and in the guest CONFIG_KVM_GUEST_PV_PMU,
# CONFIG_SUSPEND, CONFIG_KEXEC_FILE and CONFIG_CRASH_DUMP.
#
# The arguments are the cases to run, in turn; all of them if there are none.
#
# Environment, beside that of counting.sh:
#  GUEST_LIB		has also guest_pause, guest_continue, guest_reset, guest_asleep,
#			guest_wake, guest_migrate and guest_result; and in the guest
#			there is "kexec [-p] KERNEL INITRD PARAMETERS"
#  GUEST_KERNEL		the guest's kernel and its initramfs, which are added to the
#  GUEST_INITRD		guest's files with $GUEST_ADD
#
# shellcheck disable=SC2086,SC2046,SC2016,SC2015

. "$(dirname "$(readlink -f "$0")")/counting.sh"

# The host's events for all guests.
events()
{
	cat $debugfs/pv_pmu_events
}

# start_counting ARG...: have "perf stat" count in the guest, in the background, and
# wait until there is a loop, or what sleeps
start_counting()
{
	guest_run "$perf stat -x, -o stat.out $* > /dev/null 2> err & \
		until pidof loop sleep > /dev/null; do :; done"
}

# stop_counting: wait for its end; the results are in $data/stat
stop_counting()
{
	guest_run "while pidof perf > /dev/null; do :; done; cat err stat.out" |
		results > "$data/stat"
	sed 's/^/# /' "$data/stat"
}

# counted_all LENGTH: a loop of this length, beside what its start takes, all the time
counted_all()
{
	set -- $(tr , ' ' < "$data/stat") $(counts -e instructions:u loop 10000000) $1
	equal_but_for_start "the count" "$1" $(($5 + $6 - 10000000)) &&
	equal "per cent of the time" "$4" 100.00
}

# In a kernel that has booted anew, maybe.
counts_afresh()
{
	guest_run "echo 0 > $addresses" &&
	set -- $(counts -e instructions:u loop 10000000) \
		$(counts -e instructions:u loop 20000000)
	equal "the difference of two loops" $(($2 - $1)) 10000000
}

# A host that has to share its counters should not have to keep one for nothing.
idle_task()
{
	booted idles
}

idles()
{
	start_counting -e instructions:u sh -c "'loop 400000000; sleep 1'" &&
	equal "events when it runs" "$(events)" 1 &&
	guest_run "until pidof sleep > /dev/null; do :; done; usleep 300000" &&
	equal "events when it sleeps" "$(events)" 0 &&
	stop_counting &&
	set -- $(cut -d, -f1 "$data/stat") \
		$(counts -e instructions:u sh -c "'loop 10000000; sleep 0'") &&
	equal_but_for_start "the count" "$1" $(($2 + 390000000))
}

suspended()
{
	GUEST_APPEND=no_console_suspend booted sleeps
}

fall_asleep_and_wake()
{
	guest_say "echo mem > /sys/power/state" && guest_asleep || return
	left=$(events)
	guest_wake && guest_result "suspend" &&
	equal "events of a guest that sleeps" "$left" 0
}

# Tasks are stopped before their CPU; what counts all that a CPU does is not.
sleeps()
{
	start_counting -a -e instructions:u sh -c "'loop 400000000; sleep 1'" &&
	guest_run "until pidof sleep > /dev/null; do :; done" &&
	fall_asleep_and_wake && stop_counting &&
	within "the count of a loop and the rest" $(cut -d, -f1 "$data/stat") \
		400000000 1200000000 && counts_afresh
}

migrated()
{
	booted goes_elsewhere
}

goes_elsewhere()
{
	start_counting -e instructions:u loop 2000000000 || return
	guest_migrate || fail "the migration failed" || return
	equal "events there" "$(events)" 1 || return
	guest_run "pidof loop" > /dev/null || fail "it had ended before" || return
	stop_counting && counted_all 2000000000
}

reset()
{
	booted starts_over
}

starts_over()
{
	start_counting -a -e instructions sleep 1000 &&
	equal "events before" "$(events)" 1 &&
	guest_pause && guest_reset || return
	left=$(events)
	guest_continue && guest_expect ready &&
	equal "events after" "$left" 0 && counts_afresh
}

# pack: what packs the kernel and its initramfs, with their directory
pack()
{
	echo "ls -d ${GUEST_KERNEL%/*} $GUEST_KERNEL $GUEST_INITRD | cpio -o -H newc"
}

# A guest that is meant to crash has no console, where that would be an error.
other_kernels()
{
	eval "$(pack)" > "$data/files.cpio" 2> "$data/err" || fail "$(cat "$data/err")" || return
	GUEST_ADD=$data/files.cpio GUEST_MEM=1024 GUEST_CONSOLE=null booted boots
}

# load OPTION PARAMETERS: what calls kexec in the guest; the next kernel has the same
# files
load()
{
	echo "$(pack) | cat $GUEST_INITRD - > /tmp/initrd &&" \
		"kexec $1 $GUEST_KERNEL /tmp/initrd 'panic=-1 no5lvl $2 -- remote'"
}

boots()
{
	start_counting -a -e instructions sleep 1000 &&
	equal "events before kexec" "$(events)" 1 &&
	guest_say "$(load '' kvm_pv_pmu=off)" && guest_expect ready &&
	equal "events after kexec" "$(events)" 0 &&

	guest_say "$(load '' crashkernel=256M)" && guest_expect ready && counts_afresh &&

	start_counting -a -e instructions sleep 1000 &&
	equal "events before a crash" "$(events)" 1 &&
	guest_run "$(load -p kvm_pv_pmu=off)" &&
	guest_say "echo c > /proc/sysrq-trigger" && guest_expect ready &&
	equal "events after a crash" "$(events)" 0
}

cases="idle_task suspended migrated reset other_kernels"

[ $# -gt 0 ] || set -- $cases
ktap_set_plan $#
for case; do
	ktap_test_result "$case" $case
done
ktap_finished
