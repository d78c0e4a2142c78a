#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# perf's commands tell VMs and machines apart, and take the options for guests:
#
#  - --guestmount names the samples of a VM by the PID of its VMM, in data recorded with
#    it and without it. A VM that is not below it has no names.
#  - Two VMs with different kernels, in one profile, have the symbols of their own.
#  - perf kvm buildid-list has the guest's kernel.
#  - A guest's samples have the name of the VMM's process.
#  - report, script, annotate and diff take the options for guests, and perf kvm has
#    annotate.
#  - perf kvm --host report shows the host alone.
#  - Completion knows all options of perf kvm.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_profile.sh. $GUEST_CONSOLE is the VMM's
#			character device for a second guest's console
#  GUEST_PROGRAMS	a directory with the guest's program pingpong

. "$(dirname "$(readlink -f "$0")")/profiling.sh"

start_profiling pingpong

# record NAME OPTION...: profile the guest and the host while the guest runs a program
record()
{
	name=$1
	shift
	perf kvm --host --guest "$@" record -q -a -e cpu-clock -c 97001 -o "$data/$name" -- \
		sh -c '. "$GUEST_LIB" && guest_say pingpong,3000 && guest_expect done'
}

build_id=12345678901234567890

# vmms: the PIDs of the VMMs
vmms()
{
	grep -l "^qemu-system" /proc/[0-9]*/comm | cut -d/ -f3
}

# The PID of the VMM is the directory of the guest.
mount_guest()
{
	vmm=$(vmms | head -n 1) &&
	[ -n "$vmm" ] &&
	mkdir -p "$data/mount/$vmm/proc" "$data/mount/$vmm/sys/kernel" "$data/other/1/proc" &&
	printf '\4\0\0\0\24\0\0\0\3\0\0\0GNU\0%s' "$build_id" \
		> "$data/mount/$vmm/sys/kernel/notes" &&
	cp "$GUEST_DIR/kallsyms" "$data/mount/$vmm/proc/kallsyms" &&
	cp "$GUEST_DIR/kallsyms" "$data/other/1/proc/kallsyms"
}

recorded()
{
	guest_runs && mount_guest &&
	record mounted --guestmount="$data/mount" &&
	record plain && return
	guest_is_dropped
	return 1
}

# named DATA OPTION...: 99 % of the samples of the guest's kernel have symbols
named()
{
	recording=$1
	shift
	perf script -F misc,ip,sym -i "$data/$recording" "$@" 2> "$data/err" |
		awk '$1 == "G" { all++; if ($3 != "" && $3 != "[unknown]") n++ }
		     END { print "# " n + 0 " of " all + 0 " samples have symbols"
			   exit !(all >= 200 && n >= 0.99 * all) }'
}

not_named()
{
	! named "$@" && grep -q "Can't access file $data/other/$vmm" "$data/err"
}

# The other VM: it says "ready", is told to go, and says when it has gone.
other_vm()
{
	GUEST_DIR=$data/other-vm
	GUEST_CONSOLE=null
	guest_start workload && guest_expect ready && echo ready > "$data/other-says" &&
	read -r _ < "$data/other-hears" &&
	guest_say pingpong,9000 && guest_expect "done" && echo "done" > "$data/other-says" &&
	guest_say "" && guest_wait
}

# Both VMs have the same kernel: most symbols of one are renamed. Both VMs run during all of
# the recording.
recorded_two()
{
	mkfifo "$data/other-says" "$data/other-hears" &&
	guest_runs && one=$(vmms) || return
	other_vm > "$data/other-log" 2>&1 &
	pid=$!
	read -r _ < "$data/other-says" && other=$(vmms | grep -vx "$one") &&
	mkdir -p "$data/two.vms/$one/proc" "$data/two.vms/$other/proc" &&
	cp "$GUEST_DIR/kallsyms" "$data/two.vms/$one/proc" &&
	sed 's/\( [a-zA-Z] \)\([a-z]\)/\1other_\2/' "$data/other-vm/kallsyms" \
		> "$data/two.vms/$other/proc/kallsyms" &&
	perf kvm --guest record -q -a -e cpu-clock -c 97001 -o "$data/two" -- \
		sh -c '. "$GUEST_LIB" && guest_say pingpong,9000 && echo go > "$1/other-hears" &&
			guest_expect done && read -r _ < "$1/other-says"' sh "$data" &&
	wait $pid && guest_ends
	status=$?
	[ $status = 0 ] || { guest_is_dropped; kill "$pid" $other 2> /dev/null; }
	sed 's/^/# /' "$data/other-log"
	return $status
}

# own_symbols PID [RENAMED]: 99 % of the samples of a VM's kernel have its symbols. RENAMED
# is 1 if these are renamed; those with _ before the name never are.
own_symbols()
{
	perf script -F pid,misc,ip,sym -i "$data/two" --guestmount="$data/two.vms" |
		awk -v pid="$1" -v renamed="${2:-0}" '
			$1 == pid && $2 == "G" && $4 !~ /^_/ {
				all++
				n += $4 ~ /^[a-z]/ && ($4 ~ /^other_/) == renamed
			}
			END { print "# " n + 0 " of " all + 0 " samples have its symbols"
			      exit !(all >= 200 && n >= 0.99 * all) }'
}

two_kernels()
{
	own_symbols "$one" && own_symbols "$other" 1 || return
	# perf shows the thread of a virtual CPU as its PID
	perf kvm --guest --guestmount="$data/two.vms" report --stdio -q --sort pid,sym \
		-i "$data/two" > "$data/report" || return
	sed -n '1,8s/^/# /p' "$data/report"
	awk '
		/ \[g\] other_/		{ renamed[$2]++ }
		/ \[g\] [a-np-z]/	{ as_is[$2]++ }
		END {
			for (vm in renamed) {
				n++
				bad = bad || (vm in as_is) || renamed[vm] < 10
			}
			for (vm in as_is) {
				n++
				bad = bad || (vm in renamed) || as_is[vm] < 10
			}
			exit bad || n != 2
		}' "$data/report"
}

build_ids()
{
	perf kvm --guest buildid-list -i "$data/mounted" > "$data/ids" || return
	sed 's/^/# /' "$data/ids"
	id=$(printf %s "$build_id" | od -An -tx1 | tr -d ' \n')
	grep -qx "$id \[guest.kernel.kallsyms.$vmm\]" "$data/ids"
}

# The thread of a virtual CPU has samples in the host as well: the report has the guest's.
vmm_name()
{
	perf script -F misc --guestkallsyms="$data/kallsyms" -i "$data/plain" > "$data/modes" &&
	perf kvm --guest --guestkallsyms="$data/kallsyms" report --stdio -q "$@" \
		--sort comm,pid -i "$data/plain" > "$data/report" || return
	sed 's/^/# /' "$data/report"
	awk '
		FNR == NR && NF		{ all++; guest += $1 == "G" || $1 == "KGg" }
		FNR != NR && /%/	{ percent = $1 + 0; rows++; named = /qemu-system/ }
		END {
			want = all ? 100 * guest / all : 0
			printf "# %d of %d samples are of the guest\n", guest, all
			exit !(named && rows == 1 && guest < all && percent > want - 0.01 &&
			       percent < want + 0.01)
		}' "$data/modes" "$data/report" && ! grep ' :[0-9]' "$data/report"
}

# levels_are WANT: the samples of the report are of these levels, g and u in the guest, k and .
# in the host
levels_are()
{
	levels=$(awk '$2 ~ /^\[.\]$/ { print $2 }' "$data/report" | LC_ALL=C sort -u | tr -d '\n[]')
	echo "# levels: $levels"
	[ "$levels" = "$1" ]
}

host_alone()
{
	perf kvm --host report --stdio -q --sort sym -i "$data/plain" > "$data/report" &&
	levels_are .k
}

report_both()
{
	perf report --guestkallsyms="$data/kallsyms" --stdio -q --sort sym -i "$data/plain" \
		> "$data/report" &&
	levels_are .gku
}

host_by_default()
{
	perf report --stdio -q --sort sym -i "$data/plain" > "$data/report" && levels_are .k
}

diff_of_guest()
{
	perf diff --guestkallsyms="$data/kallsyms" -q --sort sym "$data/plain" "$data/mounted" \
		> "$data/report" &&
	grep -E '\[g\] [a-z_]' "$data/report" | sed '5q' | sed 's/^/# /' | tee "$data/named" &&
	[ "$(wc -l < "$data/named")" = 5 ]
}

# What perf runs as objdump: each address has an instruction.
objdump()
{
	cat << 'END'
#!/bin/sh
for arg; do
	case $arg in
	--start-address=*)	addr=$((${arg#*=})) ;;
	--stop-address=*)	stop=$((${arg#*=})) ;;
	esac
done
while [ "$addr" -lt "$stop" ]; do
	printf '  %x:\tnop\n' "$addr"
	addr=$((addr + 1))
done
END
}

# annotate_of COMMAND...: the function in the guest's program that makes its system calls
# is annotated, and has all its samples.
annotate_of()
{
	objdump > "$data/objdump" && chmod +x "$data/objdump" &&
	"$@" --stdio --objdump="$data/objdump" -i "$data/plain" pass > "$data/annotate" \
		2> "$data/err"
	status=$?
	sed 's/^/# /' "$data/err"
	grep 'Disassembly' "$data/annotate" | sed 's/^/# /'
	[ $status = 0 ] && grep -q 'Disassembly of pingpong' "$data/annotate" &&
		awk '$2 == ":" && $4 == "nop" { sum += $1; lines++ }
		     END { print "# " sum + 0 " % in " lines + 0 " lines"
			   exit !(lines > 5 && sum > 99 && sum < 101) }' "$data/annotate"
}

options()
{
	perf kvm --list-opts > "$data/options"
	for option in input guest host guestmount guestvmlinux guestkallsyms guestmodules \
		guestbinary guest-code; do
		grep -q -e "--$option " "$data/options" || { echo "# no --$option"; return 1; }
	done
}

ktap_set_plan 15
ktap_test_result "recorded" recorded
ktap_test_result "recorded and shown with --guestmount" named mounted \
	--guestmount="$data/mount"
ktap_test_result "shown with --guestmount" named plain --guestmount="$data/mount"
ktap_test_result "not below --guestmount" not_named plain --guestmount="$data/other"
ktap_test_result "build id of the guest" build_ids
ktap_test_result "name of the VMM" vmm_name
ktap_test_result "kvm --host report" host_alone
ktap_test_result "report of host and guest" report_both
ktap_test_result "report of the host" host_by_default
ktap_test_result "diff" diff_of_guest
ktap_test_result "annotate" annotate_of perf annotate --guestkallsyms="$data/kallsyms" \
	--guestbinary="$GUEST_PROGRAMS/pingpong,all"
ktap_test_result "kvm annotate" annotate_of perf kvm --guest \
	--guestkallsyms="$data/kallsyms" --guestbinary="$GUEST_PROGRAMS/pingpong,all" annotate
ktap_test_result "options for completion" options
ktap_test_result "two VMs: recorded" recorded_two
ktap_test_result "two VMs: each has its symbols" two_kernels
ktap_finished
