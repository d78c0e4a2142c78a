# SPDX-License-Identifier: GPL-2.0
#
# Finish the flame graph of flamegraph.pl: turn the marks of fold.awk, which colours were
# taken from, into words of the details that a pointer shows; and make the background and
# the lowest frames, machines and programs, grey.

# plain TEXT: without the mark
function plain(text) {
	sub(/(::|\/)$/, "", text)
	return text
}

# details LINE: with words for the mark in it
function details(line) {
	sub(/:: \(/, " (guest kernel, ", line)
	sub(/\/ \(/, " (guest user space, ", line)
	return line
}

# the value of an attribute, a number
function value(line, name) {
	sub(".* " name "=\"", "", line)
	return line + 0
}

# first the lowest frame, then all of the file
BEGIN {
	ARGV[ARGC++] = ARGV[1]
}

NR == FNR {
	if (/<title>.*<rect / && value($0, "y") > lowest)
		lowest = value($0, "y")
	next
}

/<stop stop-color=/ {
	sub(/#eeeeb0/, "#f8f8f8")
	sub(/#eeeeee/, "#f8f8f8")
}

/^<g class="func_g"/ {
	$0 = details($0)
}

/^<title>/ {
	name = $0
	sub(/^<title>/, "", name)
	sub(/ \([^(]*<\/title>.*/, "", name)
	level = (lowest - value($0, "y")) / 16
	$0 = details($0)
	if (level < 3)
		sub(/fill="[^"]*"/, "fill=\"rgb(" (level ? "225,225,225" : "200,200,200") ")\"")
}

/^<text .*<\/text>$/ && name != "" {
	label = $0
	sub(/<\/text>$/, "", label)
	sub(/.*>/, "", label)
	# the mark took the room of two letters
	fits = length(plain(name)) <= length(label) ? plain(name) : plain(label)
	sub(/>[^>]*<\/text>$/, ">")
	$0 = $0 fits "</text>"
	name = ""
}

{
	print
}
