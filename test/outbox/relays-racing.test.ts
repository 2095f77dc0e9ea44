import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { newRun, openPublisher, startRelayWith, untilOutboxIsEmpty, writeEnd, writeStart } from './fixture.ts';

/** That a relay published a job, and between which moments: they are counted, so no two are the same. */
interface Publication {
  relay: number;
  jobId: string;
  began: number;
  ended: number;
}

/** Starts concurrent relays for the jobs of one outbox, and records what they publish. */
function startRecordedRelays(backend: Backend, relays: number): Publication[] {
  const publications: Publication[] = [];
  let moment = 0;
  for (let relay = 0; relay < relays; relay += 1) {
    const publisher = openPublisher(backend);
    startRelayWith(backend.database, async (queue, jobId, payload) => {
      const publication = { relay, jobId, began: (moment += 1), ended: Number.POSITIVE_INFINITY };
      publications.push(publication);
      await publisher.publish(queue, jobId, payload);
      publication.ended = moment += 1;
    });
  }
  return publications;
}

describeOnEachBackend('concurrent relays', (backend) => {
  const { database } = backend;

  test("publish each job once, and each run's jobs in order", async () => {
    const publications = startRecordedRelays(backend, 2);
    const runs: ReturnType<typeof newRun>[] = [];
    const writeRun = async () => {
      const run = newRun();
      runs.push(run);
      await writeStart(database, run);
      await writeStart(database, run);
      await writeEnd(database, run);
    };
    const publishedBy = (relay: number) => publications.filter((publication) => publication.relay === relay).length;
    await until(
      async () => {
        await Promise.all(Array.from({ length: 20 }, writeRun));
        await nextTurn();
        return runs.length >= 100 && publishedBy(0) >= 30 && publishedBy(1) >= 30;
      },
      { what: 'both relays taking part', intervalMs: 1 },
    );
    await untilOutboxIsEmpty(database);

    expect(publications).toHaveLength(3 * runs.length);
    for (const { runId } of runs) {
      const ofRun = publications.filter(({ jobId }) => jobId.startsWith(runId));
      const kinds = ofRun.map(({ jobId }) => jobId.slice(runId.length));
      expect(kinds).toEqual(['-started', '-started', '-finished']);
      const moments = ofRun.flatMap(({ began, ended }) => [began, ended]);
      expect(moments).toEqual(moments.toSorted((one, other) => one - other));
    }
  });
});
