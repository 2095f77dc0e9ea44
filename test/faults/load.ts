import { setTimeout as delay } from 'node:timers/promises';
import { QueueUnreachableError } from '../../src/contracts/index.ts';
import type { HeartbeatProducer } from '../../src/producers/producer.ts';
import { runStarted } from '../support/factories.ts';

/** Runs of several companies, which are published one after the other, as a heartbeat service does. */
export interface Load {
  readonly runIds: readonly string[];
  /** Resolves once every start is accepted, each of them published twice. */
  readonly starts: () => Promise<void>;
  /** Resolves once every end is accepted, each of them published twice. */
  readonly ends: () => Promise<void>;
}

const COMPANIES = 8;

/** Between two publications: a load that lasts for a while, and that the workers can bear. */
const PACE_MS = 5;

/** A service tries again until publishing resolves: from then on nothing may be lost. */
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
      await delay(PACE_MS);
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
      await delay(RETRY_MS);
    }
  }
}
