import { randomUUID } from 'node:crypto';
import { mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, onTestFinished } from 'vitest';
import type { GrantedLease } from '../../../src/contracts/index.ts';
import type { EphemeralSshd } from '../../../src/embedded/sshd/ephemeral-sshd.ts';
import type { Command, Execution, ExecutionOptions, ProcessExit } from '../../../src/execution/driver.ts';
import { createSshExecutionDriver } from '../../../src/execution/ssh/ssh-driver.ts';
import { describeOnSshd, secrets, useSshHost } from '../../support/ssh-host.ts';
import type { SshHost } from '../../support/ssh-host.ts';
import { makeDirectory } from '../directories.ts';

/** A host with an sshd, and leases on it. */
export interface ExecutionHost {
  readonly server: EphemeralSshd;
  /** Creates the lease directory of an acquired lease, and removes it after the test. */
  lease(config?: Record<string, unknown>): Promise<PlacedLease>;
  /** One that all tests share, as connecting takes a while: for those that leave nothing behind. */
  shared(): Promise<Execution>;
}

type PlacedLease = GrantedLease & { providerLeaseId: string };

/** Tests of executions on one host, which is closed after them. */
export function describeOnSshExecution(name: string, body: (host: ExecutionHost) => void): void {
  describeOnSshd(name, () => {
    const host = useSshHost();
    let shared: Promise<Execution> | undefined;
    afterAll(async () => (await shared)?.close());
    body({
      get server() {
        return host().server;
      },
      lease: async (config) => leaseOn(host(), await realpath(await makeDirectory()), config),
      shared: () => (shared ??= leaseOn(host(), host().workspacePath).then((lease) => connect(lease))),
    });
  });
}

/** A lease on a host of the test's own, with a lease directory. */
export async function placeLease(host: SshHost): Promise<PlacedLease> {
  return leaseOn(host, await realpath(await makeDirectory()));
}

async function leaseOn(
  host: SshHost,
  remoteWorkspacePath: string,
  config: Record<string, unknown> = {},
): Promise<PlacedLease> {
  const lease = leaseOf();
  const leaseDirectory = join(remoteWorkspacePath, '.lessor', lease.id);
  await mkdir(join(leaseDirectory, 'workspace'), { recursive: true });
  await mkdir(join(leaseDirectory, 'commands'));
  return {
    ...lease,
    config: { ...host.config, remoteWorkspacePath, ...config },
    providerLeaseId: leaseDirectory,
  };
}

/** A lease on an SSH environment, without a lease directory. */
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
