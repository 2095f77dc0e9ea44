import type { RunFinished, RunHeartbeat, RunStarted, TerminalRunStatus } from '../src/contracts/index.ts';
import { TERMINAL_RUN_STATUSES } from '../src/contracts/index.ts';
import type { ExpectedRun } from '../testing/audit/expected-runs.ts';
import { Random } from './random.ts';

/** A message about a run, complete as it crosses its queue. */
export type Message =
  | { queue: 'run-started'; payload: RunStarted }
  | { queue: 'run-heartbeat'; payload: RunHeartbeat }
  | { queue: 'run-finished'; payload: RunFinished };

/** What a heartbeat service does next for its run. */
export type Step =
  | { kind: 'publish'; message: Message }
  /** As a non-Node client does: under a job id and with job options of its own. */
  | { kind: 'publish-foreign'; message: Message; jobId: string }
  | { kind: 'await-lease' }
  | { kind: 'pause'; milliseconds: number };

/** How often each kind of run occurs, in percent. */
const KINDS = {
  /** Is granted its lease, works, and ends. */
  ordinary: 40,
  /** The same, on an execution workspace that other runs need too. */
  shared: 22,
  /** Ends without waiting for its lease: its end may be processed before its start. */
  hasty: 10,
  /** Its end is published before its start. */
  reordered: 8,
  /** Two ends that contradict each other are published. */
  contradicted: 5,
  /** Keeps its lease for a while after it failed. */
  retaining: 3,
  /** Sends nothing after its start. */
  abandoned: 7,
  /** Names an environment that does not exist. */
  rejected: 5,
} as const;
type Kind = keyof typeof KINDS;

/** The course of one run: what is published, and the expected outcome. */
export interface RunPlan extends ExpectedRun {
  /** Whether it may have to wait for another run, which holds its execution workspace. */
  needsWorkspace: boolean;
  steps: readonly Step[];
}

const COMPANIES = 50;
const WORKSPACES_PER_COMPANY = 8;

/** Longer than every outage of the soak: a healthy run must not lose its lease to a fault that the soak injects. */
const LONG_TTL_SECONDS = 600;

/** The longest ttl of a lease that only expires: of an abandoned run, or retained after its run. */
export const SHORT_TTL_SECONDS = 4;

/**
 * Plans runs one at a time, so that memory does not grow with their number. The same seed and instant give the same
 * plans, so the audit makes them again instead of keeping them.
 */
export function* planRuns(seed: number, runs: number, startedAt: Date): Generator<RunPlan> {
  const random = new Random(seed);
  const companies = Array.from({ length: COMPANIES }, () => ({
    id: random.uuid(),
    workspaces: Array.from({ length: WORKSPACES_PER_COMPANY }, () => random.uuid()),
  }));
  for (let number = 0; number < runs; number += 1) yield planRun(random, random.pick(companies), startedAt);
}

function planRun(random: Random, company: { id: string; workspaces: readonly string[] }, startedAt: Date): RunPlan {
  const kind = random.weighted(KINDS);
  const run = { version: 1 as const, companyId: company.id, runId: random.uuid() };
  const start = planStart(random, kind, { ...run, startedAt: startedAt.toISOString() }, company.workspaces);
  const ends = planEnds(random, kind).map((end): Message => {
    return { queue: 'run-finished', payload: { ...run, ...end, finishedAt: startedAt.toISOString() } };
  });
  const heartbeats = Array.from({ length: random.integer(0, 2) }, (_, number): Message => {
    // Each has its own instant, which identifies a heartbeat of a run.
    return { queue: 'run-heartbeat', payload: { ...run, at: new Date(startedAt.getTime() + number).toISOString() } };
  });
  return {
    companyId: run.companyId,
    runId: run.runId,
    needsWorkspace: start.payload.executionWorkspaceId !== undefined,
    steps: planSteps(random, kind, { start, heartbeats, ends }),
    expected: {
      lease: kind === 'rejected' ? 'none' : kind === 'hasty' || kind === 'reordered' ? 'either' : 'one',
      statuses: ends.length === 0 ? ['running'] : ends.map((end) => (end.payload as RunFinished).status),
      rejected: kind === 'rejected',
    },
  };
}

function planStart(
  random: Random,
  kind: Kind,
  run: Pick<RunStarted, 'version' | 'companyId' | 'runId' | 'startedAt'>,
  workspaces: readonly string[],
): Extract<Message, { queue: 'run-started' }> {
  const expires = kind === 'abandoned' || kind === 'retaining';
  const isShared = kind === 'shared' || ((kind === 'abandoned' || kind === 'hasty') && random.chance(50));
  const payload: RunStarted = {
    ...run,
    agentId: random.uuid(),
    ttlSeconds: expires ? random.integer(2, SHORT_TTL_SECONDS) : LONG_TTL_SECONDS,
    ...(isShared && { executionWorkspaceId: random.pick(workspaces) }),
    ...(kind === 'retaining' && { leasePolicy: 'retain_on_failure' as const }),
    ...(kind === 'rejected' && { environment: { issue: random.uuid() } }),
  };
  return { queue: 'run-started', payload };
}

function planEnds(random: Random, kind: Kind): { status: TerminalRunStatus; failureReason?: string }[] {
  if (kind === 'abandoned' || (kind === 'rejected' && random.chance(50))) return [];
  const statuses: TerminalRunStatus[] =
    kind === 'contradicted'
      ? ['succeeded', 'failed']
      : [kind === 'retaining' ? 'failed' : random.pick(TERMINAL_RUN_STATUSES)];
  return statuses.map((status) => ({
    status,
    ...(random.chance(50) && { failureReason: `the soak ended the run as ${status}` }),
  }));
}

function planSteps(
  random: Random,
  kind: Kind,
  { start, heartbeats, ends }: { start: Message; heartbeats: readonly Message[]; ends: readonly Message[] },
): Step[] {
  const late: Step[] = [];
  const publish = (message: Message) => withCopies(random, message, late);
  const pause: Step = { kind: 'pause', milliseconds: random.integer(0, 300) };
  if (kind === 'reordered') return [...ends.flatMap(publish), pause, ...publish(start), ...late];
  const awaitsLease = kind !== 'hasty' && kind !== 'rejected' && kind !== 'abandoned';
  const work: Step[] = awaitsLease ? [{ kind: 'await-lease' }, ...heartbeats.flatMap(publish), pause] : [];
  return [...publish(start), ...work, ...ends.flatMap(publish), ...late];
}

/** The message, and often copies of it: right away or, as from a client that was offline, after all other messages. */
function withCopies(random: Random, message: Message, late: Step[]): Step[] {
  const steps: Step[] = [{ kind: 'publish', message }];
  if (random.chance(25)) steps.push({ kind: 'publish', message });
  if (random.chance(15)) steps.push(foreignCopy(random, message));
  if (random.chance(10)) late.push(foreignCopy(random, message));
  return steps;
}

function foreignCopy(random: Random, message: Message): Step {
  return { kind: 'publish-foreign', message, jobId: `foreign-${random.uuid()}` };
}
