import { randomUUID } from 'node:crypto';
import type { SFTPWrapper, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { describeReference } from '../../secrets/reference.ts';
import type { SecretResolver } from '../../secrets/resolver.ts';
import { addressOf } from '../../ssh/address.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnection } from '../../ssh/connection.ts';
import type { ProbeCheck, ProbeReport } from './driver.ts';
import { REFUSE_UNUSABLE_WORKSPACE, runWorkspaceScript } from './ssh-workspace-script.ts';

const WRITE_AND_REMOVE_A_FILE = String.raw`
lessor_file="$lessor_root/.lessor-probe-$2"
# Through no link, and over no file that is there.
lessor_error=$( { set -C; printf probe >"$lessor_file"; } 2>&1 ) ||
  lessor_unusable "no file can be written into $lessor_root: $lessor_error"
rm -f -- "$lessor_file" || lessor_unusable "the file $lessor_file cannot be removed; remove it"
`;

/** What a probe is made with. */
export interface ProbeOptions {
  secrets: SecretResolver;
  signal: AbortSignal;
}

/** Looks, on a connection of its own, at all that a lease needs of the host, and stops where something is missing. */
export async function probeSsh(config: SshConfig, { secrets, signal }: ProbeOptions): Promise<ProbeReport> {
  const checks: ProbeCheck[] = [];
  let connection: SshConnection;
  try {
    connection = await SshConnection.connect(config, { secrets, signal });
  } catch (error) {
    return { checks: checksUpTo(error, config), latencyMs: null };
  }
  let latencyMs: number | null = null;
  const check = async (name: string, look: () => Promise<string>) => {
    try {
      checks.push({ name, ok: true, detail: await look() });
      return true;
    } catch (error) {
      checks.push({ name, ok: false, detail: reasonOf(error) });
      return false;
    }
  };
  try {
    checks.push(...connectionChecks(config, connection.hostKeyFinding));
    const isComplete =
      (await check('shell', () => lookAtShell(connection, signal))) &&
      (await check('workspace', () => lookAtWorkspace(connection, config, signal))) &&
      (await check('file transfer', async () => {
        latencyMs = await lookAtFileTransfer(connection, config, signal);
        return 'SFTP reaches the workspace';
      }));
    return { checks, latencyMs: isComplete ? latencyMs : null };
  } finally {
    await connection.close();
  }
}

async function lookAtShell(connection: SshConnection, signal: AbortSignal): Promise<string> {
  const { stdout } = await connection.runScript('uname -sr', { signal });
  return `sh runs on ${stdout.trim() || 'the host'}`;
}

async function lookAtWorkspace(connection: SshConnection, config: SshConfig, signal: AbortSignal): Promise<string> {
  const script = REFUSE_UNUSABLE_WORKSPACE + WRITE_AND_REMOVE_A_FILE;
  await runWorkspaceScript(connection, { config, script, arguments: [randomUUID()], signal });
  return `a file was written into ${config.remoteWorkspacePath}, and removed`;
}

/** Resolves to how long one question and its answer took, in milliseconds. */
async function lookAtFileTransfer(connection: SshConnection, config: SshConfig, signal: AbortSignal): Promise<number> {
  const sftp = await connection.sftp();
  const askedAt = performance.now();
  const stats = await statOf(sftp, config.remoteWorkspacePath, signal);
  const tookMs = performance.now() - askedAt;
  if (stats.isDirectory()) return tookMs;
  throw new EnvironmentFailedError('workspace_unusable', `${config.remoteWorkspacePath} is no directory to SFTP`);
}

function statOf(sftp: SFTPWrapper, path: string, signal: AbortSignal): Promise<Stats> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    sftp.stat(path, (error, stats) => {
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) return resolve(stats);
      const message = `SFTP does not see ${path} as the shell does (${error.message}); is it confined to a directory?`;
      reject(new EnvironmentFailedError('workspace_unusable', message, { cause: error }));
    });
  });
}

/** What is known to be right once the user is logged in. */
function connectionChecks(config: SshConfig, hostKeyFinding: string): ProbeCheck[] {
  return [
    { name: 'private key', ok: true, detail: `read from ${describeReference(config.privateKey)}` },
    { name: 'connection', ok: true, detail: `${addressOf(config)} answers` },
    { name: 'host key', ok: true, detail: hostKeyFinding },
    { name: 'authentication', ok: true, detail: `${JSON.stringify(config.username)} is let in` },
  ];
}

/** The checks of a connection that could not be made: the last one failed, those before it did not. */
function checksUpTo(error: unknown, config: SshConfig): ProbeCheck[] {
  const checks = connectionChecks(config, config.strictHostKeyChecking ? 'is one of knownHosts' : 'accepted unchecked');
  const code = error instanceof EnvironmentFailedError ? error.code : undefined;
  const failedName = {
    secret_unavailable: 'private key',
    host_key_rejected: 'host key',
    authentication_failed: 'authentication',
  };
  const name = code !== undefined && code in failedName ? failedName[code as keyof typeof failedName] : 'connection';
  const failedAt = checks.findIndex((check) => check.name === name);
  return [...checks.slice(0, failedAt), { name, ok: false, detail: reasonOf(error) }];
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
