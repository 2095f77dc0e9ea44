import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { AnswerMessage, CallMessage, WorkerCalls } from './worker-calls.ts';

const CHILD = fileURLToPath(new URL('worker-child.js', import.meta.url));

/** As in the Dockerfile, and the same for all contenders. */
export const NODE_FLAGS = ['--max-old-space-size=1024', '--max-semi-space-size=32'] as const;

/** A Node process for one contender or worker alone, so that the measurement includes nothing else. */
export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #calls = 0;

  constructor() {
    this.#child = fork(CHILD, {
      execArgv: [...NODE_FLAGS],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    this.#child.on('message', (answer) => this.#settle(answer as AnswerMessage));
    this.#child.on('exit', (code, signal) => this.#rejectAll(new Error(`the process ended with ${signal ?? code}`)));
    this.#child.on('error', (error) => this.#rejectAll(error));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  call<Method extends keyof WorkerCalls>(
    method: Method,
    ...args: Parameters<WorkerCalls[Method]>
  ): ReturnType<WorkerCalls[Method]> {
    const call = (this.#calls += 1);
    const message: CallMessage = { call, method, args };
    const answered = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(call, { resolve, reject });
      this.#child.send(message, (error) => {
        if (error) this.#settle({ call, error: error.message });
      });
    });
    return answered as ReturnType<WorkerCalls[Method]>;
  }

  /** Ends the process, whatever it is doing. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  #settle(answer: AnswerMessage): void {
    const pending = this.#pending.get(answer.call);
    this.#pending.delete(answer.call);
    if ('error' in answer) pending?.reject(Object.assign(new Error(answer.error), { stack: answer.stack }));
    else pending?.resolve(answer.result);
  }

  #rejectAll(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
