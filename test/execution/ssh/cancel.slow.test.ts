import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { onTestFinished, test, expect } from 'vitest';
import { LeaseLostError } from '../../../src/contracts/index.ts';
import type { Execution } from '../../../src/execution/driver.ts';
import { runningProcesses } from '../../../testing/running-processes.ts';
import { until } from '../../../testing/until.ts';
import { makeDirectory } from '../directories.ts';
import { describeOnSshExecution, open } from './execution-fixture.ts';
import type { ExecutionHost } from './execution-fixture.ts';

describeOnSshExecution('a terminated command over SSH', (host) => {
  test('gets SIGTERM with everything it started, and can handle it', async () => {
    const { ended, pids, abort } = await start(host, `trap 'kill $!; exit 9' TERM; sleep 60 & echo $$ $!; wait`);
    abort();
    expect(await ended).toEqual({ code: 9, signal: null });
    await until(() => pids.every((pid) => !isRunning(pid)), { what: 'the end of all it started' });
  });

  test('gets SIGKILL, with the rest of its group that ignored SIGTERM', async () => {
    const script = `trap '' TERM; sh -c 'trap "" TERM; echo $$; while :; do sleep 0.1; done' & echo $$ $!; while :; do sleep 0.1; done`;
    const { ended, pids, abort } = await start(host, script, 300);
    const startedAt = performance.now();
    abort();
    expect(await ended).toEqual({ code: null, signal: 'SIGKILL' });
    expect(performance.now() - startedAt).toBeGreaterThan(290);
    await until(() => pids.every((pid) => !isRunning(pid)), { what: 'the end of all it started' });
  });

  test('ends with a child that ignored SIGTERM, although the command itself ended immediately', async () => {
    const { ended, pids, abort } = await start(
      host,
      `sh -c 'trap "" TERM; while :; do sleep 0.1; done' & echo $$ $!; wait`,
      300,
    );
    abort();
    expect(await ended).toEqual({ code: null, signal: 'SIGTERM' });
    await until(() => pids.every((pid) => !isRunning(pid)), { what: 'the end of all it started' });
  });

  test('ends also when the signal is aborted before it has started', async () => {
    const controller = new AbortController();
    const execution = await open(await host.lease(), { signal: controller.signal });
    const ended = execution.execute({
      argv: ['sleep', '60'],
      env: {},
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      killAfterMs: 5_000,
    });
    // Nothing has gone to the host yet.
    controller.abort(new LeaseLostError('a lease', 'it was swept'));
    await expect(ended).rejects.toThrow(LeaseLostError);
    await expect(execution.prepareWorkspace()).rejects.toThrow(LeaseLostError);
  });

  test('ends also when commands occupy all sessions of the connection', async () => {
    const controller = new AbortController();
    const execution = await open(await host.lease(), { signal: controller.signal });
    const stdout = new PassThrough();
    const output = collect(stdout);
    const command = { argv: ['sh', '-c', 'echo ready; exec sleep 60'], env: {}, stdout, killAfterMs: 5_000 } as const;
    const commands = Array.from({ length: 9 }, () =>
      execution.execute({ ...command, stderr: new PassThrough() }).catch((error: unknown) => error),
    );
    await until(() => output().length >= 'ready\n'.length * 5, { what: 'five being ready' });
    const reason = new Error('cancelled');
    controller.abort(reason);
    const ends = await Promise.all(commands);
    expect(ends.filter((end) => end === reason).length).toBe(4);
    expect(ends.filter((end) => end !== reason)).toEqual(
      Array.from({ length: 5 }, () => ({ code: null, signal: 'SIGTERM' })),
    );
  });

  test('receives forwarded signals, also one sent before it has started', async () => {
    const execution = await open(await host.lease());
    const stdout = new PassThrough();
    const output = collect(stdout);
    const script = `trap 'echo one' USR1; trap 'echo two; exit 4' INT; echo ready; while :; do sleep 0.1; done`;
    const ended = execution.execute({
      argv: ['sh', '-c', script],
      env: {},
      stdout,
      stderr: new PassThrough(),
      killAfterMs: 5_000,
    });
    await until(() => output() === 'ready\n', { what: 'the command being ready' });
    await execution.send('SIGUSR1');
    await until(() => output() === 'ready\none\n', { what: 'SIGUSR1' });
    await execution.send('SIGINT');
    expect(await ended).toEqual({ code: 4, signal: null });
    await execution.send('SIGTERM');

    const early = execution.execute({
      argv: ['sleep', '60'],
      env: {},
      stdout,
      stderr: new PassThrough(),
      killAfterMs: 5_000,
    });
    await execution.send('SIGTERM');
    expect(await early).toEqual({ code: null, signal: 'SIGTERM' });
  });
});

describeOnSshExecution('a lost connection', (host) => {
  test('while a command runs is reported within seconds, with the exit unknown', async () => {
    const { ended, pids } = await start(host, 'echo $$; exec sleep 60');
    onTestFinished(() => {
      for (const pid of pids.filter(isRunning)) process.kill(pid, 'SIGKILL');
    });
    await host.server.stop();
    const error: unknown = await ended.catch((reason: unknown) => reason);
    await host.server.start();
    expect(error).toMatchObject({
      code: 'environment_unreachable',
      message: expect.stringMatching(
        /how the command ended is not known, and it may run on: .*127\.0\.0\.1/,
      ) as unknown,
    });
  });

  test('while files are uploaded ends the upload', async () => {
    const workspaceDirectory = await makeDirectory({ a: Buffer.alloc(50_000_000) });
    const execution = await open(await host.lease(), {
      workspaceDirectory,
      onProgress: ({ bytes }) => void (bytes > 0 && host.server.stop()),
    });
    await expect(execution.prepareWorkspace()).rejects.toMatchObject({ code: 'environment_unreachable' });
    await host.server.start();
    await rm(join(workspaceDirectory, 'a'));
  });

  test('before any call rejects every call with the reason', async () => {
    const execution = await open(await host.lease(), { workspaceDirectory: await makeDirectory({ a: '' }) });
    await host.server.stop();
    await expect(execution.prepareWorkspace()).rejects.toMatchObject({ code: 'environment_unreachable' });
    await expect(
      execution.execute({
        argv: ['true'],
        env: {},
        stdout: new PassThrough(),
        stderr: new PassThrough(),
        killAfterMs: 1,
      }),
    ).rejects.toMatchObject({ code: 'environment_unreachable' });
    await host.server.start();
  });
});

/** Starts a script, and waits until it has told of process ids. */
async function start(host: ExecutionHost, script: string, killAfterMs = 10_000) {
  const controller = new AbortController();
  const execution: Execution = await open(await host.lease(), { signal: controller.signal });
  const stdout = new PassThrough();
  const output = collect(stdout);
  const ended = execution.execute({
    argv: ['sh', '-c', script],
    env: {},
    stdout,
    stderr: new PassThrough().resume(),
    killAfterMs,
  });
  ended.catch(() => undefined);
  await until(() => output().endsWith('\n'), { what: 'the command being ready' });
  const pids = output().trim().split(/\s+/).map(Number);
  expect(pids.every(isRunning)).toBe(true);
  return { ended, pids, abort: () => controller.abort() };
}

function collect(stream: PassThrough): () => string {
  const chunks: string[] = [];
  stream.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
  return () => chunks.join('');
}

function isRunning(pid: number): boolean {
  return runningProcesses().some((running) => running.pid === pid);
}
