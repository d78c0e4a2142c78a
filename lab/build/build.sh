#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Build targets of build.mk: lab/build/build.sh TARGET...

. "$(dirname "$0")/../lib.sh"

build "$@"
