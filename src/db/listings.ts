import { and, asc, desc, eq } from 'drizzle-orm';
import type { SQL } from 'drizzle-orm';
import type { PgColumn } from 'drizzle-orm/pg-core';
import type { ActivityAction, EnvironmentDriver, EnvironmentStatus, LeaseStatus } from '../contracts/index.ts';
import type { Db } from './connection.ts';
import { activityLog, companies, environmentLeases, environments } from './schema.ts';

/** Filters of the lists that operators look at; what is left out is not filtered by. */
export interface LeaseListFilters {
  company?: string | undefined;
  environment?: string | undefined;
  run?: string | undefined;
  status?: LeaseStatus | undefined;
  limit: number;
}

/** Leases, newest first: in the order of their fencing tokens, which is an index of each environment's. */
export function listLeases(db: Db, filters: LeaseListFilters) {
  const matching = [
    ifGiven(environmentLeases.companyId, filters.company),
    ifGiven(environmentLeases.status, filters.status),
  ];
  if (filters.run !== undefined) {
    const onEnvironment = ifGiven(environmentLeases.environmentId, filters.environment);
    return db
      .select()
      .from(environmentLeases)
      .where(and(eq(environmentLeases.heartbeatRunId, filters.run), onEnvironment, ...matching))
      .orderBy(desc(environmentLeases.fencingToken))
      .limit(filters.limit);
  }
  const newest = db
    .select()
    .from(environmentLeases)
    .where(and(eq(environmentLeases.environmentId, environments.id), ...matching))
    .orderBy(desc(environmentLeases.fencingToken))
    .limit(filters.limit)
    .as('newest');
  return db
    .select(newest._.selectedFields)
    .from(environments)
    .crossJoinLateral(newest)
    .where(and(ifGiven(environments.companyId, filters.company), ifGiven(environments.id, filters.environment)))
    .orderBy(desc(newest.fencingToken))
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

/** Activity events, newest first: in the order of their ids, which is an index of each company's and of each run's. */
export function listActivity(db: Db, filters: ActivityListFilters) {
  const matching = [ifGiven(activityLog.entityId, filters.entity), ifGiven(activityLog.action, filters.action)];
  if (filters.run !== undefined) {
    const ofCompany = ifGiven(activityLog.companyId, filters.company);
    return db
      .select()
      .from(activityLog)
      .where(and(eq(activityLog.runId, filters.run), ofCompany, ...matching))
      .orderBy(desc(activityLog.id))
      .limit(filters.limit);
  }
  const newest = db
    .select()
    .from(activityLog)
    .where(and(eq(activityLog.companyId, companies.id), ...matching))
    .orderBy(desc(activityLog.id))
    .limit(filters.limit)
    .as('newest');
  return db
    .select(newest._.selectedFields)
    .from(companies)
    .crossJoinLateral(newest)
    .where(ifGiven(companies.id, filters.company))
    .orderBy(desc(newest.id))
    .limit(filters.limit);
}

function ifGiven(column: PgColumn, value: string | undefined): SQL | undefined {
  return value === undefined ? undefined : eq(column, value);
}
