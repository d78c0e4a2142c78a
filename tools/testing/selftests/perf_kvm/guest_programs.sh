#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Profile programs of many kinds in a guest at once from the host, with "perf kvm --guest
# record -g", and from inside, and check each call chain: threads, new processes, code that
# a program has written, deep recursion, signal handlers, C++ with templates and exceptions,
# a 32-bit program.
#
#  - 99 % of the chains are complete.
#  - Each chain is one of the program's: where functions have no frame yet, or no longer,
#    the caller is missing, nothing else.
#  - Each kind has its share of the samples.
#  - Threads have the address space of their process, new processes have others.
#  - perf in the guest has recorded the same.
#
# Arguments: the event and the period, as for guest_callchain.sh. A slow kernel needs a
# longer period: the programs run longer then, for as many samples.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs kinds, kinds_cxx and
#			kinds_m32, whose sources tell the chains
#
# shellcheck disable=SC2086

. "$(dirname "$(readlink -f "$0")")/profiling.sh"
. "$DIR/chains.sh"

start_profiling kinds

event=${1:-cpu-clock}
period=${2:-97001}
times=$(((period + 97000) / 97001))

# perf in the guest has another period, or the two would sample in step. The three programs
# are at different addresses, so an address tells the program.
recorded()
{
	inside=$((83003 * times))
	profile outside \
		"perf,record,-q,-g,-e,cpu-clock,-c,$inside,-o,/results/inside,kinds,$times" \
		record -q -g -a -e "$event" -c "$period" &&
	guest_ends &&
	perf script -F misc,ip,sym,guest_mm --no-demangle --guestkallsyms="$data/kallsyms" \
		--guestbinary="$GUEST_PROGRAMS/kinds,all" \
		--guestbinary="$GUEST_PROGRAMS/kinds_cxx,all" \
		--guestbinary="$GUEST_PROGRAMS/kinds_m32,all" -i "$data/outside" |
		tee "$data/script" | fold | written > "$data/outside.txt" &&
	perf script -F misc,ip,sym --no-demangle --symfs "${GUEST_PROGRAMS%/usr/bin}/" \
		-i "$GUEST_DIR/inside" 2> "$data/err" |
		fold K U | written > "$data/inside.txt"
}

# written: what the program has written has no names. Above start(), perf in the guest takes
# the number of arguments for a return address. In 32-bit guests, whose kernel has addresses
# of 8 digits, handlers return to the vDSO, which has no names.
written()
{
	vdso=
	! grep -q '^[0-9a-f]\{8\} ' "$data/kallsyms" ||
		vdso='s/ tick 0x[0-9a-f]* / tick __restore_rt /'
	sed -e '/ jit /s/ 0x[0-9a-f]*/ code/g' -e "$vdso" -e 's/ start 0x2$/ start/'
}

# complete OF CHAIN [SAMPLES]: 99 % of the samples that match OF have this chain
complete()
{
	share outside.txt 99 "^user $1" "^user $2\$" ${3:-}
}

library=' __libc_start_call_main'

threads()
{
	complete 'spin (left|right)( |$)' 'spin (left|right) start_thread( __clone3)?'
}

new_processes()
{
	complete 'spin grow_more ' "spin grow_more grow child forks main$library"
}

written_code()
{
	complete 'code ' "code code jit main$library"
}

deep_recursion()
{
	complete 'spin down .* deep ' "spin( down){100} deep main$library"
}

# The chain lacks the function that the signal has interrupted.
signals()
{
	complete 'spin tick ' "spin tick __restore_rt (warm )?signals main$library" 40
}

# enter DEPTH...: the names of the functions nested<DEPTH>::enter()
enter()
{
	for depth; do
		printf ' _ZN6nestedILi%dEE5enterEm' "$depth"
	done
}

templates()
{
	complete 'spin _ZN6nested' "spin$(enter 0 1 2 3) main$library"
}

exceptions()
{
	complete 'spin _ZL7catcherm' "spin _ZL7catcherm main$library"
}

m32()
{
	complete 'spin down .* start$' "spin( down){20} start"
}

# optional FUNCTION...: each may be missing
optional()
{
	for function; do
		printf '( %s)?' "$function"
	done
}

# only_true_frames LEAD LINES: what is behind LEAD in a chain is true. Programs end in main and
# the C library, threads in start_thread.
only_true_frames()
{
	end="$(optional main __libc_start_call_main)\$"
	true="$(optional spin)( left| right)?$(optional start_thread __clone3)\$"
	true="$true|$(optional spin grow_more grow child forks)$end"
	true="$true|$(optional code code jit)$end"
	true="$true|$(optional spin)( down){0,100}$(optional deep)$end"
	true="$true|$(optional spin tick __restore_rt hot warm signals)$end"
	true="$true|$(optional spin $(enter 0 1 2 3))$end"
	true="$true|( _ZL7throweri)*$(optional spin _ZL7catcherm)$end"
	true="$true|$(optional spin)( down){0,20}$(optional start)\$"
	own="spin|left|right|grow|grow_more|child|forks|code|jit|down|deep|tick|hot|warm"
	own="$own|signals|_ZN6nested[^ ]*|_ZL7[^ ]*|start|main"
	share outside.txt 100 "^$1 ($own)( |\$)" "^$1($true)" "$2"
}

# Where an interrupt enters the kernel of 64 and of 32 bits, the program's chain goes on.
interrupts()
{
	only_true_frames 'kernel .*(asm_sysvec_apic_timer_interrupt|handle_exception_return)' 50
}

# All kinds spin for the same time: each has 12.5 % of the samples, with a standard deviation
# of some 0.5 points. What the rounds' lengths add is the same in each run.
shares()
{
	awk '
		/^user spin (left|right) /	{ n["threads"]++ }
		/^user spin .* forks /		{ n["forks"]++ }
		/^user code .* jit /		{ n["jit"]++ }
		/^user spin .* deep /		{ n["deep"]++ }
		/^user hot /			{ n["signals"]++ }
		/^user spin _ZN6nested/		{ n["templates"]++ }
		/^user spin _ZL7catcherm /	{ n["exceptions"]++ }
		/^user spin .* start$/		{ n["m32"]++ }
		END {
			for (kind in n)
				all += n[kind]
			for (kind in n) {
				percent = 100 * n[kind] / all
				printf "# %s: %.1f %% of %d samples\n", kind, percent, all
				good += percent >= 10.5 && percent <= 14.5
			}
			exit good != 8
		}' "$data/outside.txt"
}

# The second word of a sample is the address space. New processes have those of processes
# that have ended. With page table isolation, kernel and user space have two for a process:
# look at user space.
address_spaces()
{
	awk -v RS= '
		$1 != "KGg"			{ next }
		/ (left|right)\n.* start_thread/	{ process[$2]; samples++ }
		/ grow_more\n.* child\n/	{ forked[$2]; samples++ }
		END {
			for (space in process) {
				threads++
				both += space in forked
			}
			for (space in forked)
				children++
			printf "# %d of threads, %d of new processes\n", threads, children
			exit !(samples >= 500 && threads == 1 && children && !both)
		}' "$data/script"
}

agrees()
{
	agree '^user (spin|hot|code) ' inside.txt outside.txt
}

ktap_set_plan 15
ktap_test_result "recorded" recorded
ktap_test_result "threads: chains are complete" threads
ktap_test_result "new processes: chains are complete" new_processes
ktap_test_result "written code: chains are complete" written_code
ktap_test_result "deep recursion: chains are complete" deep_recursion
ktap_test_result "signal handler: chains are complete" signals
ktap_test_result "C++ templates: chains are complete" templates
ktap_test_result "C++ exceptions: chains are complete" exceptions
ktap_test_result "32 bits: chains are complete" m32
ktap_test_result "no frame is false" only_true_frames user 3500
ktap_test_result "interrupts: no frame is false" interrupts
ktap_test_result "frames of the kernel are in its text" in_kernel_text outside
ktap_test_result "shares of the kinds" shares
ktap_test_result "address spaces" address_spaces
ktap_test_result "inside and outside agree" agrees
ktap_finished
