#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# perf for guests refuses what it cannot do, and shows no machine's symbols in the
# samples of another:
#
#  - Stacks and registers cannot be recorded of guests, and branch stacks only where KVM
#    switches the CPU's branch records. They can of the host, whatever the event's modifiers.
#  - Events of the host, and a command that is no VMM, have no samples of guests. To
#    report data without samples of guests is an error.
#  - A wrong file for --guestkallsyms, --guestmodules, --guestvmlinux, --guestmount or
#    --guestbinary is an error.
#  - The text of --guestbinary, and its address, are checked. --no-guestbinary takes it
#    back. What has no use for it refuses it.
#  - Each error is one line, and a status.
#  - The guest's modules are no modules of the host.
#  - The data has the build-id of the host's kernel.
#  - perf diff has its default files, and perf kvm diff the others.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_profile.sh
#  GUEST_PROGRAMS	a directory with the guest's program callgraph

. "$(dirname "$(readlink -f "$0")")/profiling.sh"

start_profiling callgraph
program=$GUEST_PROGRAMS/callgraph

# refused PATTERN COMMAND...: COMMAND fails, prints PATTERN in one line on standard error,
# and nothing else but what perf says of its data. PATTERN has dots for spaces:
# ktap_test_result splits words.
refused()
{
	pattern=$1
	shift
	"$@" > "$data/out" 2> "$data/err"
	status=$?
	grep -v '^\[ perf ' "$data/err" > "$data/lines"
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
	profile guest callgraph,200 --guestmodules="$data/modules" \
		record -q -g -a -e cpu-clock -c 97001 &&
	guest_ends &&
	perf record -q -e cpu-clock -o "$data/host" -- true
}

host_and_guest_event()
{
	perf record -q -a -e cpu-clock:H --intr-regs -o "$data/refused" -- true &&
	perf kvm --guest record -a -e cpu-clock -e page-faults -o "$data/refused" -- true \
		> "$data/out" 2>&1
}

# not_refused OPTION...: perf record without guests
not_refused()
{
	perf record -q -o "$data/plain" "$@" -- true 2> "$data/err" && [ ! -s "$data/err" ] &&
		return
	sed 's/^/# /' "$data/err"
	return 1
}

fields()
{
	perf evlist -v -i "$data/stacks" | sed -n 's/.*sample_type: \([A-Z_|]*\).*/# \1/p'
}

stacks_of_both()
{
	perf kvm --host --guest record -q -a -e cpu-clock --call-graph dwarf \
		-o "$data/stacks" -- true &&
	fields | grep GUEST_STACK | grep -w STACK_USER
}

stacks_of_guests()
{
	perf record -q -a -e cpu-clock:G --call-graph dwarf -o "$data/stacks" -- true &&
	fields | grep GUEST_STACK | grep -vw STACK_USER
}

# The event has a modifier, as the default one, cycles:P, has. Without a PMU, it fails.
host_alone()
{
	not_refused -e cpu-clock:k --call-graph dwarf &&
	not_refused -e cpu-clock:k --user-regs=ax &&
	not_refused -e cpu-clock:k --intr-regs || return
	perf record -q --call-graph dwarf -o "$data/plain" -- true 2> "$data/err"
	perf record -q -b -e cpu-clock:k -o "$data/plain" -- true 2>> "$data/err"
	! grep 'samples guests' "$data/err"
}

# Where the CPU's PMU says so, branch stacks are recorded of guests.
branches_of_guests()
{
	if [ "$(cat /sys/bus/event_source/devices/cpu/caps/guest_branches)" = 0 ]; then
		record_refused "the.branches.of.the.host" -a -b -e branches
		return
	fi
	not_refused -a -b -e branches:G &&
	record_refused "the.branches.of.the.host" -a --call-graph lbr -e branches
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

# A directory without a kallsyms is left out if there is another one.
mount_of_one()
{
	mkdir -p "$data/mount/1/proc" "$data/mount/1234" &&
	cp "$data/kallsyms" "$data/mount/1/proc" &&
	perf kvm --guest --guestmount="$data/mount" report --stdio -i "$data/guest" \
		> "$data/out" 2> "$data/err"
	status=$?
	rm -r "$data/mount"
	sed 's/^/# /' "$data/err"
	[ $status = 0 ] && grep -q '/1234/proc/kallsyms cannot be read' "$data/err"
}

# As of a kernel without CONFIG_MODULE_UNLOAD
modules_for_good()
{
	echo "guestmod 33554432 - - Live 0xffffffffc0000000" > "$data/for-good" &&
	perf kvm --guest --guestmodules="$data/for-good" report --stdio -i "$data/guest" \
		> "$data/out"
}

malformed_binaries()
{
	for spec in app@zz app@ "app@ 1000" app@-1 "" ,all @400000; do
		report_refused "is.not.FILE" --guestbinary="$spec" || return
	done
}

fifo_as_binary()
{
	mkfifo "$data/fifo" &&
	refused "is.not.a.regular.file" timeout 10 \
		perf kvm --guest --guestbinary="$data/fifo" report --stdio -i "$data/guest" &&
	[ "$status" != 124 ]
}

# The program as one that is position independent: e_type
address_of_binary()
{
	cp "$program" "$data/pie" &&
	printf '\003' | dd of="$data/pie" bs=1 seek=16 conv=notrunc 2> "$data/err" &&
	report_refused "is.position.independent" --guestbinary="$data/pie" &&
	report_refused "is.not.the.address.of.a.page" --guestbinary="$data/pie@400123" &&
	report_refused "is.not.the.address.of.a.page" \
		--guestbinary="$data/pie@fffffffffffff000" &&
	report_refused "its.address.is.400000" --guestbinary="$program@1000"
}

no_binary()
{
	perf kvm --guest --guestbinary="$data/none" --no-guestbinary report --stdio \
		-i "$data/guest" > "$data/out" &&
	perf kvm --guest --no-guestbinary report --stdio -i "$data/guest" > "$data/out"
}

too_many_binaries()
{
	set --
	for _ in $(seq 65); do
		set -- "$@" --guestbinary="$program"
	done
	report_refused "64.times" "$@"
}

all_of_two()
{
	cp "$program" "$data/copy" &&
	report_refused "are.at.the.same.addresses" --guestbinary="$program,all" \
		--guestbinary="$data/copy,all" &&
	perf kvm --guest --guestbinary="$program,all" --guestbinary="$program,all" report \
		--stdio -i "$data/guest" > "$data/out"
}

unused_binary()
{
	for command in record buildid-list "stat report"; do
		# shellcheck disable=SC2086
		refused "leave.it.out" perf kvm --guest --guestbinary="$program" $command ||
			return
	done
}

convert_of_host()
{
	refused "has.no.samples.of.guests" perf data convert --to-json="$data/json" \
		--guestkallsyms="$data/kallsyms" -i "$data/host"
}

# default_file FILE COMMAND...: the first file that COMMAND cannot open
default_file()
{
	file=$1
	shift
	mkdir -p "$data/empty" && (cd "$data/empty" && "$@" 2>&1) | head -n 1 > "$data/err"
	sed 's/^/# /' "$data/err"
	grep -q "^failed to open $file:" "$data/err"
}

diff_files()
{
	default_file perf.data.old perf diff --guestkallsyms="$data/kallsyms" &&
	default_file perf.data.host perf kvm diff &&
	default_file perf.data.host perf kvm --host diff &&
	cp "$data/host" "$data/empty/perf.data.host" &&
	cp "$data/guest" "$data/empty/perf.data.guest" &&
	(cd "$data/empty" && perf kvm diff -q) > "$data/out"
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
	id=$(perf buildid-list -k) && [ -n "$id" ] &&
	perf buildid-list -i "$data/guest" | grep "^$id \[kernel.kallsyms\]"
}

ktap_set_plan 40
ktap_test_result "recorded" recorded
ktap_test_result "record -b" record_refused "the.branches.of.the.host" -a -b -e cpu-clock
ktap_test_result "record -b of branches" branches_of_guests
ktap_test_result "record --call-graph lbr" record_refused "the.branches.of.the.host" \
	-a --call-graph lbr -e cpu-clock
ktap_test_result "record --call-graph dwarf" stacks_of_both
ktap_test_result "record --intr-regs" record_refused "registers.of.the.host" \
	-a --intr-regs -e cpu-clock
ktap_test_result "record --user-regs" record_refused "registers.of.the.VMM" \
	-a --user-regs=ax -e cpu-clock
ktap_test_result "record --call-graph dwarf of an event with :G" stacks_of_guests
ktap_test_result "an event of the host beside" host_and_guest_event
ktap_test_result "record of the host" host_alone
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
ktap_test_result "modules that are not unloaded" modules_for_good
ktap_test_result "other file as vmlinux" report_refused "is.no.vmlinux" \
	--guestvmlinux="$data/kallsyms"
ktap_test_result "empty mount" mount_of_nothing
ktap_test_result "mount of one VM" mount_of_one
ktap_test_result "no mount" report_refused "cannot.be.read" --guestmount="$data/none"
ktap_test_result "no binary" report_refused "cannot.be.read" --guestbinary="$data/none"
ktap_test_result "other file as binary" report_refused "is.no.program" \
	--guestbinary="$data/kallsyms"
ktap_test_result "binary without an address" report_refused "is.position.independent" \
	--guestbinary="$(command -v perf)"
ktap_test_result "malformed binary" malformed_binaries
ktap_test_result "FIFO as binary" fifo_as_binary
ktap_test_result "address of a binary" address_of_binary
ktap_test_result "binary taken back" no_binary
ktap_test_result "too many binaries" too_many_binaries
ktap_test_result "two binaries for all" all_of_two
ktap_test_result "binary without a use" unused_binary
ktap_test_result "convert of the host's data" convert_of_host
ktap_test_result "default files of diff" diff_files
ktap_test_result "modules of the guest" guest_modules
ktap_test_result "build-id of the host's kernel" kernel_build_id
ktap_finished
