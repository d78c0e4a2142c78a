#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The demo: boot host and guest, count and profile in the guest, profile the guest from
# the host, and leave the counts, the reports, the host's profile and a flame graph in
# out/demo.

. "$(dirname "$0")/../lib.sh"
. lab/run/extra.sh

# Debian has flamegraph.pl as a part of Perl's profiler.
flamegraph=/usr/share/perl5/Devel/NYTProf/flamegraph.pl
dir=$OUT/demo

boot=$OUT/demo-boot
new=$dir.new
perf=$BUILD/perf/perf

extra_check
if [ -n "${DRYRUN:-}" ]; then
	extra_image
	exec lab/run/boot.sh demo-boot demo
fi
build image
extra_image
say BOOT "the host VM, under emulation (its console: $boot.new/console.log)"
TIMEOUT=${TIMEOUT:-600} lab/run/boot.sh demo-boot demo

rm -rf "$new"
mkdir "$new"
mv "$boot"/files/* "$boot"/*.log "$boot/qemu.cmd" "$new/"

# The same samples for each of the guest's programs: the frames of each get its names.
samples=()
for program in callgraph pingpong; do
	samples+=("$new/samples.$program")
	"$perf" script -f -F misc,comm,ip,sym,dso -i "$new/host.perf.data" \
		--kallsyms="$new/host.kallsyms" --guestkallsyms="$new/guest.kallsyms" \
		--guestbinary="$BUILD/workloads/$program,all" > "$new/samples.$program" 2> "$new/script.log" ||
		die "perf script failed; its log is $new/script.log"
done
awk -f lab/run/fold.awk "${samples[@]}" > "$new/folded.txt"
[ -s "$new/folded.txt" ] || die "the profile has no sample: see ${samples[0]}"
rm "${samples[@]}" "$new/script.log"
perl "$flamegraph" --color=java --hash \
	--title "The guest, seen from its host (green: its user space, yellow: its kernel, red: the host)" \
	< "$new/folded.txt" > "$new/flame.svg.new"
awk -f lab/run/flame.awk "$new/flame.svg.new" > "$new/flame.svg"
rm "$new/flame.svg.new"
replace "$dir"
rm -r "$boot"

cat <<END

  $dir/guest-stat.txt	what the guest's own perf counted
  $dir/guest-report.txt	and what it recorded: the first report above
  $dir/host-report.txt	the second report: the same guest, seen from its host
  $dir/host.perf.data	the host's profile; look into it with
	$perf kvm --guest --guestkallsyms=$dir/guest.kallsyms \\
		--guestbinary=$BUILD/workloads/callgraph,all \\
		report -f --kallsyms=$dir/host.kallsyms -i $dir/host.perf.data
	and with --host --guest to see the host's samples, too
  $dir/flame.svg	the same as a flame graph, for a browser
END
