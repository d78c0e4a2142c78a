# SPDX-License-Identifier: GPL-2.0
#
# The front door: "make help" lists what it can do. Each target is a script of
# lab/, which says what it needs and does nothing that is done already.

ifneq ($(words $(CURDIR)),1)
$(error the path "$(CURDIR)" has a space, which the build of the kernel cannot take: move the repository)
endif
ifneq ($(findstring :,$(CURDIR)),)
$(error the path "$(CURDIR)" has a colon, which the build of the kernel cannot take: move the repository)
endif

# What is set on our command line is for the scripts, not for the makes below.
MAKEOVERRIDES :=
export LINUX QEMU CONFIG DEPS BUILD OUT ONLY LIST TIMEOUT DRYRUN V

lab := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))lab

help:		## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@echo
	@echo 'LINUX=DIR|TARBALL  a Linux 6.12.y to build on (default: Debian linux-source-6.12)'
	@echo 'CONFIG=FILE        the configuration for kernel and deb, or localmodconfig (default: the lab'"'"'s)'
	@echo 'DEPS=no            install no packages'
	@echo 'BUILD=DIR OUT=DIR  where to build (build) and to leave results (out)'
	@echo 'ONLY=NAME LIST=1   run one test or suite of "make test"; list them'
	@echo 'DRYRUN=1           of demo and shell: print the QEMU command, boot nothing'
	@echo 'V=1                show the output of the builds'

demo: image	## profile a guest from its host, and show the profile
	+@$(lab)/run/demo.sh

test: image	## run all tests
	+@$(lab)/test/test.sh

test-debug: image	## test more of the series in a kernel that checks itself
	+@$(lab)/test/test.sh debug

bench: image	## measure what the features cost
	+@$(lab)/run/bench.sh

tree: deps	## assemble the kernel tree: Linux, patches, overlay
	+@$(lab)/build/tree.sh

kernel: $(if $(CONFIG),custom-kernel,lab-kernel)	## build the kernel (CONFIG=)

perf: tree	## build tools/perf from the same tree
	+@$(lab)/build/perf.sh

lab: image	## build all that the lab boots: emulator, kernel, perf, images

series: deps	## write the mailable patch series to out/series
	+@$(lab)/ship/series.sh

check: tree	## check the series: builds at each step, checkpatch, sparse
	+@$(lab)/test/check.sh

deb: tree perf	## package the kernel (CONFIG=) and perf for a real machine
	+@$(lab)/ship/deb.sh

shell: image	## boot the host with a running guest, interactively
	+@$(lab)/run/shell.sh

clean:		## remove what was built and the results
	+@$(lab)/build/clean.sh

# --- steps without a line of their own in the help

deps:
	+@$(lab)/build/deps.sh

emulator: deps
	+@$(lab)/build/emulator.sh $(or $(BUILD),build)/qemu

# the lab boots its own configuration, whatever CONFIG= says
lab-kernel: tree
	+@CONFIG= LAB_KERNEL= $(lab)/build/kernel.sh

custom-kernel: tree
	+@$(lab)/build/kernel.sh

image: lab-kernel perf emulator
	+@LAB_KERNEL= $(lab)/build/image.sh

.PHONY: help demo test test-debug bench tree kernel perf lab series check deb shell clean \
	deps emulator lab-kernel custom-kernel image
.NOTPARALLEL: clean
