import { randomUUID } from 'node:crypto';
import { Command, Option } from 'commander';
import ora from 'ora';
import { LEASE_POLICIES } from '../contracts/index.ts';
import type { LeasePolicy } from '../contracts/index.ts';
import { createHeartbeatProducer } from '../producers/producer.ts';
import { CommandRun } from './command-run.ts';
import { exitCodeOf, reportError } from './report-error.ts';
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
  policy?: LeasePolicy;
  ttl: number;
  leaseWait: number;
  timeout?: number;
  killAfter: number;
}

/** As `docker run` and `env` have it: told apart from most commands' own codes. */
const EXIT_LESSOR_FAILED = 125;

const EXIT_CODES = `
Exits with the command's own code, or 128 and the number of the signal that ended it; 126 or 127 when the command
cannot be started; 125 when Lessor itself failed, for example because the run was denied a lease.

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
    .addHelpText('after', EXIT_CODES)
    .action(runUnderLease);
}

async function runUnderLease([file, ...args]: [string, ...string[]], flags: RunFlags): Promise<void> {
  // Reading the keyboard would swallow Ctrl-C, and a terminal that tells no width cannot be drawn on.
  const spinner = ora({
    text: 'waiting for a lease',
    stream: process.stderr,
    discardStdin: false,
    isSilent: !process.stderr.isTTY || !process.stderr.columns,
  });
  const producer = createHeartbeatProducer({
    queueUrl: checkedQueueUrl(flags.queueUrl),
    prefix: flags.queuePrefix,
    ...(flags.buffer === undefined ? {} : { bufferMs: flags.buffer }),
  });
  const run = new CommandRun(producer, {
    command: { file, args },
    run: {
      companyId: flags.company,
      runId: flags.run,
      agentId: flags.agent,
      issueId: flags.issue,
      projectId: flags.project,
      executionWorkspaceId: flags.workspace,
      leasePolicy: flags.policy,
      ttlSeconds: flags.ttl,
    },
    leaseWaitMs: flags.leaseWait,
    timeoutMs: flags.timeout,
    killAfterMs: flags.killAfter,
    onLease: (lease) =>
      spinner.succeed(`${lease.environment.name}: lease ${lease.id}, fencing token ${lease.fencingToken}`),
  });
  spinner.start();
  try {
    process.exitCode = await run.execute();
  } catch (error) {
    spinner.stop();
    reportError(error);
    process.exitCode = exitCodeOf(error, EXIT_LESSOR_FAILED);
  } finally {
    spinner.stop();
    await producer.close();
  }
}
