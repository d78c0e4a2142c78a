# SPDX-License-Identifier: GPL-2.0
#
# The front door: "make help" lists the targets. Each target is a script of lab/: the
# script checks its arguments, builds its inputs (lab/build/build.mk), then acts.

ifneq ($(words $(CURDIR)),1)
$(error the path "$(CURDIR)" has a space, which the build of the kernel cannot take: move the repository)
endif
ifneq ($(findstring :,$(CURDIR)),)
$(error the path "$(CURDIR)" has a colon, which the build of the kernel cannot take: move the repository)
endif

# Variables of our command line are for the scripts, not for the makes below.
MAKEOVERRIDES :=
export LINUX QEMU CONFIG SIGNOFF DEPS BUILD OUT ONLY LIST TIMEOUT DRYRUN V CPUS MEM PMU ICOUNT APPEND
export GUEST HOST FILES GUEST_KERNEL GUEST_MODULES GUEST_CPUS GUEST_MEM GUEST_CPU GUEST_APPEND
# In shell commands a $ is the shell's, not make's.
override GUEST := $(value GUEST)
override HOST := $(value HOST)

lab := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))lab

help:		## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12
	@sed -n 's/^#: \?//p' $(firstword $(MAKEFILE_LIST))

#:
#: LINUX=DIR|TARBALL  a Linux 6.12.y to build on (default: Debian's linux-source-6.12)
#: QEMU=DIR|TARBALL|PROGRAM  the emulator (default: Debian's source of QEMU)
#: CONFIG=FILE        the configuration for kernel and deb, or localmodconfig (default: the lab's)
#: SIGNOFF=1          of series: sign the patches off
#: DEPS=no            install no packages
#: BUILD=DIR OUT=DIR  where to build (build) and to leave results (out)
#: V=1                show the output of the builds
#: ONLY=NAME LIST=1   of test and soak: run one test or suite; list them
#: DRYRUN=1           of demo, run and shell: print the emulator's command line, build and boot nothing
#:
#: of run:
#: GUEST=COMMAND      a shell command for the guest
#: HOST=COMMAND       one for the host VM, at the same time; or it calls run-guest to start GUEST
#:
#: of run and shell:
#: FILES="PATH..."    files, and directories of files, to put into /work of both
#:
#: of the guest, in run, shell and demo:
#: GUEST_KERNEL=FILE  its kernel, such as a distribution's vmlinuz (default: the lab's)
#: GUEST_MODULES=DIR  the lib/modules/VERSION of that kernel
#: GUEST_CPUS=N GUEST_MEM=MIB  its CPUs (1) and its memory (512; 1024 with GUEST_KERNEL)
#: GUEST_CPU=MODEL    its -cpu for QEMU (host,migratable=off,pmu=off)
#: GUEST_APPEND=PARAMETERS  parameters for its kernel, such as loglevel=7 to see all that it says
#:
#: of the host VM, where it boots:
#: TIMEOUT=SECONDS    wall time until its end
#: CPUS=N MEM=MIB     its CPUs (1) and its memory (3072)
#: PMU=pmu=off        take its PMU away; or other properties of the emulator's CPU
#: ICOUNT=off         CPUs that run at the same time: no two runs are equal
#: APPEND=PARAMETERS  parameters for its kernel

demo:		## profile a guest, from inside and from its host, and show the profiles
	+@$(lab)/run/demo.sh

run:		## run your own program in a guest, or perf on its host (GUEST= HOST= FILES=)
	+@$(lab)/run/run.sh

test:		## run the tests of CI
	+@$(lab)/test/test.sh test

soak:		## run the tests that take too long for CI
	+@$(lab)/test/test.sh soak

bench:		## measure what the features cost
	+@$(lab)/run/bench.sh

tree:		## assemble the kernel tree: Linux, patches, overlay
	+@$(lab)/build/build.sh tree

kernel:		## build the kernel (CONFIG=)
	+@$(lab)/build/build.sh $(if $(CONFIG),custom-kernel,lab-kernel)

perf:		## build tools/perf from the same tree
	+@$(lab)/build/build.sh perf

emulator:	## build the emulator
	+@$(lab)/build/build.sh emulator

lab:		## build all that the lab boots: emulator, kernel, perf, images
	+@$(lab)/build/build.sh image

series:		## write the mailable patch series to out/series
	+@$(lab)/ship/series.sh

check:		## check the series: builds at each step, checkpatch, sparse
	+@ONLY=check $(lab)/test/test.sh test

deb:		## package the kernel (CONFIG=) and perf for a real machine
	+@$(lab)/ship/deb.sh

shell:		## boot the host with a running guest, interactively
	+@$(lab)/run/shell.sh

clean:		## remove what was built and the results
	+@$(lab)/build/clean.sh

deps:		## install the packages that the build needs
	+@$(lab)/build/build.sh deps

.DEFAULT:
	@echo 'make: there is no target "$@": "make help" lists the targets' >&2; exit 2

.PHONY: help demo run test soak bench tree kernel perf emulator lab series check deb shell clean deps
.NOTPARALLEL:
