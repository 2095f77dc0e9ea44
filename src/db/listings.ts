import { and, asc, desc, eq, inArray } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
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

/** Leases, newest first: in the order of their fencing tokens. */
export function listLeases(db: Db, filters: LeaseListFilters) {
  const listed =
    filters.run === undefined
      ? inArray(environmentLeases.id, newestLeases(db, filters))
      : and(
          eq(environmentLeases.heartbeatRunId, filters.run),
          ifGiven(environmentLeases.environmentId, filters.environment),
          ...matching(filters),
        );
  return db
    .select()
    .from(environmentLeases)
    .where(listed)
    .orderBy(desc(environmentLeases.fencingToken))
    .limit(filters.limit);
}

/** The newest of the newest of each environment, which has an index of them in that order. */
function newestLeases(db: Db, filters: LeaseListFilters) {
  const ofEach = db
    .select({ id: environmentLeases.id, fencingToken: environmentLeases.fencingToken })
    .from(environmentLeases)
    .where(and(eq(environmentLeases.environmentId, environments.id), ...matching(filters)))
    .orderBy(desc(environmentLeases.fencingToken))
    .limit(filters.limit)
    .as('newest_of_each');
  return db
    .select({ id: ofEach.id })
    .from(environments)
    .crossJoinLateral(ofEach)
    .where(and(ifGiven(environments.companyId, filters.company), ifGiven(environments.id, filters.environment)))
    .orderBy(desc(ofEach.fencingToken))
    .limit(filters.limit);
}

const matching = ({ company, status }: LeaseListFilters) => [
  ifGiven(environmentLeases.companyId, company),
  ifGiven(environmentLeases.status, status),
];

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
        ifGiven(environments.companyId, filters.company),
        ifGiven(environments.driver, filters.driver),
        ifGiven(environments.status, filters.status),
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
        ifGiven(activityLog.companyId, filters.company),
        ifGiven(activityLog.runId, filters.run),
        ifGiven(activityLog.entityId, filters.entity),
        ifGiven(activityLog.action, filters.action),
      ),
    )
    .orderBy(desc(activityLog.id))
    .limit(filters.limit);
}

function ifGiven(column: PgColumn, value: string | undefined): SQL | undefined {
  return value === undefined ? undefined : eq(column, value);
}
