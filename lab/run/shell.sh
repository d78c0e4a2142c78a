#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An interactive host VM and a running guest, on the same terminal.

. "$(dirname "$0")/../lib.sh"
. lab/run/extra.sh

extra_check
if [ -z "${DRYRUN:-}" ]; then
	[ -t 0 ] || die "a shell needs a terminal"
	build image
fi
extra_image
if [ -z "${DRYRUN:-}" ]; then
	cat <<-END
		The guest's console comes to the front when the guest has booted. Ctrl-A C goes
		on to the emulator's monitor, to the host's console, and round; Ctrl-A X ends it
		all. In the guest, for a start:
		  perf stat callgraph
		  perf record -g callgraph && perf report --stdio
		On the host's console:
		  perf kvm --guest --guestkallsyms=/run/guest/kallsyms record -a -e cpu-clock sleep 1
	END
	trap 'rm -rf "$OUT/shell.new" "${extra:-}"' EXIT
fi
lab/run/boot.sh shell shell
