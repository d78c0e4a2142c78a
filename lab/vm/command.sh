# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# For the job "run" of both machines: run a command of the user's in /work.
#
#   command_run FILE DIR	run the shell command in FILE, return its status. DIR, which
#				must not exist, gets the new and changed files of /work.
#   command_interrupt		send the running command a SIGINT, as Ctrl-C does

command_pid=/tmp/command.pid

# The files, with their times. command_run sets the times of old files to zero.
command_files()
{
	find . ! -type d -exec stat -c '%Y %n' {} +
}

command_run()
{
	mkdir -p /work
	cd /work || return
	find . -type f -exec touch -d @0 {} +
	command_files > /tmp/before
	# shellcheck disable=SC2016
	setsid sh -c 'echo $$ > "$0"; eval "$1"' $command_pid "$(cat "$1")" < /dev/null 2>&1
	command_status=$?
	# processes left in the background would keep the output open
	kill -KILL -- "-$(cat $command_pid)" 2> /dev/null

	command_files > /tmp/after
	awk 'FILENAME == "/tmp/before" { old[$0] } FILENAME == "/tmp/after" && $0 in old' \
		/tmp/before /tmp/after | cut -d' ' -f2- | tr '\n' '\0' | xargs -0 -r rm -f
	find . -mindepth 1 -depth -type d -exec rmdir {} + 2> /dev/null
	cd / && mv /work "$2"
	return $command_status
}

command_interrupt()
{
	touch /tmp/interrupted
	kill -INT -- "-$(cat $command_pid)" 2> /dev/null
}
