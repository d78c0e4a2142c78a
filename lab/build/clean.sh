#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Remove what was built and the results; the caches in ~/.cache/guestperf stay.

. "$(dirname "$0")/../lib.sh"

for dir in "$BUILD" "$OUT"; do
	[ "$(realpath -m "$dir")" != "$PWD" ] || die "BUILD or OUT is the repository itself"
	rm -rf "${dir:?}"
done
