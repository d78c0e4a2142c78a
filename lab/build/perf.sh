#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build tools/perf from the assembled tree, into build/perf.
#
#   lab/build/perf.sh [ARG...]	arguments for its make: all, or install-bin DESTDIR=DIR

. "$(dirname "$0")/../lib.sh"

dir=$BUILD/perf
targets=("${@:-all}")
mkdir -p "$dir"
lock "$dir"

# Left out, so that the binary and what it links to are the same on every
# machine: script engines, BPF skeletons (they need clang), Java; and no checks of
# its shell tests, which find fault by the version of their checker. Python is still
# needed to build; its search for one would want the files to link with.
features=(NO_LIBPYTHON=1 NO_LIBPERL=1 NO_JVMTI=1 BUILD_BPF_SKEL=0 NO_LIBBABELTRACE=1
	  NO_LIBDEBUGINFOD=1 NO_LIBLLVM=1 NO_LIBPFM4=1 NO_SHELLCHECK=1
	  PYTHON=/usr/bin/python3 PYTHON_CONFIG=true)

say PERF "$dir/perf"
logged "$dir/build.log" "building perf" \
	submake -C "$BUILD/linux/tools/perf" O="$(realpath "$dir")" \
	prefix=/opt/guestperf "${features[@]}" "${targets[@]}"
