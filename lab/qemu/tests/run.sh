#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run the bare-metal tests of the lab's emulator; report in KTAP.
#
# usage: lab/qemu/tests/run.sh QEMU OUTDIR [CASE...]
#
# QEMU is the emulator, OUTDIR gets the test image and a log for each case.
# A case passes if its virtual machine says so through isa-debug-exit; one
# that fails, stops early or does not end within its time fails the run.

set -euo pipefail

readonly PASS=33		# (VERDICT_PASS << 1) | 1, see main.c
readonly WALL_LIMIT=60		# seconds, outside the virtual machine

die()
{
	echo "lab/qemu/tests/run.sh: $*" >&2
	exit 1
}

# how each kind of machine is started: see struct test
machine_options()
{
	local cpu=EPYC-Rome,pmu=on

	case $1 in
	icount)	echo "-icount shift=0,sleep=off -cpu $cpu" ;;
	*)	die "unknown kind of machine: $1" ;;
	esac
}

run_case()
{
	local name=$1 status=0 options

	options=$(machine_options "$2")
	# shellcheck disable=SC2086 # a list of options
	setpriv --pdeathsig KILL timeout -k 5 $WALL_LIMIT "$qemu" \
		-nodefaults -no-user-config -display none -M pc -accel tcg -m 64 \
		$options -kernel "$out/tests.elf" -append "$name" \
		-debugcon "file:$out/$name.out" \
		-device isa-debug-exit,iobase=0xf4,iosize=4 \
		>"$out/$name.log" 2>&1 </dev/null || status=$?
	case $status in
	"$PASS")	return 0 ;;
	124 | 137)	echo "# no end within $WALL_LIMIT s" >>"$out/$name.out" ;;
	35)		;;
	*)		echo "# the emulator ended with status $status, see $out/$name.log" >>"$out/$name.out" ;;
	esac
	return 1
}

[ $# -ge 2 ] || die "usage: lab/qemu/tests/run.sh QEMU OUTDIR [CASE...]"
qemu=$(readlink -f "$1")
[ -x "$qemu" ] || die "$1 is not a program; build it with: lab/qemu/build.sh"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
shift 2

cd "$here"
gcc -O2 -Wall -Wextra -Werror -m64 -ffreestanding -fno-pic -no-pie -mno-red-zone \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-strict-aliasing -nostdlib -static \
	-Wl,-T,link.ld -Wl,--build-id=none -Wl,-z,noexecstack \
	-Wl,--no-warn-rwx-segments \
	boot.S ./*.c -o "$out/tests.elf" ||
	die "the test image does not build"

run_case list icount || die "the test image does not run, see $out/list.log"
mapfile -t cases <"$out/list.out"
[ ${#cases[@]} -gt 0 ] || die "the test image lists no case"
if [ $# -gt 0 ]; then
	all=("${cases[@]}")
	cases=()
	for want; do
		found=$(printf '%s\n' "${all[@]}" | grep -E "^$want " || die "no case is named $want")
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
	echo "$result $number qemu_$name"
done
[ $failed -eq 0 ]
