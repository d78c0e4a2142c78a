#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build what a test with a guest of 32 bits needs, as an image to add to the host's,
# build/i386/host-KERNEL.cpio. In its /boot/i386 are
#  - bzImage, a kernel of lab/build/config;
#  - guest.cpio, to add to the guest's image: busybox and perf of Debian's i386, and the
#    programs of guest_programs.sh, made with the C library of Debian's i386;
#  - usr/bin, these programs.
# Debian's packages are fetched with apt-get. Without it, or without a network, there is no
# image, and the tests skip.
#
#	lab/build/i386.sh KERNEL	i386 or i386_pae

. "$(dirname "$0")/../lib.sh"
. lab/build/cpio.sh

kernel=$1
i386=$BUILD/i386
gcc_version=$(gcc -dumpversion)
packages="busybox-static linux-perf libc6-dev libgcc-$gcc_version-dev libstdc++-$gcc_version-dev"

# apt_get ARG...: for i386 alone, whatever is installed here
apt_get()
{
	apt-get -q -y -o APT::Architecture=i386 -o APT::Architectures=i386 \
		-o Dir::State="$debian" -o Dir::State::status=/dev/null \
		-o Dir::Cache="$debian" -o Debug::NoLocking=1 "$@"
}

# fetch: unpack the packages, and all that they depend on, in build/i386/root
fetch()
{
	local debian package
	debian=$(realpath "$i386")/debian

	rm -rf "$debian" "$i386/root.new"
	mkdir -p "$debian/lists/partial" "$debian/archives/partial"
	# an index may be missing that none of the packages is in
	apt_get update || echo "apt-get update ended with status $?"
	# shellcheck disable=SC2086 # a word each
	apt_get install --download-only --no-install-recommends $packages || return
	for package in "$debian"/archives/*.deb; do
		dpkg-deb -x "$package" "$i386/root.new" || return
	done
	rm -r "$debian"
	mv "$i386/root.new" "$i386/root"
}

# in_root NAME: the path of a shared library in build/i386/root
in_root()
{
	find "$i386/root" -name "$1" ! -type d -print -quit
}

# add_needed ROOT FILE: copy the shared libraries of FILE. ldd would have to run it.
add_needed()
{
	local name lib

	while read -r name; do
		[ ! -e "$1/lib/$name" ] || continue
		lib=$(in_root "$name")
		[ -n "$lib" ] || die "the packages for i386 lack $name, which $2 needs"
		mkdir -p "$1/lib"
		cp -L "$lib" "$1/lib/$name"
		add_needed "$1" "$lib"
	done < <(readelf -d "$2" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
}

# The compiler is this machine's, with the libraries and headers of i386.
programs()
{
	local root dir flags
	root=$(realpath "$i386/root")
	dir=$(realpath "$i386")/usr/bin
	flags="-m32 --sysroot=$root -B$root/usr/lib/gcc/i686-linux-gnu/$gcc_version"
	flags+=" -B$root/usr/lib/i386-linux-gnu"

	make -C lab/vm/workloads O="$dir" CC="gcc $flags" \
		CXX="g++ $flags -isystem $root/usr/include/i386-linux-gnu/c++/$gcc_version" \
		"$dir/kinds" "$dir/kinds_cxx" "$dir/kinds_m32"
}

guest_image()
{
	local add=$i386/guest perf

	rm -rf "$add"
	mkdir -p "$add/bin" "$add/usr/bin"
	cp "$i386/root/bin/busybox" "$add/bin/"
	cp "$i386"/usr/bin/* "$add/usr/bin/"
	perf=$(find "$i386/root/usr" -type f -path '*bin/perf*' -print -quit)
	cp "$perf" "$add/usr/bin/perf"
	add_needed "$add" "$perf"
	cp -L "$(in_root ld-linux.so.2)" "$add/lib/"
	pack "$add" "$i386/guest.cpio"
}

host_image()
{
	local add=$i386/host-$kernel

	rm -rf "$add"
	mkdir -p "$add/boot/i386"
	cp "$(kernel_dir "$kernel")/arch/x86/boot/bzImage" "$i386/guest.cpio" "$add/boot/i386/"
	cp -r "$i386/usr" "$add/boot/i386/"
	pack "$add" "$add.cpio"
}

mkdir -p "$i386"
lock "$i386"
if ! unchanged "$i386/fetched" "$i386/root" <<< "$packages"; then
	rm -rf "$i386/fetched" "$i386/root" "$i386/usr" "$i386"/*.cpio
	say FETCH "$i386/root"
	if [ "${DEPS:-}" = no ] ||
	   ! (logged "$BUILD/i386.log" "fetching packages for i386" fetch); then
		say NOTE "there are no packages for i386: tests do without a guest of 32 bits"
		exit
	fi
	echo "$packages" > "$i386/fetched"
fi
logged "$BUILD/i386.log" "building programs of 32 bits" programs
CONFIG='' LAB_KERNEL=$kernel lab/build/kernel.sh
say IMAGE "$i386/host-$kernel.cpio"
guest_image
host_image
