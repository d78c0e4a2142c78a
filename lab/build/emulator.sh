#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Build the lab's emulator: QEMU with patches/qemu/ and the new files of
# lab/qemu/, x86_64 only, without display or network.
#
# usage: lab/build/emulator.sh OUTDIR
#
# OUTDIR/bin/qemu-system-x86_64 and OUTDIR/share/qemu/ (its ROMs) are the
# result.  The source is Debian's source package of qemu, or what QEMU= names:
#   QEMU=DIRECTORY   a QEMU source tree (copied, never written to)
#   QEMU=TARBALL     a QEMU source archive
#   QEMU=EXECUTABLE  a ready-made qemu-system-x86_64, taken as it is
# A finished build is kept under ~/.cache/guestperf/qemu, named by the hash of
# everything that goes into it.

set -euo pipefail

readonly ROMS="kvmvapic.bin linuxboot_dma.bin pvh.bin"
readonly NEED_MB=800

die()
{
	echo "lab/build/emulator.sh: $*" >&2
	exit 1
}

say()
{
	printf '  %-7s %s\n' QEMU "$*"
}

# run DESCRIPTION COMMAND...: log the command's output; show its end on failure
run()
{
	local what=$1
	shift
	if ! "$@" >>"$log" 2>&1 </dev/null; then
		if [ "$(free_mb "$out")" -lt 20 ]; then
			die "$what failed: the disk of $out is full; free some space and run it again"
		fi
		echo "lab/build/emulator.sh: $what failed, see $log; its last lines:" >&2
		tail -n 15 "$log" >&2
		exit 1
	fi
}

free_mb()
{
	df -Pm "$1" | awk 'NR == 2 { print $4 }'
}

hash_of()
{
	sha256sum | cut -c1-32
}

# --- what is needed ---------------------------------------------------------

need_tool()
{
	command -v "$1" >/dev/null ||
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
			}' >>"$apt/src.list"
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
		}' "$f" >>"$apt/src.sources"
	done
}

# apt-get with a state directory of its own: the machine's stays as it is
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
	if ! private_apt update -o APT::Update::Error-Mode=any >>"$log" 2>&1; then
		die "cannot read Debian's source package lists (no network?), see $log; or set QEMU= to a QEMU source tree or tarball"
	fi
	# name, size and checksum of each file, without the address
	private_apt source --print-uris qemu 2>>"$log" |
		awk '/^\x27/ { print $2, $3, $4 }' >"$apt/identity"
	[ -s "$apt/identity" ] ||
		die "Debian's source package of qemu is not in the package lists, see $log; or set QEMU="
}

unpack_debian()
{
	if [ ! -s "$apt/identity" ]; then
		open_debian
		identity=$(hash_of <"$apt/identity")
	fi
	say "source $(awk '/\.dsc / { sub(/\.dsc$/, "", $1); print $1 }' "$apt/identity") from Debian"
	(cd "$apt" && run "the download of QEMU's source" private_apt source --download-only qemu)
	run "unpacking QEMU's source" dpkg-source --no-check --no-copy -x "$apt"/qemu_*.dsc "$out/src.new"
}

unpack_tarball()
{
	mkdir "$out/src.new"
	run "unpacking $QEMU" tar -xf "$QEMU" -C "$out/src.new" --strip-components=1
}

unpack_directory()
{
	run "copying $QEMU" cp -a "$QEMU" "$out/src.new"
	rm -rf "$out/src.new/build" "$out/src.new/.git"
}

# sets $kind, and $identity: a hash which changes whenever the source does
find_source()
{
	if [ -z "${QEMU:-}" ]; then
		kind=debian
		# the version in use here is kept; "make clean" looks for a newer one
		if [ -s "$out/debian.identity" ]; then
			identity=$(cat "$out/debian.identity")
			return
		fi
		open_debian
		identity=$(hash_of <"$apt/identity")
	elif [ -d "$QEMU" ]; then
		kind=directory
		[ -f "$QEMU/target/i386/cpu.h" ] ||
			die "QEMU=$QEMU is a directory but not a QEMU source tree"
		identity=$(cd "$QEMU" && find . -path ./.git -prune -o -path ./build -prune -o \
			-type f -printf '%P %s %T@\n' | LC_ALL=C sort | hash_of)
	else
		kind=tarball
		identity=$(hash_of <"$QEMU")
	fi
}

unpack_source()
{
	if [ "$(cat "$out/src.identity" 2>/dev/null)" = "$identity" ] && [ -d "$out/src" ]; then
		return
	fi
	[ "$(free_mb "$out")" -ge $NEED_MB ] ||
		die "building QEMU takes $NEED_MB MB in $out and only $(free_mb "$out") are free"
	rm -rf "$out/src" "$out"/src.* "$out/obj" "$out/orig" "$out/links"
	"unpack_$kind"
	mv "$out/src.new" "$out/src"
	[ -f "$out/src/VERSION" ] || die "what QEMU= names is not a QEMU source"
	# last: a cut-off unpacking is not taken for a whole one
	echo "$identity" >"$out/src.identity"
	rm -rf "$out/apt"
}

# --- our changes ------------------------------------------------------------

# Apply patches to copies of the pristine files, then move over only what
# differs, so that ninja rebuilds only what a changed patch touches.
apply_patches()
{
	local p f msg version
	version=$(cat "$out/src/VERSION")
	rm -rf "$out/stage"
	mkdir -p "$out/stage" "$out/orig"
	sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$patches"/*.patch | sort -u >"$out/patched"
	while read -r f; do
		if [ ! -f "$out/orig/$f" ]; then
			[ -f "$out/src/$f" ] || die "QEMU $version has no file $f, which patches/qemu changes"
			install -D -m 644 "$out/src/$f" "$out/orig/$f"
		fi
		install -D -m 644 "$out/orig/$f" "$out/stage/$f"
	done <"$out/patched"
	for p in "$patches"/*.patch; do
		if ! msg=$(patch -p1 --fuzz=0 --batch --forward --no-backup-if-mismatch \
				-d "$out/stage" -r - <"$p" 2>&1); then
			echo "$msg" >>"$log"
			f=$(awk '/^patching file/ { f = $3 } /FAILED at|ignored/ { print f ": " $0; exit }' <<<"$msg")
			die "patches/qemu/${p##*/} does not apply to QEMU $version: $f"
		fi
	done
	(cd "$out/orig" && find . -type f -printf '%P\n') | while read -r f; do
		if [ ! -f "$out/stage/$f" ]; then	# no patch changes it any more
			install -m 644 "$out/orig/$f" "$out/src/$f"
			rm "$out/orig/$f"
		elif ! cmp -s "$out/stage/$f" "$out/src/$f"; then
			install -m 644 "$out/stage/$f" "$out/src/$f"
		fi
	done
	rm -rf "$out/stage"
}

# the new source files, each at the path it has in QEMU's tree
new_files()
{
	(cd "$here" && find . -mindepth 2 -type f -printf '%P\n' |
		LC_ALL=C sort)
}

link_new_files()
{
	local f
	if [ -f "$out/links" ]; then
		while read -r f; do
			[ -e "$here/$f" ] || rm -f "$out/src/$f"
		done <"$out/links"
	fi
	new_files >"$out/links"
	while read -r f; do
		if [ "$(readlink -f "$out/src/$f")" != "$(readlink -f "$here/$f")" ]; then
			mkdir -p "$out/src/${f%/*}"
			ln -sfr "$here/$f" "$out/src/$f"
		fi
	done <"$out/links"
}

# --- build ------------------------------------------------------------------

build()
{
	local stamp
	stamp=$(printf '%s\n' "${config[@]}"; cat "$here"/configs/devices/*/*)
	if [ ! -f "$out/obj/build.ninja" ] || [ "$stamp" != "$(cat "$out/obj/configured" 2>/dev/null)" ]; then
		say "configure $(cat "$out/src/VERSION")"
		rm -rf "$out/obj"
		mkdir -p "$out/obj"
		(cd "$out/obj" && run "QEMU's configure" ../src/configure "${config[@]}")
		printf '%s\n' "$stamp" >"$out/obj/configured"
	fi
	say "build $(cat "$out/src/VERSION") (log: $log)"
	run "QEMU's build" ninja -C "$out/obj" -j "$(nproc)" qemu-system-x86_64
	mkdir -p "$out/obj/rom"
	printf 'TOPSRC_DIR=%s\nCC=gcc\nOBJCOPY=objcopy\nPYTHON=python3\n' "$out/src" >"$out/obj/rom/config.mak"
	# shellcheck disable=SC2086 # a list
	MAKEFLAGS='' run "the build of QEMU's option ROMs" \
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

# install_to DIR: the binary and its ROMs, each moved into place whole
install_to()
{
	local rom
	mkdir -p "$1/bin" "$1/share/qemu"
	install -s "$out/obj/qemu-system-x86_64" "$1/bin/.new"
	mv "$1/bin/.new" "$1/bin/qemu-system-x86_64"
	for rom in $ROMS; do
		install -m 644 "$out/obj/rom/$rom" "$1/share/qemu/$rom"
	done
	install -m 644 "$bios" "$1/share/qemu/bios-256k.bin"
}

# a ready-made emulator: copied, with the ROMs it finds by itself
take_executable()
{
	local rom dir found
	"$QEMU" --version >/dev/null 2>&1 ||
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
	say "$out/bin/qemu-system-x86_64 is a copy of $QEMU"
}

# --- main -------------------------------------------------------------------

[ $# -eq 1 ] || die "usage: lab/build/emulator.sh OUTDIR"
here=$(cd "$(dirname "$0")/../qemu" && pwd)
patches=$(cd "$here/../../patches/qemu" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
log=$out/build.log
apt=$out/apt
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH

# ninja and make have no lock of their own
exec 9>"$out/lock"
flock 9

if [ -n "${QEMU:-}" ]; then
	[ -e "$QEMU" ] || die "QEMU=$QEMU does not exist"
	QEMU=$(readlink -f "$QEMU")
	if [ -f "$QEMU" ] && [ -x "$QEMU" ]; then
		take_executable
		exit
	fi
fi

check_tools
: >"$log"
cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
fi
config=(
	--target-list=x86_64-softmmu
	--without-default-features --without-default-devices
	--with-devices-x86_64=lab
	--enable-tcg --enable-kvm --enable-fdt=system
	--disable-debug-info --disable-install-blobs --disable-werror
	--with-git-submodules=ignore
	--prefix=/usr "--meson=$(command -v meson)" "--ninja=$(command -v ninja)"
	"--cc=$cc"
)

find_source
bios=$(find_bios)
key=$({
	echo "$identity"
	printf '%s\n' "${config[@]}"
	gcc --version
	sha256sum <"$0"
	sha256sum <"$bios"
	(cd "$patches" && sha256sum ./*.patch)
	new_files | (cd "$here" && xargs sha256sum)
} | hash_of)
cache=${HOME:-/nonexistent}/.cache/guestperf/qemu/$key

if [ "$(cat "$out/key" 2>/dev/null)" = "$key" ] && [ -x "$out/bin/qemu-system-x86_64" ]; then
	exit
fi
rm -f "$out/key"
if [ -f "$cache/complete" ]; then
	rm -rf "$apt"
	say "from the cache ($cache)"
	mkdir -p "$out/bin" "$out/share"
	cp -r --remove-destination "$cache/bin" "$cache/share" "$out/"
else
	unpack_source
	apply_patches
	link_new_files
	build
	install_to "$out"
	if mkdir -p "$cache" 2>/dev/null && [ "$(free_mb "$cache")" -gt 200 ]; then
		install_to "$cache"
		touch "$cache/complete"
	fi
fi
"$out/bin/qemu-system-x86_64" --version >>"$log" ||
	die "the emulator that was built does not start, see $log"
if [ "$kind" = debian ]; then
	echo "$identity" >"$out/debian.identity"
fi
echo "$key" >"$out/key"
say "$out/bin/qemu-system-x86_64"
