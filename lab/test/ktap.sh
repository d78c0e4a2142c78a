# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# KTAP for the scripts that test the lab and the series. Sourced after lib.sh.

ktap_nr=0
ktap_failed=0
ktap_log=$(mktemp)
trap 'rm -f "$ktap_log"' EXIT

# plan COUNT
plan()
{
	echo "TAP version 13"
	echo "1..$1"
}

# check TITLE COMMAND...: the case passes if the command does; what the command says is
# shown if it fails. The command runs in a shell of its own, where die ends the case only.
check()
{
	local title=$1 status start=$SECONDS

	shift
	ktap_nr=$((ktap_nr + 1))
	# not in a condition, where a failing command would not end the function
	set +e
	(set -e; "$@") > "$ktap_log" 2>&1 < /dev/null
	status=$?
	set -e
	[ $((SECONDS - start)) -lt 10 ] || echo "# $((SECONDS - start)) s"
	if [ $status = 0 ]; then
		echo "ok $ktap_nr $title"
	else
		sed 's/^/# /' "$ktap_log"
		echo "not ok $ktap_nr $title"
		ktap_failed=1
	fi
}

# finish: end with the status of all the cases
finish()
{
	exit $ktap_failed
}
