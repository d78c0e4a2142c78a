# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For jobs in the host VM: boot the guest, talk to the guest's job, wait for the end.
# The guest runs the same init, so the same ports with the same meaning.
#
#   guest_start JOB [ARG...]	boot the guest; the next two commands write to and
#				read from the standard input and output of the job
#   guest_say LINE		send a line to the guest's job
#   guest_expect LINE		read the job's lines until LINE, show the lines before
#   guest_run COMMAND		have the job "remote" run a shell command, show the
#				output and return the status; the caller must read the
#				output to the end
#   guest_result COMMAND	the second half of guest_run, after guest_say COMMAND
#   guest_wait			wait for the guest's end, return its verdict as status;
#				$GUEST_RESULTS gets the files of its /results
#   guest_quit			end the guest, whatever it does
#
# and events in the life of a machine:
#
#   guest_qmp COMMAND [ARGUMENTS]	send the VMM a command, show the answer
#   guest_pause, guest_continue		stop and resume the guest's CPUs
#   guest_reset				push the reset button; also of a paused guest
#   guest_asleep, guest_wake		wait until the guest sleeps, wake it
#   guest_migrate			save the state of the running guest, resume in
#					another VMM
#
# $GUEST_DIR/kallsyms has the symbols of the guest's kernel, and $GUEST_DIR/modules
# /proc/modules of a modular kernel, as soon as the job says something.
# Environment: GUEST_KERNEL (the lab's), GUEST_CPUS (1), GUEST_MEM in MiB (512),
# GUEST_APPEND (kernel parameters), GUEST_CPU (-cpu of the VMM), GUEST_NICE (the VMM's nice
# value), GUEST_ADD (an initramfs image to add to the guest's), GUEST_CONSOLE (a chardev
# of the VMM's, such as null, for a guest meant to crash), GUEST_DIR (/run/guest),
# GUEST_RESULTS ($GUEST_DIR).
#
# At boot, perf of a guest without a PMU tries the last counter (check_hw_exists() in
# arch/x86/events/core.c). KVM logs "Unhandled WRMSR(0xc0010007)" on the host: no fault.

GUEST_DIR=${GUEST_DIR:-/run/guest}

# The guest's job "remote" writes a mark before a command's status. The mark can follow
# output without a final newline.
guest_mark=$(printf '\001status ')

guest_start()
{
	rm -rf "$GUEST_DIR"
	mkdir -p "$GUEST_DIR"
	mkfifo "$GUEST_DIR/stream.in" "$GUEST_DIR/stream.out" \
		"$GUEST_DIR/qmp.in" "$GUEST_DIR/qmp.out"
	echo "fail: the guest's job did not finish" > "$GUEST_DIR/verdict"

	initrd=/boot/guest.cpio
	if [ -n "$GUEST_ADD" ]; then
		initrd=$GUEST_DIR/initrd
		cat /boot/guest.cpio "$GUEST_ADD" > "$initrd"
	fi
	guest_job=$*
	guest_vmm
	exec 7<> "$GUEST_DIR/stream.in" 8<> "$GUEST_DIR/stream.out" \
		5<> "$GUEST_DIR/qmp.in" 6<> "$GUEST_DIR/qmp.out"
	guest_qmp qmp_capabilities > /dev/null
}

# The console has warnings and worse: a byte costs exits to the VMM, and with the whole log a boot
# takes twice the time. GUEST_APPEND=loglevel=7 shows all.
guest_parameters="console=ttyS0 loglevel=5 panic=-1 oops=panic no5lvl nmi_watchdog=0"
guest_vmm_ended='{"error": "it has ended"}'

# guest_vmm [ARG...]: run the VMM in the background. At the end, tell the readers of stream and
# QMP, unless the guest is on its way to another VMM
guest_vmm()
{
	{
		# shellcheck disable=SC2016 # a variable of the inner shell
		[ -z "$GUEST_NICE" ] || sh -c 'renice -n "$0" -p $PPID' "$GUEST_NICE"
		/vmm/bin/qemu-system-x86_64 -name guest -nodefaults -no-user-config \
			-display none -no-reboot -enable-kvm \
			-cpu "${GUEST_CPU:-host,migratable=off}" \
			-smp "${GUEST_CPUS:-1}" -m "${GUEST_MEM:-512}" \
			-kernel "${GUEST_KERNEL:-/boot/bzImage}" -initrd "$initrd" \
			-append "$guest_parameters $GUEST_APPEND -- $guest_job" \
			-chardev "${GUEST_CONSOLE:-pipe,path=/dev/virtio-ports/guest-console},id=console" \
			-serial chardev:console \
			-chardev "pipe,id=qmp,path=$GUEST_DIR/qmp" -mon chardev=qmp,mode=control \
			-device virtio-serial-pci \
			-chardev "pipe,id=stream,path=$GUEST_DIR/stream" \
			-device virtserialport,chardev=stream,name=stream \
			-chardev "file,id=verdict,path=$GUEST_DIR/verdict,append=on" \
			-device virtserialport,chardev=verdict,name=verdict \
			-chardev "file,id=files,path=$GUEST_DIR/files.tar" \
			-device virtserialport,chardev=files,name=files \
			-chardev "file,id=kallsyms,path=$GUEST_DIR/kallsyms" \
			-device virtserialport,chardev=kallsyms,name=kallsyms \
			-chardev "file,id=modules,path=$GUEST_DIR/modules" \
			-device virtserialport,chardev=modules,name=modules \
			"$@"
		echo "vmm ended with status $?"
		if [ ! -e "$GUEST_DIR/state" ]; then
			: > "$GUEST_DIR/ended"
			echo "guest ended" > "$GUEST_DIR/stream.out"
		fi
		echo "$guest_vmm_ended" > "$GUEST_DIR/qmp.out"
	} > "$GUEST_DIR/vmm.log" 2>&1 &
	guest_pid=$!
}

# guest_repeats_end: an earlier reader may have taken the line about the guest's end along with
# others. In the background, as the pipe may be full and we are its reader.
guest_repeats_end()
{
	if [ -e "$GUEST_DIR/ended" ]; then
		echo "guest ended" >&8 &
	fi
}

guest_say()
{
	echo "$1" >&7
}

guest_expect()
{
	guest_repeats_end
	while read -r line <&8; do
		[ "$line" = "$1" ] && return
		echo "# guest: $line"
		case $line in
		*"guest ended")	break ;;
		esac
	done
	echo "# the guest ended before it said: $1" >&2
	cat "$GUEST_DIR/vmm.log" >&2
	return 1
}

guest_run()
{
	guest_say "$1"
	guest_result "$1"
}

# awk reads what there is, a shell's "read" a byte at a time. After the mark, nothing comes but
# the guest's end.
guest_result()
{
	guest_repeats_end
	command=$1 awk -v mark="$guest_mark" '
		i = index($0, mark) {
			printf "%s", substr($0, 1, i - 1)
			exit substr($0, i + length(mark))
		}
		sub(/guest ended$/, "") {
			printf "%s", $0
			print "# the guest ended while it ran: " ENVIRON["command"] > "/dev/stderr"
			exit 1
		}
		{ print; fflush() }' <&8
}

guest_qmp()
{
	echo "{\"execute\": \"$1\", \"arguments\": {$2}}" >&5
	while read -r reply <&6; do
		case $reply in
		'{"return":'*)	echo "$reply"; return ;;
		'{"error":'*)
			# who asks next is to see so, too
			[ "$reply" != "$guest_vmm_ended" ] || echo "$reply" >&6
			echo "# vmm: $1: $reply" >&2
			return 1 ;;
		esac
	done
}

# guest_status STATUS: wait until the VMM reports STATUS
guest_status()
{
	while reply=$(guest_qmp query-status); do
		case $reply in
		*"\"status\": \"$1\""*)	return ;;
		esac
		sleep 0.05
	done
	return 1
}

guest_pause()
{
	guest_qmp stop > /dev/null
}

guest_continue()
{
	guest_qmp cont > /dev/null
}

# The guest's firmware may reset a second time.
guest_reset()
{
	guest_qmp set-action '"reboot": "reset"' > /dev/null &&
	guest_qmp system_reset > /dev/null
}

guest_asleep()
{
	guest_status suspended
}

guest_wake()
{
	guest_qmp system_wakeup > /dev/null
}

guest_migrate()
{
	guest_qmp migrate "\"uri\": \"exec:cat > $GUEST_DIR/state\"" > /dev/null || return
	while :; do
		reply=$(guest_qmp query-migrate) || return
		case $reply in
		*'"status": "completed"'*)	break ;;
		*'"status": "failed"'*)		rm -f "$GUEST_DIR/state"; return 1 ;;
		esac
		sleep 0.05
	done
	guest_qmp quit > /dev/null
	wait "$guest_pid"
	while read -r reply <&6 && [ "$reply" != "$guest_vmm_ended" ]; do :; done

	guest_vmm -incoming "exec:cat $GUEST_DIR/state"
	guest_qmp qmp_capabilities > /dev/null
	guest_status running || return
	rm "$GUEST_DIR/state"
}

guest_quit()
{
	guest_qmp quit > /dev/null
	wait "$guest_pid"
}

guest_wait()
{
	wait "$guest_pid"
	tar -C "${GUEST_RESULTS:-$GUEST_DIR}" -xf "$GUEST_DIR/files.tar"
	verdict=$(tail -n 1 "$GUEST_DIR/verdict")
	[ "$verdict" = pass ] && return
	echo "# guest: $verdict" >&2
	cat "$GUEST_DIR/vmm.log" >&2
	return 1
}
