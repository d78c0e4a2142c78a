#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boot the host VM under emulation, have it run one job, and say how it went.
#
#   lab/run/boot.sh NAME JOB [ARG...]
#
# JOB is a script of lab/vm/host; what it prints comes out here as it runs.
# out/NAME gets the consoles of both machines, the exact command and, in
# files/, what the job left in /results. While the boot lasts they are in
# out/NAME.new, and if it fails in out/NAME.failed: out/NAME is the last success.
#
# The verdict starts as a failure, comes off the console and is written last.
# A panic, oops, warning or lock report on either console overrides it.
#
# Exit status: 0 pass, 1 fail, 3 the lab itself failed, 4 skip, 124 time-out.
# Environment: TIMEOUT, seconds of wall time for the boot (600); CPUS (1);
# MEM in MiB (3072); APPEND, kernel parameters; PMU, what PMU the CPU has (the
# full one; pmu=off for none); ICOUNT=off, CPUs that run at the same time, where no
# run is like another and counts are not exact; LAB_KERNEL, which of the lab's
# kernels the host and its guest boot (debug, or the plain one); DRYRUN=1, print the
# QEMU command and stop.

. "$(dirname "$0")/../lib.sh"

[ $# -ge 2 ] || die "usage: lab/run/boot.sh NAME JOB [ARG...]"
name=$1
shift
dir=$(realpath -m "$OUT/$name.new")
build=$(realpath -m "$BUILD")
timeout=${TIMEOUT:-600}

# What the kernel says when it has found a fault in itself.
faults='Kernel panic|Oops:|BUG:|WARNING:|cut here|UBSAN:|INFO: (task|rcu|lockdep|trying|possible)'
faults+='|possible circular locking|suspicious RCU|soft lockup|double fault|general protection'
faults+='|Uhhuh\. NMI|unchecked MSR access|kmemleak: [0-9]+ new|DEBUG_LOCKS_WARN'

# EPYC-Rome has SVM with nested paging; lab/qemu adds a later model's PMU. Every
# instruction takes one virtual nanosecond and idle time is skipped, so that a
# run can be repeated exactly. 5-level paging is for the guests of self-tests: Linux
# keeps to four levels, in the host and in the guest.
pmu=${PMU:-pmu=on,+perfmon-v2,+amd-lbr-v2,+amd-lbr-pmc-freeze}
# shellcheck disable=SC2054 # commas are part of the options
qemu=("$build/qemu/bin/qemu-system-x86_64" -name "guestperf-$name"
	-nodefaults -no-user-config -display none -no-reboot
	-machine dump-guest-core=off
	-cpu "EPYC-Rome,-pcid,-tsc-deadline,+la57,$pmu" -smp "${CPUS:-1}" -m "${MEM:-3072}"
	-kernel "$(realpath -m "$(kernel_dir "${LAB_KERNEL:-}")")/arch/x86/boot/bzImage"
	-initrd "$build/host${LAB_KERNEL:+-$LAB_KERNEL}.cpio"
	-append "console=ttyS0 panic=-1 oops=panic no5lvl ${APPEND:-} -- $*"
	-device virtio-serial-pci)
if [ "${ICOUNT:-on}" = off ]; then
	# shellcheck disable=SC2054
	qemu+=(-accel tcg,thread=multi)
else
	# shellcheck disable=SC2054
	qemu+=(-accel tcg -icount shift=0,sleep=off)
fi

# port NAME CHARDEV: a virtio port that the init of the host VM looks for
port()
{
	qemu+=(-chardev "$2,id=$1" -device "virtserialport,chardev=$1,name=$1")
}

if [ "$1" = shell ]; then
	# one terminal for the host's console, the guest's and the monitor
	# shellcheck disable=SC2054
	qemu+=(-chardev stdio,id=term,mux=on,signal=off -serial chardev:term
		-device virtserialport,chardev=term,name=guest-console
		-mon chardev=term)
else
	qemu+=(-chardev "file,id=console,path=$dir/console.log" -serial chardev:console)
	port guest-console "file,path=$dir/guest-console.log"
	port stream file,path=/dev/stdout
	port verdict "file,path=$dir/verdict,append=on"
	port files "file,path=$dir/files.tar"
fi

command_line()
{
	printf '%q ' "${qemu[@]}"
	echo
}

if [ -n "${DRYRUN:-}" ]; then
	command_line
	exit
fi
[ -e "$build/host${LAB_KERNEL:+-$LAB_KERNEL}.cpio" ] ||
	die "there is nothing to boot yet: run \"make lab\""
rm -rf "$dir"
mkdir -p "$dir/files"
command_line > "$dir/qemu.cmd"
if [ "$1" = shell ]; then
	exec setpriv --pdeathsig KILL "${qemu[@]}"
fi

# verdict WORD WHY: end with the line for the user and the status for scripts
verdict()
{
	local status

	case $1 in
	pass | skip)	replace "$OUT/$name"; rm -rf "$OUT/$name.failed" ;;
	*)		rm -rf "$OUT/$name.failed"; mv "$dir" "$OUT/$name.failed" ;;
	esac
	case $1 in
	pass)		exit 0 ;;
	fail)		status=1 ;;
	skip)		status=4 ;;
	timeout)	status=124 ;;
	*)		status=3 ;;
	esac
	echo "# $name: $1: $2" >&2
	[ "$status" = 4 ] || echo "# $name: the consoles and the command are in $OUT/$name.failed" >&2
	exit "$status"
}

echo "fail: the job did not finish" > "$dir/verdict"
# A crash of the emulator leaves a core dump without the machine's memory.
ulimit -c unlimited 2> /dev/null || echo "# no core dump will be kept: ulimit -c is $(ulimit -c)" >&2
status=0
# The emulator is in the foreground group, so that Ctrl-C ends it; and it dies with this
# script. cat(1) makes /dev/stdout a pipe, which the emulator can open whatever ours is.
(cd "$dir" && exec setpriv --pdeathsig KILL timeout --foreground -k 5 "$timeout" \
	setpriv --pdeathsig KILL "${qemu[@]}") \
	< /dev/null 2> "$dir/qemu.log" | cat || status=$?

if [ -s "$dir/files.tar" ]; then
	tar -C "$dir/files" -xf "$dir/files.tar" ||
		verdict "lab error" "what came back from the job is no tar archive"
fi
rm -f "$dir/files.tar"

if fault=$(grep -E -m 1 "$faults" "$dir/console.log" "$dir/guest-console.log"); then
	verdict fail "${fault#"$dir/"}"
fi
case $status in
0)	;;
139 | 134 | 136)
	core=$(find "$dir" -name "core*" -printf "%f" -quit)
	verdict "lab error" "the emulator crashed (status $status)${core:+: gdb $BUILD/qemu/bin/qemu-system-x86_64 $OUT/$name.failed/$core}" ;;
124)	verdict timeout "no end after $timeout seconds; raise TIMEOUT, or see where the consoles stop" ;;
*)	verdict "lab error" "the emulator ended with status $status: $(tail -n 1 "$dir/qemu.log")" ;;
esac
last=$(tail -n 1 "$dir/verdict")
verdict "${last%%:*}" "${last#*: }"
