import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openSshServer } from '../../src/embedded/ssh-server/index.ts';
import type { SshServer, SshServerKind } from '../../src/embedded/ssh-server/index.ts';
import { findSshd } from '../../src/embedded/ssh-server/sshd-program.ts';
import { LEASES_DIRECTORY, LEASE_DIRECTORY_VARIABLE } from '../../src/ssh/lease-directory.ts';
import { environmentVariablesOf, runningProcesses } from '../../testing/running-processes.ts';

/** The kinds of SSH server that can be had here: tests of what happens on a host run on each. */
export const SSH_SERVER_KINDS: readonly SshServerKind[] =
  (await findSshd(process.env['PATH'] ?? '')) === undefined ? ['builtin'] : ['sshd', 'builtin'];

/** A host that is reached over SSH, with a directory for workspaces. It is gone after the test. */
export interface SshHost {
  server: SshServer;
  /** What an environment on it is configured with. */
  config: Record<string, unknown>;
  workspacePath: string;
  /** What leases have left on it: directories of places, and processes. */
  left(): Promise<string[]>;
}

/** Starts a host of the best kind there is, or of the given one. */
export async function openSshHost(kind: SshServerKind = SSH_SERVER_KINDS[0]!): Promise<SshHost> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-ssh-host-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const workspacePath = join(directory, 'work');
  await mkdir(workspacePath);
  const serverDirectory = join(directory, 'server');
  await mkdir(serverDirectory);
  const server = await openSshServer({ kind, directory: serverDirectory });
  onTestFinished(() => server.close());
  const { host, port, username, knownHosts, privateKeyPath } = server;
  const places = join(workspacePath, LEASES_DIRECTORY);
  return {
    server,
    workspacePath,
    config: {
      host,
      port,
      username,
      knownHosts,
      privateKey: `file:${privateKeyPath}`,
      remoteWorkspacePath: workspacePath,
    },
    async left() {
      const directories = existsSync(places) ? await readdir(places) : [];
      const processes = runningProcesses().filter(({ pid }) =>
        environmentVariablesOf(pid).some((variable) => variable.startsWith(`${LEASE_DIRECTORY_VARIABLE}=${places}/`)),
      );
      return [...directories, ...processes.map(({ command }) => command)];
    },
  };
}
