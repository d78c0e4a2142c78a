# SPDX-License-Identifier: GPL-2.0
#
# The build's targets and their dependencies. Each target is a script, which returns at
# once if nothing has changed. Independent targets are built at the same time.

scripts := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

# Variables of our command line are for the scripts, not for the makes below.
MAKEOVERRIDES :=

deps:
	+@$(scripts)deps.sh

tree: deps
	+@$(scripts)tree.sh

emulator: deps
	+@$(scripts)emulator.sh

perf: tree
	+@$(scripts)perf.sh

# the lab boots its own configuration, whatever CONFIG= says
lab-kernel: tree
	+@CONFIG= LAB_KERNEL= $(scripts)kernel.sh

custom-kernel: tree
	+@$(scripts)kernel.sh

stock: tree
	+@$(scripts)stock.sh

image: lab-kernel perf emulator
	+@LAB_KERNEL= $(scripts)image.sh

.PHONY: deps tree emulator stock perf lab-kernel custom-kernel image
