import { sql } from 'drizzle-orm';
import type { z } from 'zod';
import { DEFAULT_TTL_SECONDS, RejectedError, MAXIMUM_TTL_SECONDS, RunEndedError } from '../contracts/index.ts';
import { queryRows } from '../db/connection.ts';
import type { Transaction } from '../db/connection.ts';
import { acquireLeases } from '../db/statements/acquire-leases.ts';
import type { Actor } from '../db/statements/activity.ts';
import { lockCompanies } from '../db/statements/lock-companies.ts';
import { readPlacements } from '../db/statements/read-placements.ts';
import { readRuns, recordStartedRuns } from '../db/statements/record-runs.ts';
import { describeHeld } from './outcome.ts';
import { endSuperseded, place } from './placement.ts';
import { rejectionOfCompany, rejectionOfRun } from './rejections.ts';
import { rejectionOfEnvironment } from './selection.ts';
import { denied } from './service-errors.ts';
import type { leaseRequestSchema } from './service-input.ts';

type Request = z.output<typeof leaseRequestSchema>;

/** Grants the lease that a service asks for, or finds the live one its run has there. Returns the lease's id. */
export async function acquireLeaseOfRequest(tx: Transaction, request: Request, actor: Actor): Promise<string> {
  const { companyId, environmentId } = request;
  const companies = await lockCompanies(tx, [companyId], 'auto');
  refuseIf(rejectionOfCompany(companies, companyId));
  const runId = request.heartbeatRunId ?? undefined;
  if (runId !== undefined) await registerRun(tx, companyId, runId, request.issueId ?? undefined);

  const executionWorkspaceId = request.executionWorkspaceId ?? undefined;
  const [found] = await readPlacements(tx, [{ companyId, runId, environmentId, executionWorkspaceId }]);
  refuseIf(rejectionOfEnvironment(found!.environment, companyId, environmentId));
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
  const placing = place(lease, found!, new Map());
  if (placing.kind === 'wait') throw denied('workspace_held', describeHeld(placing.heldBy));
  if (placing.superseded !== undefined) await endSuperseded(tx, [placing.superseded], actor);
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
  refuseIf(rejectionOfRun(run, { companyId, runId }));
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
  throw denied('invalid_payload', `expiresAt must lie within the next ${MAXIMUM_TTL_SECONDS} seconds of the database`);
}

function refuseIf(rejection: ConstructorParameters<typeof RejectedError>[0] | undefined): void {
  if (rejection !== undefined) throw new RejectedError(rejection);
}
