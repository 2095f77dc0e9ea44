import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Random } from './random.ts';
import { ROOT, Replica } from './replica.ts';
import type { SoakStores } from './stores.ts';

/** A replica that does not start, as while Postgres is away, is tried again after this. */
const RESTART_DELAY_MS = 500;

/** How long a replica may take to stop when asked to; it gives back what is under way after ten seconds. */
const STOP_TIMEOUT_MS = 30_000;

/** Compiles the command: replicas are replaced all the time, and start in a third of the time that the source takes. */
export async function buildCommand(): Promise<void> {
  await promisify(execFile)('npm', ['run', 'build'], { cwd: ROOT });
}

/** `lessor worker` processes under a supervisor: each that ends is replaced by the next. */
export class Replicas {
  /** How many were killed. */
  kills = 0;
  /** How many ended otherwise. */
  exits = 0;
  readonly #stores: SoakStores;
  readonly #slots: (Replica | undefined)[];
  readonly #stopping = new AbortController();
  readonly #supervisors: Promise<void>[];

  constructor(stores: SoakStores, count: number) {
    this.#stores = stores;
    this.#slots = Array.from({ length: count }, () => undefined);
    this.#supervisors = this.#slots.map((_, slot) => this.#supervise(slot));
    // Also a soak that fails outright leaves none behind.
    process.once('exit', () => this.#signalAll('SIGKILL'));
  }

  /**
   * Kills one of those that are at work with SIGKILL; another one takes its place. The last one is spared, or nothing
   * would be served where a replica takes longer to start than the next one lives.
   */
  killOne(random: Random): void {
    const atWork = this.#slots.filter((replica) => replica !== undefined && replica.isAtWork);
    if (atWork.length < Math.min(2, this.#slots.length)) return;
    random.pick(atWork)!.signal('SIGKILL');
    this.kills += 1;
  }

  /** Stops all of them, in order where that is possible. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#signalAll('SIGTERM');
    const stopped = Promise.all(this.#supervisors);
    const late = sleep(STOP_TIMEOUT_MS, 'late' as const, { ref: false });
    if ((await Promise.race([stopped, late])) === 'late') this.#signalAll('SIGKILL');
    await stopped;
  }

  #signalAll(signal: NodeJS.Signals): void {
    for (const replica of this.#slots) replica?.signal(signal);
  }

  async #supervise(slot: number): Promise<void> {
    for (let generation = 1; !this.#stopping.signal.aborted; generation += 1) {
      const replica = new Replica(this.#stores, `soak-${slot + 1}.${generation}`);
      this.#slots[slot] = replica;
      const end = await replica.ended;
      if (end === 'SIGKILL' || this.#stopping.signal.aborted) continue;
      this.exits += 1;
      await sleep(RESTART_DELAY_MS);
    }
  }
}
