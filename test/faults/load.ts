import { setTimeout as sleep } from 'node:timers/promises';
import { QueueUnreachableError } from '../../src/contracts/index.ts';
import type { HeartbeatProducer } from '../../src/producers/producer.ts';
import { runStarted } from '../support/factories.ts';

/** Runs of several companies, published one after another, as by a heartbeat service. */
export interface Load {
  readonly runIds: readonly string[];
  /** Resolves once every start is accepted, each of them published twice. */
  readonly starts: () => Promise<void>;
  /** Resolves once every end is accepted, each of them published twice. */
  readonly ends: () => Promise<void>;
}

const COMPANIES = 8;

/** Between two messages: a load that lasts for a while without overloading the workers. */
const PACE_MS = 5;

/** Between two attempts to publish: once publishing resolves, nothing may be lost. */
const RETRY_MS = 100;

export function createLoad(producer: HeartbeatProducer, count: number): Load {
  const companies = Array.from({ length: COMPANIES }, () => runStarted().companyId);
  const runs = Array.from({ length: count }, (_, number) =>
    runStarted({ companyId: companies[number % COMPANIES]!, ttlSeconds: 3_600 }),
  );
  const publishEach = async (publish: (run: (typeof runs)[number]) => Promise<unknown>): Promise<void> => {
    const accepted: Promise<void>[] = [];
    for (const run of runs) {
      accepted.push(untilAccepted(() => publish(run)).then(() => untilAccepted(() => publish(run))));
      await sleep(PACE_MS);
    }
    await Promise.all(accepted);
  };
  return {
    runIds: runs.map((run) => run.runId),
    starts: () => publishEach((run) => producer.runStarted(run)),
    ends: () => publishEach(({ companyId, runId }) => producer.runFinished({ companyId, runId, status: 'succeeded' })),
  };
}

async function untilAccepted(publish: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await publish();
      return;
    } catch (error) {
      if (!(error instanceof QueueUnreachableError)) throw error;
      await sleep(RETRY_MS);
    }
  }
}
