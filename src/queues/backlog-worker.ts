import { setImmediate as inNextTurn } from 'node:timers/promises';
import type { AsyncFifoQueue, Job, JobJson } from 'bullmq';
import { LockKeepingWorker } from './lock-keeping-worker.ts';

type TakenJob = Job<unknown, unknown> | undefined;

/** How many more jobs are asked for each time that all those asked for were there. */
const GROWTH = 1.5;

/**
 * BullMQ's worker, which takes up a backlog with few commands.
 *
 * BullMQ takes up jobs one after the other, each with a command of its own whose answer it waits for, until it has as many
 * as its concurrency, and only then begins the first. With hundreds of them a burst waits for a tenth of a second and
 * more. This one asks for ever more at once while all that it asks for are there, where its store has a command for that.
 */
export class BacklogWorker extends LockKeepingWorker {
  #atOnce = 1;
  /** Jobs that are being asked for, beside those that have a place in BullMQ's loop. */
  #askedBeside = 0;
  #tokens = 0;

  /** One of them is its caller's, as ever; the others are handed to BullMQ's loop as those that it has fetched itself. */
  protected override async moveToActive(token: string, name?: string): Promise<Job<unknown, unknown>> {
    const count = this.#countToAsk();
    this.#askedBeside += count - 1;
    const tokens = [token, ...Array.from({ length: count - 1 }, () => this.#newToken())];
    const asked = await Promise.allSettled<TakenJob>(tokens.map((each) => super.moveToActive(each, name)));
    this.#askedBeside -= count - 1;
    const taken = asked.flatMap((each) => (each.status === 'fulfilled' && each.value ? [each.value] : []));
    if (taken.length === count && count >= Math.floor(this.#atOnce)) this.#grow();
    const failed = asked.find((each) => each.status === 'rejected');
    const own = failed === undefined ? taken.shift() : undefined;
    // In the next turn what is returned has its place there.
    for (const other of taken) this.#loop()!.add(inNextTurn(other));
    if (failed !== undefined) throw failed.reason;
    return own!;
  }

  /** Nothing waits: whatever comes next comes alone. */
  protected override async nextJobFromJobData(
    jobData?: JobJson,
    jobId?: string,
    token?: string,
  ): Promise<Job<unknown, unknown>> {
    if (!jobData) this.#atOnce = 1;
    return super.nextJobFromJobData(jobData, jobId, token);
  }

  #countToAsk(): number {
    const loop = this.#loop();
    if (loop === null) return 1;
    const free = this.concurrency - loop.numTotal() - this.#askedBeside;
    return Math.max(1, Math.min(Math.floor(this.#atOnce), free));
  }

  #grow(): void {
    this.#atOnce = Math.min(this.#atOnce * GROWTH, this.opts.connection.jobsAtOnce);
  }

  /** Two jobs at a time never have the same: who lost the lock of one could not be told from who has it. */
  #newToken(): string {
    this.#tokens += 1;
    return `${this.id}:more:${this.#tokens}`;
  }

  /** What BullMQ's loop has fetched and not begun, and what it has under way; it begins these even when it is to stop. */
  #loop(): AsyncFifoQueue<TakenJob> | null {
    return (this as unknown as { mainLoopQueue: AsyncFifoQueue<TakenJob> | null }).mainLoopQueue;
  }
}
