import { z } from 'zod';
import { idSchema, instantSchema } from './payloads.ts';
import { ENVIRONMENT_DRIVERS, LEASE_POLICIES, LEASE_STATUSES, TERMINAL_RUN_STATUSES } from './vocabulary.ts';

/** Where a run executes: what `paperclipEnvironment` holds in the run's context snapshot. */
export const placementSchema = z.object({
  id: idSchema,
  name: z.string(),
  driver: z.enum(ENVIRONMENT_DRIVERS),
  leaseId: idSchema,
});
export type Placement = z.infer<typeof placementSchema>;

/** The lease as `run-started` returns it to whoever waits. */
export const grantedLeaseSchema = z.object({
  id: idSchema,
  companyId: idSchema,
  runId: idSchema,
  status: z.enum(LEASE_STATUSES),
  leasePolicy: z.enum(LEASE_POLICIES),
  executionWorkspaceId: idSchema.nullable(),
  fencingToken: z.int().positive(),
  ttlSeconds: z.int().positive(),
  acquiredAt: instantSchema,
  expiresAt: instantSchema,
  failureReason: z.string().nullable(),
  environment: placementSchema,
  /** The environment's config, for the execution half of its driver: secrets stand in it only by reference or sealed. */
  config: z.record(z.string(), z.unknown()).default({}),
  /** What the driver calls what it acquired: a directory on the host, say. Null on `Local`. */
  providerLeaseId: z.string().nullable().default(null),
});
export type GrantedLease = z.infer<typeof grantedLeaseSchema>;

/** The return value of a `run-started` job: the run's lease, or null when the run had ended before it got one. */
export const runStartedResultSchema = grantedLeaseSchema.nullable();
export type RunStartedResult = z.infer<typeof runStartedResultSchema>;

/** The return value of a `run-finished` job: the run's final status and the leases that this message ended. */
export const runFinishedResultSchema = z.object({
  runId: idSchema,
  status: z.enum(TERMINAL_RUN_STATUSES),
  leases: z.array(z.object({ id: idSchema, status: z.enum(LEASE_STATUSES) })),
});
export type RunFinishedResult = z.infer<typeof runFinishedResultSchema>;

/** The return value of a `run-heartbeat` job: the run's leases as they stand after it. */
export const runHeartbeatResultSchema = z.object({
  runId: idSchema,
  leases: z.array(z.object({ id: idSchema, status: z.enum(LEASE_STATUSES), expiresAt: instantSchema })),
});
export type RunHeartbeatResult = z.infer<typeof runHeartbeatResultSchema>;
