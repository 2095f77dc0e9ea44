import { z } from 'zod';
import { idSchema, runStartedSchema } from '../contracts/index.ts';
import { acquireByDriver } from './acquire-by-driver.ts';
import type { Handler } from './handler.ts';

const runReferenceSchema = z.object({ companyId: idSchema, runId: idSchema });

/** A run wants a place to execute: its environment is ensured and leased to it. */
export const runStartedHandler: Handler<typeof runStartedSchema> = {
  queue: 'run-started',
  schema: runStartedSchema,
  async handle(dependencies, payload, attempt) {
    const outcome = await dependencies.submit({ kind: 'start', payload });
    return outcome.kind === 'acquiring' ? acquireByDriver(dependencies, outcome.lease, attempt) : outcome;
  },
  async denied({ recordRejection }, data, rejection) {
    const run = runReferenceSchema.safeParse(data);
    if (run.success) await recordRejection(run.data, rejection);
  },
};
