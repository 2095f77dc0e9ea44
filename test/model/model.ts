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
  environments: Map<EnvironmentName, ModelEnvironment>;
  runs: Map<number, ModelRun>;
  /** In the order in which they were granted. */
  leases: ModelLease[];
  /** By run, in the order in which they began. */
  waits: Map<number, ModelWait>;
  /** Why a company was told that a run is denied its lease. */
  denials: Map<`${number} ${number}`, ErrorCode>;
}

/** Every company can have two environments: its machine, and a host that only its own service can lease. */
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
  /** The company, and the how manieth of its leases it is. */
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
    environments: new Map(),
    runs: new Map(),
    leases: [],
    waits: new Map(),
    denials: new Map(),
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

export const isLive = (lease: ModelLease): boolean => lease.status === 'active';

export const hasLapsed = (model: Model, lease: ModelLease): boolean => lease.expiresAt <= model.now;

export function hasEnded(model: Model, run: number | null): boolean {
  const status = run === null ? undefined : model.runs.get(run)?.status;
  return status !== undefined && status !== 'queued' && status !== 'running';
}

export function newestLease(model: Model, run: number, environment: EnvironmentName): ModelLease | undefined {
  return model.leases.findLast((lease) => lease.run === run && lease.environment === environment);
}

/** A lease as its holder sees it. */
export function viewOf({ id, status, policy, run, workspace, ttl, failureReason }: ModelLease) {
  return { id, status, policy, run, workspace, ttl, failureReason };
}
export type LeaseView = ReturnType<typeof viewOf>;

/** Who keeps a run waiting: `justNow` when it was granted the workspace in the same transaction. */
export interface InTheWay {
  as: 'holder' | 'waiter';
  run: number | null;
  justNow: boolean;
}

/** How an action comes out. */
export type ModelOutcome =
  | { kind: 'lease'; lease: LeaseView | null }
  | { kind: 'leases'; runStatus?: RunStatus; leases: Pick<LeaseView, 'id' | 'status'>[] }
  | { kind: 'refused'; code: ErrorCode }
  | { kind: 'waiting'; workspace: number; heldBy: InTheWay }
  | { kind: 'current' }
  | { kind: 'failed' };
