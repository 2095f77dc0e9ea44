import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { openSshServer } from '../../src/embedded/ssh-server/index.ts';
import type { SshServer, SshServerKind } from '../../src/embedded/ssh-server/index.ts';
import { findSshd } from '../../src/embedded/ssh-server/sshd-program.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { sshConfigSchema } from '../../src/ssh/config.ts';
import type { SshConfig } from '../../src/ssh/config.ts';

/** The servers that can be had here: OpenSSH's only where it is installed. */
export const hostKinds: SshServerKind[] = [
  ...((await findSshd(process.env['PATH'] ?? '')) === undefined ? [] : (['sshd'] as const)),
  'builtin',
];

/** Resolves the references of the tests' configs. */
export const secrets = createSecretResolver({ env: {}, secretKey: undefined });

/** A signal of its own for a call that nobody ends. */
export const noAbort = () => new AbortController().signal;

/** The fields of a config that a test sets. */
export type ConfigPart = Partial<Record<keyof SshConfig, unknown>>;

/** An SSH server of a test file, with room for workspaces. */
export class TestHost {
  readonly server: SshServer;
  readonly #directory: string;
  #workspaces = 0;

  constructor(server: SshServer, directory: string) {
    this.server = server;
    this.#directory = directory;
  }

  /** An empty directory on the host, whose name gives shells something to trip over. */
  async newWorkspace(): Promise<string> {
    this.#workspaces += 1;
    const path = join(this.#directory, `it's workspace $${this.#workspaces}`);
    await mkdir(path);
    return path;
  }

  /** The config of an environment on it. */
  config(part: ConfigPart = {}): SshConfig {
    const { host, port, username, knownHosts, privateKeyPath } = this.server;
    const remoteWorkspacePath = this.#directory;
    const reached = { host, port, username, knownHosts, privateKey: `file:${privateKeyPath}`, remoteWorkspacePath };
    return sshConfigSchema.parse({ ...reached, ...part });
  }
}

/** One server for the tests of a file or of a describe, closed after them. */
export function useHost(kind: SshServerKind) {
  let host: TestHost | undefined;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lessor-ssh-'));
    const serverDirectory = join(directory, 'server');
    await mkdir(serverDirectory);
    host = new TestHost(await openSshServer({ kind, directory: serverDirectory }), directory);
  });
  afterAll(async () => {
    await host?.server.close();
    await rm(directory, { recursive: true, force: true });
  });

  return () => {
    if (host === undefined) throw new Error('the host is there only within hooks and tests');
    return host;
  };
}
