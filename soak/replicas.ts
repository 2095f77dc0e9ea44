import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Random } from './random.ts';
import type { SoakStores } from './stores.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Short, so that what a killed replica held is soon taken over. */
const LOCK_DURATION = '3s';
const SWEEP_INTERVAL = '2s';

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
  readonly #slots: (ChildProcess | undefined)[];
  readonly #stopping = new AbortController();
  readonly #supervisors: Promise<void>[];

  constructor(stores: SoakStores, count: number) {
    this.#stores = stores;
    this.#slots = Array.from({ length: count }, () => undefined);
    this.#supervisors = this.#slots.map((_, slot) => this.#supervise(slot));
  }

  /** Kills one of them with SIGKILL; another one takes its place at once. */
  killOne(random: Random): void {
    const running = this.#slots.filter((replica) => replica !== undefined && !hasEnded(replica));
    if (running.length === 0) return;
    if (random.pick(running)!.kill('SIGKILL')) this.kills += 1;
  }

  /** Stops all of them, in order where that is possible. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const replica of this.#slots) replica?.kill('SIGTERM');
    const stopped = Promise.all(this.#supervisors);
    const late = sleep(STOP_TIMEOUT_MS, 'late' as const, { ref: false });
    if ((await Promise.race([stopped, late])) !== 'late') return;
    for (const replica of this.#slots) replica?.kill('SIGKILL');
    await stopped;
  }

  async #supervise(slot: number): Promise<void> {
    for (let generation = 1; !this.#stopping.signal.aborted; generation += 1) {
      const replica = this.#spawn(`soak-${slot + 1}.${generation}`);
      this.#slots[slot] = replica;
      await once(replica, 'exit');
      if (replica.signalCode === 'SIGKILL' || this.#stopping.signal.aborted) continue;
      this.exits += 1;
      await sleep(RESTART_DELAY_MS);
    }
  }

  #spawn(name: string): ChildProcess {
    const { postgres, queueUrl } = this.#stores;
    const flags = ['--replica', name, '--lock-duration', LOCK_DURATION, '--sweep-interval', SWEEP_INTERVAL];
    return spawn(process.execPath, ['dist/cli.js', 'worker', ...flags], {
      cwd: ROOT,
      env: { ...process.env, DATABASE_URL: postgres.url, QUEUE_URL: queueUrl, LOG_LEVEL: 'error' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
}

function hasEnded(replica: ChildProcess): boolean {
  return replica.exitCode !== null || replica.signalCode !== null;
}
