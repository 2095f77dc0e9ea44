import { forEachConcurrently } from '../workload.ts';
import type { Contender } from './contender.ts';
import { openPool, writeRun } from './statements.ts';
import type { Phase } from '../workload.ts';

const CONCURRENCY = 20;

/**
 * What a control plane does today in the process that serves its requests: one statement after the other, each
 * committed by itself. When it dies between two of them, a lease leaks.
 */
export const inProcess: Contender = {
  label: 'calls in sequence',
  title: 'calls in sequence in one process, no queue',
  packages: ['pg'],
  settings: { concurrency: CONCURRENCY, connections: CONCURRENCY, statements: 'parameterized' },
  writesRows: true,
  // Two leases of an environment can be granted at once: nothing orders their tokens and their instants.
  notPromised: ['fenced'],

  async open({ databaseUrl }, runs) {
    const pool = await openPool(databaseUrl, CONCURRENCY);
    let loaded: Phase = 'start';
    return {
      async load(phase) {
        loaded = phase;
      },
      async drain() {
        await forEachConcurrently(runs, CONCURRENCY, (run) => writeRun(pool, loaded, run));
      },
      violations: () => [],
      close: () => pool.end(),
    };
  },
};
