#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compare the tables of Documentation/virt/kvm/x86/pv-pmu.rst with the structs and
# constants of the header: each field with its offset and size, each flag and feature
# with its bit; and nothing is in one of them alone. Prints KTAP.

# shellcheck disable=SC2016,SC2317 # awk expressions; functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

doc=Documentation/virt/kvm/x86/pv-pmu.rst
header=arch/x86/include/uapi/asm/kvm_pv_pmu.h
tmp=$(mktemp -d)
trap 'rm -rf "$tmp" "$ktap_log"' EXIT

# doc_table INTRO FIRST COLUMNS: the rows of the table whose heading matches FIRST, after
# a paragraph that starts with INTRO, as COLUMNS (awk, "$1, $2, $3"); continued lines left
# out. A table may follow another one.
doc_table()
{
	awk -v intro="$1" -v first="$2" '
		/^ *=+( =+)+$/	{ if (++rule == 3) rule = inside = 0; next }
		rule == 1	{ inside = introduced && $0 ~ first }
		rule == 2 && inside && /^ *[0-9]/ { print '"$3"' }
		!rule && NF && !text { introduced = intro == "" || index($0, intro) == 1 }
		!rule		{ text = NF }' "$doc"
}

# header_fields STRUCT: offset, name and size of each field of struct kvm_pv_pmu_STRUCT
header_fields()
{
	local fields

	fields=$(awk -v open="^struct kvm_pv_pmu_$1 {" '
		$0 ~ open	{ inside = 1; next }
		/^};/		{ inside = 0 }
		inside && /;/	{ gsub(/[];]|\[.*/, "", $NF); if ($NF !~ /}/) print $NF }' "$header")
	{
		printf '#include <stddef.h>\n#include <stdio.h>\n#include "%s"\nint main(void)\n{\n' \
			"$(realpath "$header")"
		for field in $fields; do
			# shellcheck disable=SC2016
			printf 'printf("%%zu %s %%zu\\n", offsetof(struct kvm_pv_pmu_%s, %s), ' \
				"$field" "$1" "$field"
			printf 'sizeof(((struct kvm_pv_pmu_%s *)0)->%s));\n' "$1" "$field"
		done
		echo 'return 0;}'
	} > "$tmp/$1.c"
	gcc -o "$tmp/$1" "$tmp/$1.c"
	"$tmp/$1"
}

# header_bits PREFIX: bit and name of each KVM_PV_PMU_PREFIX... that is a single bit
header_bits()
{
	sed -n "s/^#define KVM_PV_PMU_$1\([A-Z_]*\)[[:space:]]*_BITUL*(\([0-9]*\)).*/\2 \1/p" "$header"
}

# same: the two files of lines have the same, of which there is some
same()
{
	sort -n "$1" > "$1.sorted"
	sort -n "$2" > "$2.sorted"
	[ -s "$1" ] && diff -u --label "$doc" --label "$header" "$1.sorted" "$2.sorted"
}

# fields_table STRUCT INTRO [FIRST_OFFSET]: the table after INTRO has the fields of the
# struct, with offsets from FIRST_OFFSET on
fields_table()
{
	doc_table "$2" '^offset field +bytes' "\$1 - ${3:-0}, \$2, \$3" > "$tmp/doc"
	header_fields "$1" > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# The union of period and frequency is one row.
request_table()
{
	doc_table "A slot's request" '^offset field +bytes' '$1, $2, $3' > "$tmp/doc"
	header_fields request | grep -v sample_freq > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# bits_table PREFIX INTRO FIRST: the table has the bits KVM_PV_PMU_PREFIX...
bits_table()
{
	doc_table "$2" "$3" '$1, $2' | sed "s/KVM_PV_PMU_$1//" > "$tmp/doc"
	header_bits "$1" > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# The flags of a request have no prefix.
flags_table()
{
	doc_table "A slot's request" '^bit flag' '$1, $2' > "$tmp/doc"
	header_bits '' | awk '$2 !~ /^(FEATURE_|POLICY_|BRANCH_|BRANCHES_|ENABLED$)/' > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# header_spec: the bits that KVM_PV_PMU_BRANCH_SPEC_MASK has, from ..._SHIFT on
header_spec()
{
	local shift mask high

	shift=$(sed -n 's/^#define KVM_PV_PMU_BRANCH_SPEC_SHIFT[[:space:]]*\([0-9]*\).*/\1/p' "$header")
	mask=$(sed -n 's/^#define KVM_PV_PMU_BRANCH_SPEC_MASK[[:space:]]*\(0x[0-9a-f]*\)U.*/\1/p' "$header")
	for ((high = 31; high > shift && !(mask >> high & 1); high--)); do :; done
	[ $((mask)) = $(((2 << high) - (1 << shift))) ] && echo "$high:$shift SPEC"
}

branch_flags_table()
{
	doc_table 'A branch:' '^bit flag' '$1, $2' > "$tmp/doc"
	{ header_bits BRANCH_; header_spec; } > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

plan 10
check "pv-pmu.rst: the header" fields_table header 'The header:'
check "pv-pmu.rst: a request" request_table
check "pv-pmu.rst: a report" fields_table report "A slot's report" 64
check "pv-pmu.rst: flags of a request" flags_table
check "pv-pmu.rst: features" bits_table FEATURE_ '' '^bit feature'
check "pv-pmu.rst: a record of branches" fields_table branch_record 'A record:'
check "pv-pmu.rst: flags of a record" bits_table BRANCHES_ 'A record:' '^bit flag'
check "pv-pmu.rst: a branch" fields_table branch 'A branch:'
check "pv-pmu.rst: flags of a branch" branch_flags_table
check "pv-pmu.rst: policies of a VM" bits_table POLICY_ '' '^ *bit policy'
finish
