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
 * What Lessor is to do, in plain code: no SQL, no locks, no sets. Companies, runs and workspaces are numbers, and the
 * clock is a number of seconds that only moves when a step says so.
 */
export interface Model {
  now: number;
  companies: Map<number, CompanyStatus>;
  /** Whether workers lease any environment but `Local`. */
  environmentsEnabled: boolean;
  environments: Map<EnvironmentName, ModelEnvironment>;
  runs: Map<number, ModelRun>;
  /** In the order of their fencing tokens: in which they became active, or were made where they are not yet. */
  leases: ModelLease[];
  /** By run, in the order in which they began. */
  waits: Map<number, ModelWait>;
  /** Why a company was told that a run is denied its lease. */
  rejections: Map<`${number} ${number}`, ErrorCode>;
}

/** Every company can have two environments: its machine, and a host on which drivers acquire and clean up. */
export type Place = 'local' | 'host';
export type EnvironmentName = `${Place} of ${number}`;

export interface ModelEnvironment {
  status: EnvironmentStatus;
  told: string[];
}

export interface ModelRun {
  company: number;
  status: RunStatus;
  failureReason: string | null;
  /** The lease that its context snapshot names. */
  placedBy: string | null;
}

export interface ModelLease {
  /** The environment, and the how manieth of its leases it is. */
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
  told: string[];
  /** Whether a driver is to acquire it, or was. */
  byDriver: boolean;
  /** What the driver calls what it acquired, or is to take over. */
  providerLeaseId: string | null;
  /** Until when a driver may be at work acquiring it. */
  acquiringUntil: number | null;
  /** When somebody who acquires it last gave a sign. */
  touchedAt: number;
  /** How it ends, or has ended, once a driver has cleaned up after it. */
  ending: { status: LeaseStatus; reason: string | null } | null;
  /** Whether it was to be cleaned up after once more, after its end had been told. */
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

export const environmentOf = (company: number, place: Place): EnvironmentName => `${place} of ${company}`;

/** A company is registered when it is first heard of. */
export function registerCompany(model: Model, company: number): void {
  if (!model.companies.has(company)) model.companies.set(company, 'active');
}

/** An environment is made once; an existing one is left as it is (one-local). */
export function ensureEnvironment(model: Model, name: EnvironmentName): void {
  if (!model.environments.has(name)) model.environments.set(name, { status: 'active', told: ['created'] });
}

export const isLive = ({ status }: ModelLease): boolean => status === 'pending' || status === 'active';

export const isOnHost = ({ environment }: Pick<ModelLease, 'environment'>): boolean => environment.startsWith('host');

export const hasLapsed = (model: Model, lease: ModelLease): boolean => lease.expiresAt <= model.now;

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

/** Who keeps a run waiting: `justNow` when it was granted the workspace in the same transaction. */
export interface InTheWay {
  as: 'holder' | 'cleanup' | 'waiter';
  run: number | null;
  justNow: boolean;
}

/** How an action comes out. */
export type ModelOutcome =
  | { kind: 'lease'; lease: LeaseView | null }
  | { kind: 'acquiring' | 'cleaning'; lease: LeaseView }
  | { kind: 'snoozed' }
  | { kind: 'status'; lease: string; status: LeaseStatus }
  | { kind: 'leases'; runStatus?: RunStatus; leases: Pick<LeaseView, 'id' | 'status'>[] }
  | { kind: 'rejected'; code: ErrorCode }
  | { kind: 'waiting'; workspace: number; heldBy: InTheWay }
  | { kind: 'current' }
  | { kind: 'failed' };
