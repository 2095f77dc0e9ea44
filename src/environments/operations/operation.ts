import type {
  CompanyStatus,
  EnvironmentDriver,
  GrantedLease,
  LeaseRelease,
  LeaseReleaseResult,
  Rejection,
  RunFinished,
  RunFinishedResult,
  RunHeartbeat,
  RunHeartbeatResult,
  RunStarted,
  RunStartedResult,
} from '../../contracts/index.ts';
import type { AcquiredLease } from '../../db/statements/acquire-leases.ts';
import type { Actor } from '../../db/statements/activity.ts';
import type { CompanyRegistration } from '../../db/statements/companies.ts';
import type { RecordedRun } from '../../db/statements/runs.ts';

/** One change to one run or lease: what a job asks for, without its queue, or what a driver reports. */
export type Operation =
  | { kind: 'start'; payload: RunStarted }
  | { kind: 'renew'; payload: RunHeartbeat }
  | { kind: 'finish'; payload: RunFinished }
  | { kind: 'release'; payload: LeaseRelease }
  | { kind: 'begin-acquiring'; payload: BegunAcquisition }
  | { kind: 'acquired'; payload: CompletedAcquisition }
  | { kind: 'not-acquired'; payload: FailedAcquisition }
  | { kind: 'cleaned-up'; payload: LeaseSubject }
  | { kind: 'not-cleaned-up'; payload: FailedCleanup };

/** Which lease an operation is about. */
export type LeaseSubject = Pick<LeaseRelease, 'companyId' | 'leaseId'>;

/** A pending lease whose driver is about to be called. */
export type BegunAcquisition = LeaseSubject;

/** A pending lease that its driver has acquired. */
export interface CompletedAcquisition extends LeaseSubject, AcquiredLease {}

/** A pending lease that its driver could not acquire. */
export interface FailedAcquisition extends LeaseSubject {
  reason: string;
  /** Which attempt it was, from 1. */
  attempt: number;
  /** Whether the driver's call has ended. */
  isOver: boolean;
  /** Whether there is no further attempt: the lease ends. */
  isFinal: boolean;
  /** Set when the run is rejected for it: a retry changes nothing. */
  rejection?: Rejection | undefined;
}

/** A driver could not clean up after a lease. */
export interface FailedCleanup extends LeaseSubject {
  reason: string;
  /** Which attempt it was, from 1. */
  attempt: number;
  /** Whether there is no further attempt unless an operator asks for one. */
  isFinal: boolean;
}

/** The kind of an operation and the run or lease it is about. A batch holds each subject once: its statements are set-based. */
export function subjectOf({ kind, payload }: Operation): string {
  return `${kind} ${'leaseId' in payload ? payload.leaseId : payload.runId}`;
}

/** Settings of a worker that decide what operations do. */
export interface OperationSettings {
  actor: Actor;
  companyRegistration: CompanyRegistration;
  defaultTtlSeconds: number;
  /** How long a run waits for its execution workspace before it is rejected. */
  leaseWaitMs: number;
  leasable: LeasableEnvironments;
}

/** Which environments a worker leases besides `Local`. */
export interface LeasableEnvironments {
  /** Whether any but `Local` are leased at all: ENABLE_ENVIRONMENTS. */
  enabled: boolean;
  /** The drivers that the worker has. */
  drivers: ReadonlySet<EnvironmentDriver>;
}

/** The outcome of an operation. Errors that are not the operation's own are thrown instead. */
export type Outcome<Result> =
  | { kind: 'done'; result: Result }
  /** Final, with the reason. */
  | { kind: 'rejected'; rejection: Rejection }
  /** The execution workspace is held by another run: retried later. */
  | { kind: 'waiting'; heldBy: HeldBy; since: string }
  /** The lease is pending: its driver is to acquire it. */
  | { kind: 'acquiring'; lease: GrantedLease }
  /** The lease has ended but for its cleanup, which its driver is to do. */
  | { kind: 'cleaning'; lease: GrantedLease; provider: string }
  /** Too early: retried a little later, which does not count as an attempt. */
  | { kind: 'snoozed'; reason: string }
  /** Failed for now, with the reason: retried with backoff, by any replica. */
  | { kind: 'unavailable'; reason: string };

/** The outcome of any operation. */
export type OperationOutcome = Outcome<RunStartedResult | RunFinishedResult | RunHeartbeatResult | LeaseReleaseResult>;

/** The outcome of the operations of one kind. */
export type OutcomeOf<Kind extends Operation['kind']> = Outcome<
  Kind extends 'start' | 'begin-acquiring' | 'acquired'
    ? RunStartedResult
    : Kind extends 'renew'
      ? RunHeartbeatResult
      : Kind extends 'finish'
        ? RunFinishedResult
        : LeaseReleaseResult
>;

export function done<Result>(result: Result): Outcome<Result> {
  return { kind: 'done', result };
}

/** Why a run has to wait for its execution workspace. */
export interface HeldBy {
  executionWorkspaceId: string;
  /** Whether that run holds the workspace, left it to be cleaned up, or has waited for it longer. */
  as: 'holder' | 'cleanup' | 'waiter';
  runId: string | null;
  /** Null for a run that was granted the workspace in the same transaction. */
  since: string | null;
}

/** Who holds a workspace since when, in prose. */
export function describeHeld({ executionWorkspaceId, as, runId, since }: HeldBy): string {
  const workspace = `execution workspace ${executionWorkspaceId}`;
  if (as === 'waiter') return `${workspace} is kept for run ${runId}, which waits for it since ${since}`;
  const holder = runId === null ? 'a lease without a run' : `run ${runId}`;
  if (as === 'cleanup') return `${workspace} is being cleaned up after ${holder}, which held it since ${since}`;
  return `${workspace} is held by ${holder} since ${since ?? 'just now'}`;
}

/** Why nothing can be done for the company; undefined when it is registered. */
export function rejectionOfUnknownCompany(
  companies: ReadonlyMap<string, CompanyStatus>,
  companyId: string,
): Rejection | undefined {
  if (companies.has(companyId)) return undefined;
  return {
    code: 'unknown_company',
    reason: `company ${companyId} is not registered; insert it into lessor.companies, or set COMPANY_REGISTRATION=auto`,
  };
}

/** Why no run of the company is granted a lease; undefined when one can be. */
export function rejectionOfCompany(
  companies: ReadonlyMap<string, CompanyStatus>,
  companyId: string,
): Rejection | undefined {
  if (companies.get(companyId) !== 'archived') return rejectionOfUnknownCompany(companies, companyId);
  return { code: 'company_archived', reason: `company ${companyId} is archived` };
}

/** Why the message does not concern the run of this id (same-company); undefined when it does. */
export function rejectionOfRun(
  run: RecordedRun | undefined,
  message: { companyId: string; runId: string },
): Rejection | undefined {
  if (run === undefined || run.companyId === message.companyId) return undefined;
  return { code: 'foreign_run', reason: `run ${message.runId} belongs to another company` };
}
