#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetch Debian's kernels, for tests with a guest that knows nothing of this series:
# build/stock/VERSION gets the vmlinuz, what perf reads of it unpacked (vmlinux, as to
# unpack takes minutes under emulation), the modules that the guest loads, as they are in
# the package (modules), an image with them to add to the guest's (guest.cpio), and a
# module of ours, built with the kernel's headers (unwind_samples.ko).
# Without a network, or without apt-get, there are none, and the tests skip.

. "$(dirname "$0")/../lib.sh"
. lab/run/extra.sh

stock=$BUILD/stock
# so that there are samples in modules
more_modules="loop crc32c_generic ext4"
# the base release's kernel, and the one of the series' base
metas="linux-image-amd64 linux-image-6.12-amd64"

# package META: the package that a meta package stands for
package()
{
	apt-cache depends "$1" 2> /dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' |
		head -n 1
}

# guest_modules_of DIR: make DIR/guest.cpio and DIR/modules
guest_modules_of()
{
	local dir=$1 path

	extra=$dir/extra
	mkdir -p "$extra/guest" "$dir/modules"
	guest_modules="$guest_modules $more_modules"
	check_modules "$version"
	add_modules "$version"
	echo "$more_modules" > "$extra/guest/lib/modules/load"
	while read -r path; do
		cp "$GUEST_MODULES/$path" "$dir/modules/"
	done < "$extra/modules.list"
	pack "$extra/guest" "$dir/guest.cpio"
	rm -rf "$extra"
}

# vmlinux_of DIR: make DIR/vmlinux of DIR/vmlinuz
vmlinux_of()
{
	"$BUILD/linux/scripts/extract-vmlinux" "$1/vmlinuz" > "$1/vmlinux.all" &&
	objcopy -j .text -j .rodata -j .orc_header -j .orc_unwind -j .orc_unwind_ip \
		"$1/vmlinux.all" "$1/vmlinux" &&
	rm "$1/vmlinux.all"
}

# fetch PACKAGE
fetch()
{
	local tmp=$stock.new version=${1#linux-image-}

	rm -rf "$tmp"
	mkdir -p "$tmp/$version"
	(cd "$tmp" && apt-get -q download "$1" && dpkg-deb -x ./*.deb root) || return
	cp "$tmp/root/boot/vmlinuz-$version" "$tmp/$version/vmlinuz"
	vmlinux_of "$tmp/$version" || return
	GUEST_MODULES=$tmp/root/lib/modules/$version
	guest_modules_of "$tmp/$version"
	# another version of the same kernel is outdated
	mkdir -p "$stock"
	rm -rf "${stock:?}/${version%%.*}.$(cut -d. -f2 <<< "$version")".*
	mv "$tmp/$version" "$stock/"
	rm -rf "$tmp"
}

# header_packages VERSION: what modules of the kernel are built with
header_packages()
{
	echo "linux-headers-$1"
	apt-cache depends "linux-headers-$1" |
		sed -n 's/.*Depends: \(linux-\(headers\|kbuild\)-.*\)/\1/p'
}

# our_module VERSION: build our module
our_module()
{
	local version=$1 tmp=$stock.headers headers

	rm -rf "$tmp"
	mkdir -p "$tmp"
	# shellcheck disable=SC2046 # a word each
	(cd "$tmp" && apt-get -q download $(header_packages "$version")) || return
	for package in "$tmp"/*.deb; do
		dpkg-deb -x "$package" "$tmp/root" || return
	done
	headers=$(realpath "$tmp/root/usr/src/linux-headers-$version")
	# The Makefile of the headers includes others by their absolute paths.
	sed -i "s,/usr/src/,${headers%/*}/," "$headers/Makefile" || return
	cp -r lab/vm/modules "$tmp/modules"
	submake -C "$headers" M="$(realpath "$tmp/modules")" modules || return
	strip --strip-debug "$tmp/modules/unwind_samples.ko"
	cp "$tmp/modules/unwind_samples.ko" "$stock/$version/"
	cat lab/vm/modules/* > "$stock/$version/built-from"
	rm -rf "$tmp"
}

has_module()
{
	cat lab/vm/modules/* | unchanged "$stock/$1/built-from" "$stock/$1/unwind_samples.ko"
}

lock "$stock"
for meta in $metas; do
	[ "${DEPS:-}" != no ] || break
	name=$(package "$meta")
	version=${name#linux-image-}
	[ -n "$name" ] || continue
	if [ ! -d "$stock/$version" ]; then
		say STOCK "$name"
		(logged "$BUILD/stock.log" "fetching $name" fetch "$name") ||
			{ say NOTE "there is no $name: tests do without it"; continue; }
	fi
	has_module "$version" && continue
	say STOCK "$stock/$version/unwind_samples.ko"
	(logged "$BUILD/stock.log" "building a module for $version" our_module "$version") ||
		say NOTE "there are no headers of $version: tests do without them"
done
