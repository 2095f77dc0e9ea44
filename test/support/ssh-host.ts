import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, onTestFinished } from 'vitest';
import { openEphemeralSshd } from '../../src/embedded/sshd/ephemeral-sshd.ts';
import type { EphemeralSshd } from '../../src/embedded/sshd/ephemeral-sshd.ts';
import { findSshd } from '../../src/embedded/sshd/sshd-process.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { sshConfigSchema } from '../../src/ssh/config.ts';
import type { SshConfig } from '../../src/ssh/config.ts';
import { LEASES_DIRECTORY, LEASE_DIRECTORY_VARIABLE } from '../../src/ssh/lease-directory.ts';
import { environmentVariablesOf, runningProcesses } from '../../testing/running-processes.ts';

const isMissing = (await findSshd(process.env['PATH'] ?? '')) === undefined;
if (isMissing && process.env['CI'] === 'true') {
  throw new Error('with CI=true the tests of SSH have to run: install sshd (Debian: apt-get install openssh-server)');
}
const reason = isMissing ? ' (not run: sshd is not installed; Debian’s package is openssh-server)' : '';

/** A suite that needs sshd. Where there is none it is skipped, which the summary says. */
export function describeOnSshd(name: string, suite: () => void): void {
  describe.skipIf(isMissing)(`${name}${reason}`, () => {
    suite();
  });
}

/** Resolves the references of the tests' configs. */
export const secrets = createSecretResolver({ env: {}, secretKey: undefined });

/** A signal of its own for a call that nobody ends. */
export const noAbort = () => new AbortController().signal;

/** The fields of a config that a test sets. */
export type ConfigPart = Partial<Record<keyof SshConfig, unknown>>;

/** A host that is reached over SSH, with directories for workspaces. */
export class SshHost {
  readonly server: EphemeralSshd;
  readonly directory: string;
  /** A directory for the leases of an environment. */
  readonly workspacePath: string;
  #workspaces = 0;

  static async open(): Promise<SshHost> {
    const directory = await mkdtemp(join(tmpdir(), 'lessor-ssh-'));
    const serverDirectory = join(directory, 'server');
    await mkdir(serverDirectory);
    await mkdir(join(directory, 'work'));
    return new SshHost(await openEphemeralSshd({ directory: serverDirectory }), directory);
  }

  private constructor(server: EphemeralSshd, directory: string) {
    this.server = server;
    this.directory = directory;
    this.workspacePath = join(directory, 'work');
  }

  /** What an environment on it is created with. */
  get config() {
    const { host, port, username, knownHosts, privateKeyPath } = this.server;
    const privateKey = `file:${privateKeyPath}`;
    return { host, port, username, knownHosts, privateKey, remoteWorkspacePath: this.workspacePath };
  }

  /** The same, parsed, with some fields changed. */
  parsedConfig(part: ConfigPart = {}): SshConfig {
    return sshConfigSchema.parse({ ...this.config, ...part });
  }

  /** Changes the sshd_config for connections from now on. */
  async reconfigure(change: (config: string) => string): Promise<void> {
    const path = join(this.directory, 'server', 'sshd_config');
    const config = await readFile(path, 'utf8');
    await writeFile(path, change(config));
  }

  /** From now on its SFTP sessions open, and answer nothing. */
  silenceSftp(): Promise<void> {
    return this.reconfigure((config) => config.replace('sftp internal-sftp', 'sftp "sleep 1000"'));
  }

  /** An empty directory on the host, with characters in its name that a shell would expand. */
  async newWorkspace(): Promise<string> {
    this.#workspaces += 1;
    const path = join(this.directory, `it's workspace $${this.#workspaces}`);
    await mkdir(path);
    return path;
  }

  /** Lease directories and processes that leases have left on it. */
  async leftByLeases(): Promise<string[]> {
    const leases = join(this.workspacePath, LEASES_DIRECTORY);
    const directories = existsSync(leases) ? await readdir(leases) : [];
    const processes = runningProcesses().filter(({ pid }) =>
      environmentVariablesOf(pid).some((variable) => variable.startsWith(`${LEASE_DIRECTORY_VARIABLE}=${leases}/`)),
    );
    return [...directories, ...processes.map(({ command }) => command)];
  }

  async close(): Promise<void> {
    await this.server.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A host of the test's own, closed after it. */
export async function openSshHost(): Promise<SshHost> {
  const host = await SshHost.open();
  onTestFinished(() => host.close());
  return host;
}

/** One host for the tests of a file or of a describe, closed after them. */
export function useSshHost(): () => SshHost {
  let host: SshHost | undefined;
  beforeAll(async () => {
    host = await SshHost.open();
  });
  afterAll(() => host?.close());
  return () => {
    if (host === undefined) throw new Error('the host exists only within hooks and tests');
    return host;
  };
}
