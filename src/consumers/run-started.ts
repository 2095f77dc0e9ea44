import { z } from 'zod';
import { idSchema, runStartedSchema } from '../contracts/index.ts';
import type { Handler } from './handler.ts';

const runReferenceSchema = z.object({ companyId: idSchema, runId: idSchema });

/** A run wants a place to execute: its environment is ensured and leased to it. */
export const runStartedHandler: Handler<typeof runStartedSchema> = {
  queue: 'run-started',
  schema: runStartedSchema,
  handle: ({ submit }, payload) => submit({ kind: 'start', payload }),
  async denied({ tellDenial }, data, refusal) {
    const run = runReferenceSchema.safeParse(data);
    if (run.success) await tellDenial(run.data, refusal);
  },
};
