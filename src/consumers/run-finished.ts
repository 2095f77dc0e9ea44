import { runFinishedSchema } from '../contracts/index.ts';
import type { Handler } from './handler.ts';

/** A run ended: its end is recorded and its leases end with it. */
export const runFinishedHandler: Handler<typeof runFinishedSchema> = {
  queue: 'run-finished',
  schema: runFinishedSchema,
  handle: ({ submit }, payload) => submit({ kind: 'finish', payload }),
};
