import { sql } from 'drizzle-orm';
import {
  bigint,
  check,
  foreignKey,
  index,
  integer,
  jsonb,
  pgSchema,
  text,
  timestamp,
  unique,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import type { AnyPgColumn } from 'drizzle-orm/pg-core';
import {
  ACTIVITY_ACTIONS,
  ACTOR_TYPES,
  CLEANUP_STATUSES,
  COMPANY_STATUSES,
  ENDED_LEASE_STATUSES,
  ENTITY_TYPES,
  ENVIRONMENT_DRIVERS,
  ENVIRONMENT_STATUSES,
  LEASE_POLICIES,
  LEASE_STATUSES,
  LIVE_LEASE_STATUSES,
  OPEN_LEASE_STATUSES,
  OUTBOX_QUEUES,
  RUN_STATUSES,
  TERMINAL_RUN_STATUSES,
} from '../contracts/index.ts';
import type { Metadata } from '../contracts/index.ts';

/** All tables are in one Postgres schema, so that Lessor can share a database with its control plane. */
export const lessorSchema = pgSchema('lessor');

const instant = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' });
const createdAt = () => instant('created_at').notNull().defaultNow();
const updatedAt = () => instant('updated_at').notNull().defaultNow();

/** A list of constants as SQL, for checks and index predicates: both are fixed when the migration is generated. */
const sqlList = (values: readonly string[]) => sql.raw(values.map((value) => `'${value}'`).join(', '));
const isOneOf = (column: AnyPgColumn, values: readonly string[]) => sql`${column} in (${sqlList(values)})`;

/** Tenants. */
export const companies = lessorSchema.table(
  'companies',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    name: text('name'),
    status: text('status', { enum: COMPANY_STATUSES }).notNull().default('active'),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (company) => [check('companies_status_check', isOneOf(company.status, COMPANY_STATUSES))],
);

/** Places where runs execute. */
export const environments = lessorSchema.table(
  'environments',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    companyId: uuid('company_id')
      .notNull()
      .references(() => companies.id),
    name: text('name').notNull(),
    description: text('description'),
    driver: text('driver', { enum: ENVIRONMENT_DRIVERS }).notNull(),
    status: text('status', { enum: ENVIRONMENT_STATUSES }).notNull().default('active'),
    config: jsonb('config').$type<Metadata>().notNull().default({}),
    metadata: jsonb('metadata').$type<Metadata>(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (environment) => [
    check('environments_driver_check', isOneOf(environment.driver, ENVIRONMENT_DRIVERS)),
    check('environments_status_check', isOneOf(environment.status, ENVIRONMENT_STATUSES)),
    // one-local
    uniqueIndex('environments_one_local')
      .on(environment.companyId)
      .where(sql`${environment.driver} = 'local'`),
    // same-company: what leases refer to; also serves listing a company's environments
    unique('environments_company_id_id').on(environment.companyId, environment.id),
  ],
);

/** The run ledger. A terminal row that arrived first is the tombstone that keeps any-order. */
export const heartbeatRuns = lessorSchema.table(
  'heartbeat_runs',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    companyId: uuid('company_id')
      .notNull()
      .references(() => companies.id),
    agentId: uuid('agent_id'),
    issueId: uuid('issue_id'),
    projectId: uuid('project_id'),
    invocationSource: text('invocation_source').notNull().default('heartbeat'),
    status: text('status', { enum: RUN_STATUSES }).notNull().default('queued'),
    failureReason: text('failure_reason'),
    contextSnapshot: jsonb('context_snapshot').$type<Metadata>().notNull().default({}),
    startedAt: instant('started_at'),
    finishedAt: instant('finished_at'),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (run) => [
    check('heartbeat_runs_status_check', isOneOf(run.status, RUN_STATUSES)),
    check(
      'heartbeat_runs_finished_check',
      sql`(${run.status} in (${sqlList(TERMINAL_RUN_STATUSES)})) = (${run.finishedAt} is not null)`,
    ),
    check('heartbeat_runs_context_check', sql`jsonb_typeof(${run.contextSnapshot}) = 'object'`),
    // same-company: what leases refer to
    unique('heartbeat_runs_company_id_id').on(run.companyId, run.id),
    // old runs, for the retention: by a column that never changes, so that updates of a run need no new index entries
    index('heartbeat_runs_retention').on(run.createdAt, run.id),
  ],
);

/**
 * Fencing tokens of all leases. Tokens of one environment only grow (fenced), because a transaction that draws one holds
 * the lock of the environment's company.
 */
export const fencingTokens = lessorSchema.sequence('fencing_tokens');

/** The record that one run holds one environment, from `acquired_at` until it ends. */
export const environmentLeases = lessorSchema.table(
  'environment_leases',
  {
    id: uuid('id').primaryKey().defaultRandom(),
    companyId: uuid('company_id').notNull(),
    environmentId: uuid('environment_id').notNull(),
    heartbeatRunId: uuid('heartbeat_run_id'),
    executionWorkspaceId: uuid('execution_workspace_id'),
    issueId: uuid('issue_id'),
    status: text('status', { enum: LEASE_STATUSES }).notNull().default('active'),
    leasePolicy: text('lease_policy', { enum: LEASE_POLICIES }).notNull().default('ephemeral'),
    provider: text('provider'),
    providerLeaseId: text('provider_lease_id'),
    // until when its driver may still be acquiring it: no cleanup begins before
    acquiringUntil: instant('acquiring_until'),
    fencingToken: bigint('fencing_token', { mode: 'number' })
      .notNull()
      .default(sql`nextval('lessor.fencing_tokens')`),
    ttlSeconds: integer('ttl_seconds').notNull(),
    acquiredAt: instant('acquired_at').notNull().defaultNow(),
    lastUsedAt: instant('last_used_at').notNull().defaultNow(),
    // always-bounded
    expiresAt: instant('expires_at').notNull(),
    releasedAt: instant('released_at'),
    failureReason: text('failure_reason'),
    cleanupStatus: text('cleanup_status', { enum: CLEANUP_STATUSES }),
    // its final status, and the reason, once its driver has cleaned up after it
    endingStatus: text('ending_status', { enum: ENDED_LEASE_STATUSES }),
    endingReason: text('ending_reason'),
    metadata: jsonb('metadata').$type<Metadata>(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (lease) => [
    check('environment_leases_status_check', isOneOf(lease.status, LEASE_STATUSES)),
    check('environment_leases_policy_check', isOneOf(lease.leasePolicy, LEASE_POLICIES)),
    check('environment_leases_cleanup_check', isOneOf(lease.cleanupStatus, CLEANUP_STATUSES)),
    check('environment_leases_ending_check', isOneOf(lease.endingStatus, ENDED_LEASE_STATUSES)),
    check('environment_leases_ttl_check', sql`${lease.ttlSeconds} > 0`),
    // always-explained
    check(
      'environment_leases_explained_check',
      sql`case
        when ${isOneOf(lease.status, LIVE_LEASE_STATUSES)} then ${lease.cleanupStatus} is null
        when ${lease.status} in ('failed', 'expired') then
          ${lease.cleanupStatus} is not null and coalesce(${lease.failureReason}, '') <> ''
        else ${lease.cleanupStatus} is not null
      end`,
    ),
    check(
      'environment_leases_released_check',
      sql`(${lease.status} in (${sqlList(ENDED_LEASE_STATUSES)})) = (${lease.releasedAt} is not null)`,
    ),
    // same-company
    foreignKey({
      name: 'environment_leases_environment_fk',
      columns: [lease.companyId, lease.environmentId],
      foreignColumns: [environments.companyId, environments.id],
    }),
    foreignKey({
      name: 'environment_leases_run_fk',
      columns: [lease.companyId, lease.heartbeatRunId],
      foreignColumns: [heartbeatRuns.companyId, heartbeatRuns.id],
    }),
    // one-lease; the sweep finds live leases of ended runs through it
    uniqueIndex('environment_leases_one_lease')
      .on(lease.heartbeatRunId, lease.environmentId)
      .where(isOneOf(lease.status, LIVE_LEASE_STATUSES)),
    // single-flight
    uniqueIndex('environment_leases_single_flight')
      .on(lease.environmentId, lease.executionWorkspaceId)
      .where(
        sql`${isOneOf(lease.status, LIVE_LEASE_STATUSES)} and ${lease.leasePolicy} = 'ephemeral' and ${lease.executionWorkspaceId} is not null`,
      ),
    // fenced; also serves listing an environment's leases, newest first
    uniqueIndex('environment_leases_fenced').on(lease.environmentId, lease.fencingToken),
    // later leases of an execution workspace: an expired lease is revived only when there is none (fenced)
    index('environment_leases_workspace')
      .on(lease.executionWorkspaceId, lease.environmentId, lease.fencingToken)
      .where(sql`${lease.executionWorkspaceId} is not null`),
    // the leases of a run, ended ones included
    index('environment_leases_run').on(lease.heartbeatRunId),
    // leases past their `expires_at`, for the sweep
    index('environment_leases_expiring').on(lease.expiresAt).where(isOneOf(lease.status, OPEN_LEASE_STATUSES)),
    // leases whose acquisition was never completed, for the sweep
    index('environment_leases_pending')
      .on(lease.lastUsedAt)
      .where(sql`${lease.status} = 'pending'`),
    // leases kept after their run: the next run of their scope adopts them, or waits for their cleanup
    index('environment_leases_kept')
      .on(lease.environmentId, lease.executionWorkspaceId)
      .where(sql`${lease.status} in ('retained', 'pending_cleanup')`),
    // leases whose cleanup waits for a job, for the sweep
    index('environment_leases_pending_cleanup')
      .on(lease.updatedAt)
      .where(sql`${lease.status} = 'pending_cleanup'`),
  ],
);

/**
 * Runs that wait for an execution workspace, since when, and when they last asked for it. The longest waiter is next
 * (single-flight); one that has stopped asking is passed over.
 */
export const workspaceWaits = lessorSchema.table(
  'workspace_waits',
  {
    runId: uuid('run_id').primaryKey(),
    companyId: uuid('company_id').notNull(),
    environmentId: uuid('environment_id').notNull(),
    executionWorkspaceId: uuid('execution_workspace_id').notNull(),
    waitingSince: instant('waiting_since').notNull(),
    lastAskedAt: instant('last_asked_at').notNull(),
  },
  (wait) => [
    // same-company
    foreignKey({
      name: 'workspace_waits_run_fk',
      columns: [wait.companyId, wait.runId],
      foreignColumns: [heartbeatRuns.companyId, heartbeatRuns.id],
    }).onDelete('cascade'),
    foreignKey({
      name: 'workspace_waits_environment_fk',
      columns: [wait.companyId, wait.environmentId],
      foreignColumns: [environments.companyId, environments.id],
    }).onDelete('cascade'),
    // who is next
    index('workspace_waits_order').on(wait.environmentId, wait.executionWorkspaceId, wait.waitingSince, wait.runId),
  ],
);

/**
 * Jobs that services wrote in transactions of their own, until a relay has published them. Without foreign keys: a job may
 * name what is not there yet, and is accepted or rejected where all jobs are.
 */
export const outbox = lessorSchema.table(
  'outbox',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    queue: text('queue', { enum: OUTBOX_QUEUES }).notNull(),
    jobId: text('job_id').notNull(),
    runId: uuid('run_id').notNull(),
    payload: jsonb('payload').$type<Metadata>().notNull(),
    createdAt: createdAt(),
  },
  (job) => [
    check('outbox_queue_check', isOneOf(job.queue, OUTBOX_QUEUES)),
    // the jobs of a run, in the order in which they were written
    index('outbox_run').on(job.runId, job.id),
  ],
);

/**
 * The audit trail: append-only, each row written in the transaction of its transition (always-audited). Without foreign
 * keys: the row that an event is about is written in the same transaction, and its own keys are checked.
 */
export const activityLog = lessorSchema.table(
  'activity_log',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    companyId: uuid('company_id').notNull(),
    actorType: text('actor_type', { enum: ACTOR_TYPES }).notNull().default('system'),
    actorId: text('actor_id').notNull(),
    action: text('action', { enum: ACTIVITY_ACTIONS }).notNull(),
    entityType: text('entity_type', { enum: ENTITY_TYPES }).notNull(),
    entityId: uuid('entity_id').notNull(),
    agentId: uuid('agent_id'),
    runId: uuid('run_id'),
    details: jsonb('details').$type<Metadata>().notNull().default({}),
    createdAt: createdAt(),
  },
  (event) => [
    check('activity_log_actor_type_check', isOneOf(event.actorType, ACTOR_TYPES)),
    check('activity_log_action_check', isOneOf(event.action, ACTIVITY_ACTIONS)),
    check('activity_log_entity_type_check', isOneOf(event.entityType, ENTITY_TYPES)),
    // one event for each rejected run, however often its start is delivered
    uniqueIndex('activity_log_denied_once')
      .on(event.companyId, event.runId)
      .where(sql`${event.action} = 'environment.lease_denied'`),
    index('activity_log_company').on(event.companyId, event.id),
    index('activity_log_run').on(event.runId, event.id),
  ],
);
