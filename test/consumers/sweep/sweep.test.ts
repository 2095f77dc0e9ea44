import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { pino } from 'pino';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Sweep } from '../../../src/consumers/sweep/sweep.ts';
import { openQueues } from '../../../src/queues/queues.ts';
import { ReleaseJobs } from '../../../src/queues/release-jobs.ts';
import { useDatabase } from '../../support/database.ts';
import type { TestDatabase } from '../../support/database.ts';
import { backdateExpiry } from '../../support/factories.ts';
import { readLease } from '../../support/operations.ts';
import { describeOnEachBackend } from '../../support/queues.ts';
import { useQueues } from '../fixture.ts';
import { useLeaseSweep } from './fixture.ts';

const NOTHING = { orphaned: 0, expired: 0, abandoned: 0, requeued: 0, removed: 0, failed: 0 };

describeOnEachBackend('a sweep', (backend) => {
  const { database } = backend;
  const { companyWithLeases } = useLeaseSweep(database);
  const queue = useQueues(backend);
  startEmpty(database);

  test('counts what each rule did, gives each lease the reason of its rule, and logs the counts once', async () => {
    const { orphaned, expired, abandoned, uncleaned } = await oneOfEachKind(database);
    const { sweep, lines } = openSweep(database, releaseJobsOf(backend));
    const counts = { orphaned: 1, expired: 1, abandoned: 1, requeued: 1, removed: 1, failed: 0 };
    expect(await sweep.run()).toEqual(counts);
    expect(await queue('lease-release').getJobState(`${uncleaned}-release`)).toBe('waiting');
    expect(lines.filter(({ event }) => event === 'sweep_completed')).toMatchObject([{ level: 30, ...counts }]);
    const ended = await Promise.all([orphaned, expired, abandoned].map((id) => readLease(database.sql, id)));
    expect(ended.map((lease) => lease.failure_reason?.replace(/\d{4}-.*Z$/, '…') ?? null)).toEqual([
      null,
      'not renewed before …',
      'acquisition never completed: not touched since …',
    ]);
    expect(await sweep.run()).toEqual(NOTHING);
  });

  test('logs nothing when it finds nothing', async () => {
    await companyWithLeases(1);
    const { sweep, lines } = openSweep(database, releaseJobsOf(backend));
    expect(await sweep.run()).toEqual(NOTHING);
    expect(lines).toEqual([]);
  });

  test('checks one page of leases that wait for their cleanup, and the next page in the next sweep', async () => {
    const { ids } = await companyWithLeases(5, { status: 'pending_cleanup', cleanupStatus: 'pending' });
    await database.sql`update lessor.environment_leases set updated_at = now() - interval '5 min'`;
    const { sweep } = openSweep(database, releaseJobsOf(backend), 2);
    const requeuedPerRotation = async () => {
      const counts = [];
      for (let page = 0; page < 3; page += 1) counts.push((await sweep.run()).requeued);
      return counts;
    };
    expect(await requeuedPerRotation()).toEqual([2, 2, 1]);
    expect(await requeuedPerRotation()).toEqual([0, 0, 0]);
    for (const id of ids) await queue('lease-release').remove(`${id}-release`);
    expect(await requeuedPerRotation()).toEqual([2, 2, 1]);
  });
});

describe('no-leak: a sweep whose queue', () => {
  const database = useDatabase();
  startEmpty(database);
  const allButRequeued = { orphaned: 1, expired: 1, abandoned: 1, requeued: 0, removed: 1, failed: 0 };

  test('is unreachable does everything else, and logs a warning', async () => {
    const { uncleaned } = await oneOfEachKind(database);
    const { sweep, lines } = openSweep(database, releaseJobsOf({ queueUrl: 'redis://127.0.0.1:1' }));
    expect(await sweep.run()).toEqual(allButRequeued);
    expect(lines.filter(({ level }) => level > 30)).toMatchObject([{ level: 40, leases: 1 }]);
    expect((await readLease(database.sql, uncleaned)).status).toBe('pending_cleanup');
  });

  test('does not answer does everything else in bounded time', async () => {
    await oneOfEachKind(database);
    const { sweep, lines } = openSweep(database, releaseJobsOf({ queueUrl: await muteServer() }, 300));
    expect(await sweep.run()).toEqual(allButRequeued);
    expect(lines.filter(({ level }) => level > 30)).toMatchObject([{ level: 40, leases: 1 }]);
  });
});

/** Sweeps count every old run there is, so each test starts without any. */
function startEmpty(database: TestDatabase): void {
  beforeEach(async () => {
    await database.sql`truncate lessor.companies, lessor.activity_log cascade`;
  });
}

/** A line of a sweep's log. */
interface LogLine {
  level: number;
  event: string;
  [detail: string]: unknown;
}

/** A sweep, and what it logs. */
function openSweep(database: TestDatabase, releaseJobs: ReleaseJobs, batchSize = 500) {
  const lines: LogLine[] = [];
  const logger = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) });
  const actor = { type: 'system', id: 'sweep' } as const;
  const sweep = new Sweep({
    db: database.db,
    actor,
    logger,
    releaseJobs,
    requestReleases: async () => undefined,
    batchSize,
    retentionSeconds: 3_600,
  });
  return { sweep, lines };
}

/** The release jobs of a store, closed after the test. */
function releaseJobsOf({ queueUrl, prefix }: { queueUrl: string; prefix?: string }, timeoutMs?: number): ReleaseJobs {
  const queues = openQueues(queueUrl, { role: 'consumer', prefix, onError: () => undefined });
  const releaseJobs = new ReleaseJobs(queues, timeoutMs === undefined ? {} : { timeoutMs });
  onTestFinished(async () => {
    await releaseJobs.close();
    await queues.close();
  });
  return releaseJobs;
}

/** One row for every rule of the sweep; returns the ids of the leases. */
async function oneOfEachKind(database: TestDatabase) {
  const { sql } = database;
  const { companyWithLeases, endRun } = useLeaseSweep(database);
  const oneLease = async (lease: Parameters<typeof companyWithLeases>[1] = {}) =>
    (await companyWithLeases(1, lease)).leases[0]!;

  const orphaned = await oneLease();
  await endRun(orphaned.runId, 'succeeded');
  const expired = await oneLease();
  await backdateExpiry(sql, expired.id);
  const abandoned = await oneLease({ status: 'pending' });
  await sql`update lessor.environment_leases set last_used_at = now() - interval '5 min' where id = ${abandoned.id}`;
  const uncleaned = await oneLease({ status: 'pending_cleanup', cleanupStatus: 'pending' });
  await sql`update lessor.environment_leases set updated_at = now() - interval '5 min' where id = ${uncleaned.id}`;
  const withoutLease = await oneLease();
  await sql`delete from lessor.environment_leases where id = ${withoutLease.id}`;
  await sql`
    update lessor.heartbeat_runs set status = 'failed', created_at = now() - interval '3 h',
      finished_at = now() - interval '2 h', updated_at = now() - interval '2 h'
    where id = ${withoutLease.runId}`;
  return { orphaned: orphaned.id, expired: expired.id, abandoned: abandoned.id, uncleaned: uncleaned.id };
}

/** The URL of a Redis that takes connections and never answers. */
async function muteServer(): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => void sockets.add(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `redis://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
