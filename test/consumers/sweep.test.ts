import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { pino } from 'pino';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { ReleaseJobs as Restorer } from '../../src/consumers/lost-releases.ts';
import { Sweep } from '../../src/consumers/sweep.ts';
import type { LeaseRelease } from '../../src/contracts/index.ts';
import { openQueues } from '../../src/queues/queues.ts';
import { ReleaseJobs } from '../../src/queues/release-jobs.ts';
import { useDatabase } from '../support/database.ts';
import { lapse } from '../support/factories.ts';
import { readLease } from '../support/operations.ts';
import { useLeaseSweep } from './sweep-fixture.ts';

const database = useDatabase({ maximumConnections: 20 });
const { companyWithLeases, endRun } = useLeaseSweep(database);

beforeEach(async () => {
  await database.sql`truncate lessor.companies cascade`;
});

/** What a sweep logs, at which level. */
interface LogLine {
  level: number;
  msg: string;
  [detail: string]: unknown;
}

/** A sweep, and what it logs. */
function openSweep(releaseJobs: Restorer, batchSize = 500) {
  const lines: LogLine[] = [];
  const logger = pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line) as LogLine) });
  const actor = { type: 'system', id: 'sweep' } as const;
  const sweep = new Sweep({ db: database.db, actor, logger, releaseJobs, batchSize, retentionSeconds: 3_600 });
  return { sweep, lines };
}

/** Release jobs on queues that cannot be reached, or do not answer. */
function releaseJobsAt(queueUrl: string): ReleaseJobs {
  const queues = openQueues(queueUrl, { role: 'consumer', onError: () => undefined });
  const releaseJobs = new ReleaseJobs(queues, 300);
  onTestFinished(async () => {
    await releaseJobs.close();
    await queues.close();
  });
  return releaseJobs;
}

/** Something for every kind of thing that a sweep looks for. */
async function oneOfEachKind() {
  const { sql } = database;
  const { leases } = await companyWithLeases(3);
  const [orphaned, expired, old] = leases as [Lease, Lease, Lease];
  await endRun(orphaned.runId, 'succeeded');
  await lapse(sql, expired.id);
  const [abandoned] = (await companyWithLeases(1, { status: 'pending' })).leases as [Lease];
  await sql`update lessor.environment_leases set last_used_at = now() - interval '5 min' where id = ${abandoned.id}`;
  const uncleaned = await companyWithLeases(1, { status: 'pending_cleanup', cleanupStatus: 'pending' });
  await sql`
    update lessor.environment_leases set updated_at = now() - interval '5 min' where id = any(${uncleaned.ids}::uuid[])`;
  await endRun(old.runId, 'failed', 'long ago');
  await sql`delete from lessor.environment_leases where id = ${old.id}`;
  await sql`
    update lessor.heartbeat_runs set created_at = now() - interval '3 h', finished_at = now() - interval '3 h',
      updated_at = now() - interval '3 h'
    where id = ${old.runId}`;
  return { orphaned, expired, abandoned, release: { companyId: uncleaned.companyId, leaseId: uncleaned.ids[0]! } };
}

type Lease = Awaited<ReturnType<typeof companyWithLeases>>['leases'][number];

describe('a sweep', () => {
  test('counts each kind of what it found for itself, gives each its own reason, and logs the counts once', async () => {
    const { orphaned, expired, abandoned, release } = await oneOfEachKind();
    const asked: LeaseRelease[] = [];
    const { sweep, lines } = openSweep({
      async restore(releases) {
        asked.push(...releases);
        return releases.length;
      },
    });
    const counts = { orphaned: 1, expired: 1, abandoned: 1, requeued: 1, removed: 1, failed: 0 };
    expect(await sweep.run()).toEqual(counts);
    expect(asked).toEqual([{ version: 1, ...release }]);
    expect(lines.filter(({ msg }) => msg === 'sweep found something to do')).toMatchObject([{ level: 30, ...counts }]);
    const ended = await Promise.all([orphaned, expired, abandoned].map(({ id }) => readLease(database.sql, id)));
    expect(ended.map((lease) => lease.failure_reason?.replace(/\d{4}-.*Z$/, '…') ?? null)).toEqual([
      null,
      'not renewed before …',
      'acquisition never completed: not touched since …',
    ]);
  });

  test('that finds nothing logs nothing', async () => {
    await companyWithLeases(1);
    const { sweep, lines } = openSweep({ restore: async () => 0 });
    const nothing = { orphaned: 0, expired: 0, abandoned: 0, requeued: 0, removed: 0, failed: 0 };
    expect(await sweep.run()).toEqual(nothing);
    expect(lines).toEqual([]);
  });

  test('looks after a page of leases that wait for their cleanup, and after the next one in the next sweep', async () => {
    const { ids } = await companyWithLeases(5, { status: 'pending_cleanup', cleanupStatus: 'pending' });
    await database.sql`update lessor.environment_leases set updated_at = now() - interval '5 min'`;
    const asked: string[][] = [];
    const { sweep } = openSweep(
      {
        async restore(releases) {
          asked.push(releases.map(({ leaseId }) => leaseId));
          return 0;
        },
      },
      2,
    );
    for (let round = 0; round < 6; round += 1) await sweep.run();
    expect(asked.map((page) => page.length)).toEqual([2, 2, 1, 2, 2, 1]);
    expect(asked.slice(0, 3).flat().toSorted()).toEqual(ids.toSorted());
    expect(asked.slice(3)).toEqual(asked.slice(0, 3));
  });
});

describe('no-leak: a sweep whose queue', () => {
  const withoutRequeued = { orphaned: 1, expired: 1, abandoned: 1, requeued: 0, removed: 1, failed: 0 };

  test('is away does everything else, and says so', async () => {
    const { release } = await oneOfEachKind();
    const { sweep, lines } = openSweep(releaseJobsAt('redis://127.0.0.1:1'));
    expect(await sweep.run()).toEqual(withoutRequeued);
    expect(lines.filter(({ level }) => level > 30)).toMatchObject([{ level: 40, leases: 1 }]);
    expect((await readLease(database.sql, release.leaseId)).status).toBe('pending_cleanup');
  });

  test('does not answer does everything else too, in bounded time', async () => {
    await oneOfEachKind();
    const sockets = new Set<Socket>();
    const mute = createServer((socket) => void sockets.add(socket)).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      mute.close();
    });
    const { sweep, lines } = openSweep(releaseJobsAt(`redis://127.0.0.1:${(mute.address() as AddressInfo).port}`));
    expect(await sweep.run()).toEqual(withoutRequeued);
    expect(lines.filter(({ level }) => level > 30)).toMatchObject([{ level: 40, leases: 1 }]);
  });
});
