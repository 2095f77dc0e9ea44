import type { RunFinished, RunHeartbeat, RunStarted, TerminalRunStatus } from '../src/contracts/index.ts';
import { TERMINAL_RUN_STATUSES } from '../src/contracts/index.ts';
import { Random } from './random.ts';

/** A message about a run, complete as it crosses its queue. */
export type Message =
  | { queue: 'run-started'; payload: RunStarted }
  | { queue: 'run-heartbeat'; payload: RunHeartbeat }
  | { queue: 'run-finished'; payload: RunFinished };

/** What a heartbeat service does next about its run. */
export type Step =
  | { kind: 'publish'; message: Message }
  /** As a client in another language does: under a job id and with job options of its own. */
  | { kind: 'publish-foreign'; message: Message; jobId: string }
  | { kind: 'await-lease' }
  | { kind: 'pause'; milliseconds: number };

/** How often each kind of run occurs, in percent. */
const KINDS = {
  /** Is granted its lease, works, and ends. */
  ordinary: 40,
  /** The same, on an execution workspace that others want too. */
  shared: 22,
  /** Ends without waiting for its lease: its end may overtake its start. */
  hasty: 10,
  /** Its end is published before its start. */
  reordered: 8,
  /** Two ends that contradict each other are published. */
  contradicted: 5,
  /** Keeps its lease for a while after it failed. */
  retaining: 3,
  /** Is never heard of again after its start. */
  abandoned: 7,
  /** Names an environment that does not exist. */
  rejected: 5,
} as const;
type Kind = keyof typeof KINDS;

/** What must be found of a run once everything is at rest. */
export interface Expectation {
  /** Whether it must have been granted a lease, must not, or either, as with an end that may overtake its start. */
  lease: 'one' | 'none' | 'either';
  /** What its status must be one of: its first end wins, and which one comes first is not known of contradictory ones. */
  statuses: readonly (TerminalRunStatus | 'running')[];
  /** Whether it must have been told that the run was denied a lease. */
  denied: boolean;
}

/** The life of one run: what is published about it, and what must come of it. */
export interface RunPlan {
  companyId: string;
  runId: string;
  steps: readonly Step[];
  expected: Expectation;
}

const COMPANIES = 50;
const WORKSPACES_PER_COMPANY = 8;

/** Outlasts every outage of the soak: a lease that lapses although its run is alive and well would be the soak's fault. */
const LONG_TTL_SECONDS = 600;

/** The longest ttl of a lease that nobody ends, or that is kept after its run. */
export const LAPSING_TTL_SECONDS = 4;

/**
 * Plans runs one after the other, so that any number of them takes no memory. The same seed and instant give the same
 * plans, which is how the audit knows what was published without having noted it.
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
    // Each of them has an instant of its own, which is what tells the heartbeats of a run apart.
    return { queue: 'run-heartbeat', payload: { ...run, at: new Date(startedAt.getTime() + number).toISOString() } };
  });
  return {
    companyId: run.companyId,
    runId: run.runId,
    steps: planSteps(random, kind, { start, heartbeats, ends }),
    expected: {
      lease: kind === 'rejected' ? 'none' : kind === 'hasty' || kind === 'reordered' ? 'either' : 'one',
      statuses: ends.length === 0 ? ['running'] : ends.map((end) => (end.payload as RunFinished).status),
      denied: kind === 'rejected',
    },
  };
}

function planStart(
  random: Random,
  kind: Kind,
  run: Pick<RunStarted, 'version' | 'companyId' | 'runId' | 'startedAt'>,
  workspaces: readonly string[],
): Message {
  const lapses = kind === 'abandoned' || kind === 'retaining';
  const isShared = kind === 'shared' || ((kind === 'abandoned' || kind === 'hasty') && random.chance(50));
  const payload: RunStarted = {
    ...run,
    agentId: random.uuid(),
    ttlSeconds: lapses ? random.integer(2, LAPSING_TTL_SECONDS) : LONG_TTL_SECONDS,
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
    ...(random.chance(50) && { failureReason: `the run was ${status}, said the soak` }),
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

/** The message, and often the same again: at once or, as from a client that was offline, when all else was said. */
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
