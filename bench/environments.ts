import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openEphemeralSshd } from '../src/embedded/sshd/ephemeral-sshd.ts';
import { createDb, createHeartbeatProducer, environmentService } from '../src/index.ts';
import type { HeartbeatProducer, RunStart } from '../src/index.ts';
import type { Closers } from '../src/lib/closers.ts';
import { spawnWorker } from '../testing/processes.ts';
import { runProgram } from '../testing/program.ts';
import type { ProgramContext } from '../testing/program.ts';
import { openStores } from '../testing/stores/open-stores.ts';
import type { Stores } from '../testing/stores/open-stores.ts';
import { TcpProxy } from '../testing/tcp-proxy.ts';
import { median, percentile } from '../testing/statistics.ts';

/**
 * Measures whether runs on slow hosts delay those on `Local`: 500 concurrent local runs, alone and beside 50 runs on two
 * SSH hosts of two companies, in interleaved rounds. `--json` prints one JSON object.
 */
const LOCAL_RUNS = 500;
const SSH_RUNS = 50;
const ROUNDS = 7;

/** The delay of each chunk to and from a host. */
const SSH_DELAY_MS = 50;

/** How much the local p99 may grow. */
const BAR = 1.5;

interface Round {
  alone: number;
  beside: number;
  ssh: number;
}

const { values: flags } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
await runProgram(async (context) => {
  const rounds = await measure(context);
  context.progress.stop();
  print(rounds);
});

async function measure({ closers, progress }: ProgramContext): Promise<Round[]> {
  const stores = await openStores('redis', closers);
  const prefix = `bench-${randomUUID()}`;
  const producer = createHeartbeatProducer({ queueUrl: stores.queueUrl, prefix });
  closers.add(() => producer.close());
  const hosts = await Promise.all([1, 2].map(() => openHost(stores, closers)));
  // In a process of its own: the cost of publishing is not measured with it.
  const worker = spawnWorker({ ...stores, prefix }, ['--enable-environments', 'true']);
  closers.add(() => worker.stop());
  const onHosts = () =>
    Array.from({ length: SSH_RUNS }, (_, number) => ({ ...hosts[number % hosts.length]!, runId: randomUUID() }));

  await burst(producer, localRuns());
  const rounds: Round[] = [];
  for (let number = 1; number <= ROUNDS; number += 1) {
    progress.start(`round ${number}/${ROUNDS}`);
    const alone = await burst(producer, localRuns());
    const [beside, ssh] = await Promise.all([burst(producer, localRuns()), burst(producer, onHosts())]);
    rounds.push({ alone: percentile(alone, 0.99), beside: percentile(beside, 0.99), ssh: percentile(ssh, 0.5) });
  }
  return rounds;
}

function localRuns(): RunStart[] {
  return Array.from({ length: LOCAL_RUNS }, () => ({ companyId: randomUUID(), runId: randomUUID() }));
}

/** Creates a company with an SSH environment on a slow host. */
async function openHost(
  { databaseUrl }: Stores,
  closers: Closers,
): Promise<Pick<RunStart, 'companyId' | 'environment'>> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-bench-'));
  closers.add(() => rm(directory, { recursive: true, force: true }));
  await Promise.all(['server', 'work'].map((name) => mkdir(join(directory, name))));
  const server = await openEphemeralSshd({ directory: join(directory, 'server') });
  closers.add(() => server.close());
  const proxy = await TcpProxy.inFrontOf(`tcp://${server.host}:${server.port}`);
  closers.add(() => proxy.close());
  proxy.slow(SSH_DELAY_MS);

  const port = Number(new URL(proxy.urlFor(`tcp://${server.host}`)).port);
  const db = createDb(databaseUrl, { maximumConnections: 1 });
  closers.add(() => db.close());
  const companyId = randomUUID();
  const { id } = await environmentService(db).create(companyId, {
    name: 'host',
    driver: 'ssh',
    config: {
      host: server.host,
      port,
      knownHosts: server.knownHosts.replaceAll(`:${server.port} `, `:${port} `),
      username: server.username,
      privateKey: `file:${server.privateKeyPath}`,
      remoteWorkspacePath: join(directory, 'work'),
    },
  });
  return { companyId, environment: { agent: id } };
}

/** Starts all runs concurrently, and ends each once it has its lease. Returns the milliseconds from publishing to the lease. */
async function burst(producer: HeartbeatProducer, runs: readonly RunStart[]): Promise<number[]> {
  return Promise.all(
    runs.map(async (run) => {
      const published = performance.now();
      await producer.runStarted(run);
      await producer.waitForLease(run.runId, { timeoutMs: 60_000 });
      const elapsed = performance.now() - published;
      await producer.runFinished({ companyId: run.companyId, runId: run.runId, status: 'succeeded' });
      return elapsed;
    }),
  );
}

function print(rounds: readonly Round[]): void {
  const [alone, beside, ssh] = (['alone', 'beside', 'ssh'] as const).map((name) => rounds.map((round) => round[name]));
  const ratio = median(rounds.map((round) => round.beside / round.alone));
  if (flags.json) {
    process.stdout.write(`${JSON.stringify({ localRuns: LOCAL_RUNS, sshRuns: SSH_RUNS, rounds, ratio, bar: BAR })}\n`);
    return;
  }
  const table = new Table({ head: ['', 'median', 'spread'], style: { head: [], border: [] } });
  table.push(row('p99 of local runs, alone', alone!), row('p99 of local runs, beside SSH runs', beside!));
  table.push(row('p50 of SSH runs', ssh!), ['local p99 beside SSH, over alone', ratio.toFixed(2), `at most ${BAR}`]);
  process.stdout.write(
    `${LOCAL_RUNS} concurrent local runs, and ${SSH_RUNS} on two SSH hosts ${SSH_DELAY_MS} ms away\n`,
  );
  process.stdout.write(`${table.toString()}\n`);
}

function row(name: string, values: readonly number[]): string[] {
  return [
    name,
    `${median(values).toFixed(0)} ms`,
    `${Math.min(...values).toFixed(0)} to ${Math.max(...values).toFixed(0)} ms`,
  ];
}
