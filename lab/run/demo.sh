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

[ -n "${DRYRUN:-}" ] || say BOOT "the host VM, under emulation (its console: $dir/console.log)"
TIMEOUT=${TIMEOUT:-600} lab/run/boot.sh demo demo
[ -z "${DRYRUN:-}" ] || exit 0

mv "$dir"/files/* "$dir/"
rmdir "$dir/files"
awk -f lab/run/fold.awk "$dir/samples.txt" > "$dir/folded.txt"
[ -s "$dir/folded.txt" ] || die "the profile has no sample: see $dir/samples.txt"
perl "$flamegraph" --title "The guest, seen from its host" --color=java --hash \
	< "$dir/folded.txt" > "$dir/flame.svg"

cat <<END

  $dir/host-report.txt	the report above
  $dir/host.perf.data	the profile; look into it with
	$BUILD/perf/perf kvm --guest --guestkallsyms=$dir/guest.kallsyms \\
		--guestbinary=$BUILD/workloads/callgraph report -i $dir/host.perf.data
  $dir/flame.svg	the same as a flame graph, for a browser: the guest's kernel is
	yellow, its user space green, the host red
  $dir/guest-stat.txt	what the guest's own perf counted
END
