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

# The binary and its libraries must be the same on every machine. Leave out script
# engines, BPF skeletons (which need clang), Java, and shellcheck of perf's tests, whose
# remarks depend on its version. The build runs python3, but must not search for a
# Python to link with.
features=(NO_LIBPYTHON=1 NO_LIBPERL=1 NO_JVMTI=1 BUILD_BPF_SKEL=0 NO_LIBBABELTRACE=1
	  NO_LIBDEBUGINFOD=1 NO_LIBLLVM=1 NO_LIBPFM4=1 NO_SHELLCHECK=1
	  PYTHON=/usr/bin/python3 PYTHON_CONFIG=true)

# perf is not built again from the same inputs
stamp=$dir/built-from
inputs=$(inputs -E '^tools/(perf|lib|include|arch|build|scripts)/'
	 cat lab/build/perf.sh)
if [ "${targets[*]}" = all ] && unchanged "$stamp" "$dir/perf" <<< "$inputs"; then
	exit
fi
rm -f "$stamp"
say PERF "$dir/perf"
logged "$dir/build.log" "building perf" \
	submake -C "$BUILD/linux/tools/perf" O="$(realpath "$dir")" \
	prefix=/opt/guestperf "${features[@]}" "${targets[@]}"
[ "${targets[*]}" != all ] || echo "$inputs" > "$stamp"
