#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Measure what the features cost: print tables, and write out/bench/bench.json,
# a list with an entry for each operation and variant.

. "$(dirname "$0")/lib.sh"

dir=$OUT/bench

TIMEOUT=${TIMEOUT:-600} lab/boot.sh bench bench
awk '
	BEGIN { print "[" }
	NF == 3 {
		printf "%s  { \"op\": \"%s\", \"variant\": \"%s\", \"host_insns\": %d }",
			(NR > 1 ? ",\n" : ""), $1, $2, $3
	}
	END { print "\n]" }' "$dir/files/bench.txt" > "$dir/bench.json"
python3 -m json.tool "$dir/bench.json" > /dev/null ||
	die "$dir/bench.json is no JSON: see $dir/files/bench.txt"
say BENCH "$dir/bench.json"
