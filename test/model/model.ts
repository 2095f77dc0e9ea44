import type {
  CleanupStatus,
  CompanyStatus,
  EnvironmentStatus,
  ErrorCode,
  LeasePolicy,
  LeaseStatus,
  RunStatus,
} from '../../src/contracts/index.ts';

/**
 * The behaviour of Lessor in plain code: no SQL, no locks, no sets. Companies, runs and workspaces are numbers, and the
 * clock is a number of seconds that only steps advance.
 */
export interface Model {
  now: number;
  companies: Map<number, CompanyStatus>;
  /** Whether workers lease environments other than `Local`. */
  environmentsEnabled: boolean;
  environments: Map<EnvironmentName, ModelEnvironment>;
  runs: Map<number, ModelRun>;
  /** In the order of their fencing tokens: by activation, or by creation while they are pending. */
  leases: ModelLease[];
  /** By run, in the order of their start. */
  waits: Map<number, ModelWait>;
  /** The recorded rejections, by company and run. */
  rejections: Map<`${number} ${number}`, ErrorCode>;
}

/** The two environments of a company: its own machine, and a host on which drivers acquire and clean up. */
export type Location = 'local' | 'host';
export type EnvironmentName = `${Location} of ${number}`;

export interface ModelEnvironment {
  status: EnvironmentStatus;
  events: string[];
}

export interface ModelRun {
  company: number;
  status: RunStatus;
  failureReason: string | null;
  /** The lease that its context snapshot names. */
  contextLease: string | null;
}

export interface ModelLease {
  /** The environment, and the number of the lease on it. */
  id: string;
  company: number;
  environment: EnvironmentName;
  run: number | null;
  workspace: number | null;
  policy: LeasePolicy;
  status: LeaseStatus;
  ttl: number;
  expiresAt: number;
  failureReason: string | null;
  cleanup: CleanupStatus | null;
  events: string[];
  /** Whether a driver acquires it. */
  byDriver: boolean;
  /** The provider's id of what its driver acquired, or adopts. */
  providerLeaseId: string | null;
  /** When its acquisition times out. */
  acquiringUntil: number | null;
  /** When its acquisition last made progress. */
  touchedAt: number;
  /** The status it gets, or got, once a driver has cleaned it up. */
  ending: { status: LeaseStatus; reason: string | null } | null;
  /** Whether it needed a second cleanup after its end was recorded. */
  endedTwice: boolean;
}

export interface ModelWait {
  environment: EnvironmentName;
  workspace: number;
  since: number;
  lastAsked: number;
}

export function newModel(): Model {
  return {
    now: 0,
    companies: new Map(),
    environmentsEnabled: true,
    environments: new Map(),
    runs: new Map(),
    leases: [],
    waits: new Map(),
    rejections: new Map(),
  };
}

export const environmentOf = (company: number, location: Location): EnvironmentName => `${location} of ${company}`;

/** Registers a company with its first message. */
export function registerCompany(model: Model, company: number): void {
  if (!model.companies.has(company)) model.companies.set(company, 'active');
}

/** Creates an environment once; an existing one is unchanged (one-local). */
export function ensureEnvironment(model: Model, name: EnvironmentName): void {
  if (!model.environments.has(name)) model.environments.set(name, { status: 'active', events: ['created'] });
}

export const isLive = ({ status }: ModelLease): boolean => status === 'pending' || status === 'active';

export const isOnHost = ({ environment }: Pick<ModelLease, 'environment'>): boolean => environment.startsWith('host');

export const isPastExpiry = (model: Model, lease: ModelLease): boolean => lease.expiresAt <= model.now;

export function hasEnded(model: Model, run: number | null): boolean {
  const status = run === null ? undefined : model.runs.get(run)?.status;
  return status !== undefined && status !== 'queued' && status !== 'running';
}

export function newestLease(model: Model, run: number, environment: EnvironmentName): ModelLease | undefined {
  return model.leases.findLast((lease) => lease.run === run && lease.environment === environment);
}

/** A lease as its holder sees it. */
export function viewOf({ id, status, policy, run, workspace, ttl, failureReason, providerLeaseId }: ModelLease) {
  return { id, status, policy, run, workspace, ttl, failureReason, providerLeaseId };
}
export type LeaseView = ReturnType<typeof viewOf>;

/** What a run waits for; `inSameTransaction` when the workspace was granted in the same transaction. */
export interface Blocker {
  as: 'holder' | 'cleanup' | 'waiter';
  run: number | null;
  inSameTransaction: boolean;
}

/** The outcome of an action. */
export type ModelOutcome =
  | { kind: 'lease'; lease: LeaseView | null }
  | { kind: 'acquiring' | 'cleaning'; lease: LeaseView }
  | { kind: 'snoozed' }
  | { kind: 'status'; lease: string; status: LeaseStatus }
  | { kind: 'leases'; runStatus?: RunStatus; leases: Pick<LeaseView, 'id' | 'status'>[] }
  | { kind: 'rejected'; code: ErrorCode }
  | { kind: 'waiting'; workspace: number; heldBy: Blocker }
  | { kind: 'current' }
  | { kind: 'failed' };
