# shellcheck shell=sh
# Runs a script so that its output can be told from what a login shell prints.

lessor_print_marker() {
  # In two parts, so that a shell that merely echoes its input never prints a marker.
  printf '%s%s' "$lessor_marker_begin" "$lessor_marker_end"
  printf '%s%s' "$lessor_marker_begin" "$lessor_marker_end" >&2
}

# Usage: lessor_run_framed MARKER_BEGIN MARKER_END [ARGUMENT]...
# Prints the marker on both outputs before and after lessor_script, which is defined before, and exits with its code.
lessor_run_framed() {
  lessor_marker_begin=$1
  lessor_marker_end=$2
  shift 2
  lessor_print_marker
  (lessor_script "$@") </dev/null
  lessor_code=$?
  lessor_print_marker
  exit "$lessor_code"
}
