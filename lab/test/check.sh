#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Check the series as its reviewers would, and report in KTAP:
#  - every overlay file is named by exactly one patch, and no patch adds files;
#  - the mails of "make series" apply with git am;
#  - checkpatch --strict has no remark but those of lab/test/checkpatch-exceptions;
#  - each step builds: the objects of the kernel that the series changes; if the step touches
#    perf, the objects of perf that the series changes, without optimization; and the
#    self-tests if the step touches them;
#  - sparse has no warning more than without the series;
#  - the license of each new file is one that Linux knows.
#
#	lab/test/check.sh [whole]	whole: each step builds the whole directories of
#					the kernel's objects, and all of perf
#
# A check with the inputs of an earlier success does not run again: ~/.cache/guestperf/check has a
# file for each long check, named by the hash of the inputs. whole runs every check.
#
# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../lib.sh"
. lab/test/ktap.sh

scope=${1:-}
mapfile -t patches < <(find patches/linux -name '*.patch' | sort)

# files PATCH...: all files of the patches, overlay files included
files()
{
	sed -n -e 's,^+++ b/\([^\t]*\).*,\1,p' -e 's/^Overlay: //p' "$@" | sort -u
}

# inputs_of_step STEP: the inputs of all checks of the step: sources, tools and scripts
inputs_of_step()
{
	local patch

	cat "$BUILD/linux/.guestperf/source"
	compiler
	"${CC:-gcc}" --version
	# the versions of sparse, and of the libraries of perf
	dpkg-query -W -f '${Package} ${Version}\n' | sort -k 1,1 |
		join - <(grep -v '^#' lab/build/packages | cut -f1 | sort)
	# of each step, what the whole series changes is built
	files "${patches[@]}"
	for patch in "${patches[@]:0:$1}"; do
		cat "$patch"
		sed -n 's/^Overlay: //p' "$patch" | xargs -r cat
	done
	cat lab/build/config/lab.config lab/build/config/guestperf.config \
		lab/lib.sh lab/build/assemble.sh lab/build/tree.sh lab/build/perf.sh lab/test/check.sh
}

# once FUNCTION ARGUMENT...: the output of the function, from the cache after a success with
# the same inputs. The standard input has all inputs of the function.
once()
{
	local kept

	kept=$CACHE/check/$1-$(sha256sum | cut -c1-32)
	if [ -z "$scope" ] && [ -e "$kept" ]; then
		cp "$kept" "$work/output"
	else
		"$@" > "$work/output" || return
		keep "$work/output" "$kept"
	fi
	cat "$work/output"
}

overlay_is_named_once()
{
	local dir f names

	if names=$(grep -l '^new file mode\|^--- /dev/null' "${patches[@]}"); then
		die "$names adds a file: put it into the overlay and name it in an Overlay: trailer"
	fi
	names=$(sed -n 's/^Overlay: //p' "${patches[@]}" | sort | uniq -d)
	[ -z "$names" ] || die "more than one patch names the overlay file $names"
	for dir in $OVERLAY_DIRS; do
		[ -d "$dir" ] || continue
		while read -r f; do
			grep -qx "Overlay: $f" "${patches[@]}" ||
				die "no patch names the overlay file $f: add a trailer \"Overlay: $f\" to one"
		done < <(git ls-files "$dir")
	done
}

mails()
{
	find "$work/mails" -name '*.patch' ! -name '0000-*' | sort
}

mails_apply()
{
	local repo=$work/am mails

	lab/ship/series.sh "$work/mails"
	mapfile -t mails < <(mails)
	rm -rf "$repo"
	mkdir -p "$repo"
	cp -r "$BUILD/linux/.guestperf/orig/." "$repo/"
	git -C "$repo" -c init.defaultBranch=linux init -q
	git -C "$repo" add -A
	git -C "$repo" commit -q --allow-empty -m Linux
	logged "$work/am.log" "git am of the series" \
		git -C "$repo" am "${mails[@]}"
}

# Without a repository, checkpatch does not ask spdxcheck for each file: licenses_are_known() does
# so for all of them.
checkpatch()
{
	logged "$work/checkpatch.log" "checkpatch of $2" \
		env GIT_DIR="$work/none" "$BUILD/linux/scripts/checkpatch.pl" \
		--root="$BUILD/linux" --strict --no-summary --ignore "$1" "$2"
}

checkpatch_is_content()
{
	local exceptions=lab/test/checkpatch-exceptions mail types

	types=$(awk '/^[A-Z]/ { print $1 }' "$exceptions" | paste -sd,)
	for mail in $(mails); do
		# the name of the commit and its date differ from run to run
		{
			inputs_of_step 0
			cat "$exceptions"
			grep -vE '^(From [0-9a-f]{40} |Date: )' "$mail"
		} | once checkpatch "$types" "$mail"
	done
}

listing()
{
	ls -lR --time-style=full-iso "$1" 2> /dev/null || :
}

kmake()
{
	submake -C "$tree" O="$kernel" "$@"
}

# The objects of the kernel that the series touches. virt/kvm is built from each
# architecture's own directory.
kernel_objects()
{
	files "${patches[@]}" | grep -vE '^(tools|Documentation|arch/arm64)/' | sed -n 's/\.c$/.o/p' |
		sed 's,^virt/kvm/,arch/x86/kvm/../../../virt/kvm/,'
}

# objects_of_step: the objects, as far as the step has their sources
objects_of_step()
{
	local object

	for object in $(kernel_objects); do
		[ ! -e "$tree/${object%.o}.c" ] || echo "$object"
	done
}

# goals_of_step: what to build of the kernel
goals_of_step()
{
	if [ "$scope" = whole ]; then
		kernel_objects | grep -v '/\.\./' | sed 's,/[^/]*$,/,' | sort -u
	else
		objects_of_step
	fi
}

# perf_goals_of_step: what to build of perf, as arguments for its make. Its Makefile would
# begin anew for each of them, and Makefile.perf does not.
perf_goals_of_step()
{
	local source

	[ "$scope" != whole ] || return 0
	echo "-fMakefile.perf"
	for source in $(files "${patches[@]}" | sed -n 's,^tools/perf/\(.*\.c\)$,\1,p'); do
		[ ! -e "$tree/tools/perf/$source" ] || echo "$work/perf/${source%.c}.o"
	done
}

# configure the step: the lab's options and ours, as far as they are there yet
configure()
{
	(cd "$tree" && scripts/kconfig/merge_config.sh -n -O "$kernel" \
		"$top/lab/build/config/lab.config" "$top/lab/build/config/guestperf.config")
}

# step_builds STEP: the tree of the step builds, as far as the series or the step touches it
step_builds()
{
	local touched

	step "$1"
	touched=$(files "${patches[$1 - 1]}")
	mapfile -t goals < <(goals_of_step)
	if [ ${#goals[@]} -gt 0 ]; then
		logged "$work/step-$1.log" "building step $1 (${patches[$1 - 1]})" kmake "${goals[@]}"
	fi
	if grep -qE '^tools/(perf|lib)/.*(\.[ch]|Build|Makefile.*)$' <<< "$touched"; then
		mapfile -t goals < <(perf_goals_of_step)
		# DEBUG: without optimization, in a quarter of the time. The image has the
		# perf of the last step, built with optimization.
		BUILD=$work DEBUG=1 logged "$work/step-$1-perf.log" \
			"building perf at step $1" lab/build/perf.sh "${goals[@]}"
	fi
	if grep -q '^tools/testing/selftests/' <<< "$touched"; then
		logged "$work/step-$1-selftests.log" "building the self-tests at step $1" selftests
	fi
}

step_is_content()
{
	inputs_of_step "$1" | once step_builds "$1"
}

selftests()
{
	kmake headers_install
	submake -C "$tree/tools/testing/selftests" O="$kernel" \
		TARGETS="kvm perf_kvm" FORCE_TARGETS=1
}

# warnings STEP: the warnings of sparse for all objects of the step, without line numbers
warnings()
{
	local objects log=$work/sparse-$1.log

	step "$1"
	mapfile -t objects < <(objects_of_step)
	[ ${#objects[@]} -eq 0 ] || kmake C=2 "${objects[@]}" > "$log" 2>&1 ||
		die "sparse failed; the log is $log"
	touch "$log"
	sed -nE 's/^([^ :]*):[0-9]+:[0-9]+: (warning|error)/\1: \2/p' "$log" | sort
}

# step STEP: the tree and its configuration are those of the step
step()
{
	TREE=$tree lab/build/tree.sh "$1" > "$work/tree.log" || die "step $1 of the series does not assemble"
	if ! kconfig | cmp -s - "$work/kconfig"; then
		logged "$work/config.log" "configuring step $1" configure
		kconfig > "$work/kconfig"
	fi
}

# the options, as far as the series changes them
kconfig()
{
	files "${patches[@]}" | grep Kconfig | (cd "$tree" && xargs cat)
}

sparse_without_the_series()
{
	inputs_of_step 0 | once warnings 0 > "$work/sparse-without"
}

sparse_has_no_new_warning()
{
	local new

	inputs_of_step ${#patches[@]} | once warnings ${#patches[@]} > "$work/sparse-with"
	new=$(comm -13 "$work/sparse-without" "$work/sparse-with")
	[ -z "$new" ] ||
		die "sparse: $(head -n 1 <<< "$new") (log: $work/sparse-${#patches[@]}.log)"
}

# spdxcheck reads the licenses from a repository.
licenses_are_known()
{
	local remarks

	step ${#patches[@]}
	git -C "$tree" -c init.defaultBranch=linux init -q
	git -C "$tree" add -f LICENSES
	git -C "$tree" commit -q -m LICENSES
	remarks=$(sed -n 's/^Overlay: //p' "${patches[@]}" |
		(cd "$tree" && xargs scripts/spdxcheck.py 2>&1)) || die "spdxcheck failed: $remarks"
	[ -z "$remarks" ] || die "spdxcheck: $remarks"
}

# the name under which the mails are tried is nobody's
export GIT_AUTHOR_NAME=guestperf GIT_AUTHOR_EMAIL=guestperf@localhost
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
build tree
mkdir -p "$BUILD/check"
work=$(realpath "$BUILD/check")
tree=$work/linux
kernel=$tree/build-check
top=$PWD
lock "$work"
plan $((7 + ${#patches[@]}))
users_mails=$(listing "$OUT/series")

check "each overlay file is named by one patch" overlay_is_named_once
check "the mails apply with git am" mails_apply
check "checkpatch has no remark" checkpatch_is_content

rm -rf "$tree" "$work/kconfig"
mkdir "$tree"
(cd "$BUILD/linux" && find . -mindepth 1 -maxdepth 1 ! -name 'build-*' -exec cp -al -t "$tree" {} +)
rm -r "$tree/.guestperf"
cp -a "$BUILD/linux/.guestperf" "$tree/"
mkdir "$kernel"

check "sparse runs on the tree without the series" sparse_without_the_series
for ((i = 1; i <= ${#patches[@]}; i++)); do
	check "step $i builds: ${patches[i - 1]##*/}" step_is_content "$i"
done
check "sparse has no new warning" sparse_has_no_new_warning
check "licenses are known" licenses_are_known
check "the user's mails are as before" [ "$(listing "$OUT/series")" = "$users_mails" ]
finish
