import { LEASES_DIRECTORY, LEASE_DIRECTORY_VARIABLE } from './lease-directory.ts';
import { quote } from './shell.ts';

/** From SIGTERM to SIGKILL, in seconds, for what a run left running. */
const GRACE_SECONDS = 5;

/** How long what was sent SIGKILL may take to be gone, in seconds. */
const KILL_SECONDS = 5;

/** Where Linux tells of its processes. */
const PROC = '/proc';

/** How processes are ended. */
export interface EndProcessesOptions {
  /** From SIGTERM to SIGKILL, in whole seconds, of which the first may be cut short. Default 5. */
  graceSeconds?: number;
  /** Where the host's processes are told of, if anywhere. Default `/proc`. */
  proc?: string;
}

/**
 * Defines the shell function `lessor_end_processes PLACE`, which ends every process of a place: SIGTERM, after a while
 * SIGKILL, until nobody is left. It fails, and prints why, when somebody outlives that.
 *
 * Of a place is who has {@link LEASE_DIRECTORY_VARIABLE} in its environment, whatever session or parent it gave itself, and who
 * descends from such a process. Servers that write their title over their environment (Redis, PostgreSQL) are known by
 * their working directory within the place. Never signalled are the shell itself and those that it descends from.
 *
 * It is POSIX shell, and needs `grep`, `tr`, `sed`, `awk`, `ls` and `date` of any make. Where there is no /proc, it
 * needs `ps`, and also goes by the processes that {@link recordProcess} recorded.
 */
export function endProcessesFunction({ graceSeconds = GRACE_SECONDS, proc = PROC }: EndProcessesOptions = {}): string {
  return String.raw`
lessor_proc=${quote(proc)}
if [ -r "$lessor_proc/self/environ" ]; then
  lessor_system=linux
  # Reading entries that end in NUL is what not every grep knows.
  printf 'a\0b\0' | grep -qzxF b 2>/dev/null && lessor_system=linux-grep-z
else
  lessor_system=other
fi

# Prints the ids of processes that have the variable in their environment.
lessor_marked() {
  case $lessor_system in
    linux-grep-z)
      LC_ALL=C grep -lzxF -e "${LEASE_DIRECTORY_VARIABLE}=$lessor_place" "$lessor_proc"/[0-9]*/environ ;;
    linux)
      for lessor_file in "$lessor_proc"/[0-9]*/environ; do
        tr '\0' '\n' <"$lessor_file" | grep -qxF -e "${LEASE_DIRECTORY_VARIABLE}=$lessor_place" && printf '%s\n' "$lessor_file"
      done ;;
    other)
      # By the lease alone, as ps does not print every path as it is.
      ps axeww -o pid= -o command= | awk -v lease="$(basename "$lessor_place")" '{
        variable = index($0, " ${LEASE_DIRECTORY_VARIABLE}=")
        if (variable == 0) next
        value = substr($0, variable)
        end = index(value, "/${LEASES_DIRECTORY}/")
        if (end && index(substr(value, end + ${LEASES_DIRECTORY.length + 2}) " ", lease " ") == 1) print "/" $1 "/environ"
      }'
      lessor_recorded ;;
  esac 2>/dev/null | sed 's|.*/\([0-9]*\)/environ$|\1|'
}

# Prints those whose working directory is within the place, and whose environment is overwritten: it lacks even PATH.
lessor_overwritten() {
  [ -n "$lessor_real_place" ] && [ "$lessor_system" != other ] || return 0
  ls -l "$lessor_proc"/[0-9]*/cwd 2>/dev/null |
    awk -v place="$lessor_real_place" '{
      at = index($0, "/cwd -> ")
      directory = substr($0, at + 8)
      if (directory == place || index(directory, place "/") == 1) {
        depth = split(substr($0, 1, at - 1), path, "/")
        print path[depth]
      }
    }' |
    while read -r lessor_pid; do
      tr '\0' '\n' <"$lessor_proc/$lessor_pid/environ" | grep -q '^PATH=' || printf '%s\n' "$lessor_pid"
    done 2>/dev/null
}

# Prints the processes of groups that were recorded. An id that meanwhile names a process begun later is nobody's.
lessor_recorded() {
  for lessor_file in "$lessor_place"/commands/*.pid; do
    lessor_pid= lessor_began=
    { read -r lessor_pid && read -r lessor_began; } <"$lessor_file"
    [ -n "$lessor_began" ] || continue
    lessor_now=$(lessor_start_of "$lessor_pid")
    [ -z "$lessor_now" ] || [ "$lessor_now" = "$lessor_began" ] || continue
    ps -A -o pid= -o pgid= | awk -v of="$lessor_pid" '$2 == of { print "/" $1 "/environ" }'
  done
}

${START_OF_FUNCTION}

# Prints "process parent" of all that run.
lessor_parents() {
  if [ "$lessor_system" = other ]; then
    lessor_list=$(ps -A -o pid= -o ppid= -o stat=) && ps axeww -o pid= -o command= >/dev/null || return 1
    printf '%s\n' "$lessor_list" | awk '$3 !~ /^Z/ { print $1, $2 }'
  else
    grep -H '^PPid:' "$lessor_proc"/[0-9]*/status 2>/dev/null |
      sed 's|.*/\([0-9]*\)/status:PPid:[[:space:]]*|\1 |'
  fi
}

# Prints the processes of the place: those that can be told, and all below them, without this shell, those that it
# descends from, and its own.
lessor_of_place() {
  lessor_told=$(lessor_marked; lessor_overwritten)
  [ -n "$lessor_told" ] || return 0
  lessor_parents | awk -v told="$(printf '%s ' $lessor_told)" -v self=$$ '
    function descends(id, from,   depth) {
      for (depth = 0; id in parent && depth < 9999; depth++) {
        if (id == from) return 1
        id = parent[id]
      }
      return 0
    }
    { parent[$1] = $2 }
    END {
      count = split(told, ids, " ")
      for (i = 1; i <= count; i++) if (ids[i] in parent && !descends(self, ids[i])) of_place[ids[i]]
      do {
        grown = 0
        for (id in parent) if (!(id in of_place) && (parent[id] in of_place)) { of_place[id]; grown = 1 }
      } while (grown)
      for (id in of_place) if (!descends(id, self)) print id
    }'
}

lessor_end_processes() {
  lessor_place=$1
  lessor_real_place=$(cd -P -- "$lessor_place" 2>/dev/null && pwd -P)
  if [ "$lessor_system" = other ] && ! lessor_parents >/dev/null 2>&1; then
    echo 'the processes of the run cannot be looked for: there is neither /proc nor a ps that lists them'
    return 1
  fi
  lessor_deadline=
  lessor_signalled=' '
  lessor_seen_none=yes
  while :; do
    lessor_left=$(lessor_of_place)
    if [ -z "$lessor_left" ]; then
      # Whoever had a child and ended while they were looked through is found by looking once more.
      [ "$lessor_seen_none" = no ] || return 0
      lessor_seen_none=yes
      continue
    fi
    lessor_seen_none=no
    if [ -z "$lessor_deadline" ] || [ "$(date +%s)" -lt "$lessor_deadline" ]; then
      for lessor_pid in $lessor_left; do
        case $lessor_signalled in *" $lessor_pid "*) continue ;; esac
        lessor_signalled="$lessor_signalled$lessor_pid "
        # Whoever is halted would not hear of it.
        kill -TERM "$lessor_pid" 2>/dev/null && kill -CONT "$lessor_pid" 2>/dev/null
      done
      [ -n "$lessor_deadline" ] || lessor_deadline=$(($(date +%s) + ${graceSeconds}))
    elif [ "$(date +%s)" -lt "$((lessor_deadline + ${KILL_SECONDS}))" ]; then
      kill -KILL $lessor_left 2>/dev/null
    else
      printf 'processes of the run outlive being killed, so end them by hand: %s\n' "$(printf '%s ' $lessor_left)"
      return 1
    fi
    sleep 0.1 2>/dev/null || sleep 1
  done
}
`;
}

/** How a process is known again that may have ended, and its id been given to another. */
const START_OF_FUNCTION = `lessor_start_of() {
  LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' '
}`;

/**
 * The shell commands by which the shell that runs a command records itself, before it becomes the command: its id, and
 * where there is no /proc also its start.
 * @param path of the file, in {@link commandsDirectoryOf} the place, ending in `.pid`
 */
export function recordProcess(path: string, { proc = PROC }: Pick<EndProcessesOptions, 'proc'> = {}): string {
  return `${START_OF_FUNCTION}
{ echo $$; [ -r ${quote(proc)}/self/environ ] || lessor_start_of $$; } >${quote(path)}`;
}
