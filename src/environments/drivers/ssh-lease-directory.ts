import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { endProcessesFunction } from '../../ssh/end-processes.ts';
import { LEASES_DIRECTORY, assertLeaseDirectory } from '../../ssh/lease-directory.ts';
import type { LeaseDirectory } from '../../ssh/lease-directory.ts';
import { REFUSE_UNUSABLE_WORKSPACE, runWorkspaceScript } from './ssh-workspace-script.ts';

/** A place that is to be made or removed. */
export interface PlaceRequest {
  config: SshConfig;
  place: LeaseDirectory;
  /** From SIGTERM to SIGKILL for what runs in the place, in whole seconds. */
  graceSeconds: number;
  signal: AbortSignal;
}

const DEFINE_MAKE = String.raw`
umask 077
lessor_make() {
  # What an earlier run has put in place of these is not followed.
  for lessor_path in "$lessor_place" "$lessor_place/workspace" "$lessor_place/commands" "$lessor_place/.gitignore"; do
    if [ -L "$lessor_path" ]; then rm -f -- "$lessor_path"; fi
  done
  lessor_tries=1
  # A release that removes the directory of all places, since it is empty, may come between the two that are made here.
  until lessor_error=$(mkdir -p -- "$lessor_place/commands" 2>&1); do
    [ "$lessor_tries" -lt 10 ] || lessor_unusable "$lessor_place cannot be made: $lessor_error"
    lessor_tries=$((lessor_tries + 1))
    sleep 0.02 2>/dev/null || sleep 1
  done
  if [ "$lessor_mode" = staged ]; then
    lessor_error=$(mkdir -p -- "$lessor_place/workspace" 2>&1) ||
      lessor_unusable "$lessor_place/workspace cannot be made: $lessor_error"
  fi
  [ -f "$lessor_place/.gitignore" ] || printf '*\n' >"$lessor_place/.gitignore" ||
    lessor_unusable "$lessor_place cannot be written to; is the disk full?"
}
`;

const MAKE = `
lessor_make
`;

/**
 * Made once before the processes are ended, which takes a while: if it is gone after that, it was released meanwhile, as
 * the caller gave up, and must not be made again.
 */
const takeOver = (graceSeconds: number) => String.raw`
lessor_make
${endProcesses(graceSeconds)}
[ -d "$lessor_place" ] || lessor_unusable "$lessor_place was removed while it was being taken over"
lessor_make
`;

const REMOVE = String.raw`
[ ! -L "$lessor_places" ] ||
  lessor_unusable "$lessor_places is a symbolic link, which may lead anywhere; remove it, and the place that it hides"
[ ! -d "$lessor_root" ] || [ -x "$lessor_root" ] ||
  lessor_unusable "$lessor_root cannot be entered by the user who logs in; give it to that user"
if [ -r /proc/self/mountinfo ]; then
  while read -r lessor_id lessor_parent lessor_device lessor_source lessor_mount lessor_rest; do
    case $lessor_mount in
      *"/${LEASES_DIRECTORY}/$lessor_lease" | *"/${LEASES_DIRECTORY}/$lessor_lease/"*)
        lessor_unusable "something is mounted on $lessor_mount, and would be emptied; unmount it" ;;
    esac
  done </proc/self/mountinfo
fi
if ! rm -rf -- "$lessor_place" 2>/dev/null; then
  # Links are no directories, so nothing outside is touched.
  find "$lessor_place" -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null
  lessor_error=$(rm -rf -- "$lessor_place" 2>&1 | head -n 3)
fi
if [ -e "$lessor_place" ] || [ -L "$lessor_place" ]; then
  lessor_unusable "$lessor_place cannot be removed: $lessor_error"
fi
rmdir -- "$lessor_places" 2>/dev/null || :
`;

/**
 * Makes a place, or takes it over with its files when it is there already; what an earlier run left running in it is
 * ended. Repeating it is harmless.
 * @throws {EnvironmentFailedError} workspace_unusable when the host has no such workspace, or nothing can be made in it;
 * driver_failed when a process cannot be ended
 */
export async function makePlace(
  connection: SshConnection,
  request: PlaceRequest & { isTakenOver: boolean },
): Promise<void> {
  const make = request.isTakenOver ? takeOver(request.graceSeconds) : MAKE;
  await runPlaceScript(connection, request, REFUSE_UNUSABLE_WORKSPACE + DEFINE_MAKE + make);
}

/**
 * Ends what runs in a place and removes it. What is not there any more is no failure.
 * @throws {EnvironmentFailedError} workspace_unusable when part of it cannot be removed, driver_failed when a process
 * cannot be ended
 */
export async function removePlace(connection: SshConnection, request: PlaceRequest): Promise<void> {
  await runPlaceScript(connection, request, endProcesses(request.graceSeconds) + REMOVE);
}

async function runPlaceScript(connection: SshConnection, request: PlaceRequest, steps: string): Promise<void> {
  const { config, place, signal } = request;
  assertLeaseDirectory(config, place);
  const script = `lessor_place=$2 lessor_lease=$3 lessor_mode=$4\n${steps}`;
  const args = [place, place.slice(place.lastIndexOf('/') + 1), config.workspaceMode];
  await runWorkspaceScript(connection, { config, script, arguments: args, signal });
}

function endProcesses(graceSeconds: number): string {
  return String.raw`${endProcessesFunction({ graceSeconds })}
if ! lessor_failure=$(lessor_end_processes "$lessor_place"); then
  printf '%s\n' "$lessor_failure" >&2
  exit 1
fi
`;
}
