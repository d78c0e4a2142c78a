#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Install the missing packages of lab/build/packages, with one apt-get install.
# DEPS=no installs nothing, and names a missing tool with its package.

. "$(dirname "$0")/../lib.sh"

missing=()
while read -r package proof; do
	case $package in
	''|'#'*)	continue ;;
	esac
	# a LINUX or QEMU of the user's own stands in for Debian's
	[ "$package" = linux-source-6.12 ] && [ -n "${LINUX:-}" ] && continue

	case $proof in
	/*)	[ -e "$proof" ] && continue ;;
	'<'*)	echo "#include $proof" | gcc -E - > /dev/null 2>&1 && continue ;;
	*)	PATH=$PATH:/sbin:/usr/sbin command -v "$proof" > /dev/null && continue ;;
	esac
	if [ "${DEPS:-}" = no ]; then
		die "$proof is missing: install the package $package, or run without DEPS=no"
	fi
	missing+=("$package")
done < lab/build/packages
[ ${#missing[@]} -gt 0 ] || exit 0

hint="install these yourself and use DEPS=no: ${missing[*]}"
command -v apt-get > /dev/null || die "no apt-get on this machine; $hint"
sudo=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo > /dev/null || die "neither root nor sudo; $hint"
	sudo=(sudo)
fi

say DEPS "apt-get install ${missing[*]}"
apt_get()
{
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"
}
log=$BUILD/deps.log
mkdir -p "$BUILD"
apt_get update > "$log" 2>&1 ||
	die "apt-get update failed: is there a network? (log: $log)"
apt_get install --no-install-recommends "${missing[@]}" >> "$log" 2>&1 ||
	die "apt-get install failed: is there a network, and room on the disk? (log: $log)"
