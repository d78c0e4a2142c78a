#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Run a command on a terminal, and talk to it.

terminal.py SECONDS COMMAND [ARG...] -- PATTERN REPLY [PATTERN REPLY]...

For each pair: wait until the output since the last pair matches PATTERN, a regular
expression, then send REPLY, in which \\n and \\x01 are characters. The status is the
command's, or 1 if a pattern has not come before the end or before SECONDS have passed.
The output goes to standard output.
"""
import os
import pty
import re
import select
import signal
import sys
import time


def main():
    end = time.monotonic() + float(sys.argv[1])
    split = sys.argv.index("--")
    command, talk = sys.argv[2:split], sys.argv[split + 1:]

    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)

    unread = ""
    while True:
        wait = end - time.monotonic()
        if wait <= 0 or not select.select([terminal], [], [], wait)[0]:
            os.kill(pid, signal.SIGKILL)
            break
        try:
            data = os.read(terminal, 65536).decode(errors="replace")
        except OSError:
            data = ""
        if not data:
            break
        sys.stdout.write(data)
        sys.stdout.flush()
        unread += data
        while talk:
            match = re.search(talk[0], unread)
            if not match:
                break
            os.write(terminal, talk[1].encode().decode("unicode_escape").encode())
            unread = unread[match.end():]
            talk = talk[2:]

    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if talk:
        print("\nno output like: " + talk[0])
        status = 1
    sys.exit(abs(status))


main()
