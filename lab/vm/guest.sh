# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For jobs in the host VM: boot the guest, talk to its job, wait for its end.
# The guest runs the same init, so the same ports with the same meaning.
#
#   guest_start JOB [ARG...]	boot the guest; its job's standard input and output
#				are what the next two write and read
#   guest_say LINE		send a line to the guest's job
#   guest_expect LINE		read lines of it until LINE; others are shown
#   guest_run COMMAND		have the job "remote" run a shell command, and show its
#				output, which must be read to the end; its status is
#				the status
#   guest_result COMMAND	the second half of this, after guest_say COMMAND
#   guest_wait			wait for the guest's end; its verdict is the status
#
# and what befalls a machine:
#
#   guest_qmp COMMAND [ARGUMENTS]	have the VMM do this, and show what it returns
#   guest_pause, guest_continue		stop its CPUs, let them go on
#   guest_reset				push the reset button; also of a paused guest
#   guest_asleep, guest_wake		wait until it sleeps, wake it
#   guest_migrate			save its state while it runs, and go on with it in
#					another VMM
#
# $GUEST_DIR/kallsyms has the symbols of the guest's kernel once its job says
# something; what the job leaves in /results is in $GUEST_DIR after guest_wait.
# Environment: GUEST_CPUS (1), GUEST_MEM in MiB (512), GUEST_APPEND (kernel
# parameters), GUEST_CPU (-cpu of the VMM), GUEST_ADD (an initramfs image to add to
# the guest's), GUEST_CONSOLE (a chardev of the VMM's, such as null, for a guest that
# is meant to crash), GUEST_DIR (/run/guest).

GUEST_DIR=${GUEST_DIR:-/run/guest}

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

guest_vmm_ended='{"error": "it has ended"}'

# guest_vmm [ARG...]: run the VMM; unless the guest goes elsewhere, say that it has
# ended to whoever still listens
guest_vmm()
{
	{
		/vmm/bin/qemu-system-x86_64 -name guest -nodefaults -no-user-config \
			-display none -no-reboot -enable-kvm \
			-cpu "${GUEST_CPU:-host,migratable=off}" \
			-smp "${GUEST_CPUS:-1}" -m "${GUEST_MEM:-512}" \
			-kernel /boot/bzImage -initrd "$initrd" \
			-append "console=ttyS0 panic=-1 oops=panic no5lvl $GUEST_APPEND -- $guest_job" \
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
			"$@"
		echo "vmm ended with status $?"
		[ -e "$GUEST_DIR/state" ] || echo "guest ended" > "$GUEST_DIR/stream.out"
		echo "$guest_vmm_ended" > "$GUEST_DIR/qmp.out"
	} > "$GUEST_DIR/vmm.log" 2>&1 &
	guest_pid=$!
}

guest_say()
{
	echo "$1" >&7
}

guest_expect()
{
	while read -r line <&8; do
		[ "$line" = "$1" ] && return
		echo "# guest: $line"
		[ "$line" = "guest ended" ] && break
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

guest_result()
{
	while read -r line <&8; do
		case $line in
		"status "*)	return "${line#status }" ;;
		"guest ended")	break ;;
		esac
		echo "$line"
	done
	echo "# the guest ended while it ran: $1" >&2
	return 1
}

guest_qmp()
{
	echo "{\"execute\": \"$1\", \"arguments\": {$2}}" >&5
	while read -r reply <&6; do
		case $reply in
		'{"return":'*)	echo "$reply"; return ;;
		'{"error":'*)	echo "# vmm: $1: $reply" >&2; return 1 ;;
		esac
	done
}

# guest_status STATUS: wait until the VMM says that this is the guest's
guest_status()
{
	while reply=$(guest_qmp query-status); do
		case $reply in
		*"\"status\": \"$1\""*)	return ;;
		esac
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

# Its firmware may do it once more.
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
	done
	guest_qmp quit > /dev/null
	wait "$guest_pid"
	while read -r reply <&6 && [ "$reply" != "$guest_vmm_ended" ]; do :; done

	guest_vmm -incoming "exec:cat $GUEST_DIR/state"
	guest_qmp qmp_capabilities > /dev/null
	guest_status running || return
	rm "$GUEST_DIR/state"
}

guest_wait()
{
	wait "$guest_pid"
	tar -C "$GUEST_DIR" -xf "$GUEST_DIR/files.tar"
	verdict=$(tail -n 1 "$GUEST_DIR/verdict")
	[ "$verdict" = pass ] && return
	echo "# guest: $verdict" >&2
	cat "$GUEST_DIR/vmm.log" >&2
	return 1
}
