import { constants } from 'node:os';
import { pino } from 'pino';
import type { Logger } from 'pino';
import { escapeInJson } from '../lib/printable.ts';

/** A logger that writes JSON lines to stderr: stdout is for results. */
export function createLogger(level: string): Logger {
  const stderr = pino.destination({ dest: 2, sync: true });
  // `lessor dev` and `lessor worker` are read on terminals too, and log lines carry what hosts say.
  return pino({ name: 'lessor', level }, { write: (line) => stderr.write(escapeInJson(line)) });
}

/** Resolves with the first SIGTERM or SIGINT. A second one ends the process immediately. */
export function firstShutdownSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let received = 0;
    const onSignal = (signal: NodeJS.Signals) => {
      received += 1;
      if (received > 1) process.exit(128 + constants.signals[signal]);
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

/** Closes a service, or ends the process with code 1 when that takes longer. */
export async function closeWithin(service: { close(): Promise<void> }, milliseconds: number): Promise<void> {
  const deadline = setTimeout(() => {
    process.stderr.write(`error: did not close within ${milliseconds} ms\n`);
    process.exit(1);
  }, milliseconds);
  try {
    await service.close();
  } finally {
    clearTimeout(deadline);
  }
}
