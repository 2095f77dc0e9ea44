import { sql } from 'drizzle-orm';
import type { z } from 'zod';
import {
  DEFAULT_TTL_SECONDS,
  ENDED_LEASE_STATUSES,
  ENVIRONMENT_DRIVERS,
  InvalidTransitionError,
  MAXIMUM_TTL_SECONDS,
  RejectedError,
  RunEndedError,
} from '../../contracts/index.ts';
import type { CleanupStatus, LeaseStatus, Rejection } from '../../contracts/index.ts';
import { queryRows } from '../../db/connection.ts';
import type { Transaction } from '../../db/connection.ts';
import { acquireLeases } from '../../db/statements/acquire-leases.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { lockCompanies } from '../../db/statements/companies.ts';
import type { LeaseEnding } from '../../db/statements/end-leases.ts';
import { hasExternalEffects } from '../../db/statements/external-effects.ts';
import { readPlacements } from '../../db/statements/placements.ts';
import { readRuns, recordStartedRuns } from '../../db/statements/runs.ts';
import { describeHeld, rejectionOfCompany, rejectionOfRun } from '../operations/operation.ts';
import { endSuperseded, placeLease, rejectionOfEnvironment } from '../operations/placement.ts';
import type { EnvironmentLease, ReleaseStatus, leaseRequestSchema, releaseDetailsSchema } from './input.ts';

type Request = z.output<typeof leaseRequestSchema>;

/** Grants the lease that a service asks for, or finds the live one its run has there. Returns the lease's id. */
export async function acquireLeaseOfRequest(tx: Transaction, request: Request, actor: Actor): Promise<string> {
  const { companyId, environmentId } = request;
  const companies = await lockCompanies(tx, [companyId], 'auto');
  rejectIf(rejectionOfCompany(companies, companyId));
  const runId = request.heartbeatRunId ?? undefined;
  if (runId !== undefined) await registerRun(tx, companyId, runId, request.issueId ?? undefined);

  const executionWorkspaceId = request.executionWorkspaceId ?? undefined;
  const [found] = await readPlacements(tx, [{ companyId, runId, environmentId, executionWorkspaceId }]);
  rejectIf(rejectionOfEnvironment(found!.environment, companyId, environmentId));
  const live = found!.lease?.status === 'active' || found!.lease?.status === 'pending';
  if (live) return found!.lease!.id;

  const lease = {
    companyId,
    environmentId,
    runId,
    executionWorkspaceId: found!.executionWorkspaceId ?? undefined,
    issueId: request.issueId ?? undefined,
    leasePolicy: request.leasePolicy ?? 'ephemeral',
    provider: request.provider ?? undefined,
    providerLeaseId: request.providerLeaseId ?? undefined,
    ttlSeconds: await ttlUntil(tx, request.expiresAt ?? undefined),
    expiresAt: request.expiresAt?.toISOString(),
    metadata: request.metadata ?? undefined,
  };
  const placement = placeLease(lease, found!, new Map());
  if (placement.kind === 'wait') {
    throw new RejectedError({ code: 'workspace_held', reason: describeHeld(placement.heldBy) });
  }
  if (placement.superseded !== undefined) await endSuperseded(tx, [placement.superseded], actor);
  const [granted] = await acquireLeases(tx, [lease], actor);
  return granted!.id;
}

/** A run that a service leases for is running, unless it has ended. */
async function registerRun(
  tx: Transaction,
  companyId: string,
  runId: string,
  issueId: string | undefined,
): Promise<void> {
  await recordStartedRuns(tx, [{ companyId, runId, issueId }]);
  const run = (await readRuns(tx, [runId])).get(runId);
  rejectIf(rejectionOfRun(run, { companyId, runId }));
  if (run!.status !== 'running') throw new RunEndedError(runId);
}

/** Whole seconds from the database's now until the instant, rounded up; the default ttl without one. */
async function ttlUntil(tx: Transaction, expiresAt: Date | undefined): Promise<number> {
  if (expiresAt === undefined) return DEFAULT_TTL_SECONDS;
  const [row] = await queryRows<{ seconds: number }>(
    tx,
    sql`select ceil(extract(epoch from ${expiresAt.toISOString()}::timestamptz - now()))::float8 as seconds`,
  );
  const { seconds } = row!;
  if (seconds >= 1 && seconds <= MAXIMUM_TTL_SECONDS) return seconds;
  const reason = `expiresAt must lie within the next ${MAXIMUM_TTL_SECONDS} seconds of the database`;
  throw new RejectedError({ code: 'invalid_payload', reason });
}

function rejectIf(rejection: Rejection | undefined): void {
  if (rejection !== undefined) throw new RejectedError(rejection);
}

const CLEANUP_BY_STATUS: Record<ReleaseStatus, CleanupStatus> = {
  released: 'success',
  failed: 'success',
  expired: 'success',
  retained: 'pending',
};

const REASON_BY_STATUS: Record<ReleaseStatus, string | null> = {
  released: null,
  failed: 'ended as failed by its service, which gave no reason',
  expired: 'not renewed before it expired',
  retained: null,
};

/**
 * How a release that a service asks for ends the lease; undefined when it has ended already. A lease of a driver is
 * cleaned up after by workers and ends then, unless the service reports how the cleanup went. The company's lock must be
 * held.
 */
export async function resolveRelease(
  tx: Transaction,
  lease: EnvironmentLease,
  status: ReleaseStatus,
  details: z.output<typeof releaseDetailsSchema>,
): Promise<LeaseEnding | undefined> {
  if (isOneOf(ENDED_LEASE_STATUSES, lease.status)) return undefined;
  const cleanupStatus = details.cleanupStatus ?? (isOfDriver(lease) ? 'pending' : CLEANUP_BY_STATUS[status]);
  if (lease.status === 'pending_cleanup' && cleanupStatus === 'pending') return undefined;
  if (status === 'retained' && lease.status !== 'active') {
    throw new InvalidTransitionError(lease.id, `is ${lease.status}, and only an active lease can be retained`);
  }
  if (status === 'expired' && !(await isExpired(tx, lease.id))) {
    throw new InvalidTransitionError(
      lease.id,
      'is not past its expires_at, so it cannot be ended as expired; release it instead',
    );
  }
  return {
    leaseId: lease.id,
    fromStatus: lease.status,
    status,
    failureReason: details.failureReason ?? lease.failureReason ?? REASON_BY_STATUS[status],
    cleanupStatus,
  };
}

/** Whether a driver of the workers acquired the lease, not the service itself. */
function isOfDriver({ provider }: EnvironmentLease): boolean {
  return ENVIRONMENT_DRIVERS.some((driver) => driver === provider && hasExternalEffects(driver));
}

function isOneOf(statuses: readonly LeaseStatus[], status: LeaseStatus): boolean {
  return statuses.includes(status);
}

async function isExpired(tx: Transaction, leaseId: string): Promise<boolean> {
  const [row] = await queryRows<{ expired: boolean }>(
    tx,
    sql`select expires_at <= now() as expired from lessor.environment_leases where id = ${leaseId}`,
  );
  return row!.expired;
}
