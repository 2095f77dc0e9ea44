import type { EnvironmentFailedError, GrantedLease, Rejection, RejectionCode } from '../contracts/index.ts';
import type { OperationOutcome } from '../environments/operations/operation.ts';
import type { Attempt, HandlerDependencies } from './handler.ts';

/** What does not pass by itself: a run is refused for it at once, instead of being kept waiting in vain. */
const REFUSED_FOR = [
  'host_key_rejected',
  'authentication_failed',
  'secret_unavailable',
  'workspace_unusable',
] as const satisfies readonly RejectionCode[];

/**
 * Has a driver acquire a pending lease, in two steps: that it begins is committed before, and what came of it after. A
 * crash in between leaves a row that says so; whoever takes the job over begins again.
 */
export async function acquireByDriver(
  dependencies: HandlerDependencies,
  pending: GrantedLease,
  attempt: Attempt,
): Promise<OperationOutcome> {
  const { environment } = pending;
  const outcome = await dependencies.drivers.inSlot(environment.id, () => acquire(dependencies, pending, attempt));
  return outcome ?? { kind: 'snoozed', reason: `environment ${environment.id} has enough calls under way` };
}

async function acquire(
  { submit, drivers, requestReleases }: HandlerDependencies,
  { id: leaseId, companyId }: GrantedLease,
  attempt: Attempt,
): Promise<OperationOutcome> {
  const begun = await submit({ kind: 'begin-acquiring', payload: { companyId, leaseId } });
  if (begun.kind !== 'acquiring') return begun;

  const acquired = await drivers.acquire(begun.lease);
  if (!acquired.ok) {
    const rejection = refusalOf(acquired.error);
    const isFinal = rejection !== undefined || attempt.isLast;
    const reason = acquired.error.message;
    const failure = {
      companyId,
      leaseId,
      reason,
      attempt: attempt.number,
      isFinal,
      isOver: acquired.isOver,
      rejection,
    };
    await submit({ kind: 'not-acquired', payload: failure });
    if (isFinal) await requestReleases([{ version: 1, companyId, leaseId }]);
    return rejection === undefined ? { kind: 'unavailable', reason } : { kind: 'rejected', rejection };
  }

  const { providerLeaseId } = acquired.result;
  const activated = await submit({ kind: 'acquired', payload: { companyId, leaseId, providerLeaseId } });
  const isActive = activated.kind === 'done' && activated.result?.status === 'active';
  if (!isActive) await requestReleases([{ version: 1, companyId, leaseId }]);
  return activated;
}

function refusalOf(error: EnvironmentFailedError): Rejection | undefined {
  const code = REFUSED_FOR.find((known) => known === error.code);
  return code === undefined ? undefined : { code, reason: error.message };
}
