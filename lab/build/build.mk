# SPDX-License-Identifier: GPL-2.0
#
# What is built, and from what. Each target is a script that does nothing that is done
# already. Independent targets are built at the same time.

scripts := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))

# What is set on our command line is for the scripts, not for the makes below.
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

image: lab-kernel perf emulator
	+@LAB_KERNEL= $(scripts)image.sh

.PHONY: deps tree emulator perf lab-kernel custom-kernel image
