# SPDX-License-Identifier: GPL-2.0
#
# Insert an entry into the kernel's MAINTAINERS, in alphabetical order:
#
#   awk -v entry=FILE -f maintainers.awk MAINTAINERS
#
# The kernel's own list is not quite in order. The entry goes to the place with the
# fewest titles on the wrong side, and always before THE REST.

BEGIN {
	while ((getline text < entry) > 0)
		new = new text "\n"
	ours = toupper(substr(new, 1, index(new, "\n") - 1))
}

{ line[NR] = $0 }

/^Maintainers List/ { list = NR }

# the first letter of an entry: the title is the line above, after an empty line
list && NR > list + 2 && /^[A-Z]:[ \t]/ && line[NR - 2] == "" {
	title[++titles] = NR - 1
	wrong += toupper(line[NR - 1]) < ours
}

END {
	if (ours == "" || line[title[titles]] != "THE REST")
		exit 1
	fewest = wrong
	place = 1
	for (i = 1; i < titles; i++) {
		wrong += toupper(line[title[i]]) < ours ? -1 : 1
		if (wrong < fewest) {
			fewest = wrong
			place = i + 1
		}
	}
	for (n = 1; n <= NR; n++) {
		if (n == title[place])
			print new
		print line[n]
	}
}
