#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An interactive host VM with a guest running in it, on one terminal.

. "$(dirname "$0")/../lib.sh"

if [ -z "${DRYRUN:-}" ]; then
	[ -t 0 ] || die "a shell needs a terminal"
	build image
	cat <<-END
		The guest's console comes to the front when the guest has booted. Ctrl-A C goes
		on to the emulator's monitor, to the host's console, and round; Ctrl-A X ends it
		all. On the host's console, for a start:
		  perf kvm --guest --guestkallsyms=/run/guest/kallsyms record -a -e cpu-clock sleep 1
	END
fi
lab/run/boot.sh shell shell
