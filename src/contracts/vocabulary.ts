/**
 * The closed word lists of the contract. Database checks, payload schemas and types are all derived from these.
 */

/** A run's statuses. The last four are terminal: the first one reached is final (invariant first-end-wins). */
export const RUN_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

/** How a run can end. */
export const TERMINAL_RUN_STATUSES = ['succeeded', 'failed', 'cancelled', 'timed_out'] as const;
export type TerminalRunStatus = (typeof TERMINAL_RUN_STATUSES)[number];

export function isTerminal(status: RunStatus): status is TerminalRunStatus {
  return status !== 'queued' && status !== 'running';
}

export const LEASE_STATUSES = [
  'pending',
  'active',
  'released',
  'expired',
  'failed',
  'retained',
  'pending_cleanup',
] as const;
export type LeaseStatus = (typeof LEASE_STATUSES)[number];

/** A live lease lets its run use the environment. */
export const LIVE_LEASE_STATUSES = ['pending', 'active'] as const satisfies readonly LeaseStatus[];

/** An open lease still holds something on the environment: it is live, kept after its run, or being cleaned up. */
export const OPEN_LEASE_STATUSES = [
  'pending',
  'active',
  'retained',
  'pending_cleanup',
] as const satisfies readonly LeaseStatus[];

/** An ended lease holds nothing. Only an expired one can become active again; a late cleanup can reopen any. */
export const ENDED_LEASE_STATUSES = ['released', 'expired', 'failed'] as const satisfies readonly LeaseStatus[];

/** What becomes of a lease when its run ends, and whether it may be shared or reused. */
export const LEASE_POLICIES = [
  'ephemeral',
  'reuse_by_environment',
  'reuse_by_execution_workspace',
  'retain_on_failure',
] as const;
export type LeasePolicy = (typeof LEASE_POLICIES)[number];

export const CLEANUP_STATUSES = ['pending', 'success', 'failed'] as const;
export type CleanupStatus = (typeof CLEANUP_STATUSES)[number];

export const ENVIRONMENT_STATUSES = ['active', 'archived'] as const;
export type EnvironmentStatus = (typeof ENVIRONMENT_STATUSES)[number];

/** Kinds of environment. `sandbox` and `plugin` are for drivers of one's own: Lessor has none of these names. */
export const ENVIRONMENT_DRIVERS = ['local', 'ssh', 'sandbox', 'plugin'] as const;
export type EnvironmentDriver = (typeof ENVIRONMENT_DRIVERS)[number];

export const COMPANY_STATUSES = ['active', 'archived'] as const;
export type CompanyStatus = (typeof COMPANY_STATUSES)[number];

export const ACTOR_TYPES = ['system', 'agent', 'user'] as const;
export type ActorType = (typeof ACTOR_TYPES)[number];

export const ENTITY_TYPES = ['environment', 'environment_lease', 'heartbeat_run'] as const;
export type EntityType = (typeof ENTITY_TYPES)[number];

/** Every transition that is recorded in the activity log, in the same transaction (invariant always-audited). */
export const ACTIVITY_ACTIONS = [
  'environment.created',
  'environment.updated',
  'environment.archived',
  'environment.lease_acquired',
  'environment.lease_renewed',
  'environment.lease_released',
  'environment.lease_expired',
  'environment.lease_failed',
  'environment.lease_retained',
  'environment.lease_denied',
  'environment.lease_release_failed',
] as const;
export type ActivityAction = (typeof ACTIVITY_ACTIONS)[number];

/** Queues whose jobs a service can write in a transaction of its own. */
export const OUTBOX_QUEUES = ['run-started', 'run-finished'] as const;
export type OutboxQueue = (typeof OUTBOX_QUEUES)[number];
