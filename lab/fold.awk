# SPDX-License-Identifier: GPL-2.0
#
# Fold the guest's samples of "perf script -F misc,comm,ip,sym" into one line
# per stack with its count, as flame graphs are drawn from. Samples of the host
# are left out: a guest that halts leaves its time to them.
#
# The mode of a sample is printed by the bits it shares with others: G is the
# guest's kernel, KGg its user space.

{
	if ($2 != "G" && $2 != "KGg")
		next
	mode = $2 == "G" ? "guest kernel" : "guest user"
	stacks[mode ";" ($4 == "[unknown]" ? "0x" $3 : $4)]++
}

END {
	for (stack in stacks)
		print stack, stacks[stack] | "sort"
}
