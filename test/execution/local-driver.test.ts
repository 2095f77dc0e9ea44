import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { CommandNotStartedError, LocalProcess, exitCodeOf } from '../../src/execution/local-driver.ts';
import type { LocalCommand } from '../../src/execution/local-driver.ts';
import { until } from '../../testing/until.ts';
import { runningProcesses } from '../../testing/running-processes.ts';

describe('the exit of a process is reported', () => {
  test.for([0, 3, 255])('by its exit code: %i', async (code) => {
    const running = await start(`exit ${code}`);
    expect(await running.exited()).toEqual({ code, signal: null });
  });

  test.for(['SIGTERM', 'SIGKILL', 'SIGABRT'] as const)('by the signal that ended it: %s', async (signal) => {
    const running = await start(`ulimit -c 0; kill -${signal.slice(3)} $$`);
    expect(await running.exited()).toEqual({ code: null, signal });
  });

  test('also after it has exited, and on every call', async () => {
    const written = await makePath();
    const running = await start(`echo done > ${written}; exit 4`);
    await until(() => contentOf(written));
    expect(await running.exited()).toEqual({ code: 4, signal: null });
    expect(await running.exited()).toEqual({ code: 4, signal: null });
  });

  test('and a signal sent after it is no error', async () => {
    const running = await start('exit 0');
    await running.exited();
    expect(() => running.send('SIGTERM')).not.toThrow();
  });

  test('as the exit code that shells use', () => {
    expect(exitCodeOf({ code: 0, signal: null })).toBe(0);
    expect(exitCodeOf({ code: 77, signal: null })).toBe(77);
    for (const signal of ['SIGHUP', 'SIGINT', 'SIGKILL', 'SIGSEGV', 'SIGTERM'] as const)
      expect(exitCodeOf({ code: null, signal })).toBe(128 + constants.signals[signal]);
  });
});

describe('a process gets its input unchanged', () => {
  test('arguments and environment arrive unchanged, and no other variables', async () => {
    const written = await makePath();
    const args = ['', 'a b', `'"`, '$HOME *', 'two\nlines', 'ünïcödé 🦊', '--flag', '\\'];
    const env = { WRITTEN: written, VALUE: 'a b\n$c' };
    const script = `require('fs').writeFileSync(process.env.WRITTEN, JSON.stringify([process.argv.slice(1), process.env]))`;
    const running = await startFile(process.execPath, ['-e', script, '--', ...args], { env });
    expect(await running.exited()).toEqual({ code: 0, signal: null });
    expect(JSON.parse(await readFile(written, 'utf8'))).toEqual([args, env]);
  });
});

describe('a command that cannot be started has an exit code of its own', () => {
  test('127: there is no such command', async () => {
    const error = await startError('lessor-no-such-command');
    expect(error.exitCode).toBe(127);
    expect(error.message).toBe('lessor-no-such-command cannot be started: there is no such command');
  });

  test('127: the command is the empty string', async () => {
    expect((await startError('')).exitCode).toBe(127);
  });

  test('126: the file may not be executed', async () => {
    const file = await makePath();
    await writeFile(file, '#!/bin/sh\n', { mode: 0o644 });
    const error = await startError(file);
    expect(error.exitCode).toBe(126);
    expect(error.message).toContain(file);
    expect(error.message).toContain('EACCES');
  });

  test('126: the file is a directory', async () => {
    expect((await startError(tmpdir())).exitCode).toBe(126);
  });

  test('126: a part of the path is not a directory', async () => {
    const file = await makePath();
    await writeFile(file, '');
    expect((await startError(join(file, 'command'))).exitCode).toBe(126);
  });

  test('126: the arguments are longer than the system takes', async () => {
    const error = await startError('true', ['x'.repeat(4 * 1024 * 1024)]);
    expect(error.exitCode).toBe(126);
    expect(error.message.length).toBeLessThan(200);
  });
});

describe('a process whose signal is aborted is terminated', () => {
  test('by SIGTERM, which it can handle', async () => {
    const { running, abort } = await startTrapping('exit 5');
    abort();
    expect(await running.exited()).toEqual({ code: 5, signal: null });
  });

  test('by SIGTERM, when the signal was aborted before the wait', async () => {
    const running = await start('sleep 60', { signal: AbortSignal.abort() });
    expect(await running.exited()).toEqual({ code: null, signal: 'SIGTERM' });
  });

  test('by SIGKILL after killAfterMs when it ignores SIGTERM', async () => {
    const { running, abort } = await startTrapping(':', { killAfterMs: 200 });
    const abortedAt = performance.now();
    abort();
    expect(await running.exited()).toEqual({ code: null, signal: 'SIGKILL' });
    // Timers of Node can fire a millisecond early.
    expect(performance.now() - abortedAt).toBeGreaterThanOrEqual(199);
  });

  test('with everything it started, without a terminal', async () => {
    const { running, grandchild, abort } = await startWithGrandchild();
    abort();
    expect(await running.exited()).toEqual({ code: null, signal: 'SIGTERM' });
    await until(() => !isAlive(grandchild), { what: 'the end of the grandchild' });
  });

  test('with a child that ignores SIGTERM, although the process itself ended immediately', async () => {
    const { running, grandchild, abort } = await startWithGrandchild({ killAfterMs: 200, first: 'trap "" TERM;' });
    abort();
    expect(await running.exited()).toEqual({ code: null, signal: 'SIGTERM' });
    await until(() => !isAlive(grandchild), { timeoutMs: 3_000, what: 'the end of the grandchild' });
  });

  test('alone at a terminal, where it shares the process group', async () => {
    const { running, grandchild, abort } = await startWithGrandchild({ terminal: true });
    abort();
    expect(await running.exited()).toEqual({ code: null, signal: 'SIGTERM' });
    expect(isAlive(grandchild)).toBe(true);
  });
});

test('a forwarded signal reaches the process and everything it started', async () => {
  const { running, grandchild } = await startWithGrandchild();
  running.send('SIGHUP');
  expect(await running.exited()).toEqual({ code: null, signal: 'SIGHUP' });
  await until(() => !isAlive(grandchild), { what: 'the end of the grandchild' });
});

type Overrides = Partial<Omit<LocalCommand, 'file' | 'args'>>;

/** Starts a shell script. */
function start(script: string, overrides: Overrides = {}): Promise<LocalProcess> {
  return startFile('/bin/sh', ['-c', script], overrides);
}

async function startFile(file: string, args: string[], overrides: Overrides = {}): Promise<LocalProcess> {
  const running = await LocalProcess.start({
    file,
    args,
    env: process.env,
    terminal: false,
    signal: new AbortController().signal,
    killAfterMs: 10_000,
    ...overrides,
  });
  onTestFinished(() => running.send('SIGKILL'));
  return running;
}

/** Starts a script that does something on SIGTERM and would else never end, once it is ready for it. */
async function startTrapping(onTerm: string, overrides: Overrides = {}) {
  const ready = await makePath();
  const controller = new AbortController();
  const script = `exec 2> /dev/null; trap '${onTerm}' TERM; echo ready > ${ready}; while :; do sleep 0.05; done`;
  const running = await start(script, { ...overrides, signal: controller.signal });
  await until(() => contentOf(ready));
  return { running, abort: () => controller.abort() };
}

/** Starts a script that waits for another one it started itself, which does something first and is then ready. */
async function startWithGrandchild({ first = '', ...overrides }: Overrides & { first?: string } = {}) {
  const written = await makePath();
  const controller = new AbortController();
  const script = `sh -c '${first} echo $$ > ${written}; exec sleep 60' & wait`;
  const running = await start(script, { ...overrides, signal: controller.signal });
  const grandchild = Number(await until(() => contentOf(written)));
  onTestFinished(() => {
    if (isAlive(grandchild)) process.kill(grandchild, 'SIGKILL');
  });
  return { running, grandchild, abort: () => controller.abort() };
}

async function startError(file: string, args: string[] = []): Promise<CommandNotStartedError> {
  const error: unknown = await startFile(file, args).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(CommandNotStartedError);
  return error as CommandNotStartedError;
}

/** A path in a directory of the test's own. */
async function makePath(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return join(directory, 'file');
}

async function contentOf(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim();
}

function isAlive(pid: number): boolean {
  return runningProcesses().some((running) => running.pid === pid);
}
