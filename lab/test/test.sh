#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run all suites of tests, or those named: print KTAP as it comes, then one line
#
#	N passed, N failed, N skipped
#
#	lab/test/test.sh [SUITE...]
#
# Environment: ONLY, the name of a suite or of a test to run alone; LIST=1,
# list both and stop. Logs and consoles are in out/test-SUITE.

. "$(dirname "$0")/../lib.sh"

# A suite is a command of these, or else a boot of the host VM, which runs the tests
# of lab/test/suites/SUITE with the kernel's own runner; those named debug... in the kernel
# that checks itself.
declare -A script_suites=(
	[tree]=lab/test/scripts/tree.sh
	[lab]=lab/test/scripts/lab.sh
	[deb]=lab/test/scripts/deb.sh
	[emulator]=lab/test/emulator/run.sh
	[lab_pmu]="lab/run/boot.sh test-lab_pmu lab_pmu"
)
suites=(tree lab emulator lab_pmu kvm perf_kvm perf_kvm_nmi pv_pmu deb debug_subset)
[ $# = 0 ] || suites=("$@")

tests_of()
{
	[ -n "${script_suites[$1]:-}" ] || sed -e 's/[# ].*//' -e '/^$/d' "lab/test/suites/$1"
}

list()
{
	local suite

	for suite in "${suites[@]}"; do
		echo "$suite"
		tests_of "$suite" | sed 's/^/  /'
	done
}

# selected SUITE: the tests that ONLY selects of the suite, a line each, or nothing for
# all of it; fails if it selects none. A subset is selected as a whole only.
selected()
{
	case ${ONLY:-} in
	''|"$1")	;;
	*)		[[ $1 != *_subset ]] && tests_of "$1" | grep -E "(^|:)$ONLY\$" ;;
	esac
}

# A boot keeps one CPU busy: the others build the debug kernel meanwhile. It has a
# process group of its own, because what runs in the background gets no Ctrl-C.
build_debug_kernel()
{
	local suite

	for suite in "${suites[@]}"; do
		if [[ $suite = debug* ]] && selected "$suite" > /dev/null; then
			set -m
			CONFIG='' LAB_KERNEL=debug nice lab/build/kernel.sh \
				< /dev/null > "$OUT/debug-kernel.log" 2>&1 &
			trap '[ -z "$(builtin jobs -pr)" ] || kill -- "-$(builtin jobs -pr)"' EXIT
			set +m
			return
		fi
	done
}

# debug_image: wait for the debug kernel, and build the host's image with it
debug_image()
{
	CONFIG='' LAB_KERNEL=debug lab/build/kernel.sh && LAB_KERNEL=debug lab/build/image.sh
}

# run SUITE [TEST...]: all tests of the suite, or only those
run()
{
	local suite=$1 kernel=

	shift
	echo "# suite: $suite"
	if [ -n "${script_suites[$suite]:-}" ]; then
		# shellcheck disable=SC2086
		${script_suites[$suite]}
		return
	fi
	if [[ $suite = debug* ]]; then
		kernel=debug
		debug_image 2>&1 | sed 's/^/# /' || return
	fi
	LAB_KERNEL=$kernel TIMEOUT=${TIMEOUT:-2400} \
		lab/run/boot.sh "test-$suite" kselftest "$suite" "$@"
}

# count FILE: the results of a suite's KTAP as "passed failed skipped"; a result
# that the plan announced and that did not come is a failure
count()
{
	awk '
		/^1\.\.[0-9]+/		{ planned += substr($1, 4) }
		/^ok .*# SKIP/		{ skipped++; next }
		/^ok /			{ passed++ }
		/^not ok /		{ failed++ }
		END {
			missing = planned - passed - failed - skipped
			print passed + 0, failed + (missing > 0 ? missing : 0), skipped + 0
		}' "$1"
}

# reasons FILE: each failure in a suite's KTAP, with what was said before it, and how
# the suite ended
reasons()
{
	awk '
		function said(n,  i) {
			for (i = n < lines ? lines - n : 0; i < lines; i++)
				print "#   " line[i]
			lines = 0
		}
		/^(# )*ok /		{ lines = 0; next }
					{ line[lines++] = $0 }
		/^(# )*not ok /		{ said(6) }
		END			{ said(3) }' "$1"
}

if [ -n "${LIST:-}" ]; then
	list
	exit
fi

passed=0 failed=0 skipped=0 ran=0
broken=()
mkdir -p "$OUT"
build_debug_kernel
for suite in "${suites[@]}"; do
	tests=$(selected "$suite") || continue
	ran=1
	ktap=$OUT/$suite.ktap
	status=0
	# shellcheck disable=SC2086 # a word each
	run "$suite" $tests 2>&1 | tee "$ktap" || status=$?

	read -r p f s <<< "$(count "$ktap")"
	# a kernel fault, a time-out, a script that died: not one test's failure
	if [ "$status" != 0 ] && [ "$f" = 0 ]; then
		f=1
	elif [ $((p + f + s)) = 0 ]; then
		echo "# suite $suite ran no test"
		f=1
	fi
	[ "$f" = 0 ] || broken+=("$suite")
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ "$ran" = 1 ] || die "ONLY=$ONLY names no suite and no test: LIST=1 lists them"

for suite in "${broken[@]}"; do
	alone="make test ONLY=$suite"
	[ "$suite" != debug ] || alone="make test-debug"
	echo "# failed: $suite; see $OUT/$suite.ktap, then run it alone with: $alone"
	reasons "$OUT/$suite.ktap"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
