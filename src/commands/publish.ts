import { text } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import { InvalidConfigurationError, LEASE_POLICIES, TERMINAL_RUN_STATUSES } from '../contracts/index.ts';
import { createHeartbeatProducer } from '../producers/producer.ts';
import type { HeartbeatProducer, PublishedJob, RunEnd, RunHeartbeatInput, RunStart } from '../producers/producer.ts';
import { bufferOption, checkedQueueUrl, parseId, parseTtl, queuePrefixOption, queueUrlOption } from './settings.ts';
import { messageOf } from '../lib/errors.ts';

interface PublishFlags extends Record<string, unknown> {
  queueUrl?: string;
  queuePrefix: string;
  buffer?: number;
  json: boolean;
}

/** `lessor publish`: what a heartbeat service publishes, by hand. */
export function publishCommand(): Command {
  return new Command('publish')
    .description(
      'publish what happened to a run; without flags the whole payload (`lessor schema`) is read from stdin as JSON',
    )
    .addCommand(
      publisher('run-started', (producer, payload) => producer.runStarted(payload as RunStart))
        .addOption(new Option('--agent-id <id>', 'the agent that runs').argParser(parseId))
        .addOption(new Option('--issue-id <id>', 'the issue it works on').argParser(parseId))
        .addOption(new Option('--project-id <id>', 'the project of the issue').argParser(parseId))
        .addOption(new Option('--execution-workspace-id <id>', 'the execution workspace').argParser(parseId))
        .addOption(new Option('--lease-policy <policy>', 'what becomes of the lease').choices(LEASE_POLICIES))
        .addOption(new Option('--ttl-seconds <time>', 'until the lease lapses unless renewed').argParser(parseTtl)),
    )
    .addCommand(
      publisher('run-finished', (producer, payload) => producer.runFinished(payload as RunEnd))
        .addOption(new Option('--status <status>', 'how it ended').choices(TERMINAL_RUN_STATUSES))
        .addOption(new Option('--failure-reason <text>', 'why it failed')),
    )
    .addCommand(
      publisher('run-heartbeat', (producer, payload) => producer.runHeartbeat(payload as RunHeartbeatInput)).addOption(
        new Option('--ttl-seconds <time>', 'the ttl to renew by').argParser(parseTtl),
      ),
    );
}

/** The payload is checked by the producer, so its type is only claimed here. */
type Publish = (producer: HeartbeatProducer, payload: unknown) => Promise<PublishedJob>;

function publisher(queue: string, publish: Publish): Command {
  return new Command(queue)
    .description(`publish a ${queue} job`)
    .addOption(queueUrlOption())
    .addOption(queuePrefixOption())
    .addOption(bufferOption())
    .addOption(new Option('--company-id <id>', 'the company the run is of').argParser(parseId))
    .addOption(new Option('--run-id <id>', 'the run').argParser(parseId))
    .option('--json', 'print {"jobId": …} instead of a sentence', false)
    .action(async ({ queueUrl, queuePrefix, buffer, json, ...flags }: PublishFlags) => {
      const payload = Object.keys(flags).length > 0 ? flags : await readPayload();
      const producer = createHeartbeatProducer({
        queueUrl: checkedQueueUrl(queueUrl),
        prefix: queuePrefix,
        ...(buffer === undefined ? {} : { bufferMs: buffer }),
      });
      try {
        const published = await publish(producer, payload);
        process.stdout.write(json ? `${JSON.stringify(published)}\n` : `published ${published.jobId} to ${queue}\n`);
      } finally {
        await producer.close();
      }
    });
}

async function readPayload(): Promise<unknown> {
  if (process.stdin.isTTY) throw new InvalidConfigurationError('give --company-id and --run-id, or a payload on stdin');
  const input = await text(process.stdin);
  try {
    return JSON.parse(input);
  } catch (error) {
    const detail = messageOf(error);
    throw new InvalidConfigurationError(`the payload on stdin is not JSON: ${detail}`);
  }
}
