import { randomUUID } from 'node:crypto';
import { Command, Option } from 'commander';
import { LEASE_POLICIES } from '../contracts/index.ts';
import type { LeasePolicy } from '../contracts/index.ts';
import { checkCommand } from '../execution/driver.ts';
import { executionDrivers } from '../execution/execute-in-environment.ts';
import { resolveWorkspaceDirectory } from '../execution/workspace/local-tree.ts';
import { createHeartbeatProducer } from '../producers/producer.ts';
import { CommandRun } from './command-run.ts';
import { readVariables } from './named-variables.ts';
import { exitCodeOf, reportError } from './report-error.ts';
import { RunDisplay } from './run-display.ts';
import {
  bufferOption,
  checkedQueueUrl,
  parseDuration,
  parseId,
  parseTtl,
  queuePrefixOption,
  queueUrlOption,
} from './settings.ts';

interface RunFlags {
  queueUrl?: string;
  queuePrefix: string;
  buffer?: number;
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
  ttl: number;
  leaseWait: number;
  timeout?: number;
  killAfter: number;
}

/** As `docker run` and `env` have it: told apart from most commands' own codes. */
const EXIT_LESSOR_FAILED = 125;

const EXPLANATION = `
On Local the command is given all variables of this process but LESSOR_SECRET_KEY, elsewhere only those that --env names,
and what tells it of its lease: LESSOR_RUN_ID, LESSOR_LEASE_ID, LESSOR_FENCING_TOKEN, and PAPERCLIP_ENVIRONMENT with the
workspacePath there.
Over SSH, unless its config says in_place, --workspace-dir is brought to the host, without what .gitignore files leave
out, and what changed there is brought back: a file that changed on both sides is left as it is, and the other version
put under .lessor/conflicts. Private keys that the environment refers to are read here: from variables, from files, or
sealed, which LESSOR_SECRET_KEY opens.

Exits with the command's own code, or 128 and the number of the signal that ended it; 126 or 127 when the command
cannot be started; 125 when Lessor itself failed, for example because the run was denied a lease, the environment could
not be reached, or not all that changed could be brought back.

The run's end is published as succeeded (code 0), failed (another code, or a crash), cancelled (a signal ended the
command, or this process was sent one) or timed_out (--timeout passed). While the queue is away it is tried for as
long as the ttl, from 30 seconds to 5 minutes, or --buffer when that is longer; another signal ends that.`;

/** `lessor run`: executes a command under a lease. */
export function runCommand(): Command {
  return new Command('run')
    .description('run a command under a lease: acquire, execute, renew, release')
    .addOption(queueUrlOption())
    .addOption(queuePrefixOption())
    .addOption(bufferOption())
    .addOption(new Option('--company <id>', 'the company the run is of').argParser(parseId).makeOptionMandatory())
    .addOption(
      new Option('--run <id>', 'id of the run; default a new one').argParser(parseId).default(randomUUID(), 'new'),
    )
    .addOption(new Option('--agent <id>', 'the agent that runs').argParser(parseId))
    .addOption(new Option('--issue <id>', 'the issue it works on').argParser(parseId))
    .addOption(new Option('--project <id>', 'the project of the issue').argParser(parseId))
    .addOption(new Option('--workspace <id>', 'the execution workspace, held by one run at a time').argParser(parseId))
    .addOption(new Option('--environment <id>', 'the environment to execute in, before all others').argParser(parseId))
    .addOption(
      new Option('--workspace-dir <dir>', 'what the command works on; default none, on Local the current directory'),
    )
    .addOption(
      new Option('--env <name[=value]>', 'a variable for the command, from here without a value; repeatable')
        .argParser((variable: string, variables: string[]) => [...variables, variable])
        .default([], 'none'),
    )
    .addOption(new Option('--policy <policy>', 'what becomes of the lease').choices(LEASE_POLICIES))
    .addOption(
      new Option('--ttl <time>', 'until the lease lapses unless renewed').default(300, '5m').argParser(parseTtl),
    )
    .addOption(
      new Option('--lease-wait <time>', 'how long to wait for the lease')
        .default(330_000, '5.5m')
        .argParser(parseDuration),
    )
    .addOption(new Option('--timeout <time>', 'how long the command may run').argParser(parseDuration))
    .addOption(
      new Option('--kill-after <time>', 'from SIGTERM to SIGKILL').default(10_000, '10s').argParser(parseDuration),
    )
    .argument('<command...>', 'the command and its arguments, after --')
    .addHelpText('after', EXPLANATION)
    .action(runUnderLease);
}

async function runUnderLease(command: [string, ...string[]], flags: RunFlags): Promise<void> {
  const env = readVariables(flags.env, process.env);
  checkCommand({ argv: command, env });
  const workspaceDirectory =
    flags.workspaceDir === undefined ? undefined : await resolveWorkspaceDirectory(flags.workspaceDir);
  const drivers = executionDrivers(process.env);
  const producer = createHeartbeatProducer({
    queueUrl: checkedQueueUrl(flags.queueUrl),
    prefix: flags.queuePrefix,
    ...(flags.buffer === undefined ? {} : { bufferMs: flags.buffer }),
  });
  const display = new RunDisplay(process.stderr);
  const run = new CommandRun(producer, {
    command,
    env,
    workspaceDirectory,
    drivers,
    run: {
      companyId: flags.company,
      runId: flags.run,
      agentId: flags.agent,
      issueId: flags.issue,
      projectId: flags.project,
      executionWorkspaceId: flags.workspace,
      // What is named for a run comes before what is set for its agent or project.
      ...(flags.environment === undefined ? {} : { environment: { issue: flags.environment } }),
      leasePolicy: flags.policy,
      ttlSeconds: flags.ttl,
    },
    leaseWaitMs: flags.leaseWait,
    timeoutMs: flags.timeout,
    killAfterMs: flags.killAfter,
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
