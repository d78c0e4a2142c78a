# SPDX-License-Identifier: GPL-2.0
#
# List the options of a configuration that a kernel does not have:
#
#   awk -v version="Linux 6.12" -v report=FILE -v btf=REASON -f lost.awk \
#	kind=kconfig KCONFIG... kind=final .config kind=asked CONFIG
#
# Prints a line for each Kconfig file with lost options, and a last line for the options
# not set by users. FILE gets the full list, with dependencies.

BEGIN {
	# the tools of another machine, and its keys
	split("CC_VERSION_TEXT GCC_VERSION CLANG_VERSION AS_VERSION LD_VERSION LLD_VERSION " \
	      "PAHOLE_VERSION RUSTC_VERSION RUSTC_LLVM_VERSION RUSTC_VERSION_TEXT " \
	      "BINDGEN_VERSION_TEXT SYSTEM_TRUSTED_KEYS SYSTEM_REVOCATION_KEYS " \
	      "LOCALVERSION BUILD_SALT", names)
	for (i in names)
		expected["CONFIG_" names[i]] = 1
	most = 6	# options named in a line
}

# indent LINE: the width of its leading white space
function indent(text,  i, width) {
	for (i = 1; i <= length(text); i++) {
		if (substr(text, i, 1) == "\t")
			width += 8 - width % 8
		else if (substr(text, i, 1) == " ")
			width++
		else
			break
	}
	return width + 0
}

# Kconfig: the file, the prompt and the dependencies of each option. The text of a help
# ends at a line with less white space than its first line.
kind == "kconfig" && help {
	if (/^[ \t]*$/)
		next
	if (help == 1)
		help = indent($0) + 2
	if (indent($0) + 2 >= help && help > 2)
		next
	help = 0
}
kind == "kconfig" && /^[ \t]*(menu)?config[ \t]/ {
	option = "CONFIG_" $2
	if (!(option in file))
		file[option] = FILENAME
	next
}
kind == "kconfig" && /^[ \t]*(choice|endchoice|menu|endmenu|if|endif|comment|source)([ \t]|$)/ {
	option = ""
}
kind == "kconfig" && option != "" && /^[ \t]*(bool|tristate|string|int|hex|prompt)[ \t]+["']/ {
	if (!(option in prompt))
		file[option] = FILENAME
	prompt[option] = 1
}
kind == "kconfig" && option != "" && /^[ \t]*depends on / {
	sub(/^[ \t]*depends on /, "")
	needs[option] = needs[option] (needs[option] == "" ? "" : " && ") "(" $0 ")"
}
kind == "kconfig" && /^[ \t]*help[ \t]*$/ { help = 1 }
kind == "kconfig" { next }

!/^CONFIG_[A-Za-z0-9_]+=/ { next }

{
	option = substr($0, 1, index($0, "=") - 1)
	value = substr($0, index($0, "=") + 1)
}

kind == "final" { final[option] = value; next }

# asked for: another value is a loss, but for a module that is built in
option in expected || value == "n" { next }
option in final && (final[option] == value || value == "m" && final[option] == "y") { next }

{
	name = substr(option, 8)
	if (!(option in file)) {
		unknown[++unknowns] = $0
		next
	}
	text = $0 "\t" (option in final ? "is " final[option] : "is not set") "\t" file[option] \
		"\t" needs[option]
	if (!(option in prompt)) {
		derived[++deriveds] = text
		next
	}
	lost[++losts] = text
	group = file[option]
	if (!(group in said))
		groups[++count] = group
	if (++members[group] > most)
		next
	if (option in final)
		name = name "=" final[option] ", not " value
	if (name == "DEBUG_INFO_BTF" && btf != "")
		name = name " (" btf ")"
	said[group] = said[group] (said[group] == "" ? "" : "; ") name
}

END {
	printf "" > report
	if (losts + deriveds + unknowns == 0)
		exit
	print "# Options that were asked for and that " version " does not grant: what was asked" > report
	print "# for, what it is, the Kconfig file, and its \"depends on\" lines." > report
	for (i = 1; i <= losts; i++)
		print lost[i] > report
	print "\n# Set by Kconfig, not by users:" > report
	for (i = 1; i <= deriveds; i++)
		print derived[i] > report
	print "\n# Not known to " version " on this architecture:" > report
	for (i = 1; i <= unknowns; i++)
		print unknown[i] > report

	for (i = 1; i <= count; i++) {
		group = groups[i]
		more = members[group] - most
		print group ": " said[group] (more > 0 ? "; and " more " more" : "")
	}
	print losts + 0 " lost, " deriveds + 0 " set by Kconfig alone, " unknowns + 0 \
		" not known to " version "; the list is " report
}
