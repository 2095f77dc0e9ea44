import { Closers } from '../src/lib/closers.ts';
import { Progress } from './progress.ts';

/** What a program runs with. */
export interface ProgramContext {
  /** Run when the program ends, fails or is interrupted. */
  closers: Closers;
  progress: Progress;
  /** Aborted when the program ends, fails or is interrupted. */
  signal: AbortSignal;
}

/** Runs a command-line program. SIGINT and SIGTERM close its resources and then end the process. */
export async function runProgram(main: (context: ProgramContext) => Promise<void>): Promise<void> {
  const closers = new Closers();
  const progress = new Progress();
  const ending = new AbortController();
  let closing: Promise<void> | undefined;
  // Once, also when `main` fails because it was interrupted.
  const close = () => {
    ending.abort();
    progress.stop();
    return (closing ??= closers.close());
  };
  const interrupt = async (exitCode: number) => {
    await close();
    process.exit(exitCode);
  };
  process.once('SIGINT', () => void interrupt(130));
  process.once('SIGTERM', () => void interrupt(143));
  try {
    await main({ closers, progress, signal: ending.signal });
  } finally {
    await close();
  }
}
