#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compare the tables of Documentation/virt/kvm/x86/pv-pmu.rst with the structs and
# constants of the header: each field with its offset and size, each flag and feature
# with its bit; and nothing is in one of them alone. Prints KTAP.

# shellcheck disable=SC2317 # functions are called by name

. "$(dirname "$0")/../../lib.sh"
. lab/test/ktap.sh

doc=Documentation/virt/kvm/x86/pv-pmu.rst
header=arch/x86/include/uapi/asm/kvm_pv_pmu.h
tmp=$(mktemp -d)
trap 'rm -rf "$tmp" "$ktap_log"' EXIT

# doc_table FIRST [COLUMNS]: the rows of the table whose heading matches FIRST, as
# COLUMNS (awk, "$1, $2, $3"); continued lines left out
doc_table()
{
	awk -v first="$1" '
		/^ *=+( =+)+$/	{ if (++rule == 3) rule = inside = 0; next }
		rule == 1	{ inside = $0 ~ first }
		rule == 2 && inside && /^ *[0-9]/ { print '"$2"' }' "$doc"
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

header_table()
{
	doc_table '^offset field +bytes writer' '$1, $2, $3' > "$tmp/doc"
	header_fields header > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# The union of period and frequency is one row.
request_table()
{
	doc_table '^offset field +bytes meaning' '$1, $2, $3' | awk '$1 < 64' > "$tmp/doc"
	header_fields request | grep -v sample_freq > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

# Offsets are from the slot's start.
report_table()
{
	doc_table '^offset field +bytes meaning' '$1 - 64, $2, $3' | awk '$1 >= 0' > "$tmp/doc"
	header_fields report > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

flags_table()
{
	doc_table '^bit flag' '$1, $2' > "$tmp/doc"
	header_bits '' | awk '$2 !~ /^(FEATURE_|POLICY_|ENABLED$)/' > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

features_table()
{
	doc_table '^bit feature' '$1, $2' > "$tmp/doc"
	header_bits FEATURE_ > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

policies_table()
{
	doc_table '^ *bit policy' '$1, $2' | sed 's/KVM_PV_PMU_POLICY_//' > "$tmp/doc"
	header_bits POLICY_ > "$tmp/c"
	same "$tmp/doc" "$tmp/c"
}

plan 6
check "pv-pmu.rst: the header" header_table
check "pv-pmu.rst: a request" request_table
check "pv-pmu.rst: a report" report_table
check "pv-pmu.rst: flags of a request" flags_table
check "pv-pmu.rst: features" features_table
check "pv-pmu.rst: policies of a VM" policies_table
finish
