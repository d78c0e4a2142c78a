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
