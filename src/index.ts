/**
 * Lessor: a lease for every heartbeat run on the environment it executes in, taken back whatever happens.
 *
 * A heartbeat service publishes with {@link createHeartbeatProducer} and holds leases with {@link withLease}; a worker is
 * {@link createWorker}. A service that has a connection to the database uses {@link environmentService} and
 * {@link createOutbox} in its own transactions.
 *
 * @packageDocumentation
 */

// Publishing what happens to a run, and holding its lease: for a heartbeat service. It needs the queue only.
export {
  createHeartbeatProducer,
  type HeartbeatProducer,
  type HeartbeatProducerOptions,
  type PublishedJob,
  type RunEnd,
  type RunHeartbeatInput,
  type RunStart,
  type WaitOptions,
} from './producers/producer.ts';
export { RunTimedOutError, withLease, type RunOutcome, type WithLeaseOptions } from './producers/with-lease.ts';

// Executing a command in the leased environment.
export {
  InvalidCommandError,
  type Command,
  type Execution,
  type ExecutionDriver,
  type ExecutionOptions,
  type PrepareReport,
  type ProcessExit,
  type RestoreConflict,
  type RestoreReport,
  type SkippedPath,
  type TransferProgress,
} from './execution/driver.ts';
export {
  RestoreFailedError,
  UnknownExecutionDriverError,
  executeInEnvironment,
  executionDrivers,
  openExecution,
  type ExecuteOptions,
  type ExecutionPhase,
  type ExecutionResult,
  type OpenExecutionOptions,
} from './execution/execute-in-environment.ts';
export {
  CommandNotStartedError,
  createLocalExecutionDriver,
  type LocalExecutionDriverOptions,
} from './execution/local-driver.ts';
export { createSshExecutionDriver, type SshExecutionDriverOptions } from './execution/ssh/ssh-driver.ts';

// A worker, of which any number of replicas processes the queues.
export { createWorker, type Worker, type WorkerOptions } from './consumers/worker.ts';
export type { WorkerSettings } from './consumers/worker-settings.ts';

// For a service that holds a database connection: the same operations in its own transactions.
export {
  environmentService,
  type EnvironmentService,
  type EnvironmentServiceOptions,
} from './environments/service/index.ts';
export type { EnvironmentAdministration } from './environments/service/environments.ts';
export type { LeaseService } from './environments/service/leases.ts';
export type {
  Environment,
  EnvironmentChanges,
  EnvironmentFilters,
  EnvironmentLease,
  LeaseFilters,
  LeaseRequest,
  NewEnvironment,
  ReleaseDetails,
  ReleaseStatus,
} from './environments/service/input.ts';
export { createOutbox, type Outbox, type OutboxOptions } from './outbox/outbox.ts';
export type { Actor } from './db/statements/activity.ts';
export {
  createDb,
  type CallerTransaction,
  type Db,
  type CreateDbOptions,
  type DbOptions,
  type DbPool,
} from './db/connection.ts';

// Tables and migrations.
export { migrate } from './db/migrate.ts';
export { activityLog, companies, environmentLeases, environments, heartbeatRuns } from './db/schema.ts';
export { migrateQueue } from './queues/backends/postgres.ts';

// Drivers: how a kind of environment is acquired, probed and released. `docs/drivers.md` shows how to write one.
export type {
  AcquireRequest,
  Acquisition,
  ControlDriver,
  DriverCall,
  DriverConfigSchema,
  DriverEnvironment,
  ProbeCheck,
  ProbeReport,
  ReleaseRequest,
} from './environments/drivers/driver.ts';
export { createSshDriver, type SshDriverOptions } from './environments/drivers/ssh-driver.ts';
export { sshConfigSchema, type SshConfig } from './ssh/config.ts';
export { createSecretResolver, type SecretResolver, type SecretSources } from './secrets/resolver.ts';
export { sealSecret } from './secrets/sealing.ts';
export type { SecretReference } from './secrets/reference.ts';

// The contract: payloads and results of the queues as zod schemas, the words they use, and every error.
export * from './contracts/errors.ts';
export {
  DEFAULT_TTL_SECONDS,
  MAXIMUM_METADATA_BYTES,
  MAXIMUM_METADATA_DEPTH,
  MAXIMUM_NAME_LENGTH,
  MAXIMUM_REASON_LENGTH,
  MAXIMUM_TTL_SECONDS,
  MINIMUM_TTL_SECONDS,
  idSchema,
  instantSchema,
  ttlSecondsSchema,
  type Metadata,
} from './contracts/fields.ts';
export {
  grantedLeaseSchema,
  payloadJsonSchemas,
  payloadSchemas,
  placementSchema,
  runFinishedResultSchema,
  runFinishedSchema,
  runHeartbeatResultSchema,
  runHeartbeatSchema,
  runStartedResultSchema,
  runStartedSchema,
  type GrantedLease,
  type PayloadQueueName,
  type Placement,
  type RunFinished,
  type RunFinishedResult,
  type RunHeartbeat,
  type RunHeartbeatResult,
  type RunStarted,
  type RunStartedResult,
} from './contracts/messages.ts';
export * from './contracts/vocabulary.ts';
