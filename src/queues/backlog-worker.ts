import { setImmediate as inNextTurn } from 'node:timers/promises';
import type { AsyncFifoQueue, Job } from 'bullmq';
import { LockKeepingWorker } from './lock-keeping-worker.ts';

type TakenJob = Job<unknown, unknown> | undefined;

/** How many more jobs are asked for each time that all those asked for were there. */
const GROWTH = 1.5;

/** Most jobs that are asked for at once. On Redis that is one command; on Postgres each is a transaction all the same. */
const MOST_AT_ONCE = { redis: 50, postgres: 1 } as const;

/**
 * BullMQ's worker, which takes up a backlog with few commands.
 *
 * BullMQ takes up jobs one after the other, each with a command of its own whose answer it waits for, until it has as many
 * as its concurrency, and only then begins the first. With hundreds of them a burst waits for a tenth of a second and
 * more. This one asks for ever more at once while all that it asks for are there.
 */
export class BacklogWorker extends LockKeepingWorker {
  #atOnce = 1;

  /** The first job is its caller's, as ever; the others are handed to BullMQ's loop as those that it has fetched itself. */
  protected override async moveToActive(token: string, name?: string): Promise<Job<unknown, unknown>> {
    const loop = this.#loop();
    const free = loop === null ? 1 : this.concurrency - loop.numTotal();
    const count = Math.max(1, Math.min(Math.floor(this.#atOnce), free));
    const tokens = Array.from({ length: count }, (_, number) => (number === 0 ? token : `${token}:${number}`));
    const asked = await Promise.allSettled<TakenJob>(tokens.map((each) => super.moveToActive(each, name)));
    const [first, ...others] = asked;
    for (const other of others) {
      if (other.status === 'rejected') this.emit('error', other.reason as Error);
      // In the next turn the first one has its place there.
      else if (other.value !== undefined) loop?.add(inNextTurn(other.value));
    }
    const allWereThere = asked.every((each) => each.status === 'fulfilled' && each.value !== undefined);
    this.#atOnce = allWereThere ? Math.min(this.#atOnce * GROWTH, MOST_AT_ONCE[this.opts.connection.store]) : 1;
    if (first!.status === 'rejected') throw first!.reason;
    return first!.value as Job<unknown, unknown>;
  }

  /** What BullMQ's loop has fetched and not begun, and what it has under way; it begins these even when it is to stop. */
  #loop(): AsyncFifoQueue<TakenJob> | null {
    return (this as unknown as { mainLoopQueue: AsyncFifoQueue<TakenJob> | null }).mainLoopQueue;
  }
}
