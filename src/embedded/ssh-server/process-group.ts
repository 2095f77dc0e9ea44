import type { ChildProcess } from 'node:child_process';
import { hasCode } from '../../lib/errors.ts';
import type { OwnerWatch } from './owner-watch.ts';

/** A process that was spawned detached, with all of its process group. */
export class ProcessGroup {
  /** Resolves to the exit code of its leader, or the signal that it died of. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #leader: number;
  #running = true;

  /** @param pid The leader, which must have started. It is in the care of `watch` until it ends. */
  constructor(leader: ChildProcess, pid: number, watch: OwnerWatch) {
    this.#leader = pid;
    watch.hold(pid);
    this.ended = new Promise((resolve) => {
      leader.once('exit', (code, signal) => {
        this.#running = false;
        watch.free(pid);
        resolve(code ?? signal ?? 'SIGKILL');
      });
    });
  }

  /** Harmless when the leader has ended, whose number may have come to mean another process. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#running) return;
    try {
      process.kill(-this.#leader, signal);
    } catch (error) {
      // It has ended, and its end is on the way to us; or it runs as another user now.
      if (!hasCode(error, 'ESRCH', 'EPERM')) throw error;
    }
  }
}
