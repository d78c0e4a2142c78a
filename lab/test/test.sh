#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Run suites of tests, as many at a time as there are CPUs: print the KTAP of one
# after the other, then what the failures said, then a line for each failure, and one
# line
#
#	N passed, N failed, N skipped
#
#	lab/test/test.sh LIST [SUITE...]	LIST: test or soak
#
# With SUITEs, only these. Environment: ONLY, the name of a suite or of a test to run
# alone; LIST=1, list both and stop; JOBS, how many suites at a time.
# The KTAP of a suite is out/SUITE.ktap; consoles and logs are in out/test-SUITE.

. "$(dirname "$0")/../lib.sh"

# The suites of each list, and their needs (targets of build.mk). Long suites are first:
# short suites fill the time at the end.
declare -A lists=(
	[test]="check perf_kvm pv_pmu_record pv_pmu_guest pv_pmu perf_kvm_nmi kvm
		lab fuzz nmis lab_pmu no_vpmu emulator deb series tree lists abi"
	[soak]="debug_subset check_whole deb_modules debug debug_nmi fuzz_debug fuzz_long stock
		unwinder i386 i386_pae pti stacks two_cpus perf_kvm_nmi_rest kvm_rest"
)
declare -A needs=([check]=tree [check_whole]=tree [tree]=deps [series]=tree [emulator]=emulator)

list=${1:-test}
[ -n "${lists[$list]:-}" ] || die "there is no list of suites called $list: ${!lists[*]}"
read -rd '' -a suites <<< "${lists[$list]}" || :
[ $# -lt 2 ] || suites=("${@:2}")

tests_of()
{
	[ ! -e "lab/test/suites/$1" ] || sed -e 's/[# ].*//' -e '/^$/d' "lab/test/suites/$1"
}

# selected SUITE: the tests that ONLY selects of the suite, a line each, or nothing for
# all of it; fails if ONLY selects none. A subset is selected as a whole only.
selected()
{
	case ${ONLY:-} in
	''|"$1")	;;
	*)		[[ $1 != *_subset ]] && tests_of "$1" | grep -E "(^|:)$ONLY\$" ;;
	esac
}

# ended SUITE: so says suite.sh; or the run as a whole has
ended()
{
	[ -e "$OUT/$1.status" ] || ! kill -0 $$ 2> /dev/null
}

# follow SUITE: print the KTAP of a suite as it comes, until the suite has ended
follow()
{
	echo "# suite: $1"
	until ended "$1"; do sleep 0.2; done &
	tail -q -n +1 -f -s 0.2 --pid=$! "$OUT/$1.ktap"
}

# A boot takes a CPU, and up to 4 GiB.
jobs_at_a_time()
{
	local by_memory

	by_memory=$(awk '/^MemAvailable/ { print int($2 / 4194304) }' /proc/meminfo)
	printf '%s\n' "$(nproc)" $((by_memory ? by_memory : 1)) | sort -n | head -n 1
}

# count FILE: the results of a suite's KTAP as "passed failed skipped"; a planned result
# without a line is a failure
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

# reasons FILE: each failure in a suite's KTAP, with the lines before it, and how the
# suite ended
reasons()
{
	awk '
		function said(n,  i) {
			for (i = n < lines ? lines - n : 0; i < lines; i++)
				print "#   " line[i]
			lines = 0
		}
		/^(# )*ok /		{ lines = 0; next }
		/^# failed: /		{ next }
					{ line[lines++] = $0 }
		/^(# )*not ok /		{ said(6) }
		END			{ said(3) }' "$1"
}

chosen=() work=()
for suite in "${suites[@]}"; do
	if [ -n "${LIST:-}" ]; then
		echo "$suite"
		tests_of "$suite" | sed 's/^/  /'
	elif tests=$(selected "$suite"); then
		chosen+=("$suite")
		work+=("$suite${tests:+ ${tests//$'\n'/ }}")
	fi
done
[ -z "${LIST:-}" ] || exit 0
[ ${#chosen[@]} -gt 0 ] || die "ONLY=$ONLY names no suite and no test: LIST=1 lists them"

targets=()
for suite in "${chosen[@]}"; do
	targets+=("${needs[$suite]:-image}")
	mkdir -p "$OUT"
	rm -f "$OUT/$suite.status"
	: > "$OUT/$suite.ktap"
done
mapfile -t targets < <(printf '%s\n' "${targets[@]}" | sort -u)
[[ " ${targets[*]} " != *" image "* ]] || targets=(image)	# all that is built
build "${targets[@]}"

for suite in "${chosen[@]}"; do follow "$suite"; done &
follower=$!
# xargs is in the foreground, so that Ctrl-C ends the suites; and a kill of a parent
# ends its child.
printf '%s\n' "${work[@]}" | setpriv --pdeathsig KILL \
	xargs -L 1 -P "${JOBS:-$(jobs_at_a_time)}" setpriv --pdeathsig KILL lab/test/suite.sh
wait $follower

passed=0 failed=0 skipped=0
broken=()
for suite in "${chosen[@]}"; do
	read -r p f s <<< "$(count "$OUT/$suite.ktap")"
	# a kernel fault, a time-out, the death of a script; or there was no test
	if [ "$(cat "$OUT/$suite.status")" != 0 ] || [ $((p + f + s)) = 0 ]; then
		f=$((f ? f : 1))
	fi
	[ "$f" = 0 ] || broken+=("$suite")
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done

for suite in "${broken[@]}"; do
	echo "# suite $suite has failed; see $OUT/$suite.ktap, then run it alone with: make $list ONLY=$suite"
	reasons "$OUT/$suite.ktap"
done
# a log that is cut short keeps its last lines
for suite in "${broken[@]}"; do
	grep '^# failed: ' "$OUT/$suite.ktap" || echo "# failed: $suite: it did not end"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
