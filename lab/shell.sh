#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An interactive host VM with a guest running in it, on one terminal.

. "$(dirname "$0")/lib.sh"

if [ -z "${DRYRUN:-}" ]; then
	[ -t 0 ] || die "a shell needs a terminal"
	cat <<-END
		The host's console comes first; Ctrl-A C goes to the guest's console, then to
		the emulator's monitor, and back. Ctrl-A X ends it all. In the host:
		  perf kvm --guest --guestkallsyms=/run/guest/kallsyms record -a -e cpu-clock sleep 1
	END
fi
lab/boot.sh shell shell
