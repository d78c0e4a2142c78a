#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test the lab itself: whatever goes wrong in a boot must come out as what it
# is, and never as a pass. Prints KTAP.

. "$(dirname "$0")/../../lib.sh"

nr=0 failed=0

result()
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr lab: $2"
	else
		echo "not ok $nr lab: $2"
		failed=1
	fi
}

# boots TITLE STATUS PATTERN JOB [ARG...]: the boot ends with STATUS, and says
# what PATTERN matches
boots()
{
	local title=$1 want=$2 pattern=$3 status=0 log=$OUT/test-lab-$((nr + 1)).log

	shift 3
	lab/run/boot.sh "test-lab-$((nr + 1))" "$@" > "$log" 2>&1 || status=$?
	sed 's/^/# /' "$log"
	if [ "$status" = "$want" ] && grep -qE "$pattern" "$log"; then
		result 0 "$title"
	else
		echo "# status $status, want $want; want output like: $pattern"
		result 1 "$title"
	fi
}

# The emulator does not outlive boot.sh, however that ends. The job's first
# line says that it runs; the emulator's death closes the pipe we read.
dies_with_boot()
{
	local pid

	exec 9< <(exec setsid lab/run/boot.sh "test-lab-$((nr + 1))" plant hang 2> /dev/null)
	pid=$!
	read -r _ <&9
	pgrep -f "guestperf-test-lab-$((nr + 1)) " > /dev/null || return 1
	kill -s "$1" -- "$2$pid"
	while read -r _ <&9; do :; done
	exec 9<&-
	! pgrep -f "guestperf-test-lab-$((nr + 1)) " > /dev/null
}

dry_run()
{
	local name

	name=test-lab-$((nr + 1))
	DRYRUN=1 lab/run/boot.sh "$name" hello | grep -q "qemu-system-x86_64 .*hello" &&
		[ ! -e "$OUT/$name/console.log" ]
}

echo "TAP version 13"
echo "1..17"

boots "a guest that says hello passes" 0 'the guest said hello' hello
boots "a job that fails fails" 1 'fail: the job plant ended with status 1' plant fail
boots "a job that skips skips" 4 'skip:' plant skip
boots "a job that is not there fails" 1 'fail: there is no job nonesuch' nonesuch
boots "a machine that ends before its job fails" 1 'fail: the job did not finish' plant vanish
TIMEOUT=40 boots "a job that spins is a time-out" 124 'timeout:' plant hang
TIMEOUT=40 boots "a job that waits for ever is a time-out" 124 'timeout:' plant deaf
boots "a panic fails" 1 'fail: .*Kernel panic' plant PANIC
boots "an oops fails" 1 'fail: .*(BUG|Oops)' plant EXCEPTION
boots "a warning fails a job that passes" 1 'fail: .*(WARNING|cut here)' plant WARNING
boots "a guest's job that fails fails the host's" 1 'fail: the job plant ended' plant guest-fail
boots "a guest that vanishes fails the host's job" 1 'fail: the job plant ended' plant guest-vanish
boots "a guest's panic fails" 1 'fail: guest-console.log:.*Kernel panic' plant guest-PANIC
boots "a guest's warning fails a job that passes" 1 'fail: guest-console.log:.*(WARNING|cut here)' plant guest-WARNING

status=0
dies_with_boot INT - || status=1
result $status "Ctrl-C leaves no emulator behind"
status=0
dies_with_boot KILL '' || status=1
result $status "nor does a kill of the script that started it"
status=0
dry_run || status=1
result $status "a dry run prints the command and boots nothing"

exit $failed
