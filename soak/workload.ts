import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../src/lib/errors.ts';
import type { HeartbeatClient } from './heartbeat-client.ts';
import type { LeaseWait } from './lease-latency.ts';
import type { RunPlan, Step } from './plan.ts';

/** Options of a {@link Workload}. */
export interface WorkloadOptions {
  client: HeartbeatClient;
  plans: Iterator<RunPlan>;
  /** How many runs are in flight. */
  inFlight: number;
  /** Stops the workload early. */
  signal: AbortSignal;
}

/** Enough to see what is wrong. */
const KEPT_ERRORS = 20;

/** Runs in flight concurrently, each along its plan. */
export class Workload {
  /** Runs whose messages are all published. */
  published = 0;
  /** Runs whose messages are published in part. */
  readonly unfinished = new Set<string>();
  /** Errors that a heartbeat service must never get, such as the rejection of a valid run. */
  readonly errors: string[] = [];
  /** Of runs without an execution workspace: the others wait for one another. */
  readonly leaseWaits: LeaseWait[] = [];
  readonly #options: WorkloadOptions;

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  /** Resolves once all messages are published, or the signal is aborted. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.inFlight }, () => this.#driveOneByOne()));
  }

  async #driveOneByOne(): Promise<void> {
    const { plans, signal } = this.#options;
    for (let next = plans.next(); next.done !== true; next = plans.next()) {
      this.unfinished.add(next.value.runId);
      const isPublished = await this.#drive(next.value);
      if (signal.aborted) return;
      if (!isPublished) continue;
      this.unfinished.delete(next.value.runId);
      this.published += 1;
    }
  }

  /** Returns whether all messages of the run are published. */
  async #drive(plan: RunPlan): Promise<boolean> {
    const from = performance.now();
    for (const step of plan.steps) {
      try {
        await this.#take(step, plan);
        if (step.kind === 'await-lease' && !plan.needsWorkspace) {
          this.leaseWaits.push({ companyId: plan.companyId, from, to: performance.now() });
        }
      } catch (error) {
        if (this.#options.signal.aborted) return false;
        // The run goes on, and is audited all the same.
        if (this.errors.length < KEPT_ERRORS) this.errors.push(`run ${plan.runId}: ${messageOf(error)}`);
        if (step.kind !== 'await-lease') return false;
      }
    }
    return true;
  }

  async #take(step: Step, { runId }: RunPlan): Promise<void> {
    const { client, signal } = this.#options;
    switch (step.kind) {
      case 'publish':
        return client.publish(step.message);
      case 'publish-foreign':
        return client.publishForeign(step.message, step.jobId);
      case 'await-lease':
        return client.awaitLease(runId);
      case 'pause':
        return sleep(step.milliseconds, undefined, { signal });
    }
  }
}

/** The plans whose messages are all published. Plans are started in their order, and the unfinished ones are known. */
export function* publishedPlans(
  plans: Iterable<RunPlan>,
  { published, unfinished }: Pick<Workload, 'published' | 'unfinished'>,
): Generator<RunPlan> {
  let started = published + unfinished.size;
  for (const plan of plans) {
    if (started === 0) return;
    started -= 1;
    if (!unfinished.has(plan.runId)) yield plan;
  }
}
