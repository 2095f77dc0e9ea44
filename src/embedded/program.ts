import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { OutputTail } from './output-tail.ts';
import type { ServerAccount } from './server-account.ts';

/** One of PostgreSQL's programs, about to be run. */
export interface Program {
  readonly path: string;
  readonly args: readonly string[];
  readonly account: ServerAccount | undefined;
  /** A directory that the account can enter, which the working directory of this process may not be. */
  readonly workingDirectory: string;
}

export interface RunningProgram {
  readonly child: ChildProcessWithoutNullStreams;
  readonly output: OutputTail;
  /** Settles when the program has ended: its exit code or signal; rejects when it never started. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

export function startProgram({ path, args, account, workingDirectory }: Program): RunningProgram {
  const child = spawn(path, args, {
    cwd: workingDirectory,
    env: programEnvironment(),
    windowsHide: true,
    ...(account && { uid: account.uid, gid: account.gid }),
  });
  const output = new OutputTail(child.stdout, child.stderr);
  // A program that ends before it read its input says why in its exit code; this is quoted beside it.
  child.stdin.on('error', (error) => output.append(`standard input: ${error.message}\n`));
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
  });
  return { child, output, ended };
}

/** Runs a program that ends on its own, and ends it early with SIGTERM when `signal` is aborted. */
export async function runProgram(program: Program, input: string, signal: AbortSignal) {
  signal.throwIfAborted();
  const running = startProgram(program);
  const interrupt = () => running.child.kill('SIGTERM');
  signal.addEventListener('abort', interrupt, { once: true });
  try {
    running.child.stdin.end(input);
    const end = await running.ended;
    signal.throwIfAborted();
    return { end, output: running.output };
  } finally {
    signal.removeEventListener('abort', interrupt);
  }
}

/**
 * The environment of this process without the PG* variables, which would redirect the server, and without a locale and
 * zone of this machine: the C locale keeps the messages in the English that `server.ts` matches.
 */
function programEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG)/i.test(name));
  return { ...Object.fromEntries(kept), LC_ALL: 'C', TZ: 'UTC' };
}
