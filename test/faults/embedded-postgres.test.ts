import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import getPort from 'get-port';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { asRoot } from '../support/requirements.ts';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import {
  findTraces,
  makeDirectory,
  processesNaming,
  query,
  serverDirectories,
  setting,
  start,
} from '../embedded/server-fixture.ts';

describe('a persistent data directory of an embedded Postgres', () => {
  test('keeps its data and its password over two starts, durably', async () => {
    const dataDirectory = await makeDirectory();
    const port = await getPort();
    const first = await start({ dataDirectory, port });
    expect(await setting(first.url, 'fsync')).toBe('on');
    await query(first.url, 'create table kept as select 42 as answer');
    await first.stop();
    const second = await start({ dataDirectory, port });
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect((await stat(join(dataDirectory, 'cluster/password'))).mode & 0o777).toBe(0o600);
  });

  test('starts again after its server was killed', async () => {
    const dataDirectory = await makeDirectory();
    const first = await startEmbeddedPostgres({ dataDirectory });
    await query(first.url, 'create table kept as select 42 as answer');
    process.kill((await findTraces(first.url)).postmaster, 'SIGKILL');
    await expect(first.stop()).rejects.toMatchObject({ code: 'server_failed' });
    expect(await readdir(join(dataDirectory, 'cluster/data'))).toContain('postmaster.pid');
    const second = await start({ dataDirectory });
    expect(await query(second.url, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  test('is rejected for a second server while the first one runs', async () => {
    const dataDirectory = await makeDirectory();
    const first = await start({ dataDirectory });
    await expect(start({ dataDirectory })).rejects.toMatchObject({ code: 'data_directory_in_use' });
    expect(await query(first.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('is made once when two starts race for it', async () => {
    const dataDirectory = await makeDirectory();
    const outcomes = await Promise.allSettled([start({ dataDirectory }), start({ dataDirectory })]);
    expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(await readdir(dataDirectory)).toEqual(['cluster']);
  });

  test.runIf(asRoot.isMet)(`is rejected under root when the server could not enter it${asRoot.note}`, async () => {
    const closed = await makeDirectory();
    await chmod(closed, 0o700);
    const attempt = start({ dataDirectory: join(closed, 'data') });
    await expect(attempt).rejects.toMatchObject({ code: 'directory_unreachable' });
    await expect(attempt).rejects.toThrow(closed);
  });
});

describe('a parent that ends without stopping its embedded server', () => {
  test.for(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)('leaves nothing behind after %s', async (signal) => {
    const { parent, url } = await startParent();
    const traces = await findTraces(url);
    signalGroup(parent, signal);
    await vi.waitFor(() => expect(traces.remaining()).toEqual([]), { timeout: 10_000, interval: 50 });
  });

  test('leaves nothing behind when it is killed while its server is being created', async () => {
    const temporaryRoot = await makeDirectory();
    const parent = spawnParent('lasting', { TMPDIR: temporaryRoot });
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toHaveLength(1), 10_000);
    signalGroup(parent, 'SIGKILL');
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toEqual([]), 10_000);
    expect(processesNaming(temporaryRoot)).toEqual([]);
  });

  test('is not kept alive by its embedded server', async () => {
    const temporaryRoot = await makeDirectory();
    const parent = spawnParent('idle', { TMPDIR: temporaryRoot });
    await once(parent, 'exit');
    expect(parent.exitCode).toBe(0);
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toEqual([]), 10_000);
    expect(processesNaming(temporaryRoot)).toEqual([]);
  });
});

function spawnParent(kind: 'lasting' | 'idle' = 'lasting', environment: NodeJS.ProcessEnv = {}): ChildProcess {
  const script = fileURLToPath(new URL('../embedded/parent.ts', import.meta.url));
  const parent = spawn(process.execPath, ['--import', 'tsx', script, kind], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
    env: { ...process.env, ...environment },
  });
  onTestFinished(() => void parent.kill('SIGKILL'));
  return parent;
}

/** Signals the whole process group, as a terminal does on Ctrl-C. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) throw new Error('the parent has not started');
  process.kill(-pid, signal);
}

async function startParent() {
  const parent = spawnParent();
  if (!parent.stdout) throw new Error('the parent has no output');
  const [url] = await once(createInterface({ input: parent.stdout }), 'line');
  return { parent, url: String(url) };
}
