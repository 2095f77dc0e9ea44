import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { LEASE_DIRECTORY_VARIABLE } from '../../src/ssh/lease-directory.ts';
import { runningProcesses } from '../../testing/running-processes.ts';
import { until } from '../../testing/until.ts';

/** A process that would sleep for years, known by for how many seconds. Ended after the test in any case. */
export class Sleeper {
  readonly seconds = String(randomInt(1_000_000_000, 2_000_000_000));

  constructor() {
    onTestFinished(() => this.#end());
  }

  /** The command that becomes it. */
  get command(): string {
    return `sleep ${this.seconds}`;
  }

  get pid(): number | undefined {
    return runningProcesses().find(({ command }) => command === this.command)?.pid;
  }

  get isAlive(): boolean {
    return this.pid !== undefined;
  }

  #end(): void {
    if (this.pid !== undefined) process.kill(this.pid, 'SIGKILL');
  }
}

/** How a sleeper is begun. */
export interface SleeperOptions {
  /** The shell script that begins it, given the command. By default it is the command itself. */
  script?: (command: string) => string;
  leaseDirectory?: string;
  cwd?: string;
}

/** Begins a process in a session of its own, and waits until it sleeps. */
export async function startSleeper({
  script = (command) => `exec ${command}`,
  leaseDirectory,
  cwd,
}: SleeperOptions = {}) {
  const sleeper = new Sleeper();
  const env = {
    PATH: process.env['PATH'],
    ...(leaseDirectory === undefined ? {} : { [LEASE_DIRECTORY_VARIABLE]: leaseDirectory }),
  };
  const child = spawn('sh', ['-c', script(sleeper.command)], {
    env,
    detached: true,
    stdio: 'ignore',
    ...(cwd === undefined ? {} : { cwd }),
  });
  child.unref();
  await until(() => sleeper.isAlive, { what: `the process of ${script(sleeper.command)}` });
  return sleeper;
}
