import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import Table from 'cli-table3';
import ora from 'ora';
import { pino } from 'pino';
import { createWorker } from '../src/index.ts';
import { openStores } from '../demo/stores.ts';
import { openQueues } from '../src/queues/queues.ts';
import type { LessorQueue, Queues } from '../src/queues/queues.ts';
import { Closers } from '../test/support/closers.ts';

/** Start/finish pairs of one measurement. */
const PAIRS = 5_000;
const ROUNDS = 5;
const CONCURRENCY = 200;

/** What is measured against what: each in every round, one after the other, on the same stores. */
const CONTENDERS = {
  'BullMQ, empty processor': (stores: Stores) => measure(stores, companiesOf(100), startEmptyWorkers),
  'Lessor, 100 companies': (stores: Stores) => measure(stores, companiesOf(100), startLessor),
  'Lessor, one company': (stores: Stores) => measure(stores, companiesOf(1), startLessor),
};

type Stores = Awaited<ReturnType<typeof openStores>>;
type StartWorkers = (stores: Stores, prefix: string) => Promise<{ close(): Promise<void> }>;

const closers = new Closers();
const progress = ora({ stream: process.stderr, discardStdin: false });
try {
  await runBench();
} finally {
  progress.stop();
  await closers.close();
}

async function runBench(): Promise<void> {
  const stores = await openStores('redis', closers);
  const rates = new Map<string, number[]>(Object.keys(CONTENDERS).map((name) => [name, []]));
  for (let number = 1; number <= ROUNDS; number += 1) {
    for (const [name, contender] of Object.entries(CONTENDERS)) {
      progress.start(`round ${number}/${ROUNDS}: ${name}`);
      rates.get(name)!.push(await contender(stores));
    }
  }
  progress.stop();
  const limit = median(rates.get('BullMQ, empty processor')!);
  const table = new Table({
    head: ['', 'jobs/s (median)', 'spread', 'of the empty processor'],
    style: { head: [], border: [] },
  });
  for (const [name, measured] of rates) {
    const spread = `${round(Math.min(...measured))} to ${round(Math.max(...measured))}`;
    table.push([name, round(median(measured)), spread, (median(measured) / limit).toFixed(2)]);
  }
  process.stdout.write(`${PAIRS} start/finish pairs on Redis, ${ROUNDS} interleaved rounds\n${table.toString()}\n`);
}

/** Jobs a second, from the first job taken to the last one completed: all starts, then all finishes. */
async function measure(stores: Stores, companies: readonly string[], startWorkers: StartWorkers): Promise<number> {
  const prefix = `bench-${randomUUID()}`;
  const queues = openQueues(stores.queueUrl, {
    role: 'consumer',
    prefix,
    onError: (error) => process.emitWarning(error),
  });
  const started = queues.queue('run-started');
  const finished = queues.queue('run-finished');
  const runs = Array.from({ length: PAIRS }, (_, number) => ({
    companyId: companies[number % companies.length]!,
    runId: randomUUID(),
  }));
  const now = new Date().toISOString();
  const drain = async (queue: LessorQueue, payloads: object[]): Promise<number> => {
    await queue.addBulk(payloads.map((data) => ({ name: queue.name, data })));
    const startedAt = performance.now();
    const workers = await startWorkers(stores, prefix);
    while ((await queue.getCompletedCount()) < PAIRS) await sleep(5);
    const elapsed = performance.now() - startedAt;
    await workers.close();
    return elapsed;
  };
  try {
    const elapsed =
      (await drain(
        started,
        runs.map((run) => ({ version: 1, startedAt: now, ...run })),
      )) +
      (await drain(
        finished,
        runs.map((run) => ({ version: 1, status: 'succeeded', finishedAt: now, ...run })),
      ));
    return (2 * PAIRS * 1_000) / elapsed;
  } finally {
    await started.obliterate({ force: true });
    await finished.obliterate({ force: true });
    await Promise.all([started.close(), finished.close()]);
    await queues.close();
  }
}

async function startLessor(stores: Stores, prefix: string): Promise<{ close(): Promise<void> }> {
  const { databaseUrl, queueUrl } = stores;
  const worker = createWorker({
    databaseUrl,
    queueUrl,
    prefix,
    concurrency: CONCURRENCY,
    logger: pino({ level: 'error' }, pino.destination(2)),
  });
  await worker.start();
  return worker;
}

async function startEmptyWorkers({ queueUrl }: Stores, prefix: string): Promise<{ close(): Promise<void> }> {
  const queues: Queues = openQueues(queueUrl, {
    role: 'consumer',
    prefix,
    onError: (error) => process.emitWarning(error),
  });
  const workers = (['run-started', 'run-finished'] as const).map((name) =>
    queues.worker(name, async () => undefined, { concurrency: CONCURRENCY }),
  );
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  return {
    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
      await queues.close();
    },
  };
}

function companiesOf(count: number): string[] {
  return Array.from({ length: count }, () => randomUUID());
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function round(rate: number): string {
  return Math.round(rate).toLocaleString('en');
}
