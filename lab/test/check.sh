#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Check the series as its reviewers would:
#  - every overlay file is named by exactly one patch, and no patch adds files;
#  - the mails that "make series" writes apply with git am;
#  - checkpatch --strict has no remark but those of lab/test/checkpatch-exceptions;
#  - each step builds: the directories of the kernel that the series touches,
#    and perf or the self-tests where the step touches them;
#  - sparse has no warning that it does not have without the series.

. "$(dirname "$0")/../lib.sh"

work=$BUILD/check
tree=$work/linux
mapfile -t patches < <(find patches/linux -name '*.patch' | sort)

# files PATCH...: all that the patches touch, overlay files included
files()
{
	sed -n -e 's,^+++ b/\([^\t]*\).*,\1,p' -e 's/^Overlay: //p' "$@" | sort -u
}

check_overlay()
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

check_mails()
{
	local repo=$work/am mails mail types

	mapfile -t mails < <(find "$(realpath "$OUT/series")" -name '*.patch' ! -name '0000-*' | sort)

	rm -rf "$repo"
	mkdir -p "$repo"
	cp -r "$BUILD/linux/.guestperf/orig/." "$repo/"
	git -C "$repo" -c init.defaultBranch=linux init -q
	git -C "$repo" add -A
	git -C "$repo" commit -q --allow-empty -m Linux
	logged "$work/am.log" "git am of out/series" \
		git -C "$repo" am "${mails[@]}"

	types=$(awk '/^[A-Z]/ { print $1 }' lab/test/checkpatch-exceptions | paste -sd,)
	for mail in "${mails[@]}"; do
		logged "$work/checkpatch.log" "checkpatch of $mail" \
			"$BUILD/linux/scripts/checkpatch.pl" --root="$BUILD/linux" \
			--strict --no-summary --ignore "$types" "$mail"
	done
}

kmake()
{
	submake -C "$tree" O="$kernel" "$@"
}

# The directories, and the objects, of the kernel that the series touches.
# virt/kvm is built from each architecture's own directory.
kernel_dirs()
{
	files "${patches[@]}" | sed -n 's,/[^/]*\.c$,/,p' | grep -vE '^(tools|Documentation|arch/arm64)/' |
		sed 's,^virt/kvm/,arch/x86/kvm/,' | sort -u
}

kernel_objects()
{
	files "${patches[@]}" | grep -vE '^(tools|Documentation|arch/arm64)/' | sed -n 's/\.c$/.o/p' |
		sed 's,^virt/kvm/,arch/x86/kvm/../../../virt/kvm/,'
}

# configure the step: the lab's options and ours, as far as they are there yet
configure()
{
	(cd "$tree" && scripts/kconfig/merge_config.sh -n -O "$kernel" \
		"$top/lab/build/config/lab.config" "$top/lab/build/config/guestperf.config")
}

# build STEP: what the tree of that step must build
build()
{
	local touched

	logged "$work/config.log" "configuring step $1" configure
	if [ ${#dirs[@]} -gt 0 ]; then
		logged "$work/step-$1.log" "building step $1 (${patches[$1 - 1]})" kmake "${dirs[@]}"
	fi
	touched=$(files "${patches[$1 - 1]}")
	if grep -q '^tools/perf/\|^tools/lib/' <<< "$touched"; then
		BUILD=$work logged "$work/step-$1-perf.log" "building perf at step $1" lab/build/perf.sh
	fi
	if grep -q '^tools/testing/selftests/' <<< "$touched"; then
		logged "$work/step-$1-selftests.log" "building the self-tests at step $1" selftests
	fi
}

selftests()
{
	kmake headers_install
	submake -C "$tree/tools/testing/selftests" O="$kernel" \
		TARGETS="kvm perf_kvm" FORCE_TARGETS=1
}

# warnings NAME: what sparse says of the objects that are there, without line numbers
warnings()
{
	local object objects=()

	for object in $(kernel_objects); do
		[ -e "$tree/${object%.o}.c" ] && objects+=("$object")
	done
	[ ${#objects[@]} -eq 0 ] || kmake C=2 "${objects[@]}" > "$work/sparse-$1.log" 2>&1 ||
		die "sparse failed; the log is $work/sparse-$1.log"
	touch "$work/sparse-$1.log"
	sed -nE 's/^([^ :]*):[0-9]+:[0-9]+: (warning|error)/\1: \2/p' "$work/sparse-$1.log" |
		sort > "$work/sparse-$1"
}

step()
{
	TREE=$tree lab/build/tree.sh "$1" > "$work/tree.log" || die "step $1 of the series does not assemble"
}

export GIT_AUTHOR_NAME=${GIT_AUTHOR_NAME:-guestperf} GIT_AUTHOR_EMAIL=${GIT_AUTHOR_EMAIL:-guestperf@localhost}
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
mkdir -p "$work"
work=$(realpath "$work")
tree=$work/linux
kernel=$tree/build-check
top=$PWD
lock "$work"

check_overlay
lab/ship/series.sh
say CHECK "git am and checkpatch of ${#patches[@]} patches"
check_mails

mapfile -t dirs < <(kernel_dirs)
rm -rf "$tree"
mkdir "$tree"
(cd "$BUILD/linux" && find . -mindepth 1 -maxdepth 1 ! -name 'build-*' -exec cp -al -t "$tree" {} +)
rm -r "$tree/.guestperf"
cp -a "$BUILD/linux/.guestperf" "$tree/"
mkdir "$kernel"

step 0
say CHECK "sparse of the tree without the series"
logged "$work/config.log" "configuring the tree without the series" configure
warnings without
for ((i = 1; i <= ${#patches[@]}; i++)); do
	say CHECK "step $i builds: ${patches[i - 1]##*/}"
	step "$i"
	build "$i"
done
say CHECK "sparse of the tree with the series"
warnings with
new=$(comm -13 "$work/sparse-without" "$work/sparse-with")
[ -z "$new" ] || die "sparse: $(head -n 1 <<< "$new") (log: $work/sparse-with.log)"
say CHECK "the series is well"
