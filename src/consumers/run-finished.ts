import { runFinishedSchema } from '../contracts/index.ts';
import type { Handler } from './handler.ts';

/** A run ended: its end is recorded and its leases end with it, or are cleaned up first. */
export const runFinishedHandler: Handler<typeof runFinishedSchema> = {
  queue: 'run-finished',
  schema: runFinishedSchema,
  async handle({ submit, requestReleases }, payload) {
    const outcome = await submit({ kind: 'finish', payload });
    const leases = outcome.kind === 'done' ? outcome.result.leases : [];
    const waiting = leases.filter((lease) => lease.status === 'pending_cleanup');
    await requestReleases(waiting.map(({ id }) => ({ version: 1, companyId: payload.companyId, leaseId: id })));
    return outcome;
  },
};
