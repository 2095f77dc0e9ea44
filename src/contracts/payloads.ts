import { z } from 'zod';
import { MAXIMUM_REASON_LENGTH, MAXIMUM_TTL_SECONDS, MINIMUM_TTL_SECONDS } from './limits.ts';
import { metadataSchema } from './metadata.ts';
import { storableText } from './text.ts';
import { LEASE_POLICIES, TERMINAL_RUN_STATUSES } from './vocabulary.ts';

/** Ids are UUIDs of any version, compared without regard to case. */
export const idSchema = z.guid('must be a UUID').toLowerCase();

/** Seconds, whole, from {@link MINIMUM_TTL_SECONDS} to {@link MAXIMUM_TTL_SECONDS}. */
export const ttlSecondsSchema = z.int().min(MINIMUM_TTL_SECONDS).max(MAXIMUM_TTL_SECONDS);

const EARLIEST_INSTANT = Date.parse('1970-01-01T00:00:00Z');
const LATEST_INSTANT = Date.parse('9999-12-31T00:00:00Z');

/** An ISO 8601 instant with its offset, kept in UTC. The producer's clock: it is recorded, never decided from. */
export const instantSchema = z.iso
  .datetime({ offset: true })
  .refine(
    (text) => {
      const instant = Date.parse(text);
      return instant >= EARLIEST_INSTANT && instant <= LATEST_INSTANT;
    },
    { error: 'must be an instant between the years 1970 and 9999', abort: true },
  )
  .overwrite((text) => new Date(text).toISOString());

const versionSchema = z.literal(1);

/** What crosses `run-started`: a run wants a place to execute. */
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

/** What crosses `run-finished`: a run ended, and how. */
export const runFinishedSchema = z.strictObject({
  version: versionSchema,
  companyId: idSchema,
  runId: idSchema,
  status: z.enum(TERMINAL_RUN_STATUSES),
  failureReason: storableText(MAXIMUM_REASON_LENGTH).optional(),
  finishedAt: instantSchema,
});
export type RunFinished = z.infer<typeof runFinishedSchema>;

/** What crosses `run-heartbeat`: a run is alive and wants its lease renewed. */
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
