#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Package the kernel (CONFIG=, as for "make kernel"; the lab's without) with
# the kernel's own bindeb-pkg, and perf beside it, for a real machine: out/deb.

. "$(dirname "$0")/../lib.sh"

build tree perf
if [ -n "${CONFIG:-}" ]; then
	kernel=$(kernel_dir custom)
else
	kernel=$(kernel_dir lab)
fi
out=$OUT/deb

# The overlay is symbolic links, which the package of the kernel's headers must
# not be; and bindeb-pkg leaves its packages in the directory above its own.
above=$(dirname "$kernel")
rm -rf "$above"/linux-*.deb "$above"/linux-upstream_* "$out"
mkdir -p "$out"
TAR_OPTIONS=--dereference lab/build/kernel.sh bindeb-pkg
rm -f "$above"/linux-upstream_*
mv "$above"/linux-*.deb "$out/"

release=$(cat "$kernel/include/config/kernel.release")
root=$BUILD/perf.deb
say DEB "guestperf-perf"
rm -rf "$root"
mkdir -p "$root/DEBIAN"
lab/build/perf.sh install-bin DESTDIR="$(realpath "$root")"
# what perf links to, as Debian names it
depends=$(cd "$root" && mkdir debian && touch debian/control &&
	dpkg-shlibdeps -O opt/guestperf/bin/perf 2> /dev/null | sed 's/^shlibs:Depends=//')
rm -r "$root/debian"
cat > "$root/DEBIAN/control" <<END
Package: guestperf-perf
Version: ${release%%-*}
Architecture: $(dpkg --print-architecture)
Maintainer: guestperf <guestperf@localhost>
Depends: $depends
Section: devel
Priority: optional
Description: perf of the guestperf kernel
 The perf tool built from the same tree as the kernel $release, as
 /opt/guestperf/bin/perf; the distribution's own perf stays as it is.
END
logged "$BUILD/perf.deb.log" "packaging perf" \
	dpkg-deb --root-owner-group --build "$root" "$out"

find "$out" -name '*.deb' -printf '  %p\n' | sort
echo "  install them with: apt-get install $out/linux-image-*.deb $out/guestperf-perf_*.deb"
