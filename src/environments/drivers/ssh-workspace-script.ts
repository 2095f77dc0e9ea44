import { EnvironmentFailedError } from '../../contracts/index.ts';
import { addressOf } from '../../ssh/address.ts';
import type { SshConfig } from '../../ssh/config.ts';
import type { SshConnection } from '../../ssh/connection.ts';
import { LEASES_DIRECTORY } from '../../ssh/lease-directory.ts';

/** The exit code with which a script says, on stderr, why the workspace cannot be used. */
const UNUSABLE = 10;

/** What every script on a workspace begins with; `$1` is the workspace path. */
const OPENING = String.raw`
lessor_unusable() {
  printf '%s\n' "$1" >&2
  exit ${UNUSABLE}
}
lessor_root=$1
lessor_places="$lessor_root/${LEASES_DIRECTORY}"
`;

/** The part of a script that refuses a workspace in which no place can be made. */
export const REFUSE_UNUSABLE_WORKSPACE = String.raw`
[ -d "$lessor_root" ] ||
  lessor_unusable "$lessor_root is no directory there; create it, and give it to the user who logs in"
[ -w "$lessor_root" ] && [ -x "$lessor_root" ] ||
  lessor_unusable "$lessor_root cannot be written to by the user who logs in; give it to that user"
[ ! -L "$lessor_places" ] ||
  lessor_unusable "$lessor_places is a symbolic link, which may lead anywhere; remove it"
`;

/** A script on the workspace of an environment. */
export interface WorkspaceScript {
  config: SshConfig;
  /** Can call `lessor_unusable REASON`, and use `$lessor_root` and `$lessor_places`. */
  script: string;
  /** `$2` and so on of the script. */
  arguments: readonly string[];
  signal: AbortSignal;
}

/**
 * Runs a script on a workspace and resolves to what it printed.
 * @throws {EnvironmentFailedError} workspace_unusable when the script says so, driver_failed when it fails otherwise, and
 * what {@link SshConnection.runScript} throws
 */
export async function runWorkspaceScript(connection: SshConnection, request: WorkspaceScript): Promise<string> {
  const { config, signal: abort } = request;
  const { code, signal, stdout, stderr } = await connection.runScript(OPENING + request.script, {
    arguments: [config.remoteWorkspacePath, ...request.arguments],
    signal: abort,
  });
  if (code === 0) return stdout;
  const said = stderr.trim() || `a script ended with ${signal ?? `exit code ${code}`} and did not say why`;
  throw new EnvironmentFailedError(
    code === UNUSABLE ? 'workspace_unusable' : 'driver_failed',
    `on ${addressOf(config)}, ${said}`,
  );
}
