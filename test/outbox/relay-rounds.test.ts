import { EventEmitter, once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Db, Transaction } from '../../src/db/connection.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../../testing/until.ts';
import { NEVER_MS, jobsInOutbox, newRun, startRelayWith, untilOutboxIsEmpty, writeEnd, writeStart } from './fixture.ts';

const database = useDatabase();

/** Starts a relay whose first publication blocks until it is resumed. */
async function startRelayInRound() {
  const gate = new EventEmitter();
  const opened = once(gate, 'opened');
  const resume = () => void gate.emit('opened');
  const published: string[] = [];
  const relay = startRelayWith(database, async (_name, jobId) => {
    published.push(jobId);
    await opened;
  });
  // Before the relay is closed.
  onTestFinished(resume);
  const run = newRun();
  const { jobId } = await writeStart(database, run);
  await until(() => published.length === 1, { what: 'a round being in flight' });
  return { relay, run, jobId, published, resume };
}

test('a relay that is woken during a round without jobs runs another round', async () => {
  const gate = new EventEmitter();
  const opened = once(gate, 'opened');
  let rounds = 0;
  const transaction = async <Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result> => {
    const result = await database.db.transaction(work);
    rounds += 1;
    if (rounds === 1) await opened;
    return result;
  };
  const db = Object.assign(Object.create(database.db) as Db, { transaction });
  const published: string[] = [];
  const publish = async (_name: string, jobId: string) => void published.push(jobId);
  const relay = startRelayWith(database, publish, { db, pollIntervalMs: NEVER_MS });
  await until(() => rounds === 1, { what: 'a round without jobs' });
  const { jobId } = await writeStart(database, newRun());
  relay.wake();
  gate.emit('opened');
  await untilOutboxIsEmpty(database);
  expect(published).toEqual([jobId]);
});

describe('a relay that is closed', () => {
  test('finishes the round in flight and starts no other', async () => {
    const { relay, run, jobId, published, resume } = await startRelayInRound();
    const end = await writeEnd(database, run);
    const closed = relay.close();
    resume();
    await closed;
    expect(published).toEqual([jobId]);
    expect(await jobsInOutbox(database)).toEqual([end.jobId]);
    await database.sql`delete from lessor.outbox`;
  });

  test('does not wait indefinitely for a round that hangs', async () => {
    const { relay, jobId } = await startRelayInRound();
    const before = performance.now();
    await relay.close();
    expect(performance.now() - before).toBeLessThan(4_000);
    expect(await jobsInOutbox(database)).toEqual([jobId]);
  });
});
