#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Package the kernel (CONFIG=, as for "make kernel"; the lab's without) with
# the kernel's own bindeb-pkg, and perf beside it, for a real machine: out/deb.
# The packages of an earlier run stay until all of the new ones are there.

. "$(dirname "$0")/../lib.sh"
. lab/build/config.sh

check_config
if [ -n "${CONFIG:-}" ]; then
	kernel=$(kernel_dir "${LAB_KERNEL:-custom}")
else
	kernel=$(kernel_dir lab)
fi
out=$OUT/deb
new=$out.new
root=$BUILD/perf.deb

# No package of the debug information, which is gigabytes with a distribution's
# configuration. DEB_BUILD_PROFILES= in the environment brings it back.
export DEB_BUILD_PROFILES=${DEB_BUILD_PROFILES-pkg.linux-upstream.nokerneldbg}

# package_kernel: bindeb-pkg leaves its packages in the directory above its own. The
# headers' package must hold files, but the overlay is symbolic links.
package_kernel()
{
	local above

	above=$(dirname "$kernel")
	rm -f "$above"/linux-*.deb "$above"/linux-upstream_*
	# the count of builds is in the image: the lab's stays the image of the tests
	[ -n "${CONFIG:-}" ] || rm -f "$kernel/.version"
	TAR_OPTIONS=--dereference lab/build/kernel.sh bindeb-pkg
	rm -f "$above"/linux-upstream_*
	mv "$above"/linux-*.deb "$new/"
}

# perf_depends: the packages of the libraries that perf is linked with
perf_depends()
{
	(
		cd "$root" && mkdir debian && touch debian/control &&
			dpkg-shlibdeps -O opt/guestperf/bin/perf | sed 's/^shlibs:Depends=//' &&
			rm -r debian
	)
}

package_perf()
{
	local release depends

	release=$(cat "$kernel/include/config/kernel.release")
	say DEB "guestperf-perf"
	rm -rf "$root"
	mkdir -p "$root/DEBIAN"
	lab/build/perf.sh install-bin DESTDIR="$(realpath "$root")"
	depends=$(perf_depends 2> "$BUILD/perf.deb.log") ||
		die "dpkg-shlibdeps failed: $(grep -m 1 error: "$BUILD/perf.deb.log")"
	cat > "$root/DEBIAN/control" <<-END
		Package: guestperf-perf
		Version: ${release%%-*}
		Architecture: $(dpkg --print-architecture)
		Maintainer: guestperf <guestperf@localhost>
		Depends: $depends
		Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
		Section: devel
		Priority: optional
		Description: perf of the guestperf kernel
		 The perf tool built from the same tree as the kernel $release, as
		 /opt/guestperf/bin/perf; the distribution's own perf stays as it is.
	END
	logged "$BUILD/perf.deb.log" "packaging perf" \
		dpkg-deb --root-owner-group --build "$root" "$new"
}

lock "$BUILD/deb"
build tree perf
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
package_kernel
package_perf
replace "$out"

find "$out" -name '*.deb' -printf '  %p\n' | sort
echo "  install them with: apt-get install $out/linux-image-*.deb $out/guestperf-perf_*.deb"
