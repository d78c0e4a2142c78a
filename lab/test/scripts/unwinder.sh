#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compare the call chains that perf finds in registers and stacks, with the ORC tables of
# a vmlinuz, with those that the kernel itself finds at the same instructions: Debian's
# kernels boot on the emulator, and a module (lab/vm/modules/unwind_samples.c) takes both in
# NMIs, during a load of everything. At least 99 % are identical, frame by frame. Prints
# KTAP; out/unwinder-KERNEL/compared has those that differ.
#
# KVM and nested guests have no part in it: what KVM puts into samples is tested by
# guest_dump_test and guest_stack.sh.

# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/build/cpio.sh
. lab/test/ktap.sh

tmp=$(mktemp -d)
trap 'rm -rf "$tmp" "$ktap_log"' EXIT

# sampled DIR: boot the kernel in DIR with its module. out/unwinder-KERNEL gets the samples.
sampled()
{
	rm -rf "$tmp/root"
	mkdir -p "$tmp/root"
	cp "$1/unwind_samples.ko" "$tmp/root/"
	pack "$tmp/root" "$tmp/module.cpio"
	cat "$1/guest.cpio" "$tmp/module.cpio" > "$tmp/add.cpio"
	MEM=1024 STOCK=$1 HOST_ADD=$tmp/add.cpio \
		lab/run/boot.sh "unwinder-${1##*/}" unwind_samples
}

# chains FILE [OPTION...]: a line for each sample: the time, and the frames of the kernel,
# which have long addresses
chains()
{
	local file=$1

	shift
	"$BUILD/perf/perf" script -i - --guestkallsyms="$results/kallsyms" "$@" -F time,ip,sym \
		< "$results/$file" 2> "$tmp/err" |
		awk -v RS= -v FS='\n' '{
			line = $1
			for (i = 2; i <= NF; i++) {
				split($i, frame, " ")
				if (length(frame[1]) == 16)
					line = line " " frame[1]
			}
			print line
		}'
	cat "$tmp/err" >&2
	[ ! -s "$tmp/err" ]
}

# compared DIR: each sample has the same chain, but for 1 %
compared()
{
	results=$OUT/unwinder-${1##*/}/files
	chains chains > "$tmp/chains"
	chains dumps --guestmodules="$results/modules" --guestvmlinuz="$1/vmlinuz" \
		--guestmoddir="$1/modules" > "$tmp/dumps"
	awk '
		NR == FNR	{ theirs[$1] = $0; n++; next }
				{ m++ }
		theirs[$1] == $0 { same++; next }
				{ print "the kernel " theirs[$1] "\nperf       " $0 }
		END {
			printf "%d of %d chains are identical, %.2f %%\n", same, n, 100 * same / n
			exit !(n >= 1000 && m == n && same >= 0.99 * n)
		}' "$tmp/chains" "$tmp/dumps" > "$OUT/unwinder-${1##*/}/compared" ||
		{ tail -n 20 "$OUT/unwinder-${1##*/}/compared"; return 1; }
}

mapfile -t kernels < <(find "$BUILD/stock" -name unwind_samples.ko -printf '%h\n' 2> /dev/null | sort)
if [ ${#kernels[@]} -eq 0 ]; then
	plan 1
	echo "ok 1 unwinder # SKIP there is no kernel of Debian with its headers"
	exit
fi

plan $((2 * ${#kernels[@]}))
for kernel in "${kernels[@]}"; do
	check "${kernel##*/}: sampled" sampled "$kernel"
	check "${kernel##*/}: perf's chains are the kernel's" compared "$kernel"
	tail -qn 1 "$OUT/unwinder-${kernel##*/}/compared" 2> /dev/null | sed 's/^/# /'
done
finish
