import { and, asc, desc, eq, inArray, sql } from 'drizzle-orm';
import {
  LIVE_LEASE_STATUSES,
  StaleLeaseError,
  UnknownLeaseError,
  idSchema,
  metadataSchema,
  parse,
} from '../../contracts/index.ts';
import type { LeaseStatus, Metadata } from '../../contracts/index.ts';
import { queryRows } from '../../db/connection.ts';
import type { Db } from '../../db/connection.ts';
import { environmentLeases } from '../../db/schema.ts';
import type { Actor } from '../../db/statements/activity.ts';
import { lockCompanies } from '../../db/statements/companies.ts';
import { endLeases } from '../../db/statements/end-leases.ts';
import {
  fencingTokenSchema,
  leaseFiltersSchema,
  leaseRequestSchema,
  releaseDetailsSchema,
  releaseStatusSchema,
} from './input.ts';
import type { EnvironmentLease, LeaseFilters, LeaseRequest, ReleaseDetails, ReleaseStatus } from './input.ts';
import { acquireLeaseOfRequest, resolveRelease } from './lease-requests.ts';

/** The leases on environments. */
export interface LeaseService {
  /**
   * Grants a lease, or returns the live one that the run holds on the environment already (one-lease).
   * Without `expiresAt` it lasts five minutes (always-bounded).
   * @throws {RejectedError} when the environment is unknown, archived or another company's, when the run is another
   *   company's, or with `workspace_held` when another live run holds the execution workspace (single-flight)
   * @throws {RunEndedError} when the run has ended
   */
  acquireLease(request: LeaseRequest): Promise<EnvironmentLease>;
  /**
   * Resolves while the lease is held with this fencing token, so that a resource can reject a holder that lost its lease
   * (fenced). On a service created from an open transaction the lease cannot end before that transaction does, which
   * makes its writes safe.
   * @throws {StaleLeaseError} when the token is another one, or the lease has expired or ended
   * @throws {UnknownLeaseError} when there is no such lease
   */
  assertCurrent(leaseId: string, fencingToken: number): Promise<void>;
  getLeaseById(id: string): Promise<EnvironmentLease | null>;
  /** An environment's leases, newest first. */
  listLeases(environmentId: string, filters?: LeaseFilters): Promise<EnvironmentLease[]>;
  /** The live leases of a run, oldest first. */
  listActiveLeasesForRun(runId: string): Promise<EnvironmentLease[]>;
  /** Replaces a lease's metadata; null when there is no such lease. */
  updateLeaseMetadata(id: string, metadata: Metadata | null): Promise<EnvironmentLease | null>;
  /**
   * Ends a lease, `released` by default, and records it. A lease that has ended already is returned unchanged. One that
   * a driver acquires becomes `pending_cleanup`: it ends once a worker has cleaned up after it.
   * @throws {UnknownLeaseError} when there is no such lease
   * @throws {InvalidTransitionError} for `expired` before its `expires_at`, or `retained` when it is not active
   */
  releaseLease(id: string, status?: ReleaseStatus, details?: ReleaseDetails): Promise<EnvironmentLease>;
  /** Ends all live leases of a run as {@link releaseLease} does, and returns those it ended. */
  releaseLeasesForRun(runId: string, status?: ReleaseStatus): Promise<EnvironmentLease[]>;
}

/** @internal */
export function leaseService(db: Db, actor: Actor): LeaseService {
  return {
    async acquireLease(request) {
      const wanted = parse(leaseRequestSchema, request, 'lease request');
      return db.transaction(async (tx) => {
        const leaseId = await acquireLeaseOfRequest(tx, wanted, actor);
        const [lease] = await readLeases(tx, [leaseId]);
        return lease!;
      });
    },

    async assertCurrent(leaseId, fencingToken) {
      const token = parse(fencingTokenSchema, fencingToken, 'fencing token');
      await assertCurrentLease(db, parse(idSchema, leaseId, 'lease id'), token);
    },

    async getLeaseById(id) {
      const [lease] = await readLeases(db, [parse(idSchema, id, 'lease id')]);
      return lease ?? null;
    },

    async listLeases(environmentId, filters = {}) {
      const { status } = parse(leaseFiltersSchema, filters, 'lease filter');
      return db
        .select()
        .from(environmentLeases)
        .where(
          and(
            eq(environmentLeases.environmentId, parse(idSchema, environmentId, 'environment id')),
            status === undefined ? undefined : eq(environmentLeases.status, status),
          ),
        )
        .orderBy(desc(environmentLeases.fencingToken));
    },

    async listActiveLeasesForRun(runId) {
      return liveLeasesOfRun(db, parse(idSchema, runId, 'run id'));
    },

    async updateLeaseMetadata(id, metadata) {
      const [lease] = await db
        .update(environmentLeases)
        .set({ metadata: parse(metadataSchema.nullable(), metadata, 'lease metadata'), updatedAt: sql`now()` })
        .where(eq(environmentLeases.id, parse(idSchema, id, 'lease id')))
        .returning();
      return lease ?? null;
    },

    async releaseLease(id, status = 'released', details = {}) {
      const leaseId = parse(idSchema, id, 'lease id');
      const endAs = parse(releaseStatusSchema, status, 'release status');
      const explained = parse(releaseDetailsSchema, details, 'release details');
      return db.transaction(async (tx) => {
        const [found] = await readLeases(tx, [leaseId]);
        if (found === undefined) throw new UnknownLeaseError(leaseId);
        await lockCompanies(tx, [found.companyId], 'known');
        const [current] = await readLeases(tx, [leaseId]);
        const ending = await resolveRelease(tx, current!, endAs, explained);
        if (ending !== undefined) await endLeases(tx, [ending], actor);
        const [lease] = await readLeases(tx, [leaseId]);
        return lease!;
      });
    },

    async releaseLeasesForRun(runId, status = 'released') {
      const run = parse(idSchema, runId, 'run id');
      const endAs = parse(releaseStatusSchema, status, 'release status');
      return db.transaction(async (tx) => {
        const companyIds = (await liveLeasesOfRun(tx, run)).map((lease) => lease.companyId);
        await lockCompanies(tx, [...new Set(companyIds)], 'known');
        const endings = [];
        for (const lease of await liveLeasesOfRun(tx, run)) {
          endings.push((await resolveRelease(tx, lease, endAs, {})) ?? []);
        }
        const ended = await endLeases(tx, endings.flat(), actor);
        const endedIds = ended.map((lease) => lease.id);
        return endedIds.length === 0 ? [] : readLeases(tx, endedIds);
      });
    },
  };
}

async function readLeases(db: Db, ids: readonly string[]): Promise<EnvironmentLease[]> {
  return db
    .select()
    .from(environmentLeases)
    .where(inArray(environmentLeases.id, [...ids]))
    .orderBy(asc(environmentLeases.fencingToken));
}

async function liveLeasesOfRun(db: Db, runId: string): Promise<EnvironmentLease[]> {
  return db
    .select()
    .from(environmentLeases)
    .where(and(eq(environmentLeases.heartbeatRunId, runId), inArray(environmentLeases.status, LIVE_LEASE_STATUSES)))
    .orderBy(asc(environmentLeases.fencingToken));
}

interface LeaseState {
  status: LeaseStatus;
  expired: boolean;
  current: boolean;
}

/**
 * Rejects a holder that has lost the lease (fenced). `for share` keeps the lease from ending until the end of the
 * transaction that `db` may be; outside of one, only for this statement.
 */
export async function assertCurrentLease(db: Db, leaseId: string, fencingToken: number): Promise<void> {
  const [lease] = await queryRows<LeaseState>(
    db,
    sql`
    select status, expires_at <= statement_timestamp() as expired, fencing_token = ${fencingToken}::bigint as current
    from lessor.environment_leases where id = ${leaseId} for share`,
  );
  if (lease === undefined) throw new UnknownLeaseError(leaseId);
  if (!lease.current) throw new StaleLeaseError(leaseId, `its fencing token is not ${fencingToken}`);
  if (lease.status !== 'active') throw new StaleLeaseError(leaseId, `it is ${lease.status}`);
  if (lease.expired) throw new StaleLeaseError(leaseId, 'it has expired and was not renewed');
}
