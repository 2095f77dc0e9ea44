import { and, asc, desc, eq } from 'drizzle-orm';
import type { ActivityAction, EnvironmentDriver, EnvironmentStatus, LeaseStatus } from '../contracts/index.ts';
import type { Db } from './connection.ts';
import { activityLog, environmentLeases, environments } from './schema.ts';

/** Filters of the lists that operators look at; what is left out is not filtered by. */
export interface LeaseListFilters {
  company?: string | undefined;
  environment?: string | undefined;
  run?: string | undefined;
  status?: LeaseStatus | undefined;
  limit: number;
}

/** Leases, newest first. */
export function listLeases(db: Db, filters: LeaseListFilters) {
  return db
    .select()
    .from(environmentLeases)
    .where(
      and(
        filters.company === undefined ? undefined : eq(environmentLeases.companyId, filters.company),
        filters.environment === undefined ? undefined : eq(environmentLeases.environmentId, filters.environment),
        filters.run === undefined ? undefined : eq(environmentLeases.heartbeatRunId, filters.run),
        filters.status === undefined ? undefined : eq(environmentLeases.status, filters.status),
      ),
    )
    .orderBy(desc(environmentLeases.acquiredAt), desc(environmentLeases.fencingToken))
    .limit(filters.limit);
}

export interface EnvironmentListFilters {
  company?: string | undefined;
  driver?: EnvironmentDriver | undefined;
  status?: EnvironmentStatus | undefined;
  limit: number;
}

/** Environments, by company, oldest first. */
export function listEnvironments(db: Db, filters: EnvironmentListFilters) {
  return db
    .select()
    .from(environments)
    .where(
      and(
        filters.company === undefined ? undefined : eq(environments.companyId, filters.company),
        filters.driver === undefined ? undefined : eq(environments.driver, filters.driver),
        filters.status === undefined ? undefined : eq(environments.status, filters.status),
      ),
    )
    .orderBy(asc(environments.companyId), asc(environments.createdAt))
    .limit(filters.limit);
}

export interface ActivityListFilters {
  company?: string | undefined;
  run?: string | undefined;
  entity?: string | undefined;
  action?: ActivityAction | undefined;
  limit: number;
}

/** Activity events, newest first. */
export function listActivity(db: Db, filters: ActivityListFilters) {
  return db
    .select()
    .from(activityLog)
    .where(
      and(
        filters.company === undefined ? undefined : eq(activityLog.companyId, filters.company),
        filters.run === undefined ? undefined : eq(activityLog.runId, filters.run),
        filters.entity === undefined ? undefined : eq(activityLog.entityId, filters.entity),
        filters.action === undefined ? undefined : eq(activityLog.action, filters.action),
      ),
    )
    .orderBy(desc(activityLog.id))
    .limit(filters.limit);
}
