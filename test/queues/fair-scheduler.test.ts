import { array, assert, constantFrom, oneof, property, record, constant } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FairScheduler, QUANTUM, MAX_PRIORITY } from '../../src/queues/fairness.ts';

/** A waiting job, as the queue orders it. */
interface WaitingJob {
  companyId: string;
  jobId: string;
  priority: number;
  number: number;
}

/** A queue of BullMQ in short: the lowest priority first, and of the same one the first that came. */
class OrderedQueue {
  readonly scheduler: FairScheduler;
  readonly #waiting: WaitingJob[] = [];
  #number = 0;

  constructor(scheduler = new FairScheduler()) {
    this.scheduler = scheduler;
  }

  get waiting(): readonly WaitingJob[] {
    return this.#waiting.toSorted((one, other) => one.priority - other.priority || one.number - other.number);
  }

  refresh(): void {
    const [first] = this.waiting;
    this.scheduler.beginRefresh()(first?.priority);
  }

  /** Publishes as a producer with a fresh state does. */
  publish(companyId: string): WaitingJob {
    this.refresh();
    return this.publishWithoutRefresh(companyId);
  }

  publishWithoutRefresh(companyId: string): WaitingJob {
    this.#number += 1;
    const jobId = `job-${this.#number}`;
    const { priority, confirm } = this.scheduler.assign(companyId, jobId);
    const job = { companyId, jobId, priority, number: this.#number };
    this.#waiting.push(job);
    confirm(true);
    return job;
  }

  serve(): WaitingJob | undefined {
    const [first] = this.waiting;
    if (first !== undefined) this.#waiting.splice(this.#waiting.indexOf(first), 1);
    return first;
  }
}

const times = <Result>(count: number, work: () => Result): Result[] => Array.from({ length: count }, work);

/** How many jobs of each other company are served before a job. */
function aheadOf(job: WaitingJob, waiting: readonly WaitingJob[]): Map<string, number> {
  const ahead = new Map<string, number>();
  for (const other of waiting) {
    if (other === job) break;
    if (other.companyId !== job.companyId) ahead.set(other.companyId, (ahead.get(other.companyId) ?? 0) + 1);
  }
  return ahead;
}

const COMPANIES = ['A', 'B', 'C', 'D'] as const;
const step = oneof(
  record({
    kind: constant('publish' as const),
    companyId: constantFrom(...COMPANIES),
    jobs: constantFrom(1, 5, 40, 300),
  }),
  record({ kind: constant('serve' as const), jobs: constantFrom(1, 10, 100, 1_000) }),
);

describe('for any sequence of publishing and serving', () => {
  test('a company without waiting jobs waits behind at most one quantum of each other company', () => {
    assert(
      property(array(step, { maxLength: 12 }), (steps) => {
        const queue = new OrderedQueue();
        for (const { kind, jobs, ...of } of steps) {
          times(jobs, () =>
            kind === 'serve' ? queue.serve() : queue.publish((of as { companyId: string }).companyId),
          );
          const single = queue.publish('single');
          for (const ahead of aheadOf(single, queue.waiting).values()) expect(ahead).toBeLessThanOrEqual(QUANTUM);
          while (queue.serve() !== single);
        }
      }),
      { numRuns: 60 },
    );
  });

  test("a company's jobs are served in the order of publishing", () => {
    assert(
      property(array(step, { maxLength: 12 }), (steps) => {
        const queue = new OrderedQueue();
        const last = new Map<string, number>();
        const serve = () => {
          const job = queue.serve();
          if (job === undefined) return;
          expect(job.number).toBeGreaterThan(last.get(job.companyId) ?? 0);
          last.set(job.companyId, job.number);
        };
        for (const { kind, jobs, ...of } of steps) {
          times(jobs, () => (kind === 'serve' ? serve() : queue.publish((of as { companyId: string }).companyId)));
        }
        times(queue.waiting.length, serve);
      }),
      { numRuns: 60 },
    );
  });
});

test('a backlog within one quantum per company is served first come, first served', () => {
  const queue = new OrderedQueue();
  for (const companyId of COMPANIES) times(QUANTUM, () => queue.publish(companyId));
  expect(new Set(queue.waiting.map(({ priority }) => priority))).toEqual(new Set([0]));
});

test('two companies with backlogs share the workers equally, even if one published later', () => {
  const queue = new OrderedQueue();
  times(1_000, () => queue.publish('A'));
  times(500, () => queue.serve());
  times(500, () => queue.publish('B'));
  const served = times(10 * QUANTUM, () => queue.serve()!.companyId);
  const ofB = served.filter((companyId) => companyId === 'B').length;
  expect(Math.abs(ofB - served.length / 2)).toBeLessThanOrEqual(QUANTUM);
});

test('an idle company accumulates no credit while others have backlogs', () => {
  const queue = new OrderedQueue();
  queue.publish('A');
  times(2_000, () => queue.publish('B'));
  times(1_500, () => queue.serve());
  times(1_000, () => queue.publish('A'));
  const served = times(10 * QUANTUM, () => queue.serve()!.companyId);
  expect(served.filter((companyId) => companyId === 'B').length).toBeGreaterThanOrEqual(4 * QUANTUM);
});

test('rounds restart at 0 and all companies are forgotten once nothing waits', () => {
  const queue = new OrderedQueue();
  times(1_000, () => queue.publish('A'));
  times(1_000, () => queue.serve());
  queue.refresh();
  expect(queue.scheduler.size).toBe(0);
  expect(queue.publish('A').priority).toBe(0);
});

test('companies behind the current round are forgotten', () => {
  const queue = new OrderedQueue();
  for (let company = 0; company < 100; company += 1) queue.publish(`light ${company}`);
  times(1_000, () => queue.publish('A'));
  expect(queue.scheduler.size).toBe(101);
  times(300, () => queue.serve());
  queue.refresh();
  expect(queue.scheduler.size).toBe(1);
});

test("a job published during a refresh that finds the queue empty keeps its company's order", () => {
  const queue = new OrderedQueue();
  times(100, () => queue.publishWithoutRefresh('A'));
  times(100, () => queue.serve());
  const finishRefresh = queue.scheduler.beginRefresh();
  const before = queue.publishWithoutRefresh('A');
  finishRefresh(undefined);
  expect(queue.publishWithoutRefresh('A').priority).toBeGreaterThanOrEqual(before.priority);
});

test("an unconfirmed job keeps its company's order when a refresh finds the queue empty", () => {
  const scheduler = new FairScheduler();
  times(100, () => scheduler.assign('A', 'job').confirm(true));
  const unconfirmed = scheduler.assign('A', 'last');
  scheduler.beginRefresh()(undefined);
  unconfirmed.confirm(true);
  expect(scheduler.assign('A', 'next').priority).toBeGreaterThanOrEqual(unconfirmed.priority);
});

test("rounds beyond BullMQ's largest priority share it, first come, first served", () => {
  const scheduler = new FairScheduler();
  scheduler.beginRefresh()(MAX_PRIORITY - 1);
  const priorities = times(4 * QUANTUM, () => scheduler.assign('A', 'job').priority);
  expect(Math.max(...priorities)).toBe(MAX_PRIORITY);
  expect(priorities).toEqual(priorities.toSorted((one, other) => one - other));
  scheduler.beginRefresh()(MAX_PRIORITY);
  expect(scheduler.assign('B', 'job').priority).toBe(MAX_PRIORITY);
});

/** Company A has jobs in ten rounds; the third is the current one. */
const aheadOfAll = (isPublished = true) => {
  const scheduler = new FairScheduler();
  times(10 * QUANTUM, () => scheduler.assign('A', 'last').confirm(isPublished));
  scheduler.beginRefresh()(3);
  return scheduler;
};

describe('a company that is ahead of the current round', () => {
  test('restarts at the current round if its last job no longer waits', () => {
    const scheduler = aheadOfAll();
    expect(scheduler.jobToVerify('A', 0)).toBe('last');
    scheduler.recordVerified('A', 'last', false, 1);
    expect(scheduler.assign('A', 'next').priority).toBe(3);
  });

  test('keeps its round if its last job waits, which is not verified again immediately', () => {
    const scheduler = aheadOfAll();
    scheduler.recordVerified('A', 'last', true, 10);
    expect(scheduler.jobToVerify('A', 9)).toBeUndefined();
    expect(scheduler.jobToVerify('A', 10)).toBe('last');
    expect(scheduler.assign('A', 'next').priority).toBe(10);
  });

  test('keeps its round if another job of it was published meanwhile', () => {
    const scheduler = aheadOfAll();
    scheduler.assign('A', 'later').confirm(true);
    scheduler.recordVerified('A', 'last', false, 1);
    expect(scheduler.assign('A', 'next').priority).toBe(10);
  });

  test('is not verified while a job is unconfirmed, or if none was published', () => {
    const scheduler = aheadOfAll();
    scheduler.assign('A', 'on its way');
    expect(scheduler.jobToVerify('A', 0)).toBeUndefined();
    expect(aheadOfAll(false).jobToVerify('A', 0)).toBeUndefined();
    expect(scheduler.jobToVerify('B', 0)).toBeUndefined();
  });
});
