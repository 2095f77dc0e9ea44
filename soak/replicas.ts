import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { levels } from 'pino';
import { LESSOR_COMPILED, ROOT, spawnWorker } from '../testing/processes.ts';
import type { NodeProcess } from '../testing/processes.ts';
import type { Stores } from '../testing/stores/open-stores.ts';
import type { Random } from './random.ts';

/**
 * Locks are short, so that the jobs of a killed replica are soon recovered, and the lease wait is long, so that no run
 * is rejected because the machine is slow. Concurrency is low: a kill should disturb the work, not stop it.
 */
const FLAGS = [
  ['--concurrency', '50'],
  ['--lock-duration', '3s'],
  ['--sweep-interval', '2s'],
  ['--lease-wait', '1h'],
].flat();

/** Between two attempts to start a replica that exited, as it does while Postgres is unreachable. */
const RESTART_DELAY_MS = 500;

/** A replica may take this long to stop; it requeues jobs in flight after ten seconds. */
const STOP_TIMEOUT_MS = 30_000;

/** Compiles the command: replicas are restarted often, and a compiled one starts in a third of the time. */
export async function buildCommand(): Promise<void> {
  await promisify(execFile)('npm', ['run', 'build'], { cwd: ROOT });
}

/** A `lessor worker` process. */
interface Replica extends NodeProcess {
  hasStarted: boolean;
}

/** `lessor worker` processes under a supervisor, which replaces each one that ends. */
export class Replicas {
  /** How many were killed. */
  kills = 0;
  /** How many ended on their own. */
  exits = 0;
  readonly #stores: Stores;
  readonly #slots: (Replica | undefined)[];
  readonly #stopping = new AbortController();
  readonly #supervisors: Promise<void>[];

  constructor(stores: Stores, count: number) {
    this.#stores = stores;
    this.#slots = Array.from({ length: count }, () => undefined);
    this.#supervisors = this.#slots.map((_, slot) => this.#supervise(slot));
    // Not even a soak that crashes leaves any behind.
    process.once('exit', () => this.#signalAll('SIGKILL'));
  }

  /**
   * Kills one of the started replicas with SIGKILL; the supervisor starts another. The last one is spared: on a machine
   * where a start takes longer than the time between two kills, no job would ever be processed.
   */
  killOne(random: Random): void {
    const started = this.#slots.filter((replica) => replica?.hasStarted && replica.exit() === undefined);
    if (started.length < Math.min(2, this.#slots.length)) return;
    random.pick(started)!.kill('SIGKILL');
    this.kills += 1;
  }

  /** Stops all replicas, and kills those that take too long. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#signalAll('SIGTERM');
    const stopped = Promise.all(this.#supervisors);
    const late = sleep(STOP_TIMEOUT_MS, 'late' as const, { ref: false });
    if ((await Promise.race([stopped, late])) === 'late') this.#signalAll('SIGKILL');
    await stopped;
  }

  #signalAll(signal: NodeJS.Signals): void {
    for (const replica of this.#slots) replica?.kill(signal);
  }

  async #supervise(slot: number): Promise<void> {
    for (let generation = 1; !this.#stopping.signal.aborted; generation += 1) {
      const replica = startReplica(this.#stores, `soak-${slot + 1}.${generation}`);
      this.#slots[slot] = replica;
      const end = await replica.ended;
      if (end === 'SIGKILL' || this.#stopping.signal.aborted) continue;
      this.exits += 1;
      await sleep(RESTART_DELAY_MS);
    }
  }
}

/** Starts a replica. Its errors are passed on; outages and rejections, logged as warnings, are expected in a soak. */
function startReplica(stores: Stores, name: string): Replica {
  const child = spawnWorker(stores, ['--replica', name, ...FLAGS], {
    command: LESSOR_COMPILED,
    env: { LOG_LEVEL: 'info' },
    stderr(line) {
      const entry = parseLogLine(line);
      if (entry?.msg === 'worker started') replica.hasStarted = true;
      if (entry === undefined || entry.level >= levels.values['error']!) process.stderr.write(`${line}\n`);
    },
  });
  const replica: Replica = { ...child, hasStarted: false };
  return replica;
}

/** Undefined for what is not a line of the log, such as the stack of a crash. */
function parseLogLine(line: string): { level: number; msg: string } | undefined {
  try {
    return JSON.parse(line) as { level: number; msg: string };
  } catch {
    return undefined;
  }
}
