#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boot the host VM under emulation, have the VM run a job, and report the result.
#
#   lab/run/boot.sh NAME JOB [ARG...]
#
# JOB is a script of lab/vm/host; the output of the job comes out here as the job runs.
# out/NAME gets the consoles of both machines, the exact command and, in
# files/, the job's /results. During the boot, the directory is out/NAME.new; after a
# failure, out/NAME.failed. out/NAME is the last success.
#
# The verdict starts as a failure, comes off the console and is written last.
# A panic, oops, warning or lock report on either console (lab/run/faults) overrides
# the verdict.
#
# Exit status: 0 pass, 1 fail, 3 the lab itself failed, 4 skip, 124 time-out.
# Environment: TIMEOUT, seconds of wall time for the boot (600); CPUS (1);
# MEM in MiB (3072); APPEND, kernel parameters; PMU, the PMU of the CPU (full;
# pmu=off for none); ICOUNT=off, CPUs run at the same time, runs differ and counts are
# not exact; LAB_KERNEL, the kernel of host and guest (debug, pti, or else the plain kernel);
# HOST_ADD, an initramfs image to append to the host's; STOCK, a directory of build/stock,
# whose kernel boots with the guest's image instead of the host: JOB is a script of
# lab/vm/guest; DRYRUN=1, print the QEMU command and stop.

. "$(dirname "$0")/../lib.sh"

[ $# -ge 2 ] || die "usage: lab/run/boot.sh NAME JOB [ARG...]"
name=$1
shift
dir=$(realpath -m "$OUT/$name.new")
build=$(realpath -m "$BUILD")
image=$build/host${LAB_KERNEL:+-$LAB_KERNEL}.cpio
kernel=$(realpath -m "$(kernel_dir "${LAB_KERNEL:-}")")/arch/x86/boot/bzImage
if [ -n "${STOCK:-}" ]; then
	image=$build/guest.cpio
	kernel=$(realpath -m "$STOCK")/vmlinuz
fi
initrd=$image
[ -z "${HOST_ADD:-}" ] || initrd=$dir/initrd.cpio
timeout=${TIMEOUT:-600}
# how the kernel reports a fault of its own, a pattern a line
faults=lab/run/faults

# EPYC-Rome has SVM with nested paging; lab/qemu adds a later model's PMU. Every
# instruction takes one virtual nanosecond and idle time is skipped, so that a
# run can be repeated exactly. 5-level paging is for the guests of self-tests: Linux
# keeps to four levels, in the host and in the guest. Without branch stacks of guests:
# APPEND=kvm_amd.lbrv=0, or a PMU without +lbrv.
pmu=${PMU:-pmu=on,+perfmon-v2,+amd-lbr-v2,+amd-lbr-pmc-freeze,+lbrv}
# shellcheck disable=SC2054 # commas are part of the options
qemu=("$build/qemu/bin/qemu-system-x86_64" -name "guestperf-$name"
	-nodefaults -no-user-config -display none -no-reboot
	-machine dump-guest-core=off
	-cpu "EPYC-Rome,-pcid,-tsc-deadline,+la57,$pmu" -smp "${CPUS:-1}" -m "${MEM:-3072}"
	-kernel "$kernel"
	-initrd "$initrd"
	-device virtio-serial-pci)
append="console=ttyS0 panic=-1 oops=panic no5lvl nmi_watchdog=0 ${APPEND:-}"
if [ "${ICOUNT:-on}" = off ]; then
	# KVM takes the TSC's rate when it starts, Linux measures the rate better later. On
	# a busy machine the two differ. If the later rate is higher by more than this
	# tolerance, KVM (on a CPU without scaling and without constant_tsc) keeps a
	# multiplier of 0, and the guest's deadline timer never expires.
	append+=" kvm.tsc_tolerance_ppm=500000"
	# shellcheck disable=SC2054
	qemu+=(-accel tcg,thread=multi)
else
	# shellcheck disable=SC2054
	qemu+=(-accel tcg -icount shift=0,sleep=off)
fi

# port NAME CHARDEV: a virtio port for the init of the host VM
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
qemu+=(-append "$append -- $*")

command_line()
{
	printf '%q ' "${qemu[@]}"
	echo
}

if [ -n "${DRYRUN:-}" ]; then
	command_line
	exit
fi
[ -e "$image" ] || die "there is nothing to boot yet: run \"make lab\""
rm -rf "$dir"
mkdir -p "$dir/files"
# the later archive replaces files of the earlier one
[ -z "${HOST_ADD:-}" ] || cat "$image" "$HOST_ADD" > "$initrd"
command_line > "$dir/qemu.cmd"
if [ "$1" = shell ]; then
	exec setpriv --pdeathsig KILL "${qemu[@]}"
fi

# verdict WORD WHY: end with the line for the user and the status for scripts
verdict()
{
	local status

	case $1 in
	pass | skip)	rm -f "$dir/initrd.cpio"; replace "$OUT/$name"; rm -rf "$OUT/$name.failed" ;;
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
ulimit -c unlimited 2> /dev/null || true
status=0
# The emulator is in the foreground group, so that Ctrl-C ends it; and it dies with this
# script. cat(1) makes /dev/stdout a pipe, which the emulator can open whatever ours is.
# Our own message about a crash is less than the verdict says.
exec 4>&2 2> /dev/null
(cd "$dir" && exec setpriv --pdeathsig KILL timeout --foreground -k 5 "$timeout" \
	setpriv --pdeathsig KILL "${qemu[@]}") \
	< /dev/null 2> "$dir/qemu.log" 4>&- | cat 4>&- || status=$?
exec 2>&4 4>&-

# A crash of the emulator comes first: afterwards neither the archive nor the consoles
# need be complete.
case $status in
132 | 134 | 135 | 136 | 139)
	core=$(find "$dir" -maxdepth 1 -name "core*" -printf "%f" -quit)
	if [ -n "$core" ]; then
		core="gdb $BUILD/qemu/bin/qemu-system-x86_64 $OUT/$name.failed/$core"
	else
		core="no core dump here: ulimit -c is $(ulimit -c), core_pattern is $(cat /proc/sys/kernel/core_pattern)"
	fi
	verdict "lab error" "the emulator crashed with SIG$(kill -l "$status"): $core" ;;
esac

if [ -s "$dir/files.tar" ]; then
	tar -C "$dir/files" -xf "$dir/files.tar" ||
		verdict "lab error" "what came back from the job is no tar archive"
fi
rm -f "$dir/files.tar"

if fault=$(grep -E -m 1 -f "$faults" "$dir/console.log" "$dir/guest-console.log"); then
	verdict fail "${fault#"$dir/"}"
fi
case $status in
0)	;;
124)	verdict timeout "no end after $timeout seconds; raise TIMEOUT, or see where the consoles stop" ;;
*)	verdict "lab error" "the emulator ended with status $status: $(tail -n 1 "$dir/qemu.log")" ;;
esac
last=$(tail -n 1 "$dir/verdict")
verdict "${last%%:*}" "${last#*: }"
