import { and, asc, desc, eq, inArray, sql } from 'drizzle-orm';
import { LIVE_LEASE_STATUSES, UnknownLeaseError, idSchema, metadataSchema, parse } from '../contracts/index.ts';
import type { Metadata } from '../contracts/index.ts';
import type { Db } from '../db/connection.ts';
import { environmentLeases } from '../db/schema.ts';
import type { Actor } from '../db/statements/activity.ts';
import { endLeasesAsTold } from '../db/statements/end-leases.ts';
import { lockCompanies } from '../db/statements/lock-companies.ts';
import { acquireLeaseOfRequest } from './acquire-lease.ts';
import { resolveRelease } from './release-lease.ts';
import { assertCurrentLease } from './fencing.ts';
import {
  fencingTokenSchema,
  leaseFiltersSchema,
  leaseRequestSchema,
  releaseDetailsSchema,
  releaseStatusSchema,
} from './service-input.ts';
import type { LeaseFilters, LeaseRequest, ReleaseDetails, ReleaseStatus } from './service-input.ts';

/** The record that one run holds one environment. */
export type EnvironmentLease = typeof environmentLeases.$inferSelect;

/** The leases on environments. */
export interface LeaseRegister {
  /**
   * Grants a lease, or returns the live one that the run holds on the environment already (one-lease).
   * Without `expiresAt` it lasts five minutes (always-bounded).
   * @throws {RejectedError} when the environment is unknown, archived or another company's, when the run is another
   *   company's, or with `workspace_held` when another live run holds the execution workspace (single-flight)
   * @throws {RunEndedError} when the run has ended
   */
  acquireLease(request: LeaseRequest): Promise<EnvironmentLease>;
  /**
   * Resolves while the lease is held with this fencing token, so that a resource can refuse a holder that came back
   * from the dead (fenced). On a service made from an open transaction the lease cannot end before that transaction
   * does, which makes what it writes safe.
   * @throws {StaleLeaseError} when the token is another one, or the lease has lapsed or ended
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
   * Ends a lease, `released` unless told otherwise, and tells it. A lease that has ended already is returned as it is.
   * One that a driver acquired, or is to, becomes `pending_cleanup`: it ends when a worker has cleaned up after it.
   * @throws {UnknownLeaseError} when there is no such lease
   * @throws {InvalidTransitionError} for `expired` before it has lapsed, or `retained` when it is not active
   */
  releaseLease(id: string, status?: ReleaseStatus, details?: ReleaseDetails): Promise<EnvironmentLease>;
  /** Ends all live leases of a run as {@link releaseLease} does, and returns those it ended. */
  releaseLeasesForRun(runId: string, status?: ReleaseStatus): Promise<EnvironmentLease[]>;
}

/** @internal */
export function leaseRegister(db: Db, actor: Actor): LeaseRegister {
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
      const asked = parse(releaseStatusSchema, status, 'release status');
      const explained = parse(releaseDetailsSchema, details, 'release details');
      return db.transaction(async (tx) => {
        const [found] = await readLeases(tx, [leaseId]);
        if (found === undefined) throw new UnknownLeaseError(leaseId);
        await lockCompanies(tx, [found.companyId], 'known');
        const [current] = await readLeases(tx, [leaseId]);
        const ending = await resolveRelease(tx, current!, asked, explained);
        if (ending !== undefined) await endLeasesAsTold(tx, [ending], actor);
        const [lease] = await readLeases(tx, [leaseId]);
        return lease!;
      });
    },

    async releaseLeasesForRun(runId, status = 'released') {
      const run = parse(idSchema, runId, 'run id');
      const asked = parse(releaseStatusSchema, status, 'release status');
      return db.transaction(async (tx) => {
        const companyIds = (await liveLeasesOfRun(tx, run)).map((lease) => lease.companyId);
        await lockCompanies(tx, [...new Set(companyIds)], 'known');
        const endings = [];
        for (const lease of await liveLeasesOfRun(tx, run)) {
          endings.push((await resolveRelease(tx, lease, asked, {})) ?? []);
        }
        const ended = await endLeasesAsTold(tx, endings.flat(), actor);
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
