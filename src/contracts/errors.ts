import { z } from 'zod';
import { storableReason } from './fields.ts';

/** Every code that an error of Lessor can carry, with what it means. Codes are never reused. */
export const ERROR_CODES = {
  invalid_payload: 'a payload or argument does not fit the contract',
  unknown_company: 'the company is not registered and COMPANY_REGISTRATION=known',
  company_archived: 'the company is archived',
  foreign_run: 'the run belongs to another company',
  unknown_environment: 'no such environment',
  environment_archived: 'the environment is archived',
  foreign_environment: 'the environment belongs to another company',
  driver_unavailable: 'no driver of this worker knows the kind of environment',
  environments_disabled: 'only Local environments are leased, as long as ENABLE_ENVIRONMENTS is not true',
  environment_unreachable: 'the host of the environment cannot be reached, or does not answer',
  host_key_rejected: 'the host does not prove to be the one that the environment names',
  authentication_failed: 'the host does not accept the credentials of the environment',
  secret_unavailable: 'a referenced secret is not available here',
  workspace_unusable: 'the workspace on the environment cannot be used',
  driver_failed: 'a driver failed at what it was asked to do',
  workspace_held: 'another run holds the execution workspace',
  not_storable: 'Postgres rejected what the operation wanted to store',
  run_ended: 'the run had ended already',
  unknown_lease: 'no such lease',
  invalid_transition: 'the lease cannot go from its status to the one asked for',
  lease_wait_timeout: 'no lease was granted in time',
  lease_lost: 'the lease ended, or could not be renewed in time, while its holder was working',
  lease_stale: 'whoever presented the lease does not hold it any more',
  job_failed: 'the job failed for a reason that is not a rejection',
  queue_unreachable: 'the queue could not be reached in time',
  queue_not_durable: 'the queue may lose jobs that it has acknowledged, and a durable one is required',
  schema_outdated: 'the database lacks migrations',
  invalid_configuration: 'a setting is missing or wrong',
} as const;
export type ErrorCode = keyof typeof ERROR_CODES;

/** Codes of a rejection, which is permanent: the job is never retried. */
export const REJECTION_CODES = [
  'invalid_payload',
  'unknown_company',
  'company_archived',
  'foreign_run',
  'unknown_environment',
  'environment_archived',
  'foreign_environment',
  'driver_unavailable',
  'environments_disabled',
  'host_key_rejected',
  'authentication_failed',
  'secret_unavailable',
  'workspace_unusable',
  'workspace_held',
  'not_storable',
  'unknown_lease',
] as const satisfies readonly ErrorCode[];
export type RejectionCode = (typeof REJECTION_CODES)[number];

/** Why an operation was rejected: the code is for programs, the reason for people. */
export interface Rejection {
  code: RejectionCode;
  reason: string;
}

/** What all errors of Lessor have in common: a stable `code` of {@link ERROR_CODES}. */
export class LessorError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The input does not fit the contract. The message names each field and its reason, one a line. */
export class InvalidPayloadError extends LessorError {
  constructor(what: string, error: z.ZodError) {
    super('invalid_payload', `${what} does not fit the contract:\n${z.prettifyError(error)}`);
  }
}

/** The operation was rejected; `code` says why. Publishing it again changes nothing until the cause is gone. */
export class RejectedError extends LessorError {
  declare readonly code: RejectionCode;

  constructor(rejection: Rejection) {
    super(rejection.code, rejection.reason);
  }
}

/** The job ran out of attempts on errors that were not its own. It stays in the failed set for an operator. */
export class JobFailedError extends LessorError {
  constructor(jobId: string, failedReason: string) {
    super('job_failed', `job ${jobId} failed: ${failedReason}`);
  }
}

/** The queue could not be reached in time. Publishing again is safe: the job's id is derived from the run. */
export class QueueUnreachableError extends LessorError {
  constructor(detail: string, options?: ErrorOptions) {
    const reason = detail.replace(/\.$/, '');
    super('queue_unreachable', `the queue cannot be reached: ${reason}; check QUEUE_URL and that it is up`, options);
  }
}

/** A durable queue is required, and this one may lose jobs that it has acknowledged, or does not say that it keeps them. */
export class QueueNotDurableError extends LessorError {
  constructor(detail: string) {
    super('queue_not_durable', `the queue is not durable, as REQUIRE_DURABLE_QUEUE wants it: ${detail}`);
  }
}

/** No lease was granted within the time the caller wanted to wait. The run may still be granted one later. */
export class LeaseWaitTimeoutError extends LessorError {
  constructor(runId: string, timeoutMs: number) {
    super(
      'lease_wait_timeout',
      `run ${runId} was granted no lease within ${timeoutMs} ms; is a worker running, and is its execution workspace free?`,
    );
  }
}

/** The run had ended before, so it holds no lease and will not be granted one. */
export class RunEndedError extends LessorError {
  constructor(runId: string) {
    super('run_ended', `run ${runId} has ended already and is granted no lease; start a run under a new id`);
  }
}

/** The holder must stop: its lease ended or could not be renewed before its expiry. */
export class LeaseLostError extends LessorError {
  constructor(leaseId: string, detail: string) {
    super('lease_lost', `lease ${leaseId} is lost: ${detail}`);
  }
}

/** Whoever presented the lease and its fencing token is not its holder any more, and must not be served. */
export class StaleLeaseError extends LessorError {
  constructor(leaseId: string, detail: string) {
    super('lease_stale', `lease ${leaseId} is not current: ${detail}; its holder must stop and start a new run`);
  }
}

/** Codes of what can go wrong between a driver and its environment. */
export type EnvironmentFailureCode = Extract<
  ErrorCode,
  | 'environment_unreachable'
  | 'host_key_rejected'
  | 'authentication_failed'
  | 'secret_unavailable'
  | 'workspace_unusable'
  | 'driver_failed'
>;

/**
 * Something went wrong between a driver and its environment. The message is for people to act on and is stored on the
 * lease: it never carries a secret, and is made to fit there.
 */
export class EnvironmentFailedError extends LessorError {
  declare readonly code: EnvironmentFailureCode;

  constructor(code: EnvironmentFailureCode, message: string, options?: ErrorOptions) {
    super(code, storableReason(message), options);
  }
}

/** No lease with this id. */
export class UnknownLeaseError extends LessorError {
  constructor(leaseId: string) {
    super('unknown_lease', `there is no lease ${leaseId}`);
  }
}

/** The lease cannot go to the status asked for. */
export class InvalidTransitionError extends LessorError {
  constructor(leaseId: string, detail: string) {
    super('invalid_transition', `lease ${leaseId} ${detail}`);
  }
}

/** The database lacks migrations that this version needs. */
export class SchemaOutdatedError extends LessorError {
  constructor(detail: string, options?: ErrorOptions) {
    super('schema_outdated', `${detail}; run \`lessor migrate\` with the same DATABASE_URL and QUEUE_URL`, options);
  }
}

/** A setting is missing or wrong. The message names the setting, never its value. */
export class InvalidConfigurationError extends LessorError {
  constructor(message: string) {
    super('invalid_configuration', message);
  }
}

/** How a rejection stands in a failed job's reason, readable by people and by {@link parseRejection}. */
export function formatRejection(rejection: Rejection): string {
  return `${rejection.code}: ${rejection.reason}`;
}

/** Reads a rejection back from a failed job's reason; undefined when the job failed of something else. */
export function parseRejection(failedReason: string): Rejection | undefined {
  const separator = failedReason.indexOf(': ');
  const code = REJECTION_CODES.find((known) => known === failedReason.slice(0, separator));
  return code === undefined ? undefined : { code, reason: failedReason.slice(separator + 2) };
}
