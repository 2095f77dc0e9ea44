import { Option } from 'commander';
import { pino } from 'pino';
import type { Logger } from 'pino';

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** `--log-level`, or LOG_LEVEL. */
export function logLevelOption(level: (typeof LEVELS)[number] = 'info'): Option {
  return new Option('--log-level <level>', 'least severe log lines to write')
    .env('LOG_LEVEL')
    .choices(LEVELS)
    .default(level);
}

/** A logger that writes JSON lines to stderr: stdout is for results. */
export function createLogger(level: string): Logger {
  return pino({ name: 'lessor', level }, pino.destination({ dest: 2, sync: true }));
}
