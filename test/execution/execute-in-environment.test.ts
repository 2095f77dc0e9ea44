import { randomBytes } from 'node:crypto';
import { randomUUID } from 'node:crypto';
import { readFile, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LeaseLostError } from '../../src/contracts/index.ts';
import type { GrantedLease } from '../../src/contracts/index.ts';
import { executeInEnvironment, RestoreFailedError } from '../../src/execution/execute-in-environment.ts';
import type { ExecuteOptions, ExecutionPhase } from '../../src/execution/execute-in-environment.ts';
import { CommandNotStartedError } from '../../src/execution/local-driver.ts';
import { executionDrivers, UnknownExecutionDriverError } from '../../src/execution/execute-in-environment.ts';
import { until } from '../../testing/until.ts';
import { makeDirectory } from './directories.ts';
import { Collector, describeOnSshExecution, leaseOf } from './ssh/execution-fixture.ts';

const signal = new AbortController().signal;

describeOnSshExecution('a command in an SSH environment', (host) => {
  test('gets its lease and workspace path as variables, and its workspace is uploaded and downloaded', async () => {
    const lease = await host.lease();
    const workspaceDirectory = await makeDirectory({ a: 'one' });
    const phases: ExecutionPhase[] = [];
    const { result, stdout } = await execute(lease, {
      command: ['sh', '-c', 'cat a; env; printf two > a; exit 3'],
      env: { NAMED: 'yes' },
      workspaceDirectory,
      onPhase: (phase) => phases.push(phase),
    });
    expect(result).toEqual({
      exit: { code: 3, signal: null },
      prepared: { files: 1, bytes: 3, skipped: [] },
      restored: { changed: ['a'], created: [], deleted: [], conflicts: [], skipped: [] },
    });
    const workspacePath = join(lease.providerLeaseId, 'workspace');
    expect(stdout.startsWith('one')).toBe(true);
    for (const line of [
      'NAMED=yes',
      `LESSOR_RUN_ID=${lease.runId}`,
      `LESSOR_LEASE_ID=${lease.id}`,
      'LESSOR_FENCING_TOKEN=7',
      `PAPERCLIP_ENVIRONMENT=${JSON.stringify({ ...lease.environment, workspacePath })}`,
    ])
      expect(stdout).toContain(line);
    expect(await readFile(join(workspaceDirectory, 'a'), 'utf8')).toBe('two');
    expect(phases).toEqual(['preparing', 'executing', 'restoring']);
  });

  test('has its changes downloaded when the run is cancelled or timed out', async () => {
    const workspaceDirectory = await makeDirectory();
    const { result } = await executeUntilReady(await host.lease(), workspaceDirectory, new Error('timed out'));
    expect(result).toMatchObject({ exit: { signal: 'SIGTERM' }, restored: { created: ['done'] } });
    expect(await readdir(workspaceDirectory)).toEqual(['done']);
  });

  test('has nothing downloaded when the lease is lost: the files may be another run’s', async () => {
    const workspaceDirectory = await makeDirectory();
    const { result } = await executeUntilReady(
      await host.lease(),
      workspaceDirectory,
      new LeaseLostError('a lease', 'it expired'),
    );
    expect(result).toMatchObject({ exit: { signal: 'SIGTERM' }, restored: null });
    expect(await readdir(workspaceDirectory)).toEqual([]);
  });

  test('reports its exit and the location of its files when they cannot be downloaded', async () => {
    const lease = await host.lease();
    const workspaceDirectory = await makeDirectory({ a: 'one' });
    const failing = execute(lease, { command: ['sh', '-c', 'cd ..; rm -r workspace; exit 4'], workspaceDirectory });
    const error: unknown = await failing.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RestoreFailedError);
    expect(error).toMatchObject({ code: 'workspace_unusable', exit: { code: 4, signal: null } });
    expect(String(error)).toContain(`@127.0.0.1:${host.server.port}:${join(lease.providerLeaseId, 'workspace')}`);
    expect(await readFile(join(workspaceDirectory, 'a'), 'utf8')).toBe('one');
  });

  test('stops the download when restoreSignal is aborted', async () => {
    const interrupted = new AbortController();
    const workspaceDirectory = await makeDirectory({ a: 'one' });
    const failing = execute(await host.lease(), {
      command: ['sh', '-c', 'printf two > a'],
      workspaceDirectory,
      restoreSignal: interrupted.signal,
      onPhase: (phase) => phase === 'restoring' && interrupted.abort(new Error('SIGINT was received twice')),
    });
    await expect(failing).rejects.toThrow(
      /exited with code 0, but what it changed could not all .*SIGINT was received twice/,
    );
    expect(await readFile(join(workspaceDirectory, 'a'), 'utf8')).toBe('one');
  });
});

describe('a command on Local', () => {
  test('gets every variable except LESSOR_SECRET_KEY, its own variables, and works in the directory itself', async () => {
    const LESSOR_SECRET_KEY = randomBytes(32).toString('hex');
    const workspaceDirectory = await realpath(await makeDirectory({ a: 'one' }));
    const lease = local();
    const { result, stdout } = await execute(lease, {
      command: ['sh', '-c', 'pwd; cat; env; printf two > a; exit 3'],
      env: { NAMED: 'yes', BASE: 'overridden' },
      stdin: Readable.from(['from stdin\n']),
      workspaceDirectory,
      drivers: executionDrivers({ PATH: process.env['PATH'], BASE: 'base', OTHER: 'other', LESSOR_SECRET_KEY }),
    });
    expect(stdout).not.toContain(LESSOR_SECRET_KEY);
    expect(result).toMatchObject({ exit: { code: 3, signal: null }, restored: { changed: [] } });
    for (const line of [
      `${workspaceDirectory}\nfrom stdin\n`,
      'NAMED=yes\n',
      'BASE=overridden\n',
      'OTHER=other\n',
      `LESSOR_RUN_ID=${lease.runId}\n`,
    ])
      expect(stdout).toContain(line);
    expect(stdout).toContain(JSON.stringify({ ...lease.environment, workspacePath: workspaceDirectory }));
    expect(await readFile(join(workspaceDirectory, 'a'), 'utf8')).toBe('two');
  });

  test('is ended by SIGPIPE when its reader is gone', async () => {
    const stdout = new PassThrough();
    stdout.once('data', () => stdout.destroy());
    expect((await execute(local(), { command: ['yes'], stdout })).result.exit).toEqual({
      code: null,
      signal: 'SIGPIPE',
    });
  });

  test('has ended on its exit, also when a child holds its output open', async () => {
    const { result, stdout } = await execute(local(), {
      command: ['sh', '-c', 'echo begun; sleep 20 & echo $!; exit 3'],
    });
    const [begun, pid] = stdout.split('\n');
    onTestFinished(() => void process.kill(Number(pid), 'SIGKILL'));
    expect([begun, result.exit]).toEqual(['begun', { code: 3, signal: null }]);
  });

  test('that cannot be started or holds a NUL rejects with an error of its own', async () => {
    await expect(execute(local(), { command: ['lessor-no-such-command'] })).rejects.toThrow(CommandNotStartedError);
    await expect(execute(local(), { command: ['true', '\0'] })).rejects.toMatchObject({
      code: 'invalid_configuration',
    });
  });

  test('receives forwarded signals, also before it has started', async () => {
    const { result } = await execute(local(), {
      command: ['sleep', '60'],
      onPhase: (phase, execution) => phase === 'executing' && setImmediate(() => void execution.send('SIGINT')),
    });
    expect(result.exit).toEqual({ code: null, signal: 'SIGINT' });
  });

  test.for(['nowhere', 'a'])('needs a directory to work in: %s', async (name) => {
    const directory = await makeDirectory({ a: '' });
    const failing = execute(local(), { command: ['true'], workspaceDirectory: join(directory, name) });
    await expect(failing).rejects.toMatchObject({
      code: 'invalid_configuration',
      message: expect.stringContaining(join(directory, name)) as unknown,
    });
  });
});

test('a lease on an environment without a driver is rejected with the drivers there are', async () => {
  const lease = leaseOf();
  const failing = execute(
    { ...lease, environment: { ...lease.environment, driver: 'sandbox' } },
    { command: ['true'] },
  );
  await expect(failing).rejects.toThrow(UnknownExecutionDriverError);
  await expect(failing).rejects.toMatchObject({
    code: 'driver_unavailable',
    message: expect.stringMatching(/sandbox.*local and ssh/) as unknown,
  });
});

function local(): GrantedLease {
  return { ...leaseOf(), environment: { id: randomUUID(), name: 'Local', driver: 'local', leaseId: randomUUID() } };
}

/** Executes, and collects what is written. */
async function execute(lease: GrantedLease, options: Omit<ExecuteOptions, 'signal'> & { signal?: AbortSignal }) {
  const stdout = new Collector();
  const result = await executeInEnvironment(lease, {
    stdout,
    stderr: new Collector(),
    signal,
    killAfterMs: 5_000,
    ...options,
  });
  return { result, stdout: stdout.bytes.toString() };
}

/** Executes a command that would never end, and aborts it once it has done something. */
async function executeUntilReady(lease: GrantedLease, workspaceDirectory: string, reason: Error) {
  const controller = new AbortController();
  const stdout = new Collector();
  const executing = execute(lease, {
    command: ['sh', '-c', 'touch done; echo ready; exec sleep 60'],
    workspaceDirectory,
    signal: controller.signal,
    stdout,
  });
  await until(() => stdout.bytes.length > 0, { what: 'the command being ready' });
  controller.abort(reason);
  return executing;
}
