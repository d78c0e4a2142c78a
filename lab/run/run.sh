#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run a command of the user in a guest, a command on its host, or both at the same time.
# The results are in out/run: guest/ and host/ have the files from the current directory
# of the commands, *.output the output.
#
# Environment: GUEST and HOST, the commands; the rest is described in extra.sh.
#
# Exit status: 0 if both succeeded.

. "$(dirname "$0")/../lib.sh"
. lab/run/extra.sh

dir=$OUT/run
boot=$OUT/run-boot
new=$dir.new

[ -n "${GUEST:-}${HOST:-}" ] ||
	die "usage: make run GUEST='./app ARG...' HOST='perf kvm --guest ... record ... run-guest' FILES=DIR: one command or both; see README.md"
case "${GUEST:-}/${HOST:-}" in
/*run-guest*)	die "HOST has run-guest, but there is no GUEST to run" ;;
esac
extra_check
if [ -n "${DRYRUN:-}" ]; then
	extra_image
	exec lab/run/boot.sh run-boot run
fi
build image
extra_image
say BOOT "the host VM, under emulation (its console: $boot.new/console.log)"
lab/run/boot.sh run-boot run

rm -rf "$new"
mkdir "$new"
mv "$boot"/files/* "$boot"/*.log "$boot/qemu.cmd" "$new/"
replace "$dir"
rm -r "$boot"

say RESULTS "$(cd "$dir" && find . -type f ! -name "*.log" ! -name "*.status" ! -name qemu.cmd -printf "$dir/%P\n" | sort | paste -sd' ')"
failures=
for machine in guest host; do
	[ -e "$dir/$machine.status" ] || continue
	status=$(cat "$dir/$machine.status")
	[ "$status" = 0 ] || failures+="${failures:+; }${machine^^} ended with status $status, its output is $dir/$machine.output"
done
[ -z "$failures" ] || die "$failures"
