#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# perf for guests refuses what it cannot do, and shows no machine's symbols in the
# samples of another:
#
#  - Branch stacks, stacks and registers cannot be recorded of guests.
#  - Events of the host, and a command that is no VMM, have no samples of guests. To
#    report data without samples of guests is an error.
#  - A wrong file for --guestkallsyms, --guestmodules, --guestvmlinux, --guestmount or
#    --guestbinary is an error.
#  - Each error is one line, and a status.
#  - The guest's modules are no modules of the host.
#  - The data has the build-id of the host's kernel.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_profile.sh
#  GUEST_PROGRAMS	a directory with the guest's program callgraph

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"

ktap_print_header
if [ -z "$GUEST_LIB" ] || [ ! -r "$GUEST_PROGRAMS/callgraph" ]; then
	ktap_skip_all "GUEST_LIB and GUEST_PROGRAMS name no guest to profile"
	exit "$KSFT_SKIP"
fi
. "$GUEST_LIB"

data=$(mktemp -d)
trap 'rm -r "$data"' EXIT
program=$GUEST_PROGRAMS/callgraph

# refused PATTERN COMMAND...: COMMAND fails, prints PATTERN in one line on standard error,
# and nothing else but what perf record says of its data. PATTERN has dots for spaces:
# ktap_test_result splits words.
refused()
{
	pattern=$1
	shift
	"$@" > "$data/out" 2> "$data/err"
	status=$?
	grep -v '^\[ perf record: ' "$data/err" > "$data/lines"
	sed 's/^/# /' "$data/lines"
	[ $status -ne 0 ] && [ "$(wc -l < "$data/lines")" = 1 ] &&
		grep -q -e "$pattern" "$data/lines"
}

# record_refused PATTERN ARG...
record_refused()
{
	pattern=$1
	shift
	refused "$pattern" perf kvm --guest record -o "$data/refused" "$@" -- true
}

# report_refused PATTERN OPTION...
report_refused()
{
	pattern=$1
	shift
	refused "$pattern" perf kvm --guest "$@" report --stdio -i "$data/guest"
}

# A module of the guest is where the kernel of the host is.
fake_modules()
{
	echo "guestmod 33554432 0 - Live 0x$(sed -n 's/ T _stext$//p' /proc/kallsyms)"
}

recorded()
{
	fake_modules > "$data/modules" &&
	guest_start workload callgraph,200 &&
	guest_expect ready &&
	perf kvm --guest --guestkallsyms="$GUEST_DIR/kallsyms" --guestmodules="$data/modules" \
		record -q -g -a -e cpu-clock -c 97001 -o "$data/guest" -- \
		sh -c '. "$GUEST_LIB" && guest_say go && guest_expect done' &&
	guest_wait &&
	cp "$GUEST_DIR/kallsyms" "$data/kallsyms" &&
	perf record -q -e cpu-clock -o "$data/host" -- true
}

host_and_guest_event()
{
	perf record -q -a -e cpu-clock:H -b -o "$data/refused" -- true 2> "$data/err"
	! grep 'samples guests' "$data/err" &&
	perf kvm --guest record -a -e cpu-clock -e page-faults -o "$data/refused" -- true \
		> "$data/out" 2>&1
}

zero_kallsyms()
{
	sed 's/^[0-9a-f]*/0000000000000000/' "$data/kallsyms" > "$data/zeros"
	report_refused "has.no.addresses" --guestkallsyms="$data/zeros"
}

part_of_kallsyms()
{
	tail -n 1000 "$data/kallsyms" > "$data/part"
	report_refused "no.complete.copy" --guestkallsyms="$data/part"
}

mount_of_nothing()
{
	mkdir -p "$data/mount/1234" &&
	report_refused "/1234/proc/kallsyms cannot be read" --guestmount="$data/mount"
}

guest_modules()
{
	perf script -F misc,ip,sym,dso -i "$data/guest" > "$data/script" &&
	grep -q 'kernel.kallsyms' "$data/script" && ! grep -q guestmod "$data/script"
}

kernel_build_id()
{
	perf buildid-list -i "$data/guest" | grep 'kernel'
}

ktap_set_plan 27
ktap_test_result "recorded" recorded
ktap_test_result "record -b" record_refused "the.branches.of.the.host" -a -b -e cpu-clock
ktap_test_result "record --call-graph lbr" record_refused "the.branches.of.the.host" \
	-a --call-graph lbr -e cpu-clock
ktap_test_result "record --call-graph dwarf" record_refused "of.the.VMM" \
	-a --call-graph dwarf -e cpu-clock
ktap_test_result "record --intr-regs" record_refused "registers.of.the.host" \
	-a --intr-regs -e cpu-clock
ktap_test_result "record --user-regs" record_refused "registers.of.the.VMM" \
	-a --user-regs=ax -e cpu-clock
ktap_test_result "perf record of an event with :G" refused "of.the.VMM" \
	perf record -a -e cpu-clock:G --call-graph dwarf -o "$data/refused" -- true
ktap_test_result "an event of the host beside" host_and_guest_event
ktap_test_result "record of page-faults" record_refused "does.not.sample.guests" \
	-a -e page-faults
ktap_test_result "record of cpu-clock:H" record_refused "does.not.sample.guests" \
	-a -e cpu-clock:H
ktap_test_result "record of a command" record_refused "has.run.no.guest" -e cpu-clock
ktap_test_result "report of the host's data" refused "has.no.samples.of.guests" \
	perf kvm --guest report --stdio -i "$data/host"
ktap_test_result "script of the host's data" refused "has.no.samples.of.guests" \
	perf script --guestkallsyms="$data/kallsyms" -i "$data/host"
ktap_test_result "no kallsyms" report_refused "cannot.be.read" --guestkallsyms="$data/none"
ktap_test_result "other file as kallsyms" report_refused "no.copy" \
	--guestkallsyms="$program"
ktap_test_result "kallsyms without addresses" zero_kallsyms
ktap_test_result "part of kallsyms" part_of_kallsyms
ktap_test_result "no modules" report_refused "cannot.be.read" --guestmodules="$data/none"
ktap_test_result "other file as modules" report_refused "no.copy" \
	--guestmodules="$data/kallsyms"
ktap_test_result "other file as vmlinux" report_refused "is.no.vmlinux" \
	--guestvmlinux="$data/kallsyms"
ktap_test_result "empty mount" mount_of_nothing
ktap_test_result "no mount" report_refused "cannot.be.read" --guestmount="$data/none"
ktap_test_result "no binary" report_refused "cannot.be.read" --guestbinary="$data/none"
ktap_test_result "other file as binary" report_refused "is.no.program" \
	--guestbinary="$data/kallsyms"
ktap_test_result "binary without an address" report_refused "is.position.independent" \
	--guestbinary="$(command -v perf)"
ktap_test_result "modules of the guest" guest_modules
ktap_test_result "build-id of the host's kernel" kernel_build_id
ktap_finished
