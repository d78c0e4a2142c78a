#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The lab's PMU under Linux: in the host VM, and in a guest of it.

exec "$(dirname "$0")/boot.sh" test-pmu pmu "$@"
