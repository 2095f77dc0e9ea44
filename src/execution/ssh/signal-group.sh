# shellcheck shell=sh
# Signals the process group of a command, which the process in the PID_FILE leads.
#
# Usage: PID_FILE SIGNAL [GRACE_TENTHS]
# With GRACE_TENTHS, SIGKILL follows for what is left of the group after so many tenths of a second.

# A signal can precede the start of the command: waits up to 5 seconds for its process id.
lessor_tries=0
while [ ! -s "$1" ] && [ "$lessor_tries" -lt 50 ]; do
  lessor_tries=$((lessor_tries + 1))
  sleep 0.1 2>/dev/null || sleep 1
done
[ -s "$1" ] || exit 0
read -r lessor_group <"$1" || exit 0
# Group 0 is the shell's own, and -1 would be every process.
case $lessor_group in '' | *[!0-9]* | 0 | 1) exit 0 ;; esac

kill -s "$2" -- "-$lessor_group" 2>/dev/null || exit 0
[ -n "$3" ] || exit 0
lessor_left=$3
while [ "$lessor_left" -gt 0 ] && kill -s 0 -- "-$lessor_group" 2>/dev/null; do
  if sleep 0.1 2>/dev/null; then lessor_left=$((lessor_left - 1)); else sleep 1; lessor_left=$((lessor_left - 10)); fi
done
kill -s KILL -- "-$lessor_group" 2>/dev/null || :
