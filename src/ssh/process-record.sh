# shellcheck shell=sh
# The shell that becomes a command records itself, so that the command's group is found on hosts without /proc.

# Prints when a process started, which tells it from a later process with the same id.
lessor_start_of() {
  LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' '
}

# Usage: lessor_record_process FILE [PROC]
# Writes this shell's process id to the file and, without /proc, its start time.
lessor_record_process() {
  {
    echo $$
    [ -r "${2:-/proc}/self/environ" ] || lessor_start_of $$
  } >"$1"
}
