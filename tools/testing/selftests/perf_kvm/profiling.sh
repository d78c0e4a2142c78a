# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Shared by the scripts that profile the guest's programs from the host.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"

# start_profiling PROGRAM: skip the script if there is no guest, or the guest does not have
# the program; $data is a directory that is removed at the end.
start_profiling()
{
	ktap_print_header
	if [ -z "$GUEST_LIB" ] || [ ! -r "$GUEST_PROGRAMS/$1" ]; then
		ktap_skip_all "GUEST_LIB and GUEST_PROGRAMS name no guest to profile"
		exit "$KSFT_SKIP"
	fi
	. "$GUEST_LIB"

	data=$(mktemp -d)
	trap 'rm -r "$data"' EXIT
}

# profile NAME WORKLOAD [OPTION...] record [OPTION...]: boot a guest, and profile it while
# WORKLOAD runs. The options are those of "perf kvm" and of its record. $data/NAME gets the
# profile, and $data/kallsyms the symbols of the guest's kernel.
profile()
{
	profile=$1
	workload=$2
	shift 2
	guest_start workload "$workload" &&
	guest_expect ready &&
	perf kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" "$@" -o "$data/$profile" -- \
		sh -c '. "$GUEST_LIB" && guest_say go && guest_expect done' &&
	guest_wait &&
	cp "$GUEST_DIR/kallsyms" "$data/kallsyms"
}
