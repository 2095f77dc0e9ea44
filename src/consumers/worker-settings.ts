import { hostname } from 'node:os';
import { z } from 'zod';
import { DEFAULT_TTL_SECONDS, InvalidConfigurationError, ttlSecondsSchema } from '../contracts/index.ts';
import { findPostgresUrlProblem } from '../lib/postgres-url.ts';

/** A length of time in milliseconds that a timer of Node can hold. */
const milliseconds = z.int().min(1).max(2_147_483_647);

const postgresUrl = z.string().superRefine((url, context) => {
  const problem = findPostgresUrlProblem(url);
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
});

/** Ninety days: three times as long as a failed job stays for an operator to retry it. */
const DEFAULT_RUN_RETENTION_SECONDS = 90 * 24 * 60 * 60;

export const DEFAULT_CONCURRENCY = 400;

/** Settings of a worker; those without a default are required. */
export const workerSettingsSchema = z.strictObject({
  /** Where Lessor's tables are: `postgres://…`. */
  databaseUrl: postgresUrl,
  /** Where the queues are: `redis://…`, `rediss://…` or `postgres://…`. */
  queueUrl: z.union([z.url({ protocol: /^rediss?$/ }), postgresUrl]),
  /** What this replica is called in logs and in the activity log; default host name and process id. */
  replica: z
    .string()
    .min(1)
    .max(200)
    .default(() => `${hostname()}-${process.pid}`),
  /** Jobs of each queue that are worked on at once; together they make up the batches that are committed. */
  concurrency: z.int().min(1).max(10_000).default(DEFAULT_CONCURRENCY),
  /** Most batches that are committed at once, each on a connection of its own: more than one when some wait for locks. */
  batchesInFlight: z.int().min(1).max(50).default(4),
  /** Most operations of one batch. */
  batchSize: z.int().min(1).max(1_000).default(400),
  /** Whether a company seen for the first time is registered (`auto`) or refused (`known`). */
  companyRegistration: z.enum(['auto', 'known']).default('auto'),
  /** The ttl of leases whose run names none, in seconds. */
  defaultTtlSeconds: ttlSecondsSchema.default(DEFAULT_TTL_SECONDS),
  /** How often leases are looked for that should have ended. */
  sweepIntervalMs: milliseconds.default(15_000),
  /** How long a run waits for its execution workspace before it is refused. */
  leaseWaitMs: milliseconds.default(300_000),
  /** How long `close` lets jobs under way finish before it gives them back to the queue. */
  shutdownTimeoutMs: milliseconds.default(10_000),
  /** How long a job stays with a replica that shows no sign of life; another one then takes it over. */
  lockDurationMs: milliseconds.default(15_000),
  /** Whether environments of other kinds than `Local` are leased: experimental. */
  enableEnvironments: z.boolean().default(false),
  /** Calls of drivers that are under way at once; at most half of `concurrency` is taken for them. */
  driverConcurrency: z.int().min(1).max(1_000).default(50),
  /** Of these, how many on one environment. */
  environmentConcurrency: z.int().min(1).max(1_000).default(8),
  /** How often the release of a lease is tried before it is left to an operator. */
  releaseAttempts: z.int().min(1).max(1_000).default(12),
  /** The pause after the first failed release, and the longest: they double in between, with jitter. */
  releaseBackoff: z
    .strictObject({ initialMs: milliseconds, maxMs: milliseconds })
    .default({ initialMs: 1_000, maxMs: 600_000 }),
  /** Whether to refuse to start on a Redis that may throw jobs away when its memory is full. */
  requireDurableQueue: z.boolean().default(false),
  /** How often the outbox is looked at when nobody has told of a new job in it. */
  outboxPollIntervalMs: milliseconds.default(5_000),
  /** How long an ended run that never held a lease is kept, in seconds; it must outlive every message about it. */
  runRetentionSeconds: z.int().min(60).max(2_147_483_647).default(DEFAULT_RUN_RETENTION_SECONDS),
  /** The BullMQ prefix on Redis; default `lessor`. */
  prefix: z.string().min(1).optional(),
});

/** Settings of a worker, as they are given. */
export type WorkerSettings = z.input<typeof workerSettingsSchema>;

/** Settings of a worker, with every default filled in. */
export type ResolvedWorkerSettings = z.output<typeof workerSettingsSchema>;

/** @throws {InvalidConfigurationError} naming each setting that is wrong, never its value */
export function resolveWorkerSettings(settings: WorkerSettings): ResolvedWorkerSettings {
  const parsed = workerSettingsSchema.safeParse(settings);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new InvalidConfigurationError(`the worker's settings are wrong: ${problems.join('; ')}`);
}
