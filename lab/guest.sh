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
#				output; its status is the status
#   guest_wait			wait for the guest's end; its verdict is the status
#
# $GUEST_DIR/kallsyms has the symbols of the guest's kernel once its job says
# something; what the job leaves in /results is in $GUEST_DIR after guest_wait.
# Environment: GUEST_CPUS (1), GUEST_MEM in MiB (512), GUEST_APPEND (kernel
# parameters), GUEST_CPU (-cpu of the VMM), GUEST_ADD (an initramfs image to add to
# the guest's), GUEST_DIR (/run/guest).

GUEST_DIR=${GUEST_DIR:-/run/guest}

guest_start()
{
	rm -rf "$GUEST_DIR"
	mkdir -p "$GUEST_DIR"
	mkfifo "$GUEST_DIR/stream.in" "$GUEST_DIR/stream.out"
	echo "fail: the guest's job did not finish" > "$GUEST_DIR/verdict"

	initrd=/boot/guest.cpio
	if [ -n "$GUEST_ADD" ]; then
		initrd=$GUEST_DIR/initrd
		cat /boot/guest.cpio "$GUEST_ADD" > "$initrd"
	fi

	# a guest that ends says so to whoever still listens
	{
		/vmm/bin/qemu-system-x86_64 -name guest -nodefaults -no-user-config \
			-display none -no-reboot -enable-kvm \
			-cpu "${GUEST_CPU:-host,migratable=off}" \
			-smp "${GUEST_CPUS:-1}" -m "${GUEST_MEM:-512}" \
			-kernel /boot/bzImage -initrd "$initrd" \
			-append "console=ttyS0 panic=-1 oops=panic no5lvl $GUEST_APPEND -- $*" \
			-chardev "pipe,id=console,path=/dev/virtio-ports/guest-console" \
			-serial chardev:console \
			-device virtio-serial-pci \
			-chardev "pipe,id=stream,path=$GUEST_DIR/stream" \
			-device virtserialport,chardev=stream,name=stream \
			-chardev "file,id=verdict,path=$GUEST_DIR/verdict,append=on" \
			-device virtserialport,chardev=verdict,name=verdict \
			-chardev "file,id=files,path=$GUEST_DIR/files.tar" \
			-device virtserialport,chardev=files,name=files \
			-chardev "file,id=kallsyms,path=$GUEST_DIR/kallsyms" \
			-device virtserialport,chardev=kallsyms,name=kallsyms \
			> "$GUEST_DIR/vmm.log" 2>&1
		echo "vmm ended with status $?" >> "$GUEST_DIR/vmm.log"
		echo "guest ended" > "$GUEST_DIR/stream.out"
	} &
	guest_pid=$!
	exec 7<> "$GUEST_DIR/stream.in" 8<> "$GUEST_DIR/stream.out"
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
