import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { levels } from 'pino';
import type { SoakStores } from './stores.ts';

/** Where the package is. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Short, so that what a killed replica held is soon taken over. */
const LOCK_DURATION = '3s';
const SWEEP_INTERVAL = '2s';

/** Nobody is to be refused because the machine is slow. */
const LEASE_WAIT = '1h';

/** Few, so that a killed replica takes few down with it: kills are to disturb the work, not to stop it. */
const CONCURRENCY = '50';

/** A `lessor worker` process, of the compiled command. */
export class Replica {
  /** Resolves with how it ended. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #process: ChildProcess;
  #hasStarted = false;

  constructor({ postgres, queueUrl }: SoakStores, name: string) {
    const durations = [
      '--lock-duration',
      LOCK_DURATION,
      '--sweep-interval',
      SWEEP_INTERVAL,
      '--lease-wait',
      LEASE_WAIT,
    ];
    this.#process = spawn(
      process.execPath,
      ['dist/cli.js', 'worker', '--replica', name, '--concurrency', CONCURRENCY, ...durations],
      {
        cwd: ROOT,
        env: { ...process.env, DATABASE_URL: postgres.url, QUEUE_URL: queueUrl, LOG_LEVEL: 'info' },
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    createInterface({ input: this.#process.stderr! }).on('line', (line) => this.#read(line));
    this.ended = once(this.#process, 'exit').then(
      ([code, signal]: (number | NodeJS.Signals | null)[]) => (code ?? signal) as number | NodeJS.Signals,
    );
  }

  /** Whether it takes up jobs. */
  get isAtWork(): boolean {
    return this.#hasStarted && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Errors are passed on; outages and rejections, which are warnings, are what a soak is made of. */
  #read(line: string): void {
    const entry = parseLogLine(line);
    if (entry?.msg === 'worker started') this.#hasStarted = true;
    if (entry === undefined || entry.level >= levels.values['error']!) process.stderr.write(`${line}\n`);
  }
}

/** Undefined for what is not a line of the log, such as the last words of a process. */
function parseLogLine(line: string): { level: number; msg: string } | undefined {
  try {
    return JSON.parse(line) as { level: number; msg: string };
  } catch {
    return undefined;
  }
}
