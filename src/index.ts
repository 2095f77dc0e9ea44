/**
 * Lessor: a lease for every heartbeat run on the environment it executes in, taken back whatever happens.
 *
 * @module
 */
export * from './contracts/errors.ts';
export * from './contracts/limits.ts';
export type { Metadata } from './contracts/metadata.ts';
export * from './contracts/payloads.ts';
export * from './contracts/results.ts';
export * from './contracts/vocabulary.ts';
export { createDb, type CallerTransaction, type Db, type DbOptions, type DbPool } from './db/connection.ts';
export { migrate } from './db/migrate.ts';
export { migrateQueue } from './queues/migrate-queue.ts';
export { activityLog, companies, environmentLeases, environments, heartbeatRuns } from './db/schema.ts';
export type { Actor } from './db/statements/activity.ts';
export type {
  AcquireRequest,
  Acquisition,
  ControlDriver,
  DriverCall,
  DriverEnvironment,
  ProbeCheck,
  ProbeReport,
  ReleaseRequest,
} from './environments/drivers/driver.ts';
export type { DriverConfigSchema } from './environments/drivers/driver.ts';
export { createSshDriver, type SshDriverOptions } from './environments/drivers/ssh-driver.ts';
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
export type {
  Command,
  Execution,
  ExecutionDriver,
  ExecutionOptions,
  PrepareReport,
  ProcessExit,
  RestoreConflict,
  RestoreReport,
  SkippedPath,
  TransferProgress,
} from './execution/driver.ts';
export {
  RestoreFailedError,
  executeInEnvironment,
  type ExecuteOptions,
  type ExecutionPhase,
  type ExecutionResult,
} from './execution/execute-in-environment.ts';
export { InvalidCommandError } from './execution/driver.ts';
export { createLocalExecutionDriver, type LocalExecutionDriverOptions } from './execution/local-driver.ts';
export { CommandNotStartedError } from './execution/local-driver.ts';
export {
  UnknownExecutionDriverError,
  executionDrivers,
  openExecution,
  type OpenExecutionOptions,
} from './execution/execute-in-environment.ts';
export { createSshExecutionDriver, type SshExecutionDriverOptions } from './execution/ssh/ssh-driver.ts';
export { createOutbox, type Outbox, type OutboxOptions } from './outbox/outbox.ts';
export { createWorker, type Worker, type WorkerOptions } from './consumers/worker.ts';
export type { WorkerSettings } from './consumers/worker-settings.ts';
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
export { createSecretResolver, type SecretResolver, type SecretSources } from './secrets/resolver.ts';
export { sealSecret } from './secrets/sealing.ts';
export type { SecretReference } from './secrets/reference.ts';
export { sshConfigSchema, type SshConfig } from './ssh/config.ts';
export { RunTimedOutError, withLease, type RunOutcome, type WithLeaseOptions } from './producers/with-lease.ts';
