#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The processes of a guest are told apart by their address spaces. Two copies of a program
# run in turns in one guest, one for twice as long as the other:
#
#  - Their samples have two values of guest_mm, with the shares of the copies, and none of
#    them a third value.
#  - The host's samples have 0, and no sample of the guest has.
#  - The kernel has the value of user space, or with page table isolation one 4 KiB below.
#  - "perf report" sorts by it: the shares of a function in both add up to the share that
#    the function has without that.
#  - Call chains and stacks of the guest may be recorded with it.
#  - A kernel that has nothing to tell samples without it.
#
# Arguments: the event and the period, as for guest_callchain.sh.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's program recurse

. "$(dirname "$(readlink -f "$0")")/profiling.sh"

start_profiling recurse

event=${1:-cpu-clock}
period=${2:-97001}

# record NAME OPTION...: profile guest and host while both copies run
record()
{
	name=$1
	shift
	profile "$name" \
		recurse,5,1000,yield+recurse,5,500,yield+cp,/proc/cpuinfo,/results/cpuinfo \
		--host record -q "$@" -a -e "$event" -c "$period"
}

# samples NAME [OPTION...]: a line for each sample: mode, address space, IP, function
samples()
{
	recording=$1
	shift
	perf script -G -F misc,ip,sym,guest_mm --guestkallsyms="$data/kallsyms" "$@" \
		-i "$data/$recording"
}

recorded()
{
	record chains -g && record stacks --call-graph dwarf,512 && guest_ends &&
	samples chains --guestbinary="$GUEST_PROGRAMS/recurse,all" > "$data/samples"
}

# Each copy has its share of the samples, with a standard deviation of one point.
two_copies()
{
	awk '
		$1 == "KGg" && ($4 == "spin" || $4 == "down") { n[$2]++; all++ }
		END {
			for (mm in n) {
				percent = 100 * n[mm] / all
				printf "# %s: %.1f %% of %d samples\n", mm, percent, all
				one += percent > 62.7 && percent < 70.7
				other += percent > 29.3 && percent < 37.3
				spaces++
			}
			exit !(all >= 1000 && spaces == 2 && one == 1 && other == 1)
		}' "$data/samples"
}

host_and_guest()
{
	awk '
		$1 ~ /G/	{ guest++; bad += $2 == "0"; next }
				{ host++; bad += $2 != "0" }
		END {
			printf "# %d samples of the guest, %d of the host, %d wrong\n",
				guest, host, bad
			exit !(guest >= 1000 && host >= 5 && !bad)
		}' "$data/samples"
}

# The user spaces of both copies have kernels.
kernel_and_user()
{
	n=0
	isolation=0
	! grep -wq pti "$GUEST_DIR/cpuinfo" || isolation=4096
	echo "# the kernel is $isolation bytes below"
	case $isolation:$GUEST_APPEND in
	0:*pti=on*)	return 1 ;;
	esac
	for user in $(awk '$1 == "KGg" && $4 == "spin" { print $2 }' "$data/samples" | sort -u); do
		kernel=$(printf '0x%x' $((user - isolation)))
		n=$(grep -c "^ *G *$kernel " "$data/samples")
		echo "# user space: $user, kernel: $kernel in $n samples"
		[ "$n" -ge 10 ] || break
	done
	[ "$n" -ge 10 ]
}

# report KEYS: "perf report" of the guest, without the header
report()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/recurse,all" \
		report --stdio --stdio-color never -q --no-children -g none --sort "$1" \
		-i "$data/chains"
}

sorted()
{
	report guest_mm,sym > "$data/by_mm" && report sym > "$data/by_sym" || return
	sed -n '1,6s/^/# /p' "$data/by_mm"
	awk '
		!/ spin/	{ next }
		FILENAME ~ /mm$/ { sum += $1; spaces += $(NF - 2) ~ /^0x/; next }
				{ whole += $1 }
		END {
			printf "# spin: %.2f %% in %d spaces, %.2f %% in all\n", sum, spaces, whole
			differ = sum - whole
			exit !(spaces == 2 && whole > 50 && differ < 0.03 && differ > -0.03)
		}' "$data/by_mm" "$data/by_sym"
}

with_stacks()
{
	samples stacks --guestbinary="$GUEST_PROGRAMS/recurse,all" > "$data/samples" && two_copies
}

# The guest has no virtualization, so its kernel has no KVM to ask.
without_kvm()
{
	GUEST_CPU=host,migratable=off,-svm guest_start remote && guest_expect ready || return
	guest_run "perf kvm --guest record -vv -a -e cpu-clock -o /tmp/perf.data sleep 0.1 2>&1" \
		> "$data/inside"
	guest_run "perf script -F misc,ip -i /tmp/perf.data | wc -l" > "$data/lines"
	guest_say "" && guest_wait || return
	sed -n '/PERF_SAMPLE_GUEST_MM/s/^/# /p' "$data/inside"
	sed 's/^/# lines: /' "$data/lines"
	grep -q 'switching off PERF_SAMPLE_GUEST_MM' "$data/inside" &&
		[ "$(cat "$data/lines")" -gt 0 ]
}

ktap_set_plan 7
ktap_test_result "recorded" recorded
ktap_test_result "two copies of a program" two_copies
ktap_test_result "host and guest" host_and_guest
ktap_test_result "kernel and user space" kernel_and_user
ktap_test_result "report by address space" sorted
ktap_test_result "with stacks" with_stacks
ktap_test_result "without KVM" without_kvm
ktap_finished
