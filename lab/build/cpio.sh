# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Build initramfs images. Source after lib.sh.

# libraries FILE: the shared libraries of FILE, or "not found: NAME" for a missing library
libraries()
{
	ldd "$1" 2> /dev/null |
		sed -n -e 's/^\t\([^ ]*\) => not found$/not found: \1/p' -e 's/.*\t\(.* => \)\?\(\/[^ ]*\) (.*/\2/p'
}

# add ROOT FILE [DEST]: copy FILE, with its shared libraries
add()
{
	local root=$1 file=$2 dest=$1/${3:-$2}

	mkdir -p "$(dirname "$dest")"
	cp -L "$file" "$dest"
	add_libraries "$root" "$file"
}

# add_libraries ROOT FILE: copy the shared libraries of FILE
add_libraries()
{
	local lib

	while read -r lib; do
		[ -e "$1/$lib" ] || { mkdir -p "$1/${lib%/*}"; cp -L "$lib" "$1/$lib"; }
	done < <(libraries "$2" | grep '^/')
}

# pack ROOT IMAGE
pack()
{
	find "$1" -exec touch -hd @0 {} +
	(cd "$1" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) | update "$2"
}
