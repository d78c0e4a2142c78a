#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run one suite of tests, or some tests of it, for test.sh: KTAP in out/SUITE.ktap, with
# the names of the failures near its end, then the exit status in out/SUITE.status.
#
#	lab/test/suite.sh SUITE [TEST...]
#
# A suite is a script, or else a boot of the host VM, which runs the self-tests of
# lab/test/suites/SUITE with the kernel's own runner; those named debug... boot the
# kernel that checks itself, pti one with page table isolation, those named i386... have guests
# of 32 bits, no_vpmu boots a host whose KVM has no virtual PMU and does not virtualize branch
# records, and nmis boots a host with two CPUs that run at the same time.
# Consoles and logs are in out/test-SUITE.

. "$(dirname "$0")/../lib.sh"

# other_image KERNEL: the image with another kernel of the lab's
other_image()
{
	{
		CONFIG='' LAB_KERNEL=$1 lab/build/kernel.sh &&
		LAB_KERNEL=$1 lab/build/image.sh
	} 2>&1 | sed 's/^/# /'
}

# The image with Debian's kernels
stock_image()
{
	{ lab/build/stock.sh && lab/build/image.sh; } 2>&1 | sed 's/^/# /'
}

# The image with a guest of 32 bits
i386_image()
{
	lab/build/i386.sh "$1" 2>&1 | sed 's/^/# /'
}

# tied COMMAND...: the command ends when the script ends
tied()
{
	setpriv --pdeathsig KILL "$@"
}

# annotated: pass the KTAP of self-tests on; say what the results took that took long, as
# ktap.sh does, and beside the result of a self-test which of its cases failed, and why
annotated()
{
	local line last='' start=$SECONDS bad=()

	while IFS= read -r line; do
		case $line in
		'# not ok '*)
			bad+=("${line#\# not ok } (${last##*# })") ;;
		'not ok '*)
			[ ${#bad[@]} = 0 ] || printf '# a failed case: %s\n' "${bad[@]}" ;;
		esac
		if [[ $line =~ ^(not )?ok\  ]]; then
			[ $((SECONDS - start)) -lt 10 ] || echo "# $((SECONDS - start)) s"
			start=$SECONDS bad=()
		fi
		printf '%s\n' "$line"
		last=$line
	done
}

run()
{
	local suite=$1 kernel='' append=${APPEND:-}

	case $suite in
	check)		tied lab/test/check.sh ;;
	check_whole)	tied lab/test/check.sh whole ;;
	tree | lab | deb | series | lists | abi | fuzz)
			tied "lab/test/scripts/$suite.sh" ;;
	deb_modules)	tied lab/test/scripts/deb.sh modules ;;
	unwinder)	lab/build/stock.sh 2>&1 | sed 's/^/# /' || return
			tied lab/test/scripts/unwinder.sh ;;
	fuzz_long)	tied lab/test/scripts/fuzz.sh 20 5000 ;;
	fuzz_debug)	other_image debug || return
			TIMEOUT=${TIMEOUT:-14400} LAB_KERNEL=debug \
				tied lab/test/scripts/fuzz.sh 10 5000 guest ;;
	emulator)	tied lab/test/emulator/run.sh ;;
	lab_pmu)	tied lab/run/boot.sh test-lab_pmu lab_pmu ;;
	*)
		case $suite in
		debug*)		kernel=debug; other_image debug || return
				# kmemleak scans all memory twice
				[ "$suite" != debug_subset ] || export MEM="${MEM:-2048}" ;;
		pti)		kernel=pti; other_image pti || return
				append="pti=on GUEST_APPEND=pti=on $append" ;;
		stock)		stock_image || return ;;
		i386*)		i386_image "$suite" || return
				HOST_ADD=$BUILD/i386/host-$suite.cpio
				[ ! -e "$HOST_ADD" ] || export HOST_ADD
				append="GUEST_KERNEL=/boot/i386/bzImage $append"
				append="GUEST_ADD=/boot/i386/guest.cpio $append"
				append="GUEST_PROGRAMS=/boot/i386/usr/bin $append" ;;
		stacks)		TIMEOUT=${TIMEOUT:-7200} ;;
		nmis)		export CPUS=2 ICOUNT=off ;;
		# Linux hands GUEST_CPU on to the environment of init
		no_vpmu)	append="kvm.enable_pmu=0 kvm_amd.lbrv=0 GUEST_CPU=host,migratable=off $append" ;;
		esac
		# exec: the boot is a child of this script, whose end ends the boot
		APPEND=$append LAB_KERNEL=$kernel TIMEOUT=${TIMEOUT:-2400} \
			exec setpriv --pdeathsig KILL \
			lab/run/boot.sh "test-$suite" kselftest "$@" 2> "$verdict" | annotated ;;
	esac
}

start=$SECONDS
status=0
verdict=$OUT/$1.verdict
: > "$verdict"
run "$@" > "$OUT/$1.ktap" 2>&1 < /dev/null || status=$?
failures=$(cat "$OUT/$1.ktap" "$verdict" |
	awk -v suite="$1" -v status="$status" -f lab/test/failures.awk)
{
	# Whoever looks for the verdict finds the failures beside it.
	[ -z "$failures" ] || echo "$failures"
	cat "$verdict"
	echo "# suite $1: $((SECONDS - start)) s"
} >> "$OUT/$1.ktap"
rm "$verdict"
echo "$status" > "$OUT/$1.status"
