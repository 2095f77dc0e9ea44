import { spawn } from 'node:child_process';
import type { ChildProcess, ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { hasCode } from '../../lib/errors.ts';
import { SshdError } from '../errors.ts';
import { OutputTail } from '../output-tail.ts';

const PROGRAM = fileURLToPath(new URL('process-supervisor.sh', import.meta.url));

type SupervisorProcess = ChildProcessByStdio<Writable, null, Readable>;

/**
 * A process of its own that ends the sessions of an sshd when it is closed, or when this process has ended, even by
 * SIGKILL: SIGTERM for each held process group, SIGHUP for the groups that a session started, as a command leads one.
 */
export class ProcessSupervisor {
  readonly #child: SupervisorProcess;
  readonly #output: OutputTail;
  readonly #ended: Promise<number | NodeJS.Signals>;

  /** @throws {SshdError} when it cannot be started */
  static async start(): Promise<ProcessSupervisor> {
    const child = spawn('/bin/sh', [PROGRAM, 'TERM', 'HUP'], {
      // A session of its own: Ctrl-C on the terminal reaches this process only.
      detached: true,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw supervisorFailure(String(error));
    }
    return new ProcessSupervisor(child);
  }

  private constructor(child: SupervisorProcess) {
    this.#child = child;
    this.#output = new OutputTail(child.stderr);
    child.stdin.on('error', (error) => this.#output.append(`standard input: ${error.message}\n`));
    this.#ended = new Promise((resolve) => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
    });
  }

  /** From now on the process group is ended with this process. */
  hold(processGroup: number): void {
    this.#child.stdin.write(`hold ${processGroup}\n`);
  }

  /** The process group has ended, and its number may come to mean another one. */
  free(processGroup: number): void {
    this.#child.stdin.write(`free ${processGroup}\n`);
  }

  /** Ends what is held. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    const end = await this.#ended;
    if (end === 0) return;
    throw supervisorFailure(`it ended with ${end}. Its output ended:\n${this.#output.text}`);
  }
}

function supervisorFailure(detail: string): SshdError {
  return new SshdError(
    'supervisor_failed',
    `the sessions of the sshd cannot be ended with it, as their supervisor failed: ${detail}`,
  );
}

/** A process that was spawned detached, with its whole process group. */
export class ProcessGroup {
  /** Resolves to the exit code of its leader, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #leader: number;
  #isRunning = true;

  /** @param pid of the leader, which must have started; held by the supervisor until it ends */
  constructor(leader: ChildProcess, pid: number, supervisor: ProcessSupervisor) {
    this.#leader = pid;
    supervisor.hold(pid);
    this.ended = new Promise((resolve) => {
      leader.once('exit', (code, signal) => {
        this.#isRunning = false;
        supervisor.free(pid);
        resolve(code ?? signal ?? 'SIGKILL');
      });
    });
  }

  /** Does nothing once the leader has ended, whose number may mean another process then. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#isRunning) return;
    try {
      process.kill(-this.#leader, signal);
    } catch (error) {
      // It has ended, and its exit event is pending; or it runs as another user now.
      if (!hasCode(error, 'ESRCH', 'EPERM')) throw error;
    }
  }
}
