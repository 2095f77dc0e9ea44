import { openBullMq } from './bullmq.ts';
import type { Contender } from './contender.ts';

export const CONCURRENCY = 200;

export const noop: Contender = {
  label: 'BullMQ, empty processor',
  title: 'BullMQ, empty processor',
  packages: ['bullmq', 'ioredis'],
  settings: { concurrency: CONCURRENCY },
  writesRows: false,

  async open({ redisUrl }, runs) {
    const taken = new Map<string, number>();
    const bullMq = await openBullMq(redisUrl, CONCURRENCY, runs, async (phase, { runId }) => {
      const job = `${runId} ${phase}`;
      taken.set(job, (taken.get(job) ?? 0) + 1);
    });
    return {
      ...bullMq,
      violations() {
        const planned = new Set(runs.flatMap(({ runId }) => [`${runId} start`, `${runId} finish`]));
        const doubled = [...taken]
          .filter(([, times]) => times > 1)
          .map(([job, times]) => `${job}: taken ${times} times`);
        const lost = [...planned].filter((job) => !taken.has(job)).map((job) => `${job}: never taken`);
        return [...doubled, ...lost];
      },
    };
  },
};
