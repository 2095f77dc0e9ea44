import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import getPort from 'get-port';
import postgres from 'postgres';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../src/embedded/index.ts';
import { runningProcesses } from '../support/processes.ts';

vi.setConfig({ testTimeout: 60_000 });

describe('a throwaway server', () => {
  test('serves queries in a database of its own, on 127.0.0.1 only', async () => {
    const { url } = await start();
    expect(url).toMatch(/^postgres:\/\/lessor:[\w-]{32}@127\.0\.0\.1:\d+\/lessor$/);
    const [row] = await query(url, 'select current_user as user, current_database() as database');
    expect(row).toEqual({ user: 'lessor', database: 'lessor' });
    expect(await setting(url, 'listen_addresses')).toBe('127.0.0.1');
    expect(await setting(url, 'unix_socket_directories')).toBe('');
  });

  test('lets nobody in without the password', async () => {
    const { url } = await start();
    const wrong = new URL(url);
    wrong.password = 'wrong';
    await expect(query(wrong.href, 'select 1')).rejects.toThrow('password authentication failed');
  });

  test('takes settings, and trades durability for speed', async () => {
    const { url } = await start({ settings: { max_connections: 300 } });
    expect(await setting(url, 'max_connections')).toBe('300');
    expect(await setting(url, 'fsync')).toBe('off');
  });

  test('runs beside another on a different port', async () => {
    const [first, second] = await Promise.all([start(), start()]);
    expect(new URL(first.url).port).not.toBe(new URL(second.url).port);
    expect(await query(first.url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(await query(second.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('leaves neither directory nor process when stopped, however often', async () => {
    const server = await start();
    const traces = await findTraces(server.url);
    expect(traces.remaining()).not.toEqual([]);
    await Promise.all([server.stop(), server.stop()]);
    expect(traces.remaining()).toEqual([]);
  });

  test('says so when it had ended on its own', async () => {
    const warn = vi.fn<(message: string) => void>();
    const server = await startEmbeddedPostgres({ logger: { info: () => undefined, warn } });
    const traces = await findTraces(server.url);
    process.kill(traces.postmaster, 'SIGKILL');
    await expect(server.stop()).rejects.toMatchObject({ code: 'server_failed' });
    expect(warn).toHaveBeenCalledOnce();
    expect(existsSync(traces.directory)).toBe(false);
  });

  test('refuses a port that is taken, with the reason', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    onTestFinished(() => void squatter.close());
    const address = squatter.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    await expect(start({ port })).rejects.toMatchObject({ name: 'EmbeddedPostgresError', code: 'port_in_use' });
  });

  test('quotes the server when a setting is wrong', async () => {
    await expect(start({ settings: { no_such_setting: 1 } })).rejects.toThrow(
      /unrecognized configuration parameter "no_such_setting"/,
    );
  });
});

describe('a kept data directory', () => {
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

  test('is refused to a second server while the first one runs', async () => {
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

  test.runIf(process.getuid?.() === 0)('is refused to root where the server could not enter it', async () => {
    const closed = await makeDirectory();
    await chmod(closed, 0o700);
    const attempt = start({ dataDirectory: join(closed, 'data') });
    await expect(attempt).rejects.toMatchObject({ code: 'directory_unreachable' });
    await expect(attempt).rejects.toThrow(closed);
  });
});

describe('an owner that goes without stopping its server', () => {
  test.for(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)('leaves nothing behind after %s', async (signal) => {
    const { owner, url } = await startOwner();
    const traces = await findTraces(url);
    signalGroup(owner, signal);
    await vi.waitFor(() => expect(traces.remaining()).toEqual([]), { timeout: 10_000, interval: 50 });
  });

  test('leaves nothing behind when it is killed while the server is being made', async () => {
    const temporaryRoot = await makeDirectory();
    const owner = spawnOwner('lasting', { TMPDIR: temporaryRoot });
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toHaveLength(1), 10_000);
    signalGroup(owner, 'SIGKILL');
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toEqual([]), 10_000);
    expect(processesNaming(temporaryRoot)).toEqual([]);
  });

  test('is not kept alive by its server', async () => {
    const temporaryRoot = await makeDirectory();
    const owner = spawnOwner('idle', { TMPDIR: temporaryRoot });
    await once(owner, 'exit');
    expect(owner.exitCode).toBe(0);
    await vi.waitFor(async () => expect(await serverDirectories(temporaryRoot)).toEqual([]), 10_000);
    expect(processesNaming(temporaryRoot)).toEqual([]);
  });
});

/** Starts a server that is stopped after the test at the latest. */
async function start(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres(options);
  onTestFinished(() => server.stop());
  return server;
}

async function query(url: string, statement: string): Promise<readonly Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    return [...(await sql.unsafe(statement))];
  } finally {
    await sql.end();
  }
}

async function setting(url: string, name: string): Promise<unknown> {
  const [row] = await query(url, `select current_setting('${name}') as value`);
  return row?.['value'];
}

async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  await chmod(directory, 0o777);
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** What a running server consists of: its directory, its main process and its guardian. */
async function findTraces(url: string) {
  const data = String(await setting(url, 'data_directory'));
  const directory = dirname(dirname(data));
  const postmaster = Number((await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')[0]);
  const guardian = runningProcesses().find((running) => running.pid === postmaster)?.parent ?? Number.NaN;
  const remaining = () => [
    ...[postmaster, guardian].filter(isAlive),
    ...(existsSync(directory) ? [directory] : []),
    ...processesNaming(directory),
  ];
  return { directory, postmaster, remaining };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function processesNaming(directory: string): string[] {
  const processes = runningProcesses().map((running) => running.command);
  return processes.filter((args) => args.includes(directory));
}

async function serverDirectories(parent: string): Promise<string[]> {
  return (await readdir(parent)).filter((name) => name.startsWith('lessor-postgres-'));
}

function spawnOwner(kind: 'lasting' | 'idle' = 'lasting', environment: NodeJS.ProcessEnv = {}): ChildProcess {
  const script = fileURLToPath(new URL('./owner.ts', import.meta.url));
  const owner = spawn(process.execPath, ['--import', 'tsx', script, kind], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
    env: { ...process.env, ...environment },
  });
  onTestFinished(() => void owner.kill('SIGKILL'));
  return owner;
}

/** As a terminal does on Ctrl-C: the whole process group is told. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) throw new Error('the owner has not started');
  process.kill(-pid, signal);
}

async function startOwner() {
  const owner = spawnOwner();
  if (!owner.stdout) throw new Error('the owner has no output');
  const [url] = await once(createInterface({ input: owner.stdout }), 'line');
  return { owner, url: String(url) };
}
