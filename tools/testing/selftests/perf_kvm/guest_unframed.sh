#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Profile programs without frame pointers in a guest from the host, with "perf kvm --guest
# record -g": C++ as distributions build it, and an interpreter of Python, whose RBP is a
# variable like any other.
#
#  - What a chain has above the IP is a caller, or a caller's caller: the functions are
#    those of one of the program's call trees, in their order.
#  - The interpreter has a caller in one of 1000 samples at most: it need not have called.
#
# Arguments: the event and the period, as for guest_callchain.sh.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs unframed and unframed.py, whose
#			sources tell the call trees
#  GUEST_PYTHON_IMAGE	an initramfs image with python3, to add to the guest's

. "$(dirname "$(readlink -f "$0")")/profiling.sh"
. "$DIR/chains.sh"

start_profiling unframed

event=${1:-cpu-clock}
period=${2:-97001}
[ ! -r "$GUEST_PYTHON_IMAGE" ] || GUEST_ADD=$GUEST_PYTHON_IMAGE

# record NAME PROGRAM[,ARG...]
record()
{
	profile "$1" "$2" record -q -g -a -e "$event" -c "$period"
}

cxx_recorded()
{
	record cxx unframed &&
	perf script -F misc,ip,sym --no-demangle --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/unframed,all" -i "$data/cxx" |
		fold > "$data/cxx.txt"
}

# optional FUNCTION...: each may be missing
optional()
{
	for function; do
		printf '( %s)?' "$function"
	done
}

# Functions of the libraries have names with an underscore in front.
only_true_callers()
{
	end="$(optional main __libc_start_call_main __libc_start_main_impl _start)\$"
	library='( _[^ ]*)*'
	true="^user work( descend)*$(optional walk)$end"
	true="$true|^user work$(optional less)$library$(optional sort)$end"
	true="$true|^user work$(optional fill table)$end"
	true="$true|^user work$(optional catches)$end"
	true="$true|^user work$(optional lambda)$library$(optional calls)$end"
	share cxx.txt 100 '^user work( |$)' "$true" 1000
}

# In table(), and below.
some_callers()
{
	n=$(grep -cE '^user work( fill)?( table)? main' "$data/cxx.txt")
	echo "# $n samples have callers"
	[ "$n" -ge 30 ]
}

python_recorded()
{
	record python "python3,-S,-E,$GUEST_PROGRAMS/unframed.py" &&
	perf script -F misc,ip,sym --guestkallsyms="$data/kallsyms" -i "$data/python" |
		fold > "$data/python.txt"
}

python_callers()
{
	awk '
		$1 != "user"	{ next }
		{ all++; callers += NF > 2 }
		NF > 2		{ print "# " $0 }
		END {
			printf "# %d of %d samples have callers\n", callers, all
			exit !(all >= 1000 && callers <= all / 1000)
		}' "$data/python.txt"
}

ktap_set_plan 6
ktap_test_result "C++ recorded" cxx_recorded
ktap_test_result "C++: no caller is false" only_true_callers
ktap_test_result "C++: callers where there is a frame" some_callers
if [ -r "$GUEST_PYTHON_IMAGE" ]; then
	ktap_test_result "Python recorded" python_recorded
	ktap_test_result "Python: callers" python_callers
else
	ktap_test_skip "Python recorded: GUEST_PYTHON_IMAGE names no image"
	ktap_test_skip "Python: callers"
fi
ktap_test_result "the guest ends" guest_ends
ktap_finished
