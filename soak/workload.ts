import { setTimeout as sleep } from 'node:timers/promises';
import type { HeartbeatClient } from './heartbeat-client.ts';
import type { RunPlan, Step } from './plan.ts';

/** What a workload is made of. */
export interface WorkloadOptions {
  client: HeartbeatClient;
  plans: Iterator<RunPlan>;
  /** How many runs are under way at once. */
  underWay: number;
  /** Ends the workload early. */
  signal: AbortSignal;
}

/** How many surprises are kept: enough to see what is wrong. */
const KEPT_SURPRISES = 20;

/** Runs that live side by side, each as it was planned. */
export class Workload {
  /** Runs of which all was published. */
  published = 0;
  /** Runs of which something was published, but not all. */
  readonly unfinished = new Set<string>();
  /** What a heartbeat service is never to see, such as a run that is denied its lease. */
  readonly surprises: string[] = [];
  readonly #options: WorkloadOptions;

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  /** Resolves once all of every run was published, or the signal is aborted. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.underWay }, () => this.#driveOneByOne()));
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

  /** Whether all of the run was published. */
  async #drive(plan: RunPlan): Promise<boolean> {
    for (const step of plan.steps) {
      try {
        await this.#take(step, plan);
      } catch (error) {
        if (this.#options.signal.aborted) return false;
        // The run goes on: what it leaves behind is in the audit.
        const message = error instanceof Error ? error.message : String(error);
        if (this.surprises.length < KEPT_SURPRISES) this.surprises.push(`run ${plan.runId}: ${message}`);
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
