import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import { onTestFinished } from 'vitest';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from '../../src/embedded/index.ts';
import { runningProcesses } from '../../testing/running-processes.ts';

/** Starts a server that is stopped after the test at the latest. */
export async function start(options: EmbeddedPostgresOptions = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres(options);
  onTestFinished(() => server.stop());
  return server;
}

export async function query(url: string, statement: string): Promise<readonly Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    return [...(await sql.unsafe(statement))];
  } finally {
    await sql.end();
  }
}

export async function setting(url: string, name: string): Promise<unknown> {
  const [row] = await query(url, `select current_setting('${name}') as value`);
  return row?.['value'];
}

export async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  await chmod(directory, 0o777);
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** What a running server consists of: its directory, its main process and its supervisor. */
export async function findTraces(url: string) {
  const data = String(await setting(url, 'data_directory'));
  const directory = dirname(dirname(data));
  const postmaster = Number((await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')[0]);
  const supervisor = runningProcesses().find((running) => running.pid === postmaster)?.parent ?? Number.NaN;
  const remaining = () => [
    ...[postmaster, supervisor].filter(isAlive),
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

export function processesNaming(directory: string): string[] {
  const processes = runningProcesses().map((running) => running.command);
  return processes.filter((args) => args.includes(directory));
}

/** The directories of ephemeral servers. */
export async function serverDirectories(parent: string): Promise<string[]> {
  return (await readdir(parent)).filter((name) => name.startsWith('lessor-postgres-'));
}
