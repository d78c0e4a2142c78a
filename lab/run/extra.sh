# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The user's own files, guest kernel and settings for a boot, as an initramfs image to
# append to the host's. Nothing else has to be rebuilt. Source it after lib.sh.
#
#   extra_check		refuse bad settings, before anything is built
#   extra_image		build the image, unless all settings are empty, and set HOST_ADD
#			for boot.sh. The image is removed at the end of the script.
#
# Environment:
#   FILES		a directory, or a list of files and directories: the files, and the
#			contents of each directory, are put into /work of both machines, with
#			their shared libraries and shells
#   GUEST, HOST		the commands of "make run"
#   GUEST_KERNEL	the guest's kernel, a bzImage such as a distribution's vmlinuz
#   GUEST_MODULES	the kernel's lib/modules/VERSION, if virtio is modular
#   GUEST_MEM, GUEST_CPUS, GUEST_CPU, GUEST_APPEND	see lab/vm/guest.sh

. lab/build/cpio.sh

# Build tools must not see the variables. Some shells export HOST=$(uname -n).
export -n FILES GUEST HOST GUEST_KERNEL GUEST_MODULES GUEST_MEM GUEST_CPUS GUEST_CPU GUEST_APPEND
[ "${HOST:-}" != "$(uname -n)" ] || HOST=

# modules for the guest's init
guest_modules="virtio_pci virtio_console"

# kernel_version BZIMAGE: as uname -r prints. Documentation/arch/x86/boot.rst has the
# offsets.
kernel_version()
{
	local offset

	[ "$(dd if="$1" bs=1 skip=514 count=4 2> /dev/null)" = HdrS ] || return
	offset=$(od -An -tu2 -j526 -N2 "$1")
	dd if="$1" bs=1 skip=$((offset + 512)) count=100 2> /dev/null | tr '\0' ' ' | cut -d' ' -f1
}

# module NAME: the module's file below GUEST_MODULES
module()
{
	find "$GUEST_MODULES/" -name "${1//_/[_-]}.ko*" -print -quit
}

# each_of_files COMMAND...: run COMMAND with each path in FILES; a single path may have
# spaces
each_of_files()
{
	local path

	if [ -e "$FILES" ]; then
		"$@" "$FILES"
		return
	fi
	for path in $FILES; do
		"$@" "$path"
	done
}

check_path()
{
	[ -e "$1" ] || die "FILES: there is no $1"
	[ -r "$1" ] || die "FILES: $1 cannot be read"
	[ -d "$1" ] || [ -f "$1" ] || die "FILES: $1 is neither a file nor a directory"
}

check_modules()
{
	local version=$1 name file theirs

	[ -d "$GUEST_MODULES" ] || die "GUEST_MODULES: there is no directory $GUEST_MODULES"
	for name in $guest_modules; do
		file=$(module "$name")
		[ -n "$file" ] || grep -qs "/$name.ko" "$GUEST_MODULES/modules.builtin" ||
			die "GUEST_MODULES: $GUEST_MODULES has no $name.ko, which the lab's guest needs"
		[ -n "$file" ] || continue
		theirs=$(/sbin/modinfo -F vermagic "$file" | cut -d' ' -f1)
		[ "$theirs" = "$version" ] ||
			die "GUEST_MODULES: they are for Linux $theirs, GUEST_KERNEL is $version"
	done
}

extra_check()
{
	local version

	if [ -n "${FILES:-}" ]; then
		each_of_files check_path
	fi
	if [ -n "${GUEST_KERNEL:-}" ]; then
		[ -r "$GUEST_KERNEL" ] || die "GUEST_KERNEL: there is no $GUEST_KERNEL, or it cannot be read"
		version=$(kernel_version "$GUEST_KERNEL") ||
			die "GUEST_KERNEL: $GUEST_KERNEL is no bzImage of x86"
	fi
	if [ -n "${GUEST_MODULES:-}" ]; then
		[ -n "${GUEST_KERNEL:-}" ] || die "GUEST_MODULES is of no use without GUEST_KERNEL"
		check_modules "$version"
	fi
}

copy_path()
{
	local root=$extra/guest/work

	if [ -d "$1" ]; then
		cp -a "$1/." "$root/"
		chmod 755 "$root"
	else
		[ ! -e "$root/$(basename "$1")" ] || die "FILES: $(basename "$1") is there twice"
		cp -L --preserve=mode "$1" "$root/"
	fi
}

# interpreter SCRIPT: the program in its first line, or nothing
interpreter()
{
	local program argument

	read -r program argument < <(head -c 200 "$1" | head -n 1 | tr -d '\0' | sed -n 's/^#! *//p') || true
	case $program in
	'')	return ;;
	*/env)	program=$(PATH=$PATH:/sbin:/usr/sbin command -v "${argument##* }" || echo "${argument##* }") ;;
	esac
	echo "$program"
}

# add_needs FILE: add the libraries or the shell of a program or script in FILES, or
# name the missing
add_needs()
{
	local name=${1#"$extra/guest/work/"} library program

	while read -r library; do
		[ -n "$(find "$extra/guest/work" -name "$library" -print -quit)" ] ||
			say NOTE "$name needs $library, which is neither on this machine nor in FILES"
	done < <(libraries "$1" | sed -n 's/^not found: //p')
	add_libraries "$extra/guest" "$1"

	program=$(interpreter "$1")
	[ -n "$program" ] && [ ! -e "$extra/guest/$program" ] || return 0
	case ${program##*/} in
	sh | ash | awk | sed | busybox)	;;
	*sh)	if [ -x "$program" ]; then
			add "$extra/guest" "$program"
		else
			say NOTE "$name needs $program, which is not on this machine"
		fi ;;
	*)	say NOTE "$name needs $program, which the machines of the lab do not have" ;;
	esac
}

add_files()
{
	local file

	each_of_files copy_path
	while read -r file; do
		add_needs "$file"
	done < <(find "$extra/guest/work" -type f -perm /111)
}

add_modules()
{
	local version=$1 root=$extra/guest all=$extra/all name path

	mkdir -p "$root/lib/modules/$version" "$all/lib/modules"
	ln -s "$(realpath "$GUEST_MODULES")" "$all/lib/modules/$version"
	# depmod's dry run prints "FILE: DEPENDENCIES" for each module
	/sbin/depmod -n -b "$all" "$version" 2> /dev/null | grep '^[^ ]*\.ko[^ ]*:' > "$extra/modules.dep" || true
	# check_modules() has found each, here or built in
	for name in $guest_modules; do
		sed -n "/\/${name//_/[_-]}\.ko[^ ]*:/ { s/://; s/ /\n/g; p }" "$extra/modules.dep"
	done | sort -u > "$extra/modules.list"
	while read -r path; do
		add_module "$GUEST_MODULES/$path" "$root/lib/modules/$version/$path"
	done < "$extra/modules.list"
	for path in "$GUEST_MODULES"/modules.builtin* "$GUEST_MODULES"/modules.order; do
		[ ! -e "$path" ] || cp -L "$path" "$root/lib/modules/$version/"
	done
	/sbin/depmod -b "$root" "$version"
}

# add_module FILE DEST: copy and decompress
add_module()
{
	local unpack=cat

	mkdir -p "$(dirname "$2")"
	case $1 in
	*.xz)	unpack="xz -dc" ;;
	*.zst)	unpack="zstd -dcq" ;;
	*.gz)	unpack="gzip -dc" ;;
	esac
	command -v "${unpack%% *}" > /dev/null || die "GUEST_MODULES: ${1##*/} needs the program ${unpack%% *}"
	$unpack < "$1" > "${2%.ko*}.ko"
}

# setting NAME VALUE: a line for the shell of the host's init
setting()
{
	[ -z "$2" ] || printf "%s='%s'\n" "$1" "${2//\'/\'\\\'\'}"
}

# the environment of the host VM's scripts
settings()
{
	local mem=${GUEST_MEM:-} kernel='' add=''

	if [ -n "${GUEST_KERNEL:-}" ]; then
		kernel=/boot/extra/bzImage
		mem=${mem:-1024}
	fi
	[ ! -e "$extra/host/boot/extra/guest.cpio" ] || add=/boot/extra/guest.cpio
	setting GUEST_KERNEL "$kernel"
	setting GUEST_ADD "$add"
	setting GUEST_MEM "$mem"
	setting GUEST_CPUS "${GUEST_CPUS:-}"
	setting GUEST_CPU "${GUEST_CPU:-}"
	setting GUEST_APPEND "${GUEST_APPEND:-}"
}

# the commands of "make run" are files: kernel parameters could not hold them
commands()
{
	[ -z "${GUEST:-}" ] || printf '%s\n' "$GUEST" > "$extra/guest/lab/guest.command"
	[ -z "${HOST:-}" ] || printf '%s\n' "$HOST" > "$extra/guest/lab/host.command"
}

extra_image()
{
	local version size

	export HOST_ADD=
	[ -n "${FILES:-}${GUEST:-}${HOST:-}${GUEST_KERNEL:-}${GUEST_MEM:-}${GUEST_CPUS:-}${GUEST_CPU:-}${GUEST_APPEND:-}" ] || return 0
	if [ -n "${DRYRUN:-}" ]; then
		HOST_ADD=not-built
		return
	fi

	mkdir -p "$OUT"
	extra=$(mktemp -d "$OUT/extra.XXXXXX")
	trap 'rm -rf "$extra"' EXIT
	HOST_ADD=$extra/extra.cpio
	mkdir -p "$extra/guest/work" "$extra/guest/lab" "$extra/host/boot/extra" "$extra/host/lab"
	commands
	[ -z "${FILES:-}" ] || add_files
	# both machines have the same files; modules are the guest's alone
	cp -a "$extra/guest/." "$extra/host/"
	if [ -n "${GUEST_KERNEL:-}" ]; then
		version=$(kernel_version "$GUEST_KERNEL")
		cp -L "$GUEST_KERNEL" "$extra/host/boot/extra/bzImage"
	fi
	[ -z "${GUEST_MODULES:-}" ] || add_modules "$version"
	pack "$extra/guest" "$extra/host/boot/extra/guest.cpio"
	settings > "$extra/host/lab/settings"
	pack "$extra/host" "$HOST_ADD"

	# The memory of the host VM holds the archive and the files, and both again for the
	# guest.
	size=$(($(stat -c %s "$HOST_ADD") >> 20))
	[ $((4 * size)) -lt $((${MEM:-3072} - 1500)) ] ||
		die "FILES and what comes with them are $size MiB: give the host VM more memory than MEM=${MEM:-3072}"
}
