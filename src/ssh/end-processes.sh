# shellcheck shell=sh
# Ends every process of a lease directory. Needs process-record.sh before it.
#
# A process belongs to a lease directory when LESSOR_LEASE_DIRECTORY in its environment says so, whatever session or
# parent it gave itself, and when it descends from such a process. Servers that write their title over their environment
# (Redis, PostgreSQL) are recognized by their working directory. The shell itself and its ancestors are never signalled.
#
# Needs grep, tr, sed, awk, ls and date as POSIX has them. On hosts without /proc it needs ps, and also looks at the
# process groups that lessor_record_process recorded.

# Prints the ids of processes with the variable in their environment.
lessor_marked() {
  case $lessor_system in
    linux-grep-z)
      LC_ALL=C grep -lzxF -e "LESSOR_LEASE_DIRECTORY=$lessor_directory" "$lessor_proc"/[0-9]*/environ ;;
    linux)
      for lessor_file in "$lessor_proc"/[0-9]*/environ; do
        tr '\0' '\n' <"$lessor_file" | grep -qxF -e "LESSOR_LEASE_DIRECTORY=$lessor_directory" &&
          printf '%s\n' "$lessor_file"
      done ;;
    other)
      # By the lease id alone, since ps does not print every path unchanged.
      ps axeww -o pid= -o command= | awk -v lease="$(basename "$lessor_directory")" '{
        variable = index($0, " LESSOR_LEASE_DIRECTORY=")
        if (variable == 0) next
        value = substr($0, variable)
        end = index(value, "/.lessor/")
        if (end && index(substr(value, end + length("/.lessor/")) " ", lease " ") == 1) print "/" $1 "/environ"
      }'
      lessor_recorded ;;
  esac 2>/dev/null | sed 's|.*/\([0-9]*\)/environ$|\1|'
}

# Prints the processes whose working directory is in the lease directory and whose environment is overwritten: it lacks
# even PATH.
lessor_overwritten() {
  [ -n "$lessor_real_directory" ] && [ "$lessor_system" != other ] || return 0
  # Not find, whose -printf and -lname are GNU's. Of what ls prints, only the id and the target are used.
  # shellcheck disable=SC2012
  ls -l "$lessor_proc"/[0-9]*/cwd 2>/dev/null |
    awk -v lease_directory="$lessor_real_directory" '{
      at = index($0, "/cwd -> ")
      directory = substr($0, at + 8)
      if (directory == lease_directory || index(directory, lease_directory "/") == 1) {
        depth = split(substr($0, 1, at - 1), path, "/")
        print path[depth]
      }
    }' |
    while read -r lessor_pid; do
      tr '\0' '\n' <"$lessor_proc/$lessor_pid/environ" | grep -q '^PATH=' || printf '%s\n' "$lessor_pid"
    done 2>/dev/null
}

# Prints the processes of recorded groups. An id that meanwhile names a process with a later start is ignored.
lessor_recorded() {
  for lessor_file in "$lessor_directory"/commands/*.pid; do
    lessor_pid='' lessor_began=''
    { read -r lessor_pid && read -r lessor_began; } <"$lessor_file"
    [ -n "$lessor_began" ] || continue
    lessor_now=$(lessor_start_of "$lessor_pid")
    [ -z "$lessor_now" ] || [ "$lessor_now" = "$lessor_began" ] || continue
    ps -A -o pid= -o pgid= | awk -v of="$lessor_pid" '$2 == of { print "/" $1 "/environ" }'
  done
}

# Prints "process parent" of every running process.
lessor_parents() {
  if [ "$lessor_system" = other ]; then
    lessor_list=$(ps -A -o pid= -o ppid= -o stat=) && ps axeww -o pid= -o command= >/dev/null || return 1
    printf '%s\n' "$lessor_list" | awk '$3 !~ /^Z/ { print $1, $2 }'
  else
    grep -H '^PPid:' "$lessor_proc"/[0-9]*/status 2>/dev/null |
      sed 's|.*/\([0-9]*\)/status:PPid:[[:space:]]*|\1 |'
  fi
}

# Prints the processes of the lease directory: those that are found and all below them, without this shell, its
# ancestors and its own children.
lessor_processes() {
  lessor_found=$(lessor_marked; lessor_overwritten)
  [ -n "$lessor_found" ] || return 0
  lessor_parents | awk -v found="$(printf '%s' "$lessor_found" | tr '\n' ' ')" -v self=$$ '
    function descends(id, from,   depth) {
      for (depth = 0; id in parent && depth < 9999; depth++) {
        if (id == from) return 1
        id = parent[id]
      }
      return 0
    }
    { parent[$1] = $2 }
    END {
      count = split(found, ids, " ")
      for (i = 1; i <= count; i++) if (ids[i] in parent && !descends(self, ids[i])) belongs[ids[i]]
      do {
        grown = 0
        for (id in parent) if (!(id in belongs) && (parent[id] in belongs)) { belongs[id]; grown = 1 }
      } while (grown)
      for (id in belongs) if (!descends(id, self)) print id
    }'
}

# Usage: lessor_end_processes DIRECTORY GRACE_SECONDS [PROC]
# SIGTERM, SIGKILL after the grace (whole seconds, the first of which may be cut short), until no process is left. Fails
# and prints why when a process is still there 5 seconds after SIGKILL.
lessor_end_processes() {
  lessor_directory=$1
  lessor_proc=${3:-/proc}
  if [ ! -r "$lessor_proc/self/environ" ]; then
    lessor_system=other
  # Not every grep reads entries that end in NUL.
  elif printf 'a\0b\0' | grep -qzxF b 2>/dev/null; then
    lessor_system=linux-grep-z
  else
    lessor_system=linux
  fi
  lessor_real_directory=$(cd -P -- "$lessor_directory" 2>/dev/null && pwd -P)
  if [ "$lessor_system" = other ] && ! lessor_parents >/dev/null 2>&1; then
    echo 'the processes of the run cannot be listed: the host has neither /proc nor a ps that lists them'
    return 1
  fi
  lessor_deadline=''
  lessor_signalled=' '
  lessor_was_empty=yes
  while :; do
    lessor_left=$(lessor_processes)
    if [ -z "$lessor_left" ]; then
      # A process that forked and ended during the listing is found by a second one.
      [ "$lessor_was_empty" = no ] || return 0
      lessor_was_empty=yes
      continue
    fi
    lessor_was_empty=no
    if [ -z "$lessor_deadline" ] || [ "$(date +%s)" -lt "$lessor_deadline" ]; then
      for lessor_pid in $lessor_left; do
        case $lessor_signalled in *" $lessor_pid "*) continue ;; esac
        lessor_signalled="$lessor_signalled$lessor_pid "
        # A stopped process handles SIGTERM only once it is continued.
        kill -TERM "$lessor_pid" 2>/dev/null && kill -CONT "$lessor_pid" 2>/dev/null
      done
      [ -n "$lessor_deadline" ] || lessor_deadline=$(($(date +%s) + $2))
    elif [ "$(date +%s)" -lt "$((lessor_deadline + 5))" ]; then
      # One word for each id.
      # shellcheck disable=SC2086
      kill -KILL $lessor_left 2>/dev/null
    else
      printf 'processes of the run survive SIGKILL; end them by hand: %s\n' "$(printf '%s' "$lessor_left" | tr '\n' ' ')"
      return 1
    fi
    sleep 0.1 2>/dev/null || sleep 1
  done
}
