import type { Scale } from './scale.ts';
import type { BenchStores } from './stores.ts';
import { WorkerProcess } from './worker-process.ts';

/** What the sections of the bench measure with. */
export interface BenchContext {
  stores: BenchStores;
  scale: Scale;
  processes: Processes;
  /** Says what is being measured. */
  tell: (what: string) => void;
  /** Notes what an audit found: where that is anything, the bench fails. */
  note: (where: string, violations: readonly string[]) => void;
  /** Notes what could not be measured: the bench then fails, after everything else. */
  fail: (where: string, error: unknown) => void;
}

/** Worker processes by name. They stay from round to round, so that their code stays compiled. */
export class Processes {
  readonly #running = new Map<string, WorkerProcess>();

  named(name: string): WorkerProcess {
    let running = this.#running.get(name);
    if (running === undefined) this.#running.set(name, (running = new WorkerProcess()));
    return running;
  }

  /** Ends one that failed: what it left open would be in what is measured next. */
  async end(name: string): Promise<void> {
    const ending = this.#running.get(name);
    this.#running.delete(name);
    await ending?.end();
  }

  async endAll(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((name) => this.end(name)));
  }
}
