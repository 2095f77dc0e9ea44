import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, onTestFinished } from 'vitest';
import type { GrantedLease } from '../../../src/contracts/index.ts';
import { openSshServer } from '../../../src/embedded/ssh-server/index.ts';
import type { SshServer, SshServerKind } from '../../../src/embedded/ssh-server/index.ts';
import type { Command, Execution, ExecutionOptions, ProcessExit } from '../../../src/execution/driver.ts';
import { createSshExecutionDriver } from '../../../src/execution/ssh/ssh-driver.ts';
import { createSecretResolver } from '../../../src/secrets/resolver.ts';
import { SSH_SERVER_KINDS } from '../../support/ssh-host.ts';
import { makeDirectory } from '../directories.ts';

/** A host with an SSH server, and what leases on it look like. */
export interface SshHost {
  readonly server: SshServer;
  /** Makes a place as an acquired lease has one, and removes it after the test. */
  lease(config?: Record<string, unknown>): Promise<PlacedLease>;
  /** One that all tests share, as connecting takes a while: for those that leave nothing behind. */
  shared(): Promise<Execution>;
}

type PlacedLease = GrantedLease & { providerLeaseId: string };

/** The same tests on every kind of SSH server that is to be had here. */
export function describeOnEachSshServer(name: string, body: (host: SshHost) => void): void {
  describeOn(SSH_SERVER_KINDS, name, body);
}

/** Tests that are too dear to be repeated: on sshd, where one is installed. */
export function describeOnSshServer(name: string, body: (host: SshHost) => void): void {
  describeOn(SSH_SERVER_KINDS.slice(0, 1), name, body);
}

function describeOn(servers: readonly SshServerKind[], name: string, body: (host: SshHost) => void): void {
  describe.for(servers)(`${name}, on %s`, (kind) => {
    let directory: string;
    let server: SshServer;
    let shared: Promise<Execution> | undefined;
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'lessor-ssh-'));
      await mkdir(join(directory, 'server'));
      server = await openSshServer({ kind, directory: join(directory, 'server') });
    });
    afterAll(async () => {
      await (await shared)?.close();
      await server.close();
      await rm(directory, { recursive: true });
    });
    body({
      get server() {
        return server;
      },
      lease: async (config) => leaseOn(server, await realpath(await makeDirectory()), config),
      shared: () => (shared ??= leaseOn(server, join(directory, 'workspaces')).then((lease) => connect(lease))),
    });
  });
}

async function leaseOn(
  server: SshServer,
  remoteWorkspacePath: string,
  config: Record<string, unknown> = {},
): Promise<PlacedLease> {
  const lease = leaseOf();
  const place = join(remoteWorkspacePath, '.lessor', lease.id);
  await mkdir(join(place, 'workspace'), { recursive: true });
  await mkdir(join(place, 'commands'));
  const { host, port, username, knownHosts, privateKeyPath } = server;
  return {
    ...lease,
    config: { host, port, username, knownHosts, privateKey: `file:${privateKeyPath}`, remoteWorkspacePath, ...config },
    providerLeaseId: place,
  };
}

/** A lease on an SSH environment, without a place. */
export function leaseOf(): GrantedLease {
  const id = randomUUID();
  return {
    id,
    companyId: randomUUID(),
    runId: randomUUID(),
    status: 'active',
    leasePolicy: 'ephemeral',
    executionWorkspaceId: null,
    fencingToken: 7,
    ttlSeconds: 300,
    acquiredAt: '2026-01-01T00:00:00.000Z',
    expiresAt: '2026-01-01T00:05:00.000Z',
    failureReason: null,
    environment: { id: randomUUID(), name: 'box', driver: 'ssh', leaseId: id },
    config: {},
    providerLeaseId: null,
  };
}

/** Opens an execution, and closes it after the test. */
export async function open(lease: GrantedLease, options: Partial<ExecutionOptions> = {}): Promise<Execution> {
  const execution = await connect(lease, options);
  onTestFinished(() => execution.close());
  return execution;
}

function connect(lease: GrantedLease, options: Partial<ExecutionOptions> = {}): Promise<Execution> {
  const secrets = createSecretResolver({ env: {}, secretKey: undefined });
  return createSshExecutionDriver({ secrets }).open(lease, { signal: new AbortController().signal, ...options });
}

/** What came of a command. */
export interface Outcome extends ProcessExit {
  stdout: Buffer;
  stderr: Buffer;
}

/** Executes a command to its end and collects what it writes. */
export async function run(
  execution: Execution,
  argv: Command['argv'],
  options: Partial<Omit<Command, 'argv'>> = {},
): Promise<Outcome> {
  const [stdout, stderr] = [new Collector(), new Collector()];
  const end = await execution.execute({ argv, env: {}, stdout, stderr, killAfterMs: 5_000, ...options });
  return { ...end, stdout: stdout.bytes, stderr: stderr.bytes };
}

/** Keeps what is written to it. */
export class Collector extends Writable {
  readonly #chunks: Buffer[] = [];

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }
}
