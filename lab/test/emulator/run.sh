#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run the bare-metal tests of the lab's emulator; report in KTAP.
#
#   lab/test/emulator/run.sh [-q QEMU] [-o OUTDIR] [CASE...]
#
# QEMU is the emulator (build/qemu/bin/qemu-system-x86_64), OUTDIR gets the test
# image and a log for each case (out/test-emulator).  Environment: BUILD and OUT,
# the directories meant by "build" and "out".
#
# A case passes if its virtual machine says so through isa-debug-exit; one
# that fails, stops early or does not end within its time fails the run.

set -euo pipefail

readonly PASS=33		# (VERDICT_PASS << 1) | 1, see main.c
readonly FAIL=35
readonly WALL_LIMIT=60		# seconds, outside the virtual machine

die()
{
	echo "lab/test/emulator/run.sh: $*" >&2
	exit 1
}

# how each kind of machine is started: see struct test
machine_options()
{
	local icount="-icount shift=0,sleep=off"
	local cpu="-cpu EPYC-Rome,pmu=on,+perfmon-v2,+amd-lbr-v2,+amd-lbr-pmc-freeze"

	case $1 in
	icount)	echo "$icount $cpu" ;;
	lbrv | migrate)	echo "$icount $cpu,+lbrv" ;;
	smp2)	echo "$icount $cpu -smp 2" ;;
	free)	echo "$cpu" ;;			# without icount
	free2)	echo "$cpu -smp 2" ;;		# CPUs that run at the same time
	off)	echo "$icount -cpu EPYC-Rome,pmu=off" ;;
	stock)	echo "$icount -cpu EPYC-Rome" ;;
	*)	die "unknown kind of machine: $1" ;;
	esac
}

# emulator CASE OUTPUT OPTION...: the machine with the test image
emulator()
{
	local name=$1 output=$2

	shift 2
	# overwrite freed memory, so that a later use shows
	GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MALLOC_PERTURB_=65 \
		setpriv --pdeathsig KILL timeout -k 5 $WALL_LIMIT "$qemu" \
		-nodefaults -no-user-config -display none -M pc -accel tcg -m 64 \
		-kernel "$out/tests.elf" -append "$name" -debugcon "file:$output" \
		-device isa-debug-exit,iobase=0xf4,iosize=4 \
		"$@" 2>>"$out/$name.log"
}

# save the machine when its test is ready, and continue in another machine
run_migrated()
{
	local name=$1 line status=0
	local fifo=$out/$1.fifo state=$out/$1.state

	shift
	rm -f "$fifo" "$fifo.in" "$fifo.out"
	mkfifo "$fifo" "$fifo.in" "$fifo.out"
	exec 5<>"$fifo" 7<>"$fifo.in" 8<>"$fifo.out"
	coproc SOURCE { emulator "$name" "$fifo" "$@" -serial null -monitor stdio; }
	exec 6>&"${SOURCE[1]}"
	while read -r -t $WALL_LIMIT -u 5 line && [ "$line" != ready ]; do
		echo "$line" >>"$out/$name.out"
	done
	printf 'migrate "exec:cat > %s"\nquit\n' "$state" >&6
	exec 6>&-
	wait "$SOURCE_PID"
	# The second machine finds input at its serial port: 64 bytes, because the bytes
	# before the end of the load are lost.
	printf '%064d' 0 >&7
	emulator "$name" "$out/$name.out" "$@" -incoming "exec:cat $state" \
		-chardev "pipe,id=com1,path=$fifo" -serial chardev:com1 || status=$?
	rm -f "$fifo" "$fifo.in" "$fifo.out" "$state"
	return $status
}

run_case()
{
	local name=$1 status=0 options

	rm -f "$out/$name.out" "$out/$name.log"
	read -ra options <<<"$(machine_options "$2")"
	if [ "$2" = migrate ]; then
		run_migrated "$name" "${options[@]}" >>"$out/$name.log" </dev/null || status=$?
	else
		emulator "$name" "$out/$name.out" "${options[@]}" </dev/null || status=$?
	fi
	case $status in
	"$PASS")	return 0 ;;
	"$FAIL")	;;
	124 | 137)	echo "# no end within $WALL_LIMIT s" >>"$out/$name.out" ;;
	*)		echo "# the emulator ended with status $status, see $out/$name.log" >>"$out/$name.out" ;;
	esac
	return 1
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
qemu=${BUILD:-$root/build}/qemu/bin/qemu-system-x86_64
out=${OUT:-$root/out}/test-emulator
while getopts q:o: option; do
	case $option in
	q)	qemu=$OPTARG ;;
	o)	out=$OPTARG ;;
	*)	die "usage: run.sh [-q QEMU] [-o OUTDIR] [CASE...]" ;;
	esac
done
shift $((OPTIND - 1))
[ -x "$qemu" ] || die "$qemu is not there; build it with: lab/build/emulator.sh"
qemu=$(readlink -f "$qemu")
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$here"
# Labels in asm statements must stay unique: no inlining, no cloning.
gcc -O1 -fno-inline -Wall -Wextra -Werror -m64 -ffreestanding -fno-pic -no-pie \
	-mno-red-zone -mgeneral-regs-only -fno-stack-protector \
	-fcf-protection=none -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -nostdlib -static -Wl,-T,link.ld \
	-Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
	boot.S ./*.c -o "$out/tests.elf" ||
	die "the test image does not build"

run_case list stock || die "the test image does not run, see $out/list.log"
mapfile -t cases <"$out/list.out"
[ ${#cases[@]} -gt 0 ] || die "the test image lists no case"
if [ $# -gt 0 ]; then
	all=("${cases[@]}")
	cases=()
	for want; do
		found=$(printf '%s\n' "${all[@]}" | grep -E "^$want ") || die "no case is named $want"
		cases+=("$found")
	done
fi

echo "KTAP version 1"
echo "1..${#cases[@]}"
number=0
failed=0
for line in "${cases[@]}"; do
	read -r name machine <<<"$line"
	number=$((number + 1))
	if run_case "$name" "$machine"; then
		result="ok"
	else
		result="not ok"
		failed=$((failed + 1))
	fi
	grep '^#' "$out/$name.out" || [ $? -eq 1 ]
	echo "$result $number $name"
done
[ $failed -eq 0 ]
