# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Shared by the lab's scripts, which source lib.sh first: it moves to the top of the
# repository, and makes a failing command end the script.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BUILD=${BUILD:-build}
OUT=${OUT:-out}
: "${XDG_CACHE_HOME:=$HOME/.cache}"
CACHE=$XDG_CACHE_HOME/guestperf
export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache}
# objects are the same wherever the repository lies
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
# what is not in the cache is compiled at once, instead of preprocessed first
export CCACHE_DEPEND=1
export LC_ALL=C
# the system's own python3 and meson, not others in a user's PATH
PATH=/usr/bin:/bin:$PATH

# the overlay's directories, at their paths in Linux
# shellcheck disable=SC2034 # used by other scripts
OVERLAY_DIRS="arch include kernel virt tools Documentation"

# die MESSAGE: the failure, its cause and its remedy, in one line
die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

say()
{
	printf '  %-8s %s\n' "$1" "${*:2}"
}

case $PWD$BUILD$OUT in
*[[:space:]:]*)	die "the path $PWD, BUILD or OUT has a space or a colon, which the build of the kernel cannot take" ;;
esac

# free_mib DIR
free_mib()
{
	df --output=avail -BM "$1" | tr -dc '0-9\n' | tail -n 1
}

# has_space GIB DIR
has_space()
{
	[ "$(free_mib "$2")" -ge $(($1 * 1024)) ]
}

# need_space GIB DIR
need_space()
{
	has_space "$1" "$2" ||
		die "$2 has $(free_mib "$2") MiB free and this needs $1 GiB: free some space, or build elsewhere with BUILD=/other/disk"
}

# logged LOG WHAT COMMAND...: run COMMAND with its output in LOG; on failure, show the
# errors or the end of the output
logged()
{
	local log=$1 what=$2

	shift 2
	mkdir -p "$(dirname "$log")"
	if [ -n "${V:-}" ]; then
		"$@" 2>&1 | tee "$log" && return
	else
		"$@" > "$log" 2>&1 < /dev/null && return
	fi
	grep -E '(^|[^a-z])([Ee]rror|\*\*\*)[: ]' "$log" | head -n 5 >&2 || tail -n 5 "$log" >&2
	if grep -q 'No space left on device' "$log"; then
		die "$what failed: the disk is full; free some space and run it again (log: $log)"
	fi
	die "$what failed; the log is $log"
}

# jobs: the -j flag for a make below us: none where a make above us hands out jobs
jobs()
{
	case ${MAKEFLAGS:-} in
	*--jobserver*)	;;
	*)		echo "-j$(nproc)" ;;
	esac
}

# build TARGET...: bring targets of build.mk up to date
build()
{
	# shellcheck disable=SC2046
	make $(jobs) --no-print-directory -f lab/build/build.mk "$@"
}

# submake ARG...: run a kernel make without our variables in its environment
submake()
{
	# shellcheck disable=SC2046
	env -u LINUX -u QEMU -u CONFIG -u SIGNOFF -u DEPS -u BUILD -u OUT -u ONLY -u LIST -u V \
		-u TIMEOUT -u DRYRUN -u CPUS -u MEM -u PMU -u ICOUNT -u APPEND \
		-u GUEST -u HOST -u FILES -u GUEST_KERNEL -u GUEST_MODULES \
		-u GUEST_CPUS -u GUEST_MEM -u GUEST_CPU -u GUEST_APPEND \
		make $(jobs) CC="$(compiler)" "$@"
}

# compiler: the C compiler, through ccache where installed
compiler()
{
	if command -v ccache > /dev/null; then
		echo "ccache ${CC:-gcc}"
	else
		echo "${CC:-gcc}"
	fi
}

# kernel_dir [NAME]: the build directory of a kernel: lab, debug, custom.
# Kbuild uses relative paths in a build directory below the source, so that a moved
# repository is not built anew.
kernel_dir()
{
	echo "$BUILD/linux/build-${1:-lab}"
}

# inputs [GREP_OPTION...]: the inputs of a build: Linux, our changes to it as far as grep
# selects their paths, and the compiler
inputs()
{
	local state=$BUILD/linux/.guestperf

	compiler
	"${CC:-gcc}" --version
	cat "$state/source"
	sort "$state/patched" "$state/overlay" | grep "${@:-}" |
		(cd "$BUILD/linux" && xargs -r sha256sum)
}

# unchanged STAMP FILE...: standard input equals STAMP, and the FILEs are there. A moved
# or copied repository is not built anew, although tools/ has absolute paths in its builds.
unchanged()
{
	local stamp=$1 f

	shift
	for f; do [ -e "$f" ] || return; done
	cmp -s - "$stamp"
}

# linux_version TREE: such as 6.12.8, or nothing
linux_version()
{
	[ ! -f "$1/Makefile" ] ||
		sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = //p' "$1/Makefile" | paste -sd.
}

# replace DIR: the complete DIR.new takes the place of DIR
replace()
{
	rm -rf "$1.old"
	[ ! -e "$1" ] || mv "$1" "$1.old"
	mv "$1.new" "$1"
	rm -rf "$1.old"
}

# keep FILE COPY: copy FILE to the cache if there is room; copies older than a month go
keep()
{
	local dir=${2%/*}

	if mkdir -p "$dir" 2> /dev/null && has_space 1 "$dir"; then
		find "$dir" -mindepth 1 -mtime +30 -delete
		cp "$1" "$2.$$"
		mv "$2.$$" "$2"
	fi
}

# lock DIR: wait until no other make works on DIR, and keep it until we end
lock()
{
	mkdir -p "$(dirname "$1")"
	exec {lock_fd}> "$1.lock"
	flock "$lock_fd"
}

# update FILE: replace FILE with standard input, unless both are equal
update()
{
	mkdir -p "$(dirname "$1")"
	cat > "$1.new"
	if cmp -s "$1.new" "$1"; then
		rm "$1.new"
	else
		mv "$1.new" "$1"
	fi
}
