#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Build the lab's emulator: QEMU with patches/qemu/ and the new files of
# lab/qemu/, x86_64 only, without display or network.
#
# build/qemu/bin/qemu-system-x86_64 and build/qemu/share/qemu/ (its ROMs) are the
# result.  The source is Debian's source package of qemu, or what QEMU= names:
#   QEMU=DIRECTORY   a QEMU source tree (copied, never written to)
#   QEMU=TARBALL     a QEMU source archive
#   QEMU=EXECUTABLE  a ready-made qemu-system-x86_64, taken as it is
# A finished build is kept under ~/.cache/guestperf/qemu, named by the hash of all its
# inputs.

. "$(dirname "$0")/../lib.sh"
. lab/build/assemble.sh

readonly ROMS="kvmvapic.bin linuxboot_dma.bin pvh.bin"

hash_of()
{
	sha256sum | cut -c1-32
}

# --- tools and libraries ---------------------------------------------------------

need_tool()
{
	command -v "$1" > /dev/null ||
		die "$1 is missing; install it with: apt-get install $2"
}

need_library()
{
	pkg-config --exists "$1" ||
		die "the library $1 is missing; install it with: apt-get install $2"
}

check_tools()
{
	need_tool gcc gcc
	need_tool make make
	need_tool patch patch
	need_tool pkg-config pkg-config
	need_tool python3 python3
	need_tool meson meson
	need_tool ninja ninja-build
	need_library glib-2.0 libglib2.0-dev
	need_library pixman-1 libpixman-1-dev
	[ -e /usr/include/libfdt.h ] ||
		die "libfdt.h is missing; install it with: apt-get install libfdt-dev"
}

# --- the source -------------------------------------------------------------

# The Debian suites of the machine's own package sources, as source packages.
debian_sources()
{
	local f
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$f" ] || continue
		sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]/deb-src \1\2 /p' "$f" |
			awk -v known="$1" '{
				u = ($2 ~ /^\[/) ? 3 : 2
				while ($u !~ /:/) u++
				if ($(u + 1) ~ known) print
			}' >> "$apt/src.list"
	done
	for f in /etc/apt/sources.list.d/*.sources; do
		[ -f "$f" ] || continue
		awk -v known="$1" 'BEGIN { RS = ""; ORS = "\n\n" } {
			n = split($0, line, "\n"); suite = ""; text = ""
			for (i = 1; i <= n; i++) {
				if (line[i] ~ /^#/) continue
				if (line[i] ~ /^Types:/) line[i] = "Types: deb-src"
				if (line[i] ~ /^Suites:/) suite = substr(line[i], 8)
				text = text line[i] "\n"
			}
			sub(/^[ \t]+/, "", suite)
			if (suite ~ known) printf "%s\n", text
		}' "$f" >> "$apt/src.sources"
	done
}

# apt-get with a state directory of its own: the machine's is not touched
private_apt()
{
	apt-get -q \
		-o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" \
		-o Dir::State::status=/var/lib/dpkg/status \
		-o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist=/dev/null \
		-o Dir::Etc::sourceparts="$apt/parts" \
		-o APT::Sandbox::User= "$@"
}

open_debian()
{
	local codename
	need_tool apt-get apt
	need_tool dpkg-source dpkg-dev
	rm -rf "$apt"
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# of backports and other suites the patches know nothing
	debian_sources "^(${codename:-stable}|stable|oldstable)(-updates|-security)?( |\$)"
	for codename in list sources; do
		if [ -s "$apt/src.$codename" ]; then
			mv "$apt/src.$codename" "$apt/parts/debian.$codename"
		fi
	done
	[ -n "$(ls "$apt/parts")" ] ||
		die "no Debian suite in the machine's apt sources; set QEMU= to a QEMU source tree or tarball"
	private_apt update -o APT::Update::Error-Mode=any >> "$log" 2>&1 ||
		die "cannot read Debian's source package lists (no network?), see $log; or set QEMU= to a QEMU source tree or tarball"
	# name, size and checksum of each file, without the address
	private_apt source --print-uris qemu 2>>"$log" |
		awk '/^\x27/ { print $2, $3, $4 }' > "$apt/identity"
	[ -s "$apt/identity" ] ||
		die "Debian's source package of qemu is not in the package lists, see $log; or set QEMU="
}

unpack_debian()
{
	if [ ! -s "$apt/identity" ]; then
		open_debian
	fi
	(cd "$apt" && logged "$out/download.log" "the download of QEMU's source" \
		private_apt source --download-only qemu)
	# dpkg-source makes the directory by itself
	rmdir "$1"
	logged "$out/unpack.log" "unpacking QEMU's source" \
		dpkg-source --no-check --no-copy -x "$apt"/qemu_*.dsc "$1"
	rm -rf "$apt"
}

unpack_tarball()
{
	logged "$out/unpack.log" "unpacking $QEMU" tar -xf "$QEMU" -C "$1" --strip-components=1
}

unpack_directory()
{
	tar -C "$QEMU" --exclude=./.git --exclude=./build -cf - . | tar -C "$1" -xf -
}

unpack_source()
{
	need_space 1 "$out"
	"unpack_$kind" "$1"
	[ -f "$1/VERSION" ] || die "QEMU=$QEMU is no QEMU source"
}

# set $kind, and $identity: a hash of the source
find_source()
{
	if [ -z "${QEMU:-}" ]; then
		kind=debian
		# keep the version in use; "make clean" looks for a newer version
		if [ -s "$out/debian.identity" ]; then
			identity=$(cat "$out/debian.identity")
			return
		fi
		open_debian
		identity=$(hash_of < "$apt/identity")
	elif [ -d "$QEMU" ]; then
		kind=directory
		[ -f "$QEMU/target/i386/cpu.h" ] ||
			die "QEMU=$QEMU is a directory but not a QEMU source tree"
		identity=$(cd "$QEMU" && find . -path ./.git -prune -o -path ./build -prune -o \
			-type f -printf '%P %s %T@\n' | sort | hash_of)
	else
		kind=tarball
		identity=$(hash_of < "$QEMU")
	fi
}

# --- build ------------------------------------------------------------------

# the new source files, at their paths in QEMU's tree
new_files()
{
	(cd lab/qemu && find . -mindepth 2 -type f ! -name '.*' ! -name '*~' -printf '%P\n' | sort)
}

build_emulator()
{
	local stamp

	# meson's build directory has absolute paths
	stamp=$(printf '%s\n' "$out" "${config[@]}"; cat lab/qemu/configs/devices/*/*)
	if [ ! -f "$out/obj/build.ninja" ] || [ "$stamp" != "$(cat "$out/obj/configured" 2> /dev/null)" ]; then
		say QEMU "configure $version"
		rm -rf "$out/obj"
		mkdir -p "$out/obj"
		(cd "$out/obj" && logged "$out/configure.log" "QEMU's configure" \
			../src/configure "${config[@]}")
		echo "$stamp" > "$out/obj/configured"
	fi
	say QEMU "build $version (log: $log)"
	logged "$log" "QEMU's build" ninja -C "$out/obj" -j "$(nproc)" qemu-system-x86_64
	mkdir -p "$out/obj/rom"
	printf 'TOPSRC_DIR=%s\nCC=gcc\nOBJCOPY=objcopy\nPYTHON=python3\n' "$out/src" > "$out/obj/rom/config.mak"
	# shellcheck disable=SC2086 # a list
	MAKEFLAGS='' logged "$out/rom.log" "the build of QEMU's option ROMs" \
		make -C "$out/obj/rom" -f "$out/src/pc-bios/optionrom/Makefile" $ROMS
}

find_bios()
{
	local d

	for d in "$out/src/pc-bios" /usr/share/seabios /usr/share/qemu; do
		if [ -s "$d/bios-256k.bin" ]; then
			echo "$d/bios-256k.bin"
			return
		fi
	done
	die "bios-256k.bin is missing; install it with: apt-get install seabios"
}

# install_to DIR: the binary, with its symbols, and the ROMs
install_to()
{
	local rom

	mkdir -p "$1/bin" "$1/share/qemu"
	install "$out/obj/qemu-system-x86_64" "$1/bin/.new"
	mv "$1/bin/.new" "$1/bin/qemu-system-x86_64"
	for rom in $ROMS; do
		install -m 644 "$out/obj/rom/$rom" "$1/share/qemu/$rom"
	done
	install -m 644 "$bios" "$1/share/qemu/bios-256k.bin"
}

# a ready-made emulator: copied, with the ROMs of its data directories
take_executable()
{
	local rom dir found

	"$QEMU" --version > /dev/null 2>&1 ||
		die "QEMU=$QEMU is a program but does not run as an emulator"
	mkdir -p "$out/bin" "$out/share/qemu"
	install "$QEMU" "$out/bin/.new"
	mv "$out/bin/.new" "$out/bin/qemu-system-x86_64"
	for rom in bios-256k.bin $ROMS; do
		found=
		while read -r dir; do
			[ -s "$dir/$rom" ] && found=$dir/$rom && break
		done < <("$QEMU" -L help; echo /usr/share/seabios)
		[ -n "$found" ] || die "QEMU=$QEMU has no $rom in its data directories"
		install -m 644 "$found" "$out/share/qemu/$rom"
	done
	rm -f "$out/key"
	say QEMU "$out/bin/qemu-system-x86_64 is a copy of $QEMU"
}

# --- main -------------------------------------------------------------------

PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$BUILD/qemu"
out=$(realpath "$BUILD/qemu")
log=$out/build.log
apt=$out/apt
lock "$out"

if [ -n "${QEMU:-}" ]; then
	[ -e "$QEMU" ] || die "QEMU=$QEMU does not exist"
	QEMU=$(readlink -f "$QEMU")
	if [ -f "$QEMU" ] && [ -x "$QEMU" ]; then
		take_executable
		exit
	fi
fi

check_tools
config=(
	--target-list=x86_64-softmmu
	--without-default-features --without-default-devices
	--with-devices-x86_64=lab
	--enable-tcg --enable-kvm --enable-fdt=system
	--disable-debug-info --disable-install-blobs --disable-werror
	--with-git-submodules=ignore
	--prefix=/usr "--meson=$(command -v meson)" "--ninja=$(command -v ninja)"
	"--cc=$(compiler)"
)

: > "$log"
find_source
bios=$(find_bios)
key=$({
	echo "$identity"
	printf '%s\n' "${config[@]}"
	gcc --version
	sha256sum < lab/build/emulator.sh
	sha256sum < "$bios"
	sha256sum patches/qemu/*.patch
	new_files | (cd lab/qemu && xargs sha256sum)
} | hash_of)
cache=$CACHE/qemu/$key

if [ "$(cat "$out/key" 2> /dev/null)" = "$key" ] && [ -x "$out/bin/qemu-system-x86_64" ]; then
	exit
fi
rm -f "$out/key"
if [ -f "$cache/complete" ]; then
	rm -rf "$apt"
	say QEMU "from the cache ($cache)"
	mkdir -p "$out/bin" "$out/share"
	cp -r --remove-destination "$cache/bin" "$cache/share" "$out/"
else
	replace_tree "$out/src" "${QEMU:-the QEMU of Debian}" "$identity"
	version="QEMU $(cat "$out/src/VERSION")"
	apply_patches "$out/src" "$version" patches/qemu/*.patch
	new_files | link_overlay "$out/src" "$version" lab/qemu
	build_emulator
	install_to "$out"
	if mkdir -p "$cache" 2> /dev/null && has_space 1 "$cache"; then
		install_to "$cache"
		touch "$cache/complete"
	fi
fi
"$out/bin/qemu-system-x86_64" --version >> "$log" ||
	die "the emulator that was built does not start, see $log"
if [ "$kind" = debian ]; then
	echo "$identity" > "$out/debian.identity"
fi
echo "$key" > "$out/key"
say QEMU "$out/bin/qemu-system-x86_64"
