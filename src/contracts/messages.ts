import { z } from 'zod';
import { InvalidPayloadError } from './errors.ts';
import {
  MAXIMUM_REASON_LENGTH,
  idSchema,
  instantSchema,
  metadataSchema,
  storableText,
  ttlSecondsSchema,
} from './fields.ts';
import { ENVIRONMENT_DRIVERS, LEASE_POLICIES, LEASE_STATUSES, TERMINAL_RUN_STATUSES } from './vocabulary.ts';
import type { LeaseStatus } from './vocabulary.ts';

const versionSchema = z.literal(1);

/** The payload of `run-started`: a run requests a lease on an environment. */
export const runStartedSchema = z.strictObject({
  version: versionSchema,
  companyId: idSchema,
  runId: idSchema,
  agentId: idSchema.optional(),
  issueId: idSchema.optional(),
  projectId: idSchema.optional(),
  executionWorkspaceId: idSchema.optional(),
  environment: z
    .strictObject({ issue: idSchema.optional(), project: idSchema.optional(), agent: idSchema.optional() })
    .describe('environment ids; the most specific one wins: issue, then project, then agent')
    .optional(),
  leasePolicy: z.enum(LEASE_POLICIES).optional(),
  ttlSeconds: ttlSecondsSchema.optional(),
  startedAt: instantSchema,
  metadata: metadataSchema.optional(),
});
export type RunStarted = z.infer<typeof runStartedSchema>;

/** The payload of `run-finished`: a run ended, and how. */
export const runFinishedSchema = z.strictObject({
  version: versionSchema,
  companyId: idSchema,
  runId: idSchema,
  status: z.enum(TERMINAL_RUN_STATUSES),
  failureReason: storableText(MAXIMUM_REASON_LENGTH).optional(),
  finishedAt: instantSchema,
});
export type RunFinished = z.infer<typeof runFinishedSchema>;

/** The payload of `run-heartbeat`: a run is alive and requests a renewal of its lease. */
export const runHeartbeatSchema = z.strictObject({
  version: versionSchema,
  companyId: idSchema,
  runId: idSchema,
  ttlSeconds: ttlSecondsSchema.optional(),
  at: instantSchema,
});
export type RunHeartbeat = z.infer<typeof runHeartbeatSchema>;

/** Every payload by the name of its queue. */
export const payloadSchemas = {
  'run-started': runStartedSchema,
  'run-finished': runFinishedSchema,
  'run-heartbeat': runHeartbeatSchema,
} as const;
export type PayloadQueueName = keyof typeof payloadSchemas;

/** The contract as JSON Schema (draft 2020-12), for clients in other languages. */
export function payloadJsonSchemas(): Record<PayloadQueueName, object> {
  return {
    'run-started': z.toJSONSchema(runStartedSchema, { io: 'input' }),
    'run-finished': z.toJSONSchema(runFinishedSchema, { io: 'input' }),
    'run-heartbeat': z.toJSONSchema(runHeartbeatSchema, { io: 'input' }),
  };
}

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
  /** The driver's own id of what it acquired, such as a directory on the host. Null on `Local`. */
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

/**
 * The payload of `lease-release`: a lease waits for its cleanup. Workers and `lessor leases retry-release` publish it, so it is
 * not part of the contract for clients in other languages.
 */
export const leaseReleaseSchema = z.strictObject({
  version: z.literal(1),
  companyId: idSchema,
  leaseId: idSchema,
});
export type LeaseRelease = z.infer<typeof leaseReleaseSchema>;

/** The return value of a `lease-release` job: the lease as it stands after it. */
export interface LeaseReleaseResult {
  leaseId: string;
  status: LeaseStatus;
}

/**
 * Parses input of the contract.
 * @param what names the input in the error, for example `run-started payload`
 * @throws {InvalidPayloadError} naming each field that does not fit, and why
 */
export function parse<Schema extends z.ZodType>(schema: Schema, input: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(input);
  if (!parsed.success) throw new InvalidPayloadError(what, parsed.error);
  return parsed.data;
}
