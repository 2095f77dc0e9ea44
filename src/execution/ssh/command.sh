# shellcheck shell=sh
# What a shell does before it becomes a command on a host. Needs process-record.sh before it.

# Usage: lessor_prepare_command SCRIPT WORKSPACE PID_FILE LEASE_DIRECTORY
# Exits with 125, without a PID_FILE, when the workspace cannot be entered.
lessor_prepare_command() {
  # The script holds values of variables, which can be secrets.
  rm -f -- "$1"
  cd -- "$2" || exit 125
  lessor_record_process "$3" || exit 125
  export LESSOR_LEASE_DIRECTORY="$4"
}
