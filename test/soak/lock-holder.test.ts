import { expect, onTestFinished, test } from 'vitest';
import { summarizeLatency } from '../../soak/lease-latency.ts';
import { LockHolder } from '../../soak/lock-holder.ts';
import { Random } from '../../soak/random.ts';
import { until } from '../../testing/until.ts';
import { useDatabase } from '../support/database.ts';
import { runStarted } from '../support/factories.ts';
import { OPERATION_SETTINGS, applyInBatches, start } from '../support/operations.ts';

const database = useDatabase();

/** A holder that is stopped after the test. */
function holdLocks(durationMs: { from: number; to: number }) {
  const stopping = new AbortController();
  const holder = new LockHolder({
    databaseUrl: database.url,
    random: new Random(7),
    durationMs,
    signal: stopping.signal,
  });
  const stop = () => {
    stopping.abort();
    return holder.stopped;
  };
  onTestFinished(stop);
  return { holder, stop };
}

async function startRun(): Promise<string> {
  const payload = runStarted();
  await applyInBatches(database.pool, [start(payload)], OPERATION_SETTINGS);
  return payload.companyId;
}

/** Rows of the company, its runs and its leases that another session can lock. */
async function countLockable(): Promise<number> {
  const counts = await Promise.all([
    database.sql`select from lessor.companies for update skip locked`,
    database.sql`select from lessor.heartbeat_runs for update skip locked`,
    database.sql`select from lessor.environment_leases for update skip locked`,
  ]);
  return counts.reduce((sum, rows) => sum + rows.length, 0);
}

test('the soak locks companies, runs and leases, one row at a time', async () => {
  const companyId = await startRun();
  const { holder, stop } = holdLocks({ from: 20, to: 40 });
  await until(() => new Set(holder.holds.map(({ table }) => table)).size === 3, { what: 'a hold of each table' });
  await stop();
  for (const hold of holder.holds) expect(hold).toMatchObject({ companyId, to: expect.any(Number) });
  const { holds } = holder;
  for (const [number, next] of holds.slice(1).entries()) expect(next.from).toBeGreaterThan(holds[number]!.to);
});

test('the soak holds the row until its time is over or the soak ends, and leaves no lock behind', async () => {
  const all = await countLockable();
  const { holder, stop } = holdLocks({ from: 60_000, to: 60_000 });
  await until(async () => (await countLockable()) === all - 1, { what: 'a row that is held' });
  expect(holder.holds).toEqual([expect.objectContaining({ to: Number.POSITIVE_INFINITY })]);
  await stop();
  expect(await countLockable()).toBe(all);
});

test('the soak goes on locking rows after its connection was lost', async () => {
  const { holder } = holdLocks({ from: 60_000, to: 60_000 });
  await until(() => holder.holds.length === 1, { what: 'the first hold' });
  await until(
    () => database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'soak lock holder' and datname = current_database()`,
  );
  await until(() => holder.holds.length > 1, { what: 'the second hold' });
  expect(holder.holds[0]!.to).toBeLessThan(holder.holds[1]!.from);
});

test('the soak tells apart the runs whose company was held while they waited for their lease', () => {
  const held = { companyId: 'held', table: 'companies', from: 100, to: 200 } as const;
  const waits = [
    { companyId: 'held', from: 0, to: 100 },
    { companyId: 'held', from: 50, to: 101 },
    { companyId: 'held', from: 150, to: 160 },
    { companyId: 'held', from: 199, to: 500 },
    { companyId: 'held', from: 200, to: 230 },
    { companyId: 'other', from: 150, to: 170 },
  ];
  expect(summarizeLatency(waits, [held])).toEqual({
    notHeld: { runs: 3, p50Ms: 30, p99Ms: 100, maximumMs: 100 },
    held: { runs: 3, p50Ms: 51, p99Ms: 301, maximumMs: 301 },
  });
  expect(summarizeLatency(waits.slice(5), []).held).toBeNull();
});
