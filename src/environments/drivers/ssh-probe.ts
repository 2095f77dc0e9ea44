import type { SFTPWrapper, Stats } from 'ssh2';
import { EnvironmentFailedError } from '../../contracts/index.ts';
import { raceAbort } from '../../lib/abort.ts';
import { messageOf } from '../../lib/errors.ts';
import { describeReference } from '../../secrets/reference.ts';
import type { SecretResolver } from '../../secrets/resolver.ts';
import { addressOf } from '../../ssh/config.ts';
import type { SshConfig } from '../../ssh/config.ts';
import { SshConnection } from '../../ssh/connection.ts';
import type { ProbeCheck, ProbeReport } from './driver.ts';
import { probeWorkspace } from './ssh-lease-directory.ts';

/** Options of a probe. */
export interface ProbeOptions {
  secrets: SecretResolver;
  signal: AbortSignal;
}

/** Checks everything that a lease needs of the host, on a connection of its own, up to the first check that fails. */
export async function probeSsh(config: SshConfig, { secrets, signal }: ProbeOptions): Promise<ProbeReport> {
  const checks: ProbeCheck[] = [];
  let connection: SshConnection;
  try {
    connection = await SshConnection.connect(config, { secrets, signal });
  } catch (error) {
    return { checks: checksUpTo(error, config), latencyMs: null };
  }
  let latencyMs: number | null = null;
  const check = async (name: string, run: () => Promise<string>) => {
    try {
      checks.push({ name, ok: true, detail: await run() });
      return true;
    } catch (error) {
      checks.push({ name, ok: false, detail: messageOf(error) });
      return false;
    }
  };
  try {
    checks.push(...connectionChecks(config, connection.hostKeySummary));
    const isComplete =
      (await check('shell', () => checkShell(connection, signal))) &&
      (await check('workspace', () => checkWorkspace(connection, config, signal))) &&
      (await check('file transfer', async () => {
        latencyMs = await measureFileTransfer(connection, config, signal);
        return 'SFTP reaches the workspace';
      }));
    return { checks, latencyMs: isComplete ? latencyMs : null };
  } finally {
    await connection.close();
  }
}

async function checkShell(connection: SshConnection, signal: AbortSignal): Promise<string> {
  const { stdout } = await connection.runScript('uname -sr', { signal });
  return `sh runs on ${stdout.trim() || 'the host'}`;
}

async function checkWorkspace(connection: SshConnection, config: SshConfig, signal: AbortSignal): Promise<string> {
  await probeWorkspace(connection, config, signal);
  return `a file was written into ${config.remoteWorkspacePath}, and removed`;
}

/** Resolves to the duration of one round trip, in milliseconds. */
async function measureFileTransfer(connection: SshConnection, config: SshConfig, signal: AbortSignal): Promise<number> {
  const sftp = await connection.sftp(signal);
  const sentAt = performance.now();
  const stats = await raceAbort(statOf(sftp, config.remoteWorkspacePath), signal);
  const durationMs = performance.now() - sentAt;
  if (stats.isDirectory()) return durationMs;
  throw new EnvironmentFailedError('workspace_unusable', `${config.remoteWorkspacePath} is no directory to SFTP`);
}

function statOf(sftp: SFTPWrapper, path: string): Promise<Stats> {
  return new Promise((resolve, reject) => {
    sftp.stat(path, (error, stats) => {
      if (error === undefined) return resolve(stats);
      const message = `SFTP does not see ${path} as the shell does (${error.message}); is it confined to a directory?`;
      reject(new EnvironmentFailedError('workspace_unusable', message, { cause: error }));
    });
  });
}

/** The checks that have passed once the user is logged in. */
function connectionChecks(config: SshConfig, hostKeySummary: string): ProbeCheck[] {
  return [
    { name: 'private key', ok: true, detail: `read from ${describeReference(config.privateKey)}` },
    { name: 'connection', ok: true, detail: `${addressOf(config)} answers` },
    { name: 'host key', ok: true, detail: hostKeySummary },
    { name: 'authentication', ok: true, detail: `${JSON.stringify(config.username)} is let in` },
  ];
}

/** The checks of a connection that could not be opened: the last one failed, those before it passed. */
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
  return [...checks.slice(0, failedAt), { name, ok: false, detail: messageOf(error) }];
}
