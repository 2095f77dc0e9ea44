import { text } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import {
  InvalidConfigurationError,
  LEASE_POLICIES,
  TERMINAL_RUN_STATUSES,
  ttlSecondsSchema,
} from '../contracts/index.ts';
import { createHeartbeatProducer } from '../producers/producer.ts';
import type { HeartbeatProducer, PublishedJob, RunEnd, RunHeartbeatInput, RunStart } from '../producers/producer.ts';
import { messageOf } from '../lib/errors.ts';
import { setting } from '../lib/settings.ts';
import type { SettingFields } from '../lib/settings.ts';
import { idOption } from './arguments.ts';
import { printableJson } from '../lib/printable.ts';
import { addSettings, publishSettings, readSettings } from './options.ts';

interface PublishOptions extends Record<string, unknown> {
  json: boolean;
}

const ttlSettings = {
  ttlSeconds: setting(ttlSecondsSchema, {
    flag: '--ttl-seconds <duration>',
    unit: 'seconds',
    description: 'time until the lease expires unless it is renewed',
    example: '5m',
  }).exactOptional(),
};

/** `lessor publish`: the messages of a heartbeat service, by hand. */
export function publishCommand(): Command {
  return new Command('publish')
    .description('publish a message about a run; without flags the whole payload (`lessor schema`) is read from stdin')
    .addCommand(
      publisher('run-started', ttlSettings, (producer, payload) => producer.runStarted(payload as RunStart))
        .addOption(idOption('--agent-id <id>', 'agent of the run'))
        .addOption(idOption('--issue-id <id>', 'issue that the run works on'))
        .addOption(idOption('--project-id <id>', 'project of the issue'))
        .addOption(idOption('--execution-workspace-id <id>', 'execution workspace, held by one run at a time'))
        .addOption(new Option('--lease-policy <policy>', 'when the lease ends').choices(LEASE_POLICIES)),
    )
    .addCommand(
      publisher('run-finished', {}, (producer, payload) => producer.runFinished(payload as RunEnd))
        .addOption(new Option('--status <status>', 'terminal status').choices(TERMINAL_RUN_STATUSES))
        .addOption(new Option('--failure-reason <text>', 'why the run failed')),
    )
    .addCommand(
      publisher('run-heartbeat', ttlSettings, (producer, payload) =>
        producer.runHeartbeat(payload as RunHeartbeatInput),
      ),
    );
}

/** The producer validates the payload, so its type is only asserted here. */
type Publish = (producer: HeartbeatProducer, payload: unknown) => Promise<PublishedJob>;

/** The options of a publisher besides its settings are the fields of the payload. */
function publisher(queue: string, payloadSettings: SettingFields, publish: Publish): Command {
  const command = new Command(queue).description(`publish a ${queue} job`);
  return addSettings(command, { ...publishSettings, ...payloadSettings })
    .addOption(idOption('--company-id <id>', 'company of the run'))
    .addOption(idOption('--run-id <id>', 'the run'))
    .option('--json', 'print {"jobId": …} instead of a sentence', false)
    .action(async ({ json, queueUrl, prefix, bufferMs, ...given }: PublishOptions) => {
      const hasFlags = Object.keys(given).length > 0;
      const payload = hasFlags ? { ...given, ...readSettings(payloadSettings, given) } : await readPayload();
      const producer = createHeartbeatProducer(readSettings(publishSettings, { queueUrl, prefix, bufferMs }));
      try {
        const published = await publish(producer, payload);
        process.stdout.write(json ? `${printableJson(published)}\n` : `published ${published.jobId} to ${queue}\n`);
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
    throw new InvalidConfigurationError(`the payload on stdin is not JSON: ${messageOf(error)}`);
  }
}
