import { Option } from 'commander';
import type { Command } from 'commander';
import { DEFAULT_RELEASE_ATTEMPTS } from '../queues/retry-policy.ts';
import { parseCount, parseSwitch } from './settings.ts';

/** What commands that run a worker are told about environments other than `Local`. */
export interface EnvironmentFlags {
  enableEnvironments: boolean;
  driverConcurrency: number;
  environmentConcurrency: number;
  releaseAttempts: number;
}

/** How a worker gets the secrets of environments. */
export const SECRET_KEY_HELP = `
Private keys that are sealed in configs of environments are opened under LESSOR_SECRET_KEY, which is read from the
environment only: 32 bytes as base64 or hexadecimal digits. Keys that a config names by env:NAME or file:/path are read
from this process's environment and files.`;

/** Adds the options of {@link EnvironmentFlags}: their names are those of the worker's settings. */
export function addEnvironmentOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--enable-environments [boolean]', 'lease environments other than Local: experimental')
        .env('ENABLE_ENVIRONMENTS')
        .preset('true')
        .argParser(parseSwitch)
        .default(false),
    )
    .addOption(countOption('--driver-concurrency <n>', 'calls of drivers under way at once', 'DRIVER_CONCURRENCY', 50))
    .addOption(
      countOption('--environment-concurrency <n>', 'of these, on one environment', 'ENVIRONMENT_CONCURRENCY', 8),
    )
    .addOption(releaseAttemptsOption());
}

/** `--release-attempts`, or RELEASE_ATTEMPTS. */
export function releaseAttemptsOption(): Option {
  const what = 'how often the release of a lease is tried before it is left to an operator';
  return countOption('--release-attempts <n>', what, 'RELEASE_ATTEMPTS', DEFAULT_RELEASE_ATTEMPTS);
}

function countOption(flags: string, description: string, variable: string, fallback: number): Option {
  return new Option(flags, description).env(variable).default(fallback).argParser(parseCount);
}
