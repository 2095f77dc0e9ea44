#!/bin/sh
# Signals process groups once its standard input is at its end, which the kernel sees to whatever happens to the parent.
# Reads lines: "hold GROUP" and "free GROUP".
# Arguments: the signal for the held groups, and the one for the groups that processes in those started.
held_signal=$1
started_signal=$2

trap '' HUP INT TERM
held=' '
while read -r verb group; do
  case $verb in
    hold) held="$held$group " ;;
    free) held="${held%% "$group" *} ${held#* "$group" }" ;;
  esac
done

# Prints a line for each process: its id, its parent's, its group's.
list_processes() {
  if [ ! -r /proc/self/stat ]; then
    ps -A -o pid= -o ppid= -o pgid=
    return
  fi
  for entry in /proc/[0-9]*; do
    if read -r stat <"$entry/stat"; then
      # The name in parentheses can hold anything, so fields are counted from its end.
      # shellcheck disable=SC2086 # split into fields
      set -- ${stat##*) }
      echo "${entry#/proc/} $2 $3"
    fi
  done
}

signal_started_groups() {
  processes=$(list_processes)
  members=' '
  while read -r process _ group; do
    case $held in *" $group "*) members="$members$process " ;; esac
  done <<END
$processes
END
  while read -r process parent group; do
    case $members in *" $parent "*) [ "$process" = "$group" ] && kill "-$started_signal" "-$group" ;; esac
  done <<END
$processes
END
}

[ -z "${held# }" ] && exit 0
signal_started_groups 2>/dev/null
for group in $held; do kill "-$held_signal" "-$group"; done 2>/dev/null
exit 0
