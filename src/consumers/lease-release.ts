import { leaseReleaseSchema } from '../contracts/index.ts';
import type { GrantedLease } from '../contracts/index.ts';
import type { OperationOutcome } from '../environments/operations/operation.ts';
import type { Attempt, Handler, HandlerDependencies } from './handler.ts';

/** A lease waits for its cleanup: what its driver left outside Postgres is removed, and the lease ends. */
export const leaseReleaseHandler: Handler<typeof leaseReleaseSchema> = {
  queue: 'lease-release',
  schema: leaseReleaseSchema,
  async handle(dependencies, payload, attempt) {
    const outcome = await dependencies.submit({ kind: 'release', payload });
    if (outcome.kind !== 'cleaning') return outcome;
    const { lease, provider } = outcome;
    const cleaned = await dependencies.drivers.inSlot(lease.environment.id, () =>
      cleanUp(dependencies, lease, provider, attempt),
    );
    return cleaned ?? { kind: 'snoozed', reason: `environment ${lease.environment.id} has enough calls under way` };
  },
};

/** Repeating it is harmless: what a driver has removed already it does not find. */
async function cleanUp(
  { submit, drivers }: HandlerDependencies,
  lease: GrantedLease,
  provider: string,
  attempt: Attempt,
): Promise<OperationOutcome> {
  const { id: leaseId, companyId } = lease;
  const released = await drivers.release(provider, lease);
  if (released.ok) return submit({ kind: 'cleaned-up', payload: { companyId, leaseId } });
  const reason = released.error.message;
  const failure = { companyId, leaseId, reason, attempt: attempt.number, isFinal: attempt.isLast };
  await submit({ kind: 'not-cleaned-up', payload: failure });
  return { kind: 'unavailable', reason };
}
