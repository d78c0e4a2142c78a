#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Measure what the features cost: print tables, and write out/bench/bench.json,
# a list with an entry for each operation and variant.

. "$(dirname "$0")/../lib.sh"

dir=$OUT/bench

build image
TIMEOUT=${TIMEOUT:-1200} lab/run/boot.sh bench bench
awk '
	BEGIN { print "[" }
	{
		printf "%s  { \"op\": \"%s\", \"variant\": \"%s\", ",
			(NR > 1 ? ",\n" : ""), $1, $2
		if (NF == 5)
			printf "\"exits\": %.2f, \"insns\": %d", $3, $4
		if (NF == 5 && $5 != "-")
			printf ", \"guest_insns\": %d, \"host_insns\": %d", $5, $4 - $5
		if (NF == 6)
			printf "\"exits\": %d, \"insns\": %d, \"percent\": %.2f, \"samples\": %d",
				$3, $4, $5, $6
		if (NF == 4)
			printf "\"samples\": %d, \"bytes\": %d", $3, $4
		if (NF == 3)
			printf "\"host_insns\": %d", $3
		printf " }"
	}
	END { print "\n]" }' "$dir/files/bench.txt" > "$dir/bench.json"
python3 -m json.tool "$dir/bench.json" > /dev/null ||
	die "$dir/bench.json is no JSON: see $dir/files/bench.txt"
say BENCH "$dir/bench.json"
