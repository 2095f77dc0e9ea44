import type { ErrorCode, LeasePolicy, TerminalRunStatus } from '../../src/contracts/index.ts';
import { applyToLease } from './model-drivers.ts';
import type { LeaseMessage } from './model-drivers.ts';
import { endLeasesOfRun, renew, revive, touch } from './model-leases.ts';
import type { LeaseRequest } from './model-leases.ts';
import { LEASE_WAIT_SECONDS, canBeRevived, endHolder, blockerOf, noteWait } from './model-single-flight.ts';
import { take, takeByDriver, waitFor } from './model-single-flight.ts';
import { ensureEnvironment, environmentOf, hasEnded, isOnHost, newestLease } from './model.ts';
import { registerCompany, viewOf } from './model.ts';
import type { EnvironmentName, Model, ModelLease, ModelOutcome, Location } from './model.ts';

/** The environment that a start names: one of its own company, another company's machine, or an unknown one. */
export type NamedEnvironment = Location | 'foreign' | 'unknown';

/** A message about a run, possibly for a company that does not own it. */
export type RunMessage = { company: number; run: number } & (
  | { kind: 'start'; workspace?: number; policy?: LeasePolicy; ttl?: number; named?: NamedEnvironment }
  | { kind: 'renew'; ttl?: number }
  | { kind: 'finish'; status: TerminalRunStatus; reason?: string }
);
/** A message of a batch: about a run or about a lease. */
export type Message = RunMessage | LeaseMessage;
export type Start = Extract<Message, { kind: 'start' }>;
type Renewal = Extract<Message, { kind: 'renew' }>;
type Finish = Extract<Message, { kind: 'finish' }>;

export const DEFAULT_TTL_SECONDS = 300;

/** The company whose machine a `foreign` start names. */
export const foreignTo = (company: number, companies: number): number => (company + 1) % companies;

/** The order in which the messages of one transaction are applied, after the starts. */
const ORDER = [
  'begin-acquiring',
  'acquired',
  'not-acquired',
  'renew',
  'finish',
  'release',
  'cleaned-up',
  'not-cleaned-up',
] as const satisfies Exclude<Message['kind'], 'start'>[];

/**
 * Applies the messages of one transaction, starts first. Several messages of a kind about one run or lease are applied one
 * after another.
 */
export function deliver(model: Model, messages: readonly Message[], companies: number): ModelOutcome[] {
  for (const { company } of messages) registerCompany(model, company);
  const outcomes = new Map<Message, ModelOutcome>();
  for (const round of roundsOf(messages)) {
    const starts = round.filter((message) => message.kind === 'start');
    startAll(model, starts, companies).forEach((outcome, position) => outcomes.set(starts[position]!, outcome));
    for (const kind of ORDER) {
      for (const message of round) if (message.kind === kind) outcomes.set(message, apply(model, message));
    }
  }
  return messages.map((message) => outcomes.get(message)!);
}

function apply(model: Model, message: Exclude<Message, Start>): ModelOutcome {
  if (message.kind === 'renew') return renewRun(model, message);
  return message.kind === 'finish' ? finishRun(model, message) : applyToLease(model, message);
}

const subjectOf = (message: Message) => ('lease' in message ? message.lease : message.run);

/** The nth message of a kind about a run or lease is in round n. */
function roundsOf(messages: readonly Message[]): Message[][] {
  const rounds: Message[][] = [];
  messages.forEach((message, position) => {
    const earlier = messages
      .slice(0, position)
      .filter((other) => other.kind === message.kind && subjectOf(other) === subjectOf(message));
    (rounds[earlier.length] ??= []).push(message);
  });
  return rounds;
}

/** All starts of a set decide on the same state, except that a workspace is granted to the first of them. */
function startAll(model: Model, starts: readonly Start[], companies: number): ModelOutcome[] {
  const served = starts.filter((start) => model.companies.get(start.company) === 'active');
  for (const start of served) recordStart(model, start);
  for (const { company, named } of served) {
    if (named === undefined) ensureEnvironment(model, environmentOf(company, 'local'));
  }
  const seen = structuredClone(model);
  const outcomes = starts.map((start) => {
    const outcome = startOne(model, seen, start, companies);
    if (outcome.kind === 'rejected') recordRejection(model, start, outcome.code);
    if (outcome.kind !== 'waiting') forgetWait(model, seen, start, companies);
    return outcome;
  });
  for (const outcome of outcomes) {
    const acquiring = outcome.kind === 'acquiring' && model.leases.find(({ id }) => id === outcome.lease.id);
    if (acquiring) touch(model, acquiring);
  }
  return outcomes;
}

/** The rejection of a run's lease is recorded once per company. */
function recordRejection(model: Model, { company, run }: Start, code: ErrorCode): void {
  const key = `${company} ${run}` as const;
  if (!model.rejections.has(key)) model.rejections.set(key, code);
}

function forgetWait(model: Model, seen: Model, start: Start, companies: number): void {
  const environment = environmentNamed(start, companies);
  if (seen.runs.get(start.run)?.company !== start.company || environment === undefined) return;
  if (waitFor(seen, start.run, { environment, workspace: start.workspace ?? null })) model.waits.delete(start.run);
}

export function recordStart(model: Model, { company, run }: { company: number; run: number }): void {
  const recorded = model.runs.get(run);
  if (recorded === undefined) {
    model.runs.set(run, { company, status: 'running', failureReason: null, contextLease: null });
  } else if (recorded.company === company && recorded.status === 'queued') recorded.status = 'running';
}

const rejected = (code: ErrorCode): ModelOutcome => ({ kind: 'rejected', code });

function startOne(model: Model, seen: Model, start: Start, companies: number): ModelOutcome {
  const { company, run } = start;
  if (seen.companies.get(company) === 'archived') return rejected('company_archived');
  if (seen.runs.get(run)!.company !== company) return rejected('foreign_run');
  const environment = environmentNamed(start, companies);
  const granted = environment && newestLease(seen, run, environment);
  if (granted) return outcomeOf(seen, granted);
  if (environment === undefined || !seen.environments.has(environment)) return rejected('unknown_environment');
  if (start.named === 'foreign') return rejected('foreign_environment');
  if (seen.environments.get(environment)!.status === 'archived') return rejected('environment_archived');
  if (start.named === 'host' && !seen.environmentsEnabled) return rejected('environments_disabled');
  if (hasEnded(seen, run)) return { kind: 'lease', lease: null };
  return takeOrWait(model, seen, requestOf(start, environment));
}

/** The outcome for a run that has or had a lease there. A pending acquisition continues, unless the run has ended. */
function outcomeOf(model: Model, lease: ModelLease): ModelOutcome {
  const isToBeEnded = lease.status === 'pending' || lease.status === 'pending_cleanup';
  if (isToBeEnded && hasEnded(model, lease.run)) return { kind: 'lease', lease: null };
  return { kind: lease.status === 'pending' ? 'acquiring' : 'lease', lease: viewOf(lease) };
}

function takeOrWait(model: Model, seen: Model, request: LeaseRequest): ModelOutcome {
  const [run, workspace] = [request.run!, request.workspace!];
  const heldBy = blockerOf(model, seen, request);
  if (heldBy === undefined && isOnHost(request)) {
    return { kind: 'acquiring', lease: viewOf(takeByDriver(model, seen, request)) };
  }
  if (heldBy === undefined) return { kind: 'lease', lease: viewOf(take(model, request)) };
  const wait = waitFor(seen, run, request);
  if (wait && model.now - wait.since >= LEASE_WAIT_SECONDS) return { kind: 'rejected', code: 'workspace_held' };
  if (heldBy.as === 'cleanup') endHolder(model, request);
  noteWait(model, run, request);
  return { kind: 'waiting', workspace, heldBy };
}

const requestOf = (start: Start, environment: EnvironmentName): LeaseRequest => ({
  company: start.company,
  environment,
  run: start.run,
  workspace: start.workspace ?? null,
  policy: start.policy ?? 'ephemeral',
  ttl: start.ttl ?? DEFAULT_TTL_SECONDS,
});

export function environmentNamed({ company, named = 'local' }: Start, companies: number): EnvironmentName | undefined {
  if (named === 'unknown') return undefined;
  return named === 'foreign' ? environmentOf(foreignTo(company, companies), 'local') : environmentOf(company, named);
}

function renewRun(model: Model, { company, run, ttl }: Renewal): ModelOutcome {
  const recorded = model.runs.get(run);
  if (recorded && recorded.company !== company) return { kind: 'rejected', code: 'foreign_run' };
  for (const lease of model.leases.filter((each) => each.run === run)) {
    if (lease.status === 'active') renew(model, lease, ttl);
    else if (canBeRevived(model, lease)) revive(model, lease, ttl);
  }
  return leasesOf(model, run);
}

/** All leases of a run, ended ones included. */
export function leasesOf(model: Model, run: number): ModelOutcome {
  const leases = model.leases.filter((lease) => lease.run === run);
  return { kind: 'leases', leases: leases.map(({ id, status }) => ({ id, status })) };
}

function finishRun(model: Model, { company, run, status, reason }: Finish): ModelOutcome {
  const recorded = model.runs.get(run) ?? { company, status: 'running', failureReason: null, contextLease: null };
  if (recorded.company !== company) return { kind: 'rejected', code: 'foreign_run' };
  model.runs.set(run, recorded);
  if (!hasEnded(model, run)) Object.assign(recorded, { status, failureReason: reason ?? null });
  const leases = endLeasesOfRun(model, run).map(({ id, status: endedAs }) => ({ id, status: endedAs }));
  return { kind: 'leases', runStatus: recorded.status, leases };
}
