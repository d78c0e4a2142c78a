# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For tests of guests' call chains: chains as lines, and shares of them. The files are in
# $data.

# fold [KERNEL USER]: print each sample of "perf script -F misc,ip,sym" in one line:
# user or kernel, then the names of the frames, innermost first. A frame without a
# name is an address. Samples of other modes are left out.
#
# "perf script" prints a letter for each bit of the mode, and modes share bits: G is
# the guest's kernel, KGg the guest's user space, K the host's kernel, U user space.
fold()
{
	awk -v RS= -v FS='\n' -v kernel="${1:-G}" -v user="${2:-KGg}" '
		{ split($1, header, " ") }
		header[1] == kernel	{ line = "kernel" }
		header[1] == user	{ line = "user" }
		header[1] != kernel && header[1] != user { next }
		{
			for (i = 2; i <= NF; i++) {
				split($i, frame, " ")
				unnamed = frame[2] == "" || frame[2] == "[unknown]"
				line = line " " (unnamed ? "0x" frame[1] : frame[2])
			}
			print line
		}'
}

# share FILE MIN OF CONDITION [LINES]: of the lines of FILE that match OF, at least MIN
# per cent match CONDITION (extended regular expressions). Fail with less than LINES
# lines (300). Print the lines that do not match.
share()
{
	awk -v min="$2" -v of="$3" -v condition="$4" -v lines="${5:-300}" '
		{ chains[$0]++ }
		END {
			for (chain in chains) {
				if (chain !~ of)
					continue
				all += chains[chain]
				if (chain ~ condition)
					n += chains[chain]
				else
					others[chain] = chains[chain]
			}
			percent = all ? 100 * n / all : 0
			printf "# %d of %d samples, %.2f %%; want %d %%\n",
				n, all, percent, min
			for (other in others)
				printf "# %d: %s\n", others[other], other
			exit !(all >= lines && percent >= min)
		}' "$data/$1"
}

text_symbol()
{
	sed -n "s/^\([0-9a-f]*\) [tT] $1\$/\1/p" "$data/kallsyms"
}

# in_kernel_text RECORDING: all frames of kernels are in the text. $data/kallsyms has the
# symbols.
#
# Compare addresses as strings of equal width: not every awk has 64-bit integers. The
# callers of the idle task are in the section of the init text. Frames of user space
# come after those of the kernel, and have addresses below the kernel's.
in_kernel_text()
{
	perf script -F misc,ip --guestkallsyms="$data/kallsyms" -i "$data/$1" | fold |
		awk -v start="0x$(text_symbol _stext)" -v end="0x$(text_symbol _etext)" \
		    -v init_start="0x$(text_symbol _sinittext)" \
		    -v init_end="0x$(text_symbol _einittext)" '
			function in_text(ip) {
				return (ip >= start && ip < end) ||
				       (ip >= init_start && ip < init_end)
			}
			function is_user(ip) {
				return length(ip) < length(start) ||
				       ip < (length(ip) < 18 ? "0xc0000000" :
							       "0x8000000000000000")
			}
			$1 != "kernel" { next }
			!($0 in frames) {
				for (i = 2; i <= NF; i++) {
					if (i > 2 && is_user($i))
						break
					if (!in_text($i)) {
						print "# " $i " is not in the text: " $0
						bad = 1
					}
				}
				frames[$0] = i - 2
			}
			{ all += frames[$0] }
			END {
				print "# " all + 0 " frames"
				exit !(all >= 2000 && !bad)
			}'
}

# agree TREE INSIDE OUTSIDE: of the samples that match TREE, each path to main has the same
# share in both files, except for the sampling error: for 40 % of 5000 samples, the
# difference of two shares has a standard deviation of one point. Callers of main are left
# out.
agree()
{
	awk -v tree="$1" '
		{ lines[FILENAME, $0]++ }
		END {
			inside = ARGV[1]
			outside = ARGV[2]
			for (line in lines) {
				split(line, part, SUBSEP)
				if (part[2] !~ tree)
					continue
				sub(/ main .*/, " main", part[2])
				all[part[1]] += lines[line]
				n[part[1], part[2]] += lines[line]
				chains[part[2]]
			}
			bad = all[inside] < 3000 || all[outside] < 3000
			for (chain in chains) {
				in_share = 100 * n[inside, chain] / all[inside]
				out_share = 100 * n[outside, chain] / all[outside]
				differ = in_share - out_share > 3 || out_share - in_share > 3
				bad = bad || differ
				if (in_share >= 1 || out_share >= 1 || differ)
					printf "# inside %.1f %%, outside %.1f %%: %s\n",
						in_share, out_share, chain
			}
			exit bad
		}' "$data/$2" "$data/$3"
}
