# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Shared by the scripts that count in a guest: start and stop the guest, run "perf
# stat" in the guest, compare counts.
#
# Environment:
#  GUEST_LIB		a shell library with guest_start, guest_expect, guest_run
#			and guest_wait. "guest_start remote" boots a guest with
#			$GUEST_CPUS CPUs, the model $GUEST_CPU, and the kernel
#			parameters $GUEST_APPEND. The guest says "ready", and has
#			perf and the programs loop and pingpong
#  GUEST_DEBUGFS	KVM's directory in debugfs (/sys/kernel/debug/kvm)
#
# shellcheck disable=SC2086,SC2015

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"

ktap_print_header
if [ -z "$GUEST_LIB" ]; then
	ktap_skip_all "GUEST_LIB names no guest to count in"
	exit "$KSFT_SKIP"
fi
. "$GUEST_LIB"
debugfs=${GUEST_DEBUGFS:-/sys/kernel/debug/kvm}

# With random addresses, a program's start sometimes takes two more instructions.
addresses=/proc/sys/kernel/randomize_va_space
random_addresses=$(cat $addresses)
echo 0 > $addresses

# perf would lower the rate of samples in a kernel whose NMIs take long, and may have done
# so already.
nmi_percent=/proc/sys/kernel/perf_cpu_time_max_percent
max_rate=/proc/sys/kernel/perf_event_max_sample_rate
host_nmi_percent=$(cat $nmi_percent)
host_rate=$(cat $max_rate)

# fix_rate RATE: a command. The rate can be set only while the time of NMIs has a limit.
fix_rate()
{
	echo "echo 25 > $nmi_percent; echo $1 > $max_rate; echo 0 > $nmi_percent"
}

eval "$(fix_rate 100000)"

data=$(mktemp -d)
trap 'rm -r "$data"; echo "$random_addresses" > $addresses
	eval "$(fix_rate "$host_rate")"; echo "$host_nmi_percent" > $nmi_percent' EXIT
trap 'exit 1' INT TERM HUP

fail()
{
	echo "# $*"
	return 1
}

# equal WHAT GOT WANT
equal()
{
	[ "$2" = "$3" ] || fail "$1: $2, want $3"
}

# within WHAT GOT MIN MAX
within()
{
	[ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || fail "$1: $2, want $3 to $4"
}

# near WHAT GOT WANT PERCENT: fail if GOT is off by more than PERCENT
near()
{
	within "$1" "$2" $(($3 - $3 * $4 / 100)) $(($3 + $3 * $4 / 100))
}

# The instructions of a program's start depend on the environment, CPUID and
# addresses. The environment is always empty; the rest makes a difference of up to
# start_differs.
start_differs=1000
perf="env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin perf"

# equal_but_for_start WHAT GOT WANT
equal_but_for_start()
{
	within "$1" "$2" $(($3 - start_differs)) $(($3 + start_differs))
}

# results: filter comments and empty lines from the output of "perf stat -x,"
results()
{
	grep -v -e '^#' -e '^ *$'
}

# stat ARG...: run "perf stat" in the guest. $data/stat gets a line for each event:
# count, unit, event, time running, per cent of the time
stat()
{
	guest_run "$perf stat -x, -o stat.out $* > /dev/null 2> err || cat err; cat stat.out" |
		results > "$data/stat"
}

# counts ARG...: the counts of "perf stat" in the guest, in one line
counts()
{
	stat "$@"
	cut -d, -f1 "$data/stat" | tr '\n' ' '
}

# record ARG...: run "perf record" in the guest
record()
{
	guest_run "$perf record -q -o perf.data $* > /dev/null 2> err || cat err" > "$data/record"
	sed 's/^/# /' "$data/record"
	[ ! -s "$data/record" ]
}

# script FIELDS [ARG...]: $data/script gets a line for each sample of the guest
script()
{
	fields=$1
	shift
	guest_run "$perf script -i perf.data -F $fields $*" > "$data/script" ||
		fail "$(head -n 1 "$data/script")"
}

# make_repeatable: fixed addresses and a fixed rate in the guest, after each boot
make_repeatable()
{
	guest_run "echo 0 > $addresses; $(fix_rate 100000)"
}

# start: boot the guest. The default of GUEST_CPU has no PMU.
start()
{
	GUEST_CPU=${GUEST_CPU:-host,migratable=off,pmu=off} guest_start remote &&
	guest_expect ready && make_repeatable
}

stop()
{
	guest_say "" && guest_wait
}

# booted CHECK: boot the guest, run CHECK, stop the guest
booted()
{
	start || return
	"$@"
	result=$?
	stop && return $result
}

# run_cases CASE...: a case is a function
run_cases()
{
	ktap_set_plan $#
	for case; do
		ktap_test_result "$case" $case
	done
	ktap_finished
}
