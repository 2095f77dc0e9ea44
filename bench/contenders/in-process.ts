import pMap from 'p-map';
import type { Contender } from './contender.ts';
import { openPool, writeRun } from './statements.ts';
import type { Phase } from '../workload.ts';

const CONCURRENCY = 20;

/**
 * What a control plane does in the process that serves its requests: one statement after another, each its own commit. A
 * crash between two of them leaks a lease.
 */
export const inProcess: Contender = {
  label: 'calls in sequence',
  title: 'calls in sequence in one process, no queue',
  packages: ['pg'],
  settings: { concurrency: CONCURRENCY, connections: CONCURRENCY, statements: 'parameterized' },
  writesRows: true,
  // Two leases of an environment can be granted concurrently: nothing orders their tokens and acquisition times.
  notPromised: ['fenced'],

  async open({ databaseUrl }, runs) {
    const pool = await openPool(databaseUrl, CONCURRENCY);
    let loaded: Phase = 'start';
    return {
      async load(phase) {
        loaded = phase;
      },
      async drain() {
        await pMap(runs, (run) => writeRun(pool, loaded, run), { concurrency: CONCURRENCY });
      },
      violations: () => [],
      close: () => pool.end(),
    };
  },
};
