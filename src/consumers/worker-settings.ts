import { hostname } from 'node:os';
import { z } from 'zod';
import { DEFAULT_TTL_SECONDS, InvalidConfigurationError, ttlSecondsSchema } from '../contracts/index.ts';
import { findPostgresUrlProblem, isPostgresUrl } from '../lib/postgres-url.ts';
import { findRedisUrlProblem, isRedisUrl } from '../queues/backends/redis-url.ts';
import { setting, timerMsSchema } from '../lib/settings.ts';
import { DEFAULT_PREFIX, DEFAULT_RELEASE_ATTEMPTS } from '../queues/job-options.ts';

const SECONDS_PER_DAY = 86_400;

/** The largest integer of Postgres, in seconds, is 24,855 days and some hours. */
const MAX_RETENTION_SECONDS = 24_855 * SECONDS_PER_DAY;

/** Three times as long as a failed job is kept for an operator to retry it. */
const DEFAULT_RUN_RETENTION_SECONDS = 90 * SECONDS_PER_DAY;

/** What is wrong with a queue URL, as the predicate of a sentence; undefined when it is understood. */
function findQueueUrlProblem(url: string): string | undefined {
  if (isPostgresUrl(url)) return findPostgresUrlProblem(url);
  if (isRedisUrl(url)) return findRedisUrlProblem(url);
  return 'must be a URL that starts with redis://, rediss:// or postgres://';
}

const databaseUrlSchema = z.string().superRefine((url, context) => {
  const problem = findPostgresUrlProblem(url);
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
});

const queueUrlSchema = z.string().superRefine((url, context) => {
  const problem = findQueueUrlProblem(url);
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
});

/**
 * Every setting of a worker, its default and limits, and what it is called on the command line. Flags, variables, the help
 * texts and docs/configuration.md are made from this schema; a field without a flag is set in code only.
 */
export const workerSettingsSchema = z.strictObject({
  databaseUrl: setting(databaseUrlSchema, {
    flag: '--database-url <url>',
    variable: 'DATABASE_URL',
    description: 'Postgres database with the tables of Lessor',
    example: 'postgres://lessor@localhost/lessor',
  }),
  queueUrl: setting(queueUrlSchema, {
    flag: '--queue-url <url>',
    variable: 'QUEUE_URL',
    description: 'Redis (redis://, rediss://) or Postgres (postgres://) with the queues',
    example: 'redis://localhost:6379',
  }),
  prefix: setting(z.string().min(1), {
    flag: '--queue-prefix <prefix>',
    variable: 'QUEUE_PREFIX',
    description: 'BullMQ prefix of the queues on Redis',
    example: 'lessor',
  }).default(DEFAULT_PREFIX),
  concurrency: setting(z.int().min(1).max(10_000), {
    flag: '--concurrency <n>',
    variable: 'CONCURRENCY',
    description: 'jobs of each queue processed concurrently; they are committed in batches',
    example: '400',
  }).default(400),
  batchSize: setting(z.int().min(1).max(1_000), {
    description: 'most operations in a batch',
  }).default(400),
  batchesInFlight: setting(z.int().min(1).max(50), {
    description:
      'most batches committed concurrently, each on its own connection; more than one when some wait for locks',
  }).default(4),
  replica: setting(z.string().min(1).max(200), {
    flag: '--replica <name>',
    variable: 'REPLICA',
    description: 'name of this worker in logs and in the activity log',
    example: 'worker-1',
    computedDefault: 'host name and process id',
  }).default(() => `${hostname()}-${process.pid}`),
  companyRegistration: setting(z.enum(['auto', 'known']), {
    flag: '--company-registration <mode>',
    variable: 'COMPANY_REGISTRATION',
    description:
      'register a company when its first run starts (auto), or reject runs of companies not registered (known)',
    example: 'known',
  }).default('auto'),
  defaultTtlSeconds: setting(ttlSecondsSchema, {
    flag: '--default-ttl <duration>',
    variable: 'DEFAULT_TTL',
    unit: 'seconds',
    description: 'ttl of a lease whose run does not set one',
    example: '5m',
  }).default(DEFAULT_TTL_SECONDS),
  leaseWaitMs: setting(timerMsSchema, {
    flag: '--lease-wait <duration>',
    variable: 'LEASE_WAIT',
    unit: 'milliseconds',
    description: 'how long a run waits for an execution workspace held by another run before it is rejected',
    example: '5m',
  }).default(300_000),
  sweepIntervalMs: setting(timerMsSchema, {
    flag: '--sweep-interval <duration>',
    variable: 'SWEEP_INTERVAL',
    unit: 'milliseconds',
    description: 'time between sweeps, which end leases that expired or whose run has ended',
    example: '15s',
  }).default(15_000),
  runRetentionSeconds: setting(z.int().min(60).max(MAX_RETENTION_SECONDS), {
    flag: '--run-retention <duration>',
    variable: 'RUN_RETENTION',
    unit: 'seconds',
    description: 'how long ended runs without a lease are kept; must exceed the age of any message about them',
    example: '90d',
  }).default(DEFAULT_RUN_RETENTION_SECONDS),
  lockDurationMs: setting(timerMsSchema, {
    flag: '--lock-duration <duration>',
    variable: 'LOCK_DURATION',
    unit: 'milliseconds',
    description: 'time without a lock renewal after which jobs of a dead worker are recovered by another',
    example: '15s',
  }).default(15_000),
  shutdownTimeoutMs: setting(timerMsSchema, {
    flag: '--shutdown-timeout <duration>',
    variable: 'SHUTDOWN_TIMEOUT',
    unit: 'milliseconds',
    description: 'how long jobs in flight may take to finish at shutdown before they are requeued',
    example: '10s',
  }).default(10_000),
  outboxPollIntervalMs: setting(timerMsSchema, {
    flag: '--outbox-poll-interval <duration>',
    variable: 'OUTBOX_POLL_INTERVAL',
    unit: 'milliseconds',
    description: 'time between polls of the outbox while no NOTIFY arrives',
    example: '5s',
  }).default(5_000),
  requireDurableQueue: setting(z.boolean(), {
    flag: '--require-durable-queue [boolean]',
    variable: 'REQUIRE_DURABLE_QUEUE',
    description: 'do not start on a Redis that may evict jobs when its memory is full',
    example: 'true',
  }).default(false),
  enableEnvironments: setting(z.boolean(), {
    flag: '--enable-environments [boolean]',
    variable: 'ENABLE_ENVIRONMENTS',
    description: 'lease environments other than Local too (experimental)',
    example: 'true',
  }).default(false),
  driverConcurrency: setting(z.int().min(1).max(1_000), {
    flag: '--driver-concurrency <n>',
    variable: 'DRIVER_CONCURRENCY',
    description: 'driver calls in flight, at most half of the concurrency',
    example: '50',
  }).default(50),
  environmentConcurrency: setting(z.int().min(1).max(1_000), {
    flag: '--environment-concurrency <n>',
    variable: 'ENVIRONMENT_CONCURRENCY',
    description: 'driver calls in flight on one environment',
    example: '8',
  }).default(8),
  releaseAttempts: setting(z.int().min(1).max(1_000), {
    flag: '--release-attempts <n>',
    variable: 'RELEASE_ATTEMPTS',
    description: 'attempts to release a lease before an operator has to retry it',
    example: '12',
  }).default(DEFAULT_RELEASE_ATTEMPTS),
  releaseBackoff: setting(z.strictObject({ initialMs: timerMsSchema, maxMs: timerMsSchema }), {
    description: 'exponential backoff between attempts to release a lease, with jitter',
  }).default({ initialMs: 1_000, maxMs: 600_000 }),
});

/** Settings of a worker, as they are given: docs/configuration.md describes each, with its default. */
export type WorkerSettings = z.input<typeof workerSettingsSchema>;

/** Settings of a worker, with every default filled in. */
export type ResolvedWorkerSettings = z.output<typeof workerSettingsSchema>;

/** @throws {InvalidConfigurationError} naming each setting that is wrong, never its value */
export function resolveWorkerSettings(settings: WorkerSettings): ResolvedWorkerSettings {
  const parsed = workerSettingsSchema.safeParse(settings);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new InvalidConfigurationError(`invalid worker settings: ${problems.join('; ')}`);
}
