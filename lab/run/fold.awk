# SPDX-License-Identifier: GPL-2.0
#
# Fold the samples of "perf script -F misc,comm,ip,sym,dso" into a line per stack with
# a count, from the outermost frame to the innermost, for flamegraph.pl.
#
#   awk -f fold.awk SAMPLES [SAMPLES...]
#
# Each file has the same samples, in the same order, with the names of another guest
# program. A frame gets the name from the first file with a name. The names cannot clash:
# the programs of the demo are linked to different addresses.
#
# A stack starts with the machine, then the program. The other frames end in a mark:
# "::" in the guest's kernel, "/" in the guest's user space, nothing on the host.
# flamegraph.pl --color=java takes the colours from the marks.
#
# In the mode of a sample, G is the guest's kernel, KGg the guest's user space.

# frame LINE: split LINE into address, symbol and dso, each without blanks around it
function frame(line) {
	dso = line
	sub(/.* \(/, "", dso)
	sub(/\)$/, "", dso)
	sub(/ \([^(]*\)$/, "", line)
	sub(/^[ \t]+/, "", line)
	address = line
	sub(/ .*/, "", address)
	symbol = substr(line, length(address) + 2)
}

function basename(path) {
	sub(/.*\//, "", path)
	return path
}

# user ADDRESS: is ADDRESS in user space, the lower half?
function user(address) {
	return length(address) < 16
}

# start of a sample
function start(line,  n, words) {
	n = split(line, words, " ")
	guest = words[n] ~ /G/
	# the command may have spaces in it
	sub(/ +[^ ]+ *$/, "", line)
	comm = line
	stack = program = ""
}

function add() {
	if (guest && user(address)) {
		if (dso !~ /unknown/)
			program = basename(dso)
		name = symbol ~ /unknown/ ? "0x" address : symbol
		mark = "/"
	} else if (guest) {
		name = symbol ~ /unknown/ ? "0x" address : symbol
		mark = "::"
	} else if (user(address)) {
		# this machine does not have the symbols of the other's programs
		name = basename(dso)
		mark = ""
		if (index(stack, ";" name ";") == 1)
			return
	} else {
		name = symbol
		mark = ""
	}
	gsub(/;/, ",", name)
	stack = ";" name mark stack
	outermost_user = user(address)
}

function end() {
	if (stack == "")
		return
	if (!guest)
		stack = "host;" comm stack
	else if (program != "")
		stack = "guest;" program stack
	else
		stack = "guest;" (outermost_user ? "another program" : "kernel") stack
	stacks[stack]++
	stack = ""
}

BEGIN {
	files = ARGC - 1
	while ((getline line < ARGV[1]) > 0) {
		for (i = 2; i <= files; i++)
			getline other[i] < ARGV[i]
		if (line == "") {
			end()
		} else if (line !~ /^\t/) {
			start(line)
		} else {
			frame(line)
			for (i = 2; i <= files && symbol ~ /unknown/; i++)
				frame(other[i])
			add()
		}
	}
	end()
	for (stack in stacks)
		print stack, stacks[stack] | "sort"
}
