#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Unwind the user space of a guest on the host, from dumps of its stacks: "perf kvm --guest
# record --call-graph=dwarf" records them, --guestmaps and --guestroot unwind them. Programs
# of several kinds run at once, all optimized and without frame pointers: position
# independent with shared libraries and three threads; two static ones at the same
# addresses, of which one has functions of the other's in another order; a 32-bit one.
#
#  - 99 % of the chains are complete: C++ templates and virtual functions, a handler of an
#    exception, a recursion of 200 calls, a callback of the C library, threads, 32 bits.
#  - Each chain with a name is one of the program's.
#  - With the maps of one of two programs at the same addresses, the other has no names.
#  - Below --guestmount each VM has its own maps and files.
#  - Maps and files that are of no use are refused by name.
#
# Argument: the event. The default, cpu-clock, needs no PMU.
#
# Environment:
#  GUEST_LIB		a shell library, as for guest_callchain.sh
#  GUEST_PROGRAMS	a directory with the guest's programs frames, frames_one,
#			frames_other and frames_m32, at its path in the guest; the source
#			tells the chains. The libraries of the guest are those of this
#			machine.
#
# shellcheck disable=SC2086,SC2016

. "$(dirname "$(readlink -f "$0")")/profiling.sh"
. "$DIR/chains.sh"

start_profiling frames

event=${1:-cpu-clock}
programs="frames frames_one frames_other frames_m32"
export HOME="$data"

# run PROGRAM COMMAND: $data has the maps as soon as the program and its threads run
run()
{
	pid=$(guest_run "$2 > /dev/null 2>&1 & echo \$!") &&
	guest_run "sleep 0.3; cat /proc/$pid/maps" > "$data/$1.maps"
}

record()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" \
		record -q -m 16M --call-graph=dwarf,16384 -a -e "$event" -c 799999 \
		-o "$data/samples" -- \
		sh -c '. "$GUEST_LIB" && guest_run "sleep 1" > /dev/null' 2> "$data/err" ||
		{ sed 's/^/# /' "$data/err"; return 1; }
}

recorded()
{
	guest_start remote &&
	guest_expect ready &&
	cp "$GUEST_DIR/kallsyms" "$data/kallsyms" &&
	run frames "frames threads" &&
	run frames_one frames_one &&
	run frames_other frames_other &&
	run frames_m32 frames_m32 &&
	record
}

# In the tables of perf top, chains lead from a function to the start of its program.
top()
{
	mkfifo "$data/keys"
	COLUMNS=200 timeout -s INT 7 perf kvm --guest --guestkallsyms="$data/kallsyms" \
		$(maps_of $programs) --guestroot=/ top --stdio -d 3 -E 1000 --no-children -s sym \
		-m 16M --call-graph dwarf,16384,graph,0,callee -e "$event" -c 7999999 \
		<> "$data/keys" > "$data/tables" 2> "$data/err"
	sed 's/^/# /' "$data/err"
	tr -- '-|%' '   ' < "$data/tables" | awk '
		/PerfTop:/ { tables++; chain = 0 }
		$2 ~ /^\[.\]$/ { chain = $2 == "[u]" && $3 == "spin" }
		chain && $NF == "main" { chain = 2 }
		chain == 2 && $NF == "_start" { found++ }
		END {
			print "# " tables + 0 " tables, " found + 0 " chains of spin()"
			exit !found
		}'
	found=$?
	guest_say "" && guest_wait && [ $found = 0 ]
}

# maps_of PROGRAM...
maps_of()
{
	printf -- " --guestmaps=$data/%s.maps" "$@"
}

# unwound FILE PROGRAM...: FILE gets a line for each sample
unwound()
{
	file=$1
	shift
	perf script -i "$data/samples" --guestkallsyms="$data/kallsyms" $(maps_of "$@") \
		--guestroot=/ --no-demangle --max-stack=300 -F misc,ip,sym 2> "$data/err" |
		fold > "$data/$file"
	sed 's/^/# /' "$data/err"
	[ -s "$data/$file" ] && ! grep -q -e guestmaps -e lost "$data/err"
}

all_unwound()
{
	unwound all.txt $programs
}

# A shared library has names for what it exports alone.
library=' (0x[0-9a-f]+|[a-zA-Z_][a-zA-Z0-9_.@]*)'
end=" main($library){2} _start\$"

# enter PREFIX DEPTH...: the names of the functions nested<DEPTH>::enter()
enter()
{
	class=${1}nested
	shift
	for depth; do
		printf ' _ZN%d%sILi%dEE5enterEm' ${#class} $class "$depth"
	done
}

# complete OF CHAIN: 99 % of the samples that match OF have this chain
complete()
{
	share all.txt 99 "^user $1" "^user $2" "${3:-30}"
}

templates()
{
	complete 'spin _ZN6nested' "spin$(enter "" 0 1 2 3)$end" &&
	complete 'other_spin _ZN12other_nested' "other_spin$(enter other_ 0 1 2 3)$end" 15
}

exceptions()
{
	complete 'spin catcher' "spin catcher[.a-z]*$end"
}

recursion()
{
	complete 'spin down( down){30} .*_start' "spin( down){200} recursion$end"
}

callback()
{
	complete 'spin compare' "spin compare($library){1,4} callback$end"
}

threads()
{
	complete 'spin (left|right)( |$)' "spin (left|right)($library){2}\$"
}

m32()
{
	complete 'spin( down)+ start' 'spin( down){20} start$'
}

# optional FUNCTION...: each may be missing
optional()
{
	for function; do
		printf '( %s)?' "$function"
	done
}

# tree PREFIX: the chains of a program, from any of its functions on
tree()
{
	printf '%s' "$(optional $1spin $(enter "$1" 0 1 2 3))$end"
	printf '|%s' "$(optional $1spin "$1catcher[.a-z]*")$end"
	printf '|%s' "( $1thrower[.a-z]*){0,11}$(optional "$1catcher[.a-z]*")$end"
	printf '|%s' "$(optional $1spin)( $1down){0,200}$(optional $1recursion)$end"
	printf '|%s' "$(optional $1spin $1compare)($library){0,4}$(optional $1callback)$end"
	printf '|%s' "$(optional $1spin)( $1left| $1right)($library){2}\$"
}

own='(spin|pad|left|right|down|recursion|callback|compare|thrower|catcher)([.a-z]*)'
own="(other_)?$own|_ZN[0-9]+(other_)?nested[^ ]*|start|main"

# only_true_frames FILE
only_true_frames()
{
	share "$1" 100 "^user ($own)( |\$)" \
		"^user($(tree "")|$(tree other_)|$(optional spin)( down){0,20} start\$)" 100
}

# Some samples are of other programs.
named()
{
	share all.txt 97 '^user ' "^user .*($own)( |\$)" 600
}

count()
{
	grep -Ec "$1" "$data/$2"
}

# The samples of one, when the maps of the other are not there, and when they are
same_addresses()
{
	unwound one.txt frames_one && only_true_frames one.txt || return
	unwound both.txt frames_one frames_other && only_true_frames both.txt || return
	functions="(down|recursion|callback|compare|thrower|catcher)[.a-z]*"
	one=$(count " ($functions|_ZN6nested[^ ]*) .* _start" one.txt)
	both=$(count " ($functions|_ZN6nested[^ ]*) .* _start" both.txt)
	other=$(count ' (other_[^ ]*|_ZN12other_nested[^ ]*) .* _start' both.txt)
	wrong=$(count '^user .*( pad|other_)' one.txt)
	echo "# $one samples; $both and $other; $wrong with another program's names"
	[ "$wrong" = 0 ] && [ "$one" = "$both" ] && [ "$one" -ge 100 ] &&
	[ "$other" -ge 100 ]
}

# mounted DIRECTORY VMM: the chains with the maps and the files in the VM's directory
mounted()
{
	vm=$data/$1/$2
	mkdir -p "$vm/proc" "$vm$GUEST_PROGRAMS" &&
	cp "$data/kallsyms" "$vm/proc" &&
	cp "$data/frames_one.maps" "$vm/maps" &&
	cp "$GUEST_PROGRAMS/frames_one" "$vm$GUEST_PROGRAMS" &&
	perf script -i "$data/samples" --guestmount="$data/$1" --guestmaps=/maps \
		--no-demangle --max-stack=300 -F misc,ip,sym 2> "$data/err" |
		fold > "$data/mounted.txt"
}

# Below --guestmount a VM has its own files, and no other VM has them.
below_mount()
{
	vmm=$(perf script -F misc,pid --guestkallsyms="$data/kallsyms" -i "$data/samples" |
		awk '$2 == "KGg" { print $1; exit } $1 == "KGg" { print $2; exit }') &&
	[ -n "$vmm" ] &&
	mounted mount "$vmm" && only_true_frames mounted.txt &&
	[ "$(count ' main' mounted.txt)" = "$(count ' main' one.txt)" ] &&
	mounted other 1 && [ "$(count ' main' mounted.txt)" = 0 ]
}

# Without maps, each sample has its IP.
without_maps()
{
	perf script -i "$data/samples" --guestkallsyms="$data/kallsyms" -F misc,ip,sym \
		2> "$data/err" | fold > "$data/plain.txt"
	awk '$1 == "user" { n++; bad += NF != 2 }
	     END { print "# " n + 0 " samples, " bad + 0 " without one IP"; exit !n || bad }' \
		"$data/plain.txt" &&
	[ "$(wc -l < "$data/plain.txt")" = "$(wc -l < "$data/all.txt")" ]
}

# refused MESSAGE OPTION...
refused()
{
	message=$1
	shift
	perf script -i "$data/samples" "$@" > "$data/out" 2> "$data/err" && return 1
	sed 's/^/# /' "$data/err"
	grep -q "$message" "$data/err"
}

no_use()
{
	mkdir -p "$data/root$GUEST_PROGRAMS"
	cp "$GUEST_PROGRAMS/frames_other" "$data/root$GUEST_PROGRAMS/frames_m32"
	refused 'guestroot=DIR is needed' --guestmaps="$data/frames.maps" &&
	refused 'no --guestmaps' --guestroot=/ &&
	refused "none.maps cannot be read: No such file" --guestmaps=none.maps --guestroot=/ &&
	refused 'kallsyms is no copy of a /proc/PID/maps' --guestmaps="$data/kallsyms" \
		--guestroot=/ &&
	refused 'frames_one: No such file' --guestmaps="$data/frames_one.maps" \
		--guestroot="$data" &&
	refused 'frames_m32: is not the file that the process has mapped' \
		--guestmaps="$data/frames_m32.maps" --guestroot="$data/root"
}

ktap_set_plan 15
ktap_test_result "recorded" recorded
ktap_test_result "perf top" top
ktap_test_result "unwound" all_unwound
ktap_test_result "C++ templates: chains are complete" templates
ktap_test_result "C++ exceptions: chains are complete" exceptions
ktap_test_result "recursion: chains are complete" recursion
ktap_test_result "callback: chains are complete" callback
ktap_test_result "threads: chains are complete" threads
ktap_test_result "32 bits: chains are complete" m32
ktap_test_result "no frame is false" only_true_frames all.txt
ktap_test_result "samples have names" named
ktap_test_result "two programs at the same addresses" same_addresses
ktap_test_result "below --guestmount" below_mount
ktap_test_result "without maps" without_maps
ktap_test_result "maps and files of no use" no_use
ktap_finished
