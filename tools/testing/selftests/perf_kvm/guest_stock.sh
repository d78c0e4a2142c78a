#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Follow the frame pointers of guests whose kernels have none, those of a distribution,
# with "perf kvm --guest record -g": what a chain has above the IP is in a function of the
# kernel, or in one of a module. Such chains are short. guest_stack.sh is about better ones.
#
# Arguments: the event and the period, as for guest_callchain.sh.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_STOCK		a directory with a directory for each kernel, as for guest_stack.sh

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"
. "$DIR/chains.sh"

ktap_print_header
event=${1:-cpu-clock}
period=${2:-97001}
set -- "$GUEST_STOCK"/*/vmlinuz
if [ -z "$GUEST_LIB" ] || [ ! -r "$1" ]; then
	ktap_skip_all "GUEST_LIB and GUEST_STOCK name no kernel of a distribution to profile"
	exit "$KSFT_SKIP"
fi
. "$GUEST_LIB"

data=$(mktemp -d)
trap 'rm -r "$data"' EXIT

# recorded KERNEL: pipes, processes, files
recorded()
{
	GUEST_KERNEL=$1 GUEST_ADD=${1%/*}/guest.cpio GUEST_MEM=768 \
		guest_start workload &&
	guest_expect ready &&
	perf kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" \
		--guestmodules="$GUEST_DIR/modules" \
		record -q -g -a -e "$event" -c "$period" -o "$data/stock" -- \
		sh -c '. "$GUEST_LIB" && guest_say "$*" && guest_expect done > /dev/null' \
		sh pingpong,5000 find,/,-xdev pingpong,5000 find,/proc,-maxdepth,2 &&
	guest_say "" && guest_wait &&
	perf script -F misc,ip,sym --guestkallsyms="$GUEST_DIR/kallsyms" \
		--guestmodules="$GUEST_DIR/modules" -i "$data/stock" | fold > "$data/stock.txt"
}

# A frame without a name is an address. The kernel's have 16 digits.
in_functions()
{
	awk '
		$1 != "kernel"	{ next }
		{ samples++; callers += NF > 2 }
		/ 0x[8-9a-f][0-9a-f]{15}( |$)/ { print "# " $0; bad++ }
		END {
			printf "# %d samples, %d with callers, %d with what is no function\n",
				samples, callers, bad
			exit !(samples >= 1000 && callers >= 50 && !bad)
		}' "$data/stock.txt"
}

ktap_set_plan $(($# * 2))
for kernel; do
	name=${kernel%/vmlinuz}
	name=${name##*/}
	ktap_test_result "$name: recorded" recorded "$kernel"
	ktap_test_result "$name: callers are in functions" in_functions
done
ktap_finished
