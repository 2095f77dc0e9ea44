import type { Scale } from './scale.ts';
import type { BenchStores } from './stores.ts';
import { WorkerProcess } from './worker-process.ts';

/** What the sections of the bench share. */
export interface BenchContext {
  stores: BenchStores;
  scale: Scale;
  processes: Processes;
  /** Shows what is being measured. */
  describe: (what: string) => void;
  /** Records an audit. Any violation fails the bench. */
  recordAudit: (where: string, violations: readonly string[]) => void;
  /** Records a measurement that failed. The bench goes on, and fails at the end. */
  recordFailure: (where: string, error: unknown) => void;
}

/** Worker processes by name. They live across rounds, so that their code stays compiled. */
export class Processes {
  readonly #running = new Map<string, WorkerProcess>();

  named(name: string): WorkerProcess {
    let running = this.#running.get(name);
    if (running === undefined) this.#running.set(name, (running = new WorkerProcess()));
    return running;
  }

  /** Ends the process of a failed measurement: what it left open would distort the next one. */
  async end(name: string): Promise<void> {
    const ending = this.#running.get(name);
    this.#running.delete(name);
    await ending?.end();
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((name) => this.end(name)));
  }
}
