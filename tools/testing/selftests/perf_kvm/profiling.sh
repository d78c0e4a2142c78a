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
	trap 'guest_is_dropped; rm -r "$data"' EXIT
}

# guest_runs: boot a guest that runs programs, unless there is one; $data/kallsyms gets the
# symbols of its kernel.
guest_runs()
{
	if [ -n "$guest_up" ]; then
		guest_qmp query-status > /dev/null && return
		guest_is_dropped
	fi
	guest_up=1
	guest_start workload && guest_expect ready && cp "$GUEST_DIR/kallsyms" "$data" && return
	guest_is_dropped
	return 1
}

# guest_ends: $GUEST_DIR gets the guest's files.
guest_ends()
{
	[ -n "$guest_up" ] || return
	guest_up=
	guest_say "" && guest_wait
}

# guest_is_dropped: after a failure, the guest ends, if there is one.
guest_is_dropped()
{
	[ -n "$guest_up" ] || return
	guest_up=
	guest_quit
}

# profile NAME WORKLOAD [OPTION...] record [OPTION...]: profile the guest while WORKLOAD runs.
# The options are those of "perf kvm" and of its record. $data/NAME gets the profile. After a
# failure, the next profile is of another guest.
profile()
{
	profile=$1
	workload=$2
	shift 2
	guest_runs &&
	perf kvm --guest --guestkallsyms="$data/kallsyms" "$@" -o "$data/$profile" -- \
		sh -c '. "$GUEST_LIB" && guest_say "$0" && guest_expect done' "$workload" &&
	return
	guest_is_dropped
	return 1
}
