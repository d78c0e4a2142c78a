# SPDX-License-Identifier: GPL-2.0
#
# Fold the samples of "perf script -F misc,comm,ip,sym" with call chains into one
# line per stack with its count, from the outermost frame to the innermost, as
# flame graphs are drawn from. The first frame says whose stack it is; the guest's
# frames are marked so that flamegraph.pl --color=java gives them colours apart
# from the host's, which are red: green to its user space for the slash, yellow to
# its kernel for the colons.
#
# The mode of a sample is printed by the bits it shares with others: G is the
# guest's kernel, KGg its user space.

BEGIN {
	RS = ""
	FS = "\n"
}

{
	# the command may have spaces in it
	n = split($1, header, " ")
	mode = header[n]
	if (mode == "G") {
		mark = " [guest::kernel]"
	} else if (mode == "KGg") {
		mark = " [guest/user]"
	} else {
		mark = " [host]"
	}
	stack = substr(mark, 2)
	for (i = NF; i > 1; i--) {
		split($i, frame, " ")
		name = frame[2] == "[unknown]" ? "0x" frame[1] : frame[2]
		stack = stack ";" name mark
	}
	stacks[stack]++
}

END {
	for (stack in stacks)
		print stack, stacks[stack] | "sort"
}
