import type { GrantedLease } from '../../src/contracts/index.ts';
import type { EnvironmentLease } from '../../src/environments/service/input.ts';
import type { OperationOutcome } from '../../src/environments/operations/operation.ts';
import type { LeaseView, ModelOutcome } from './model.ts';
import type { NameableLease, Names } from './names.ts';
import type { Raw } from './postgres-side.ts';
import { withoutInstants } from './recorded-state.ts';

/** Outcomes of transactions in terms of the model. New leases are named. */
export function nameOutcomes(transactions: readonly (readonly Raw[])[], names: Names): ModelOutcome[][] {
  names.learn(transactions.flat().flatMap(leasesIn));
  return transactions.map((raws) => raws.map((raw) => nameOutcome(raw, names)));
}

function leasesIn(raw: Raw): NameableLease[] {
  if (raw.kind === 'lease') return [{ ...raw.lease, driver: raw.lease.provider }];
  const lease = raw.kind === 'operation' ? leaseIn(raw.outcome) : undefined;
  return lease === undefined ? [] : [{ ...lease, driver: lease.environment.driver }];
}

function leaseIn(outcome: OperationOutcome): GrantedLease | undefined {
  if (outcome.kind === 'acquiring' || outcome.kind === 'cleaning') return outcome.lease;
  const result = outcome.kind === 'done' ? outcome.result : null;
  return result && 'fencingToken' in result ? result : undefined;
}

function nameOutcome(raw: Raw, names: Names): ModelOutcome {
  if (raw.kind === 'operation') return nameOperationOutcome(raw.outcome, names);
  if (raw.kind === 'lease') return { kind: 'lease', lease: viewOfRow(raw.lease, names) };
  if (raw.kind !== 'leases') return raw;
  return { kind: 'leases', leases: raw.leases.map(({ id, status }) => ({ id: names.lease(id), status })) };
}

function nameOperationOutcome(outcome: OperationOutcome, names: Names): ModelOutcome {
  if (outcome.kind === 'rejected') return { kind: 'rejected', code: outcome.rejection.code };
  if (outcome.kind === 'waiting') {
    const { as, executionWorkspaceId, runId, since } = outcome.heldBy;
    const heldBy = { as, run: names.run(runId), inSameTransaction: since === null };
    return { kind: 'waiting', workspace: names.workspace(executionWorkspaceId)!, heldBy };
  }
  if (outcome.kind === 'acquiring' || outcome.kind === 'cleaning') {
    return { kind: outcome.kind, lease: viewOfGranted(outcome.lease, names) };
  }
  if (outcome.kind === 'snoozed') return { kind: 'snoozed' };
  if (outcome.kind !== 'done') throw new Error(`no operation on Postgres comes out so: ${outcome.kind}`);
  const { result } = outcome;
  if (result === null) return { kind: 'lease', lease: null };
  if ('fencingToken' in result) return { kind: 'lease', lease: viewOfGranted(result, names) };
  if ('leaseId' in result) return { kind: 'status', lease: names.lease(result.leaseId), status: result.status };
  const leases = result.leases.map(({ id, status }) => ({ id: names.lease(id), status }));
  return { kind: 'leases', leases, ...('status' in result ? { runStatus: result.status } : {}) };
}

function viewOfGranted(lease: GrantedLease, names: Names): LeaseView {
  return viewOfRow({ ...lease, heartbeatRunId: lease.runId }, names);
}

type ViewedRow = Pick<
  EnvironmentLease,
  | 'id'
  | 'status'
  | 'leasePolicy'
  | 'heartbeatRunId'
  | 'executionWorkspaceId'
  | 'ttlSeconds'
  | 'failureReason'
  | 'providerLeaseId'
>;

function viewOfRow(lease: ViewedRow, names: Names): LeaseView {
  return {
    id: names.lease(lease.id),
    status: lease.status,
    policy: lease.leasePolicy,
    run: names.run(lease.heartbeatRunId),
    workspace: names.workspace(lease.executionWorkspaceId),
    ttl: lease.ttlSeconds,
    failureReason: withoutInstants(lease.failureReason),
    providerLeaseId: lease.providerLeaseId,
  };
}
