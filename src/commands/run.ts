import { randomUUID } from 'node:crypto';
import { Command, Option } from 'commander';
import {
  DEFAULT_TTL_SECONDS,
  InvalidConfigurationError,
  LEASE_POLICIES,
  ttlSecondsSchema,
} from '../contracts/index.ts';
import type { LeasePolicy } from '../contracts/index.ts';
import { checkCommand } from '../execution/driver.ts';
import { executionDrivers } from '../execution/execute-in-environment.ts';
import { resolveWorkspaceDirectory } from '../execution/workspace/local-tree.ts';
import { setting, timerMsSchema } from '../lib/settings.ts';
import { createHeartbeatProducer } from '../producers/producer.ts';
import { CommandRun } from './command-run.ts';
import { idOption } from './arguments.ts';
import { addSettings, publishSettings, readSettings } from './options.ts';
import { exitCodeOf, reportError } from './report-error.ts';
import { RunDisplay } from './run-display.ts';

const SETTINGS = {
  ...publishSettings,
  ttlSeconds: setting(ttlSecondsSchema, {
    flag: '--ttl <duration>',
    unit: 'seconds',
    description: 'time until the lease expires unless it is renewed',
    example: '5m',
  }).default(DEFAULT_TTL_SECONDS),
  leaseWaitMs: setting(timerMsSchema, {
    flag: '--lease-wait <duration>',
    unit: 'milliseconds',
    description: 'how long to wait for the lease',
    example: '5m',
  }).default(330_000),
  timeoutMs: setting(timerMsSchema, {
    flag: '--timeout <duration>',
    unit: 'milliseconds',
    description: 'how long the command may run',
    example: '1h',
    computedDefault: 'no limit',
  }).optional(),
  killAfterMs: setting(timerMsSchema, {
    flag: '--kill-after <duration>',
    unit: 'milliseconds',
    description: 'time between SIGTERM and SIGKILL',
    example: '10s',
  }).default(10_000),
};

interface RunOptions {
  company: string;
  run: string;
  agent?: string;
  issue?: string;
  project?: string;
  workspace?: string;
  environment?: string;
  workspaceDir?: string;
  env: string[];
  policy?: LeasePolicy;
}

/** The code of `docker run` and `env` for a failure of their own, which few commands use. */
const EXIT_LESSOR_FAILED = 125;

const EXPLANATION = `
On Local the command inherits every variable of this process except LESSOR_SECRET_KEY, elsewhere only those that --env
names. It also finds LESSOR_RUN_ID, LESSOR_LEASE_ID, LESSOR_FENCING_TOKEN, and PAPERCLIP_ENVIRONMENT with the
workspacePath of the environment.
Over SSH, unless the environment's config says in_place, --workspace-dir is uploaded without the files that .gitignore
excludes, and what changed is downloaded afterwards. A file that changed on both sides keeps its local version; the other
is stored under .lessor/conflicts. Private keys that the environment refers to are read here: from variables, from files,
or sealed, which LESSOR_SECRET_KEY opens.

Exits with the code of the command, or 128 plus the number of the signal that ended it; 126 or 127 when the command
cannot be started; 124 when --timeout passed; 125 when Lessor itself failed: the lease was rejected, the environment could not be reached, or not all
changes could be downloaded.

The end of the run is published as succeeded (code 0), failed (another code, a crash, or SIGKILL), cancelled (this
process received a signal, or somebody ended the command with SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGPIPE) or timed_out (--timeout passed). While the queue is unreachable, publishing is
retried for as long as the ttl, from 30 seconds to 5 minutes, or --buffer when that is longer; another signal stops it.`;

/** `lessor run`: executes a command under a lease. */
export function runCommand(): Command {
  const command = new Command('run').description('run a command under a lease: acquire, execute, renew, release');
  return addSettings(command, SETTINGS)
    .addOption(idOption('--company <id>', 'company of the run').makeOptionMandatory())
    .addOption(idOption('--run <id>', 'id of the run').default(randomUUID(), 'a new one'))
    .addOption(idOption('--agent <id>', 'agent of the run'))
    .addOption(idOption('--issue <id>', 'issue that the run works on'))
    .addOption(idOption('--project <id>', 'project of the issue'))
    .addOption(idOption('--workspace <id>', 'execution workspace, held by one run at a time'))
    .addOption(idOption('--environment <id>', 'environment to execute in, before any other that is configured'))
    .addOption(
      new Option('--workspace-dir <dir>', 'directory that the command works on (default: on Local the current one)'),
    )
    .addOption(
      new Option('--env <name[=value]>', 'variable for the command; without a value, the one set here; repeatable')
        .argParser((variable: string, variables: string[]) => [...variables, variable])
        .default([], 'none'),
    )
    .addOption(new Option('--policy <policy>', 'when the lease ends').choices(LEASE_POLICIES))
    .argument('<command...>', 'the command and its arguments, after --')
    .addHelpText('after', EXPLANATION)
    .action(runUnderLease);
}

async function runUnderLease(command: [string, ...string[]], options: RunOptions): Promise<void> {
  const env = readVariables(options.env);
  checkCommand({ argv: command, env });
  const workspaceDirectory =
    options.workspaceDir === undefined ? undefined : await resolveWorkspaceDirectory(options.workspaceDir);
  const { ttlSeconds, leaseWaitMs, timeoutMs, killAfterMs, ...publishing } = readSettings(SETTINGS, options);
  const drivers = executionDrivers(process.env);
  const producer = createHeartbeatProducer(publishing);
  const display = new RunDisplay(process.stderr);
  const run = new CommandRun(producer, {
    command,
    env,
    workspaceDirectory,
    drivers,
    run: {
      companyId: options.company,
      runId: options.run,
      agentId: options.agent,
      issueId: options.issue,
      projectId: options.project,
      executionWorkspaceId: options.workspace,
      // The most specific selection wins: one for the issue comes before those for project and agent.
      ...(options.environment === undefined ? {} : { environment: { issue: options.environment } }),
      leasePolicy: options.policy,
      ttlSeconds,
    },
    leaseWaitMs,
    timeoutMs,
    killAfterMs,
    observer: display,
  });
  display.start();
  try {
    process.exitCode = await run.execute();
  } catch (error) {
    display.stop();
    reportError(error);
    process.exitCode = exitCodeOf(error, EXIT_LESSOR_FAILED);
  } finally {
    display.stop();
    await producer.close();
  }
}

/**
 * The variables of `--env`: `NAME=VALUE`, or `NAME` for the value it has here. Commander shows a value that its own parser
 * rejects, and this one can be a secret.
 * @throws {InvalidConfigurationError} for a variable that is not set here
 */
function readVariables(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((variable) => {
      const separator = variable.indexOf('=');
      if (separator !== -1) return [variable.slice(0, separator), variable.slice(separator + 1)];
      const value = process.env[variable];
      if (value !== undefined) return [variable, value];
      throw new InvalidConfigurationError(`--env ${variable} is not set here: set ${variable}, or give NAME=VALUE`);
    }),
  );
}
