#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Test the lab itself: a failure in a boot must be reported as the right kind of failure,
# never as a pass. Prints KTAP.
#
# shellcheck disable=SC2317 # functions are called by name

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

# boots TITLE STATUS PATTERN JOB [ARG...]: the boot ends with STATUS, and PATTERN matches
# the output, with a slash for each newline
boots()
{
	local title=$1 want=$2 pattern=$3 status=0 log=$OUT/test-lab-$((nr + 1)).log

	shift 3
	lab/run/boot.sh "test-lab-$((nr + 1))" "$@" > "$log" 2>&1 || status=$?
	sed 's/^/# /' "$log"
	if [ "$status" = "$want" ] && tr '\n' / < "$log" | grep -qE "$pattern"; then
		result 0 "$title"
	else
		echo "# status $status, want $want; want output like: $pattern"
		result 1 "$title"
	fi
}

# The emulator does not outlive boot.sh, however boot.sh ends. The job's first
# line says "running"; the emulator's death closes the pipe.
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

# A crash of the emulator is reported as such, with a core dump, if the machine writes
# core dumps to the current directory.
crash()
{
	local status=0 log=$OUT/test-lab-$((nr + 1)).log

	exec 9< <(exec lab/run/boot.sh "test-lab-$((nr + 1))" plant hang 2> "$log")
	read -r _ <&9
	pkill -SEGV -f "^$(realpath "$BUILD")/qemu/bin/qemu-system-x86_64 -name guestperf-test-lab-$((nr + 1)) " || return
	wait $! || status=$?
	exec 9<&-
	sed 's/^/# /' "$log"
	[ "$status" = 3 ] && grep -q 'lab error: the emulator crashed with SIGSEGV' "$log" || return
	if grep -q '^[|/]' /proc/sys/kernel/core_pattern || [ "$(ulimit -Hc)" = 0 ]; then
		grep -q 'no core dump here: ' "$log"
	else
		[ -s "$(sed -n 's/.*: gdb [^ ]* //p' "$log")" ]
	fi
}

# lab/run/faults matches a kernel's reports of faults, and no other lines.
faults()
{
	local line status=0

	while read -r line; do
		grep -qE -f lab/run/faults <<< "[    1.234567] $line" ||
			{ echo "# no fault: $line"; status=1; }
	done <<-END
		WARNING: CPU: 0 PID: 1 at kernel/workqueue.c:1234 __queue_work+0x1/0x2
		WARNING: possible circular locking dependency detected
		WARNING: possible recursive locking detected
		WARNING: possible irq lock inversion dependency detected
		WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected
		WARNING: inconsistent lock state
		WARNING: suspicious RCU usage
		WARNING: bad unlock balance detected!
		WARNING: bad contention detected!
		WARNING: held lock freed!
		WARNING: sh/79 still has locks held!
		WARNING: lock held when returning to user space!
		WARNING: Nested lock was not taken
		WARNING: kernel stack frame pointer at 00000000 in sh:79 has bad value 00000000
		general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] PREEMPT SMP
		Oops: general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1]
		BUG: kernel NULL pointer dereference, address: 0000000000000000
		BUG: KASAN: slab-use-after-free in kvm_pmu_destroy+0x1/0x2
		watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:79]
		unchecked MSR access error: WRMSR to 0xc0010007 (tried to write 0xffff) at rIP: 0xffffffff81000000
		kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
	END
	while read -r line; do
		! grep -E -f lab/run/faults <<< "[    1.234567] $line" | sed 's/^/# a fault: /' | grep . ||
			status=1
	done <<-END
		Speculative Return Stack Overflow: WARNING: See https://kernel.org/doc/html/latest/admin-guide/hw-vuln/srso.html
		Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
		WARNING: the battery is low
		traps: app[79] general protection fault ip:401000 sp:7ffc00000000 error:0 in app
	END
	return "$status"
}

# The interactive shell: the guest counts with the paravirtual PMU.
shell()
{
	lab/test/scripts/terminal.py 120 lab/run/boot.sh "test-lab-$((nr + 1))" shell -- \
		'PV PMU: "cpu"' '' 'guest:/work# ' 'perf stat -x, -e instructions:u loop 10000000\n' \
		'\n1[0-9]{7},,instructions:u' '\x01x' < /dev/null > "$OUT/test-lab-$((nr + 1)).log" &&
		rm -rf "$OUT/test-lab-$((nr + 1)).new"
}

# make_run STATUS PATTERN VARIABLE=VALUE...: "make run" ends with STATUS, PATTERN matches a
# line of the output; $results is the directory of the results
make_run()
{
	local want=$1 pattern=$2 status=0 out=$OUT/test-lab-$((nr + 1))

	shift 2
	results=$out/run
	env DEPS=no OUT="$out" "$@" lab/run/run.sh > "$out.log" 2>&1 || status=$?
	sed 's/^/# /' "$out.log"
	[ "$status" = "$want" ] && grep -qE "$pattern" "$out.log" && return
	echo "# status $status, want $want; want output like: $pattern"
	return 1
}

# Each is refused in one line, before anything is built.
run_refuses()
{
	local line

	while IFS='|' read -r pattern line; do
		IFS='|' read -ra line <<< "$line"
		make_run 1 "^run.sh: $pattern" "${line[@]}" && [ "$(wc -l < "${results%/run}.log")" = 1 ] || return
	done <<-END
		usage: |V=
		FILES: there is no nonesuch|GUEST=true|FILES=nonesuch
		FILES: there is no nonesuch|GUEST=true|FILES=Makefile nonesuch
		HOST has run-guest, but|HOST=run-guest
		GUEST_KERNEL: there is no nonesuch|GUEST=true|GUEST_KERNEL=nonesuch
		GUEST_KERNEL: Makefile is no bzImage|GUEST=true|GUEST_KERNEL=Makefile
		GUEST_MODULES is of no use|GUEST=true|GUEST_MODULES=lab
	END
}

# A program of this machine with its libraries, in the guest; perf on the host, which
# records the program from start to end.
run_both()
{
	local files

	files=$(mktemp -d)
	cp "$(command -v xz)" "$files/program"
	# shellcheck disable=SC2016 # bash of the guest expands it
	printf '#!/bin/bash\necho "${BASH##*/}"\n' > "$files/script"
	chmod +x "$files/script"
	# shellcheck disable=SC2016 # the host VM's shell expands it
	make_run 1 'GUEST ended with status 7, .*; HOST ended with status 7' FILES="$files" \
		GUEST='./script; ./program -k < program > made; callgraph; printf abc; exit 7' \
		HOST='perf kvm --guest --guestkallsyms=$GUEST_KALLSYMS record -q -a -e cpu-clock -- run-guest' || return
	rm -r "$files"
	[ "$(cat "$results/guest.output")" = "bash
abc" ] || return
	xz -dc "$results/guest/made" | cmp - "$(command -v xz)" &&
	[ "$(ls "$results/guest")" = made ] &&
	[ "$(ls "$results/host")" = perf.data.guest ] &&
	"$BUILD/perf/perf" kvm --guest --guestkallsyms="$results/guest.kallsyms" \
		--guestbinary="$BUILD/workloads/callgraph,all" report --stdio --sort sym \
		-i "$results/host/perf.data.guest" 2> /dev/null |
		sed -n 's/.*\[u\] qux.*/# &/p' | grep .
}

# An endless command of the host ends with the guest's command.
run_at_once()
{
	make_run 0 '^host:  hello' GUEST='callgraph 10; sleep 1000 & echo left' \
		HOST='echo hello; echo new > "a file"; while :; do usleep 1000; done' &&
	[ "$(cat "$results/guest.output" "$results/host.output" "$results/host/a file")" = "left
hello
new" ]
}

dry_run()
{
	local name

	name=test-lab-$((nr + 1))
	DRYRUN=1 lab/run/boot.sh "$name" hello | grep -q "qemu-system-x86_64 .*hello" &&
		[ ! -e "$OUT/$name/console.log" ]
}

# make finds the dependencies of an object under the object's absolute name only.
headers()
{
	local object

	object=$(realpath "$(kernel_dir lab)")/kselftest/kvm/x86_64/pv_pmu_abi_test.o
	grep -q "^$object: " "${object%.o}.d"
}

# checks TITLE FUNCTION [ARG...]
checks()
{
	local status=0

	"${@:2}" || status=1
	result $status "$1"
}

echo "TAP version 13"
echo "1..26"

boots "a guest that says hello passes" 0 'the guest said hello' hello
boots "a job that fails fails" 1 'fail: the job plant ended with status 1' plant fail
boots "a job that skips skips" 4 'skip:' plant skip
boots "a job that is not there fails" 1 'fail: there is no job nonesuch' nonesuch
boots "a machine that ends before its job fails" 1 'fail: the job did not finish' plant vanish
TIMEOUT=30 boots "a job that spins is a time-out" 124 'hanging/.*timeout:' plant hang
TIMEOUT=30 boots "a job that waits for ever is a time-out" 124 'waiting/.*timeout:' plant deaf
boots "a panic fails" 1 'fail: .*Kernel panic' plant PANIC
boots "an oops fails" 1 'fail: .*(BUG|Oops)' plant EXCEPTION
boots "a warning fails a job that passes" 1 'fail: .*(WARNING|cut here)' plant WARNING
boots "a guest's job that fails fails the host's" 1 'fail: the job plant ended' plant guest-fail
boots "a guest that vanishes fails the host's job" 1 'fail: the job plant ended' plant guest-vanish
boots "a guest's panic fails" 1 'fail: guest-console.log:.*Kernel panic' plant guest-PANIC
boots "a guest's warning fails a job that passes" 1 'fail: guest-console.log:.*(WARNING|cut here)' plant guest-WARNING

boots "a word of a fault's report is no fault" 0 written plant words words
ended='# the guest ended while it ran:'
boots "a guest's output may end without a newline" 0 \
	"^  a status 3/status 1/b status 0/c$ended .*/status 1/$ended d/status 1/e status 0/$ended f/status 1/\$" \
	plant unterminated
checks "a fault is told from a line with its words" faults
checks "a crash of the emulator is the lab's error" crash
checks "Ctrl-C leaves no emulator behind" dies_with_boot INT -
checks "nor does a kill of the script that started it" dies_with_boot KILL ''
checks "a dry run prints the command and boots nothing" dry_run
checks "a changed header has the self-tests built again" headers
checks "a guest counts in the interactive shell" shell
checks "make run refuses what it cannot do" run_refuses
checks "make run: a command of the host's runs one of the guest's" run_both
checks "make run: commands of both at once" run_at_once

exit $failed
