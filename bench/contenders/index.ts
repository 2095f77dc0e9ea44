import type { Contender } from './contender.ts';
import { graphileWorker } from './graphile-worker.ts';
import { groupmq } from './groupmq.ts';
import { inProcess } from './in-process.ts';
import { lessor, lessorPostgres } from './lessor.ts';
import { noop } from './noop.ts';
import { perJobTransaction } from './per-job-transaction.ts';
import { pgBoss } from './pg-boss.ts';
import { store } from './store.ts';

/** All contenders, by their key in the JSON of the bench. */
export const CONTENDERS = {
  noop,
  store,
  lessor,
  lessorPostgres,
  perJobTransaction,
  graphileWorker,
  pgBoss,
  groupmq,
  inProcess,
} satisfies Record<string, Contender>;

export type ContenderName = keyof typeof CONTENDERS;

export const CONTENDER_NAMES = Object.keys(CONTENDERS) as ContenderName[];
