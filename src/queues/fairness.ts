import type { LessorQueue } from './queues.ts';

/** Jobs of one company per round: the most that another company's single job may have to wait behind. */
export const QUANTUM = 32;

/** BullMQ's largest priority. Rounds beyond two million share it, first come, first served. */
export const MAX_PRIORITY = 2 ** 21 - 1;

/** While jobs are published, the queue's state is read at most this often. */
const REFRESH_INTERVAL_MS = 100;

/** A publish waits for a refresh when the last known state is older than this. */
const STALE_AFTER_MS = 1_000;

const WAITING_STATES: readonly string[] = ['waiting', 'prioritized'];

/** The position of a job among the waiting ones. */
export interface QueuePosition {
  /** BullMQ's priority, which is the round: 0 is served first, then 1, 2, …; within one, first come, first served. */
  readonly priority: number;
  /** Must be called once it is known whether the job was added to the queue. */
  readonly confirm: (isPublished: boolean) => void;
}

interface TenantState {
  /** The round of the company's last job. */
  round: number;
  jobsInRound: number;
  /** Jobs with a position that are not yet confirmed. */
  unconfirmed: number;
  lastConfirmedAt: number;
  /** The latest job that was published. */
  lastJob: { jobId: string; sequence: number } | undefined;
  /** When that job was last seen waiting, by the caller's clock. */
  lastSeenWaitingAt: number;
}

/**
 * Start-time fair queuing by rounds: a company's jobs are spread over rounds of {@link QUANTUM} jobs, and a round is a
 * BullMQ priority. The *current round* is the lowest priority that waits. A company's next job gets
 *
 * - the **current round**, when the company is unknown or its last round is behind: no credit is saved up while idle;
 * - its **last round**, while that holds fewer than QUANTUM of its jobs;
 * - the **next round**, when the last one is full. At {@link MAX_PRIORITY} it stays there.
 *
 * The state is this process's estimate and lives in memory. {@link beginRefresh} corrects it from the queue:
 *
 * - **Something waits**: companies behind the current round are forgotten, so only those ahead take memory.
 * - **Nothing waits**: all are forgotten and the next job is in round 0. A company with an unconfirmed job, or with one
 *   confirmed after the refresh began, is kept: the refresh may have missed that job.
 * - **Drained unseen**: the queue can be emptied and refilled between two refreshes, which leaves a company too far ahead.
 *   So before a company that is ahead gets a position, its last job is looked up, at most once a second; if it no longer
 *   waits, the company is forgotten and starts at the current round.
 *
 * A company's priorities never decrease while one of its jobs waits, which keeps its jobs in order.
 */
export class FairScheduler {
  readonly #tenants = new Map<string, TenantState>();
  #currentRound = 0;
  #sequence = 0;

  /** Remembered companies. */
  get size(): number {
    return this.#tenants.size;
  }

  /** The position of a company's next job. */
  assign(companyId: string, jobId: string): QueuePosition {
    const tenant = this.#tenant(companyId);
    if (tenant.round < this.#currentRound) {
      tenant.round = this.#currentRound;
      tenant.jobsInRound = 0;
    } else if (tenant.jobsInRound === QUANTUM) {
      tenant.round = Math.min(tenant.round + 1, MAX_PRIORITY);
      tenant.jobsInRound = 0;
    }
    tenant.jobsInRound += 1;
    tenant.unconfirmed += 1;
    const sequence = this.#nextSequence();
    return {
      priority: tenant.round,
      confirm: (isPublished) => {
        tenant.unconfirmed -= 1;
        tenant.lastConfirmedAt = this.#nextSequence();
        if (isPublished && sequence > (tenant.lastJob?.sequence ?? 0)) tenant.lastJob = { jobId, sequence };
      },
    };
  }

  /** Must be called before the queue is read. Returns the function that takes what was read: undefined if nothing waits. */
  beginRefresh(): (currentRound: number | undefined) => void {
    const startedAt = this.#nextSequence();
    return (currentRound) => {
      this.#currentRound = currentRound ?? 0;
      for (const [companyId, tenant] of this.#tenants) {
        const isOver = currentRound === undefined ? tenant.lastConfirmedAt < startedAt : tenant.round < currentRound;
        if (isOver && tenant.unconfirmed === 0) this.#tenants.delete(companyId);
      }
    };
  }

  /**
   * The job to look up before the company's next one gets a position (see "drained unseen"). Undefined when the company
   * is not ahead, a job of it is being published, or the job was seen waiting after `seenSince`.
   */
  jobToVerify(companyId: string, seenSince: number): string | undefined {
    const tenant = this.#tenants.get(companyId);
    if (tenant === undefined || tenant.round <= this.#currentRound || tenant.unconfirmed > 0) return undefined;
    return tenant.lastSeenWaitingAt > seenSince ? undefined : tenant.lastJob?.jobId;
  }

  /** Takes the result of looking up {@link jobToVerify}. It is void when another job followed meanwhile. */
  recordVerified(companyId: string, jobId: string, isWaiting: boolean, now: number): void {
    const tenant = this.#tenants.get(companyId);
    if (tenant === undefined || tenant.lastJob?.jobId !== jobId || tenant.unconfirmed > 0) return;
    if (isWaiting) tenant.lastSeenWaitingAt = now;
    else this.#tenants.delete(companyId);
  }

  #tenant(companyId: string): TenantState {
    const known = this.#tenants.get(companyId);
    if (known !== undefined) return known;
    const tenant: TenantState = {
      round: this.#currentRound,
      jobsInRound: 0,
      unconfirmed: 0,
      lastConfirmedAt: 0,
      lastJob: undefined,
      lastSeenWaitingAt: Number.NEGATIVE_INFINITY,
    };
    this.#tenants.set(companyId, tenant);
    return tenant;
  }

  #nextSequence(): number {
    this.#sequence += 1;
    return this.#sequence;
  }
}

/**
 * A {@link FairScheduler} over one queue. While jobs are published its state is refreshed in the background, at most ten
 * times a second. After an idle second a publish waits for the refresh, one command where there is no backlog.
 */
export class FairQueue {
  readonly #queue: LessorQueue;
  readonly #now: () => number;
  readonly #scheduler = new FairScheduler();
  #inFlight: { startedAt: number; done: Promise<void> } | undefined;
  #refreshedAt = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a monotonic clock */
  constructor(queue: LessorQueue, now: () => number = () => performance.now()) {
    this.#queue = queue;
    this.#now = now;
  }

  /** The position of a company's next job. Rejects when it needs the queue's state and cannot read it. */
  async assign(companyId: string, jobId: string): Promise<QueuePosition> {
    const age = this.#now() - this.#refreshedAt;
    if (age >= STALE_AFTER_MS) await this.#refresh();
    // A failure is not lost: the state becomes stale, and the next publish waits for a refresh.
    else if (age >= REFRESH_INTERVAL_MS) this.#refresh().catch(() => undefined);
    const unverified = this.#scheduler.jobToVerify(companyId, this.#now() - STALE_AFTER_MS);
    if (unverified !== undefined) await this.#verify(companyId, unverified);
    return this.#scheduler.assign(companyId, jobId);
  }

  /** One refresh is in flight at a time. One that takes a second may be on a dead connection; another one is started. */
  #refresh(): Promise<void> {
    const startedAt = this.#now();
    if (this.#inFlight === undefined || startedAt - this.#inFlight.startedAt >= STALE_AFTER_MS) {
      const refresh = { startedAt, done: this.#readState(startedAt) };
      this.#inFlight = refresh;
      const end = () => {
        if (this.#inFlight === refresh) this.#inFlight = undefined;
      };
      refresh.done.then(end, end);
    }
    return this.#inFlight.done;
  }

  async #readState(startedAt: number): Promise<void> {
    const finishRefresh = this.#scheduler.beginRefresh();
    const currentRound = await readCurrentRound(this.#queue);
    this.#refreshedAt = startedAt;
    finishRefresh(currentRound);
  }

  async #verify(companyId: string, jobId: string): Promise<void> {
    const state = await this.#queue.getJobState(jobId);
    this.#scheduler.recordVerified(companyId, jobId, WAITING_STATES.includes(state), this.#now());
  }
}

/** The lowest priority that waits; undefined when nothing does. */
async function readCurrentRound(queue: LessorQueue): Promise<number | undefined> {
  const [[unprioritized] = [], [first] = []] = await queue.getBackend().getRanges(['wait', 'prioritized'], 0, 0, true);
  if (first === undefined) return unprioritized === undefined ? undefined : 0;
  const job = await queue.getJob(first);
  // The job ended and was removed in between.
  if (job === undefined) return readCurrentRound(queue);
  // Jobs without a priority are round 0 only while round 1 has not passed; later they are of clients that set none.
  return unprioritized !== undefined && job.priority === 1 ? 0 : job.priority;
}
