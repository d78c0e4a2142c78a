# SPDX-License-Identifier: GPL-2.0
#
# Name the failures in the KTAP of a suite, one line each, with the last line printed
# before the failure:
#
#	# failed: SUITE: [TEST:] CASE (LAST LINE)
#
#	awk -v suite=SUITE -v status=STATUS -f failures.awk FILE
#
# STATUS is the exit status of the suite. A self-test is named by its failed cases, or,
# without any, by itself.

function report(name)
{
	print "# failed: " suite ": " name (last == "" ? "" : " (" last ")")
	failures++
}

# title: the line without the result and its number
function title()
{
	sub(/^(# )?not ok [0-9]+ (- )?(selftests: )?/, "")
	return $0
}

/^1\.\.[0-9]+/		{ planned += substr($1, 4) }

/^# selftests: /	{ test = substr($0, index($0, $4)); cases = 0; next }
/^# not ok / && test != "" {
	report(test ": " title())
	cases++
	last = ""
	next
}
/^(not )?ok / {
	results++
	if ($1 == "not" && !cases)
		report(title())
	test = last = ""
	cases = 0
	next
}
/^# ok /		{ last = ""; next }

# the sums of a self-test, and the last line of a failed boot, give no reason
/^[# ]*(Totals: pass:|$)/ || /: the consoles and the command are in / { next }
{
	sub(/^[# ]+/, "")
	last = $0
}

END {
	if (planned > results)
		report(planned - results " of " planned " tests have no result")
	else if (!results)
		report("no test ran")
	else if (status != 0 && !failures)
		report("status " status)
}
