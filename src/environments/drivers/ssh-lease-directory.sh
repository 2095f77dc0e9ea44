# shellcheck shell=sh
# What the control half of the SSH driver does on a host. Needs process-record.sh and end-processes.sh before it.
#
# Usage: ACTION ROOT ...
#   create ROOT DIRECTORY MODE                  creates a lease directory; repeating it is harmless
#   reuse ROOT DIRECTORY MODE GRACE_SECONDS     the same for one that an earlier lease left: ends its processes as well
#   remove ROOT DIRECTORY MODE GRACE_SECONDS    ends the processes of a lease directory and removes it
#   probe ROOT FILE                             writes a file below ROOT and removes it
# ROOT is the workspace path of the environment, MODE is staged or in_place. Fails with code 10 when the workspace cannot
# be used and with 1 when a process cannot be ended; stderr says why.

lessor_unusable() {
  printf '%s\n' "$1" >&2
  exit 10
}

lessor_check_root() {
  [ -d "$lessor_root" ] ||
    lessor_unusable "$lessor_root is no directory there; create it, and give it to the user who logs in"
  if [ ! -w "$lessor_root" ] || [ ! -x "$lessor_root" ]; then
    lessor_unusable "$lessor_root cannot be written to by the user who logs in; give it to that user"
  fi
  [ ! -L "$lessor_leases" ] ||
    lessor_unusable "$lessor_leases is a symbolic link, which may lead anywhere; remove it"
}

lessor_create() {
  umask 077
  # Links that an earlier run put here are not followed.
  for lessor_path in "$lessor_lease" "$lessor_lease/workspace" "$lessor_lease/commands" "$lessor_lease/.gitignore"; do
    if [ -L "$lessor_path" ]; then rm -f -- "$lessor_path"; fi
  done
  lessor_tries=1
  # A release that removes the empty parent can come between the creation of parent and child.
  until lessor_error=$(mkdir -p -- "$lessor_lease/commands" 2>&1); do
    [ "$lessor_tries" -lt 10 ] || lessor_unusable "$lessor_lease cannot be created: $lessor_error"
    lessor_tries=$((lessor_tries + 1))
    sleep 0.02 2>/dev/null || sleep 1
  done
  if [ "$lessor_mode" = staged ]; then
    lessor_error=$(mkdir -p -- "$lessor_lease/workspace" 2>&1) ||
      lessor_unusable "$lessor_lease/workspace cannot be created: $lessor_error"
  fi
  [ -f "$lessor_lease/.gitignore" ] || printf '*\n' >"$lessor_lease/.gitignore" ||
    lessor_unusable "$lessor_lease cannot be written to; is the disk full?"
}

lessor_end_its_processes() {
  if ! lessor_failure=$(lessor_end_processes "$lessor_lease" "$lessor_grace"); then
    printf '%s\n' "$lessor_failure" >&2
    exit 1
  fi
}

lessor_reuse() {
  # Created before the processes are ended, which takes a while: if it is gone after that, the caller gave up and a release
  # removed it, so it must not be created again.
  lessor_create
  lessor_end_its_processes
  [ -d "$lessor_lease" ] || lessor_unusable "$lessor_lease was removed while its processes were ended"
  lessor_create
}

lessor_remove() {
  lessor_end_its_processes
  [ ! -L "$lessor_leases" ] ||
    lessor_unusable "$lessor_leases is a symbolic link, which may lead anywhere; remove it, and the directory that it hides"
  [ ! -d "$lessor_root" ] || [ -x "$lessor_root" ] ||
    lessor_unusable "$lessor_root cannot be entered by the user who logs in; give it to that user"
  if [ -r /proc/self/mountinfo ]; then
    while read -r _ _ _ _ lessor_mount _; do
      case $lessor_mount in
        *"/.lessor/${lessor_lease##*/}" | *"/.lessor/${lessor_lease##*/}/"*)
          lessor_unusable "something is mounted on $lessor_mount, and would be emptied; unmount it" ;;
      esac
    done </proc/self/mountinfo
  fi
  if ! rm -rf -- "$lessor_lease" 2>/dev/null; then
    # A directory without write permission cannot be emptied. Links are no directories, so nothing outside is changed.
    find "$lessor_lease" -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null
    lessor_error=$(rm -rf -- "$lessor_lease" 2>&1 | head -n 3)
  fi
  if [ -e "$lessor_lease" ] || [ -L "$lessor_lease" ]; then
    lessor_unusable "$lessor_lease cannot be removed: $lessor_error"
  fi
  rmdir -- "$lessor_leases" 2>/dev/null || :
}

lessor_probe() {
  # noclobber: through no link, and over no existing file.
  lessor_error=$( { set -C; printf probe >"$1"; } 2>&1) ||
    lessor_unusable "no file can be written into $lessor_root: $lessor_error"
  rm -f -- "$1" || lessor_unusable "the file $1 cannot be removed; remove it"
}

lessor_root=$2
lessor_leases="$lessor_root/.lessor"
case $1 in
  probe)
    lessor_check_root
    lessor_probe "$lessor_root/$3" ;;
  *)
    lessor_lease=$3 lessor_mode=$4 lessor_grace=$5
    case $1 in
      create) lessor_check_root; lessor_create ;;
      reuse) lessor_check_root; lessor_reuse ;;
      remove) lessor_remove ;;
    esac ;;
esac
