#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The demo: boot host and guest, profile the guest from the host, and leave
# the profile, the report and a flame graph in out/demo.

. "$(dirname "$0")/../lib.sh"

# Debian has no package of flamegraph.pl by that name; the profiler of Perl
# carries it, and draws its own graphs with it.
flamegraph=/usr/share/perl5/Devel/NYTProf/flamegraph.pl
dir=$OUT/demo

boot=$OUT/demo-boot
new=$dir.new

if [ -n "${DRYRUN:-}" ]; then
	exec lab/run/boot.sh demo-boot demo
fi
build image
say BOOT "the host VM, under emulation (its console: $boot.new/console.log)"
TIMEOUT=${TIMEOUT:-600} lab/run/boot.sh demo-boot demo

rm -rf "$new"
mkdir "$new"
mv "$boot"/files/* "$boot"/*.log "$boot/qemu.cmd" "$new/"
awk -f lab/run/fold.awk "$new/samples.txt" > "$new/folded.txt"
[ -s "$new/folded.txt" ] || die "the profile has no sample: see $new/samples.txt"
perl "$flamegraph" --title "The guest, seen from its host" --color=java --hash \
	< "$new/folded.txt" > "$new/flame.svg"
replace "$dir"
rm -r "$boot"

cat <<END

  $dir/host-report.txt	the report above
  $dir/host.perf.data	the profile; look into it with
	$BUILD/perf/perf kvm --guest --guestkallsyms=$dir/guest.kallsyms \\
		--guestbinary=$BUILD/workloads/callgraph report -i $dir/host.perf.data
  $dir/flame.svg	the same as a flame graph, for a browser: the guest's kernel is
	yellow, its user space green, the host red
  $dir/guest-stat.txt	what the guest's own perf counted
END
