#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Profile guests with kernels of a distribution, which have no frame pointers: "perf kvm
# --guest record --call-graph=dwarf" records their registers and stacks, and
# --guestvmlinuz unwinds them.
#
#  - Of the kernel's samples 99 % have a chain that ends where calls begin: in user space
#    or where a thread starts, with and without KASLR. All frames are in the kernel's text
#    or in modules.
#  - Chains of a program that writes to pipes are as they are known to be, in the kernel
#    and on in the program, whose maps are given.
#  - Interrupts, softirqs, kernel threads and modules are among them.
#  - The stacks of a sample of the kernel are 8192 bytes at most in the mean, of which the
#    kernel's are 2304 at most.
#  - Without --guestvmlinuz each sample has its IP, and perf tells what would help.
#  - What is of another kernel is refused by name, or left out: the vmlinuz, the symbols.
#
# Argument: the event. The default, cpu-clock, needs no PMU.
#
# Environment:
#  GUEST_LIB		a shell library with guest_start, guest_run and guest_wait
#  GUEST_STOCK		a directory with a directory for each kernel: vmlinuz, the same as
#			vmlinux, modules (the files of the modules that the guest loads), and
#			guest.cpio, an image with the modules to add to the guest's
#
# shellcheck disable=SC2086,SC2016,SC2116

DIR=$(dirname "$(readlink -f "$0")")
. "$DIR/../kselftest/ktap_helpers.sh"
. "$DIR/chains.sh"

ktap_print_header
set -- "${1:-cpu-clock}" "$GUEST_STOCK"/*/vmlinuz
event=$1
shift
if [ -z "$GUEST_LIB" ] || [ ! -r "$1" ]; then
	ktap_skip_all "GUEST_LIB and GUEST_STOCK name no kernel of a distribution to profile"
	exit "$KSFT_SKIP"
fi
. "$GUEST_LIB"

data=$(mktemp -d)
trap 'rm -r "$data"' EXIT
export HOME="$data"

# a file system in modules, and a load of everything: calls, files, pipes, processes, faults;
# and the maps of pingpong, as soon as that has replaced the shell
disk='dd if=/dev/zero of=/tmp/disk bs=1M count=16 2> /dev/null &&
	mke2fs -F /tmp/disk > /dev/null && mkdir /tmp/m &&
	mount -t ext4 -o loop /tmp/disk /tmp/m'
load='i=0; while [ $i -lt 2 ]; do i=$((i + 1));
	find / -xdev > /dev/null; dd if=/dev/zero of=/tmp/m/f bs=4k count=500; sync;
	gzip < /tmp/m/f > /tmp/m/g; rm /tmp/m/f; sync; ls -l /proc > /dev/null;
	for j in 1 2 3; do echo $i | cat | cat > /dev/null; done;
	cat /bin/busybox > /dev/null; done; pingpong 1000 &
	until [ ! -e /proc/$! ] || grep pingpong /proc/$!/maps > /dev/null; do :; done;
	cat /proc/$!/maps > /tmp/maps; wait'

# boot KERNEL [PARAMETERS]
boot()
{
	GUEST_KERNEL=$1 GUEST_ADD=${1%/*}/guest.cpio GUEST_MEM=768 GUEST_APPEND=$2 \
		guest_start remote &&
	guest_expect ready &&
	cp "$GUEST_DIR/kallsyms" "$data/kallsyms" &&
	cp "$GUEST_DIR/modules" "$data/modules"
}

halt()
{
	guest_say ""
	guest_wait
}

# record COMMAND: profile the guest while it runs a command
record()
{
	perf kvm --guest --guestkallsyms="$data/kallsyms" --guestmodules="$data/modules" \
		record -q -m 4M --call-graph=dwarf -a -e "$event" -c 199999 -o "$data/mixed" -- \
		sh -c '. "$GUEST_LIB" && guest_run "$0" > /dev/null' "$1" 2> "$data/record.err" ||
		{ sed 's/^/# /' "$data/record.err"; return 1; }
}

# folded VMLINUZ: $data/mixed.txt gets a line for each sample of the guest
folded()
{
	perf script -i "$data/mixed" --guestkallsyms="$data/kallsyms" \
		--guestmodules="$data/modules" --guestvmlinuz="$1" \
		--guestmoddir="${kernel%/*}/modules" --guestmaps="$data/maps" --guestroot=/ \
		-F misc,ip,sym 2> "$data/script.err" | fold > "$data/mixed.txt"
	sed 's/^/# /' "$data/script.err"
}

# mixed VMLINUZ [PARAMETERS]
mixed()
{
	rm -f "$data/mixed"
	boot "$kernel" "$2" || return
	guest_run "$(echo $disk)" && record "$(echo $load)" &&
		guest_run "cat /tmp/maps" > "$data/maps"
	status=$?
	halt && [ $status = 0 ] && folded "$1"
}

# User space has short addresses, and names in the program whose maps are given. The first
# instructions of the entry code, and the last ones before SYSRET, are on a stack that is not
# the kernel's, and have no callers.
root='( 0x[0-9a-e][0-9a-f]*| _start| ret_from_fork[a-z_]*| (common|secondary)_startup_64[a-z_]*)$'
root="$root|^kernel ((entry_|asm_)[a-zA-Z0-9_]*|syscall_return_via_sysret)$"

rooted()
{
	share mixed.txt 99 '^kernel' "$root"
}

# The calls of a program that reads from pipes, and writes
system_call='do_syscall_64 entry_SYSCALL_64_after_hwframe'

pipes()
{
	share mixed.txt 90 '^kernel .* pipe_(read|write) ' \
		" vfs_(read|write) .*ksys_(read|write) .*$system_call (0x|call)" 20
}

# Other programs that use pipes have no names.
program()
{
	share mixed.txt 90 "^kernel .* pipe_(read|write) .*$system_call" \
		"$system_call call pass main __libc_start[^ ]*( __libc_start[^ ]*)? _start\$" 20
}

# Frames without a symbol, but for user space, which comes last
unnamed=' 0xf[0-9a-f]{15}( |$)'

no_unnamed()
{
	! grep -E "^kernel.*$unnamed" "$data/mixed.txt" | head -n 20 | sed 's/^/# /' | grep .
}

has()
{
	n=$(grep -c "^kernel .* $1" "$data/mixed.txt")
	echo "# $n samples with $1"
	[ "$n" -gt 0 ]
}

# The bytes of the stacks in samples of the guest's kernel. The kernel's have addresses in
# the upper half.
size()
{
	perf script -D -i "$data/mixed" 2> /dev/null | awk '
		/PERF_RECORD_SAMPLE/		{ in_kernel = /\(IP, 0x[0-9a-f]*4\)/ }
		!in_kernel			{ next }
		/^\.\.\. guest stacks: [1-9]/	{ n++; two += $4 + 0 > 1 }
		/^\.\.\.\. 0x[89a-f].*: size/	{ kernel += $NF }
		/^\.\.\.\. 0x[0-7].*: size/	{ user += $NF; with_user++ }
		END {
			printf "# %d samples, %d with more stacks, %d with one of user space\n",
				n, two, with_user
			if (!n)
				exit 1
			printf "# bytes of stacks in the mean: %d, %d of them of the kernel\n",
				(kernel + user) / n, kernel / n
			exit !(n >= 300 && kernel / n <= 2304 && (kernel + user) / n <= 8192 &&
				with_user >= n / 2)
		}'
}

# Nothing is lost where nothing is unwound; a hint is for those who have not got it.
without_vmlinuz()
{
	perf script -i "$data/mixed" --guestkallsyms="$data/kallsyms" -F misc,ip,sym \
		2> "$data/err" | fold > "$data/plain.txt"
	grep -q 'guestvmlinuz=FILE would show' "$data/err" &&
	! grep -q 'guestvmlinuz' "$data/script.err" &&
	awk '$1 == "kernel" { n++; bad += NF != 2 }
	     END { print "# " n + 0 " samples, " bad + 0 " without one IP"; exit !n || bad }' \
		"$data/plain.txt" &&
	[ "$(wc -l < "$data/plain.txt")" = "$(wc -l < "$data/mixed.txt")" ]
}

# refused MESSAGE OPTION...
refused()
{
	message=$1
	shift
	perf script -i "$data/mixed" "$@" > "$data/out" 2> "$data/err" && return 1
	sed 's/^/# /' "$data/err"
	grep -q "$message" "$data/err"
}

other_kernel()
{
	refused "is not the kernel that $data/kallsyms is of\|has no ORC tables" \
		--guestkallsyms="$data/kallsyms" --guestvmlinuz="${1%z}x"
}

damaged()
{
	head -c 3000000 "$kernel" > "$data/short"
	refused "$data/short is not complete" --guestkallsyms="$data/kallsyms" \
		--guestvmlinuz="$data/short" &&
	refused 'is neither an ELF file nor a packed one' --guestkallsyms="$data/kallsyms" \
		--guestvmlinuz="$data/kallsyms" &&
	refused 'guestkallsyms is needed' --guestvmlinuz="$kernel" &&
	refused 'without --guestvmlinuz' --guestkallsyms="$data/kallsyms" \
		--guestmoddir="$data"
}

# The symbols of the same kernel, booted 16 MiB higher
old_symbols()
{
	awk '{
		digit = index("0123456789abcdef", substr($1, 10, 1))
		printf "%s%s%s\n", substr($1, 1, 9), substr("123456789abcdef0", digit, 1),
			substr($0, 11)
	}' "$data/kallsyms" > "$data/old"
	perf script -i "$data/mixed" --guestkallsyms="$data/old" --guestvmlinuz="${kernel%z}x" \
		-F misc,ip > "$data/out" 2> "$data/err"
	sed 's/^/# /' "$data/err"
	grep -Eq 'are in the code of its kernel|is not the kernel' "$data/err"
}

ktap_set_plan $(($# * 15))
for kernel; do
	name=${kernel%/vmlinuz}
	name=${name##*/}
	other=$(printf "%s\n" "$@" | grep -vxF "$kernel" | head -n 1)
	ktap_test_result "$name: recorded" mixed "$kernel"
	ktap_test_result "$name: chains reach their root" rooted
	ktap_test_result "$name: frames are in functions" no_unnamed
	ktap_test_result "$name: pipes" pipes
	ktap_test_result "$name: the callers of system calls" program
	ktap_test_result "$name: interrupts" has 'asm_\(sysvec_\|common_interrupt\)'
	ktap_test_result "$name: threads" has ret_from_fork
	ktap_test_result "$name: a module" has ext4_
	ktap_test_result "$name: size" size
	ktap_test_result "$name: without the vmlinuz" without_vmlinuz
	ktap_test_result "$name: another kernel" other_kernel "$other"
	ktap_test_result "$name: damaged files" damaged
	ktap_test_result "$name: old symbols" old_symbols
	ktap_test_result "$name: recorded without KASLR" mixed "${kernel%z}x" nokaslr
	ktap_test_result "$name: chains reach their root without KASLR" rooted
done
ktap_finished
