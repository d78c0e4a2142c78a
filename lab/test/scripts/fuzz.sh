#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Do random things with perf events in the host VM and in its guest: with one CPU, where
# a run can be repeated exactly, and with two CPUs at the same time. Prints KTAP.
#
#   lab/test/scripts/fuzz.sh [SEEDS OPERATIONS [MACHINES]]
#
# SEEDS is the number of seeds (2), OPERATIONS the number of operations of each run (1500),
# MACHINES the machines that do them, one after the other (host,guest,both).
# Environment: that of boot.sh, such as LAB_KERNEL=debug.

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

# a boot with many seeds takes longer than most
export TIMEOUT=${TIMEOUT:-2400}

seeds=${1:-2} operations=${2:-1500} machines=${3:-host,guest,both}
commas=${machines//[^,]/}

# fuzz CPUS ICOUNT: the results of a boot, and a last result for both consoles
fuzz()
{
	local line status=0

	APPEND="FUZZ=$machines ${APPEND:-}" CPUS=$1 ICOUNT=$2 lab/run/boot.sh "test-fuzz${LAB_KERNEL:+-$LAB_KERNEL}-$1" fuzz "$operations" \
		$(seq "$seeds") 2>&1 | while read -r line; do
		case $line in
		"KTAP version"* | 1..*)	;;
		"ok "* | "not ok "*)	check "fuzz: CPUs $1: ${line#*fuzz:}" [ "${line%% *}" = ok ] ;;
		*)			echo "$line" ;;
		esac
	done || status=$?
	check "fuzz: CPUs $1: the boot, and no report on a console" [ "$status" = 0 ]
}

shopt -s lastpipe	# the loop of fuzz() counts in this shell
plan $((2 * ((${#commas} + 1) * seeds + 1)))
fuzz 1 on
fuzz 2 off
finish
