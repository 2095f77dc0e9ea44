import { Option } from 'commander';
import type { Command } from 'commander';
import { z } from 'zod';
import { workerSettingsSchema } from '../consumers/worker-settings.ts';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { setting, settingMetadata, timerMsSchema } from '../lib/settings.ts';
import type { SettingFields } from '../lib/settings.ts';
import { defaultText, parseSettingText, settingChoices, settingName, settingRequirement } from './setting-text.ts';

const { databaseUrl, queueUrl, prefix } = workerSettingsSchema.shape;

/** Settings of commands that read the tables. */
export const databaseSettings = { databaseUrl };

/** Settings of commands that publish. */
export const queueSettings = { queueUrl, prefix };

/** Settings of commands that publish, and may wait for a queue that is unreachable. */
export const publishSettings = {
  ...queueSettings,
  bufferMs: setting(timerMsSchema, {
    flag: '--buffer <duration>',
    unit: 'milliseconds',
    description: 'how long a message waits for a queue that is unreachable before publishing fails',
    example: '30s',
    computedDefault: 'publishing fails immediately',
  }).exactOptional(),
};

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** The severity from which log lines are written. */
export const logLevelSetting = setting(z.enum(LOG_LEVELS), {
  flag: '--log-level <level>',
  variable: 'LOG_LEVEL',
  description: 'least severe level that is logged, as JSON lines on stderr',
  example: 'debug',
}).default('info');

/** The key of sealed secrets. It has no flag: arguments show in `ps`. */
export const secretKeySetting = setting(z.string(), {
  variable: 'LESSOR_SECRET_KEY',
  description: 'key that opens sealed private keys in configs of environments: 32 bytes, as base64 or hexadecimal',
  example: '$(openssl rand -base64 32)',
}).optional();

/** The settings that were added to a command. */
const settingsByCommand = new WeakMap<Command, SettingFields>();

/** The settings of a command. */
export function settingsOf(command: Command): SettingFields {
  return settingsByCommand.get(command) ?? {};
}

/** An option whose value is kept under the name of its setting, as text. */
class SettingOption extends Option {
  readonly #setting: string;

  constructor(name: string, field: z.ZodType) {
    const { flag, variable, description, computedDefault } = settingMetadata(field);
    super(flag!, computedDefault === undefined ? description : `${description} (default: ${computedDefault})`);
    this.#setting = name;
    const choices = settingChoices(field);
    const byDefault = defaultText(field);
    if (choices !== undefined) this.argChoices = choices;
    if (variable !== undefined) this.env(variable);
    if (byDefault !== undefined) this.default(byDefault, byDefault);
    if (this.optional) this.preset('true');
  }

  override attributeName(): string {
    return this.#setting;
  }
}

/** Adds a flag for each setting, and to the help those that only the environment gives. Read them with {@link readSettings}. */
export function addSettings(command: Command, fields: SettingFields): Command {
  settingsByCommand.set(command, fields);
  const fromEnvironment: string[] = [];
  for (const [name, field] of Object.entries(fields)) {
    const { flag, variable, description } = settingMetadata(field);
    if (flag !== undefined) command.addOption(new SettingOption(name, field));
    else if (variable !== undefined) fromEnvironment.push(`  ${variable}  ${description}`);
  }
  if (fromEnvironment.length === 0) return command;
  return command.addHelpText('after', `\nRead from the environment only:\n${fromEnvironment.join('\n')}`);
}

/**
 * Reads settings from the options of a command, which commander took from flags, else from the environment, else from the
 * defaults. Every setting that is wrong is named, and none is shown: a URL can contain a password.
 * @throws {InvalidConfigurationError}
 */
export function readSettings<Fields extends SettingFields>(
  fields: Fields,
  options: object,
): z.output<z.ZodObject<Fields>> {
  const texts = new Map<string, string>();
  for (const [name, field] of Object.entries(fields)) {
    const { flag, variable } = settingMetadata(field);
    const text = flag === undefined ? process.env[variable ?? ''] : (options as Record<string, unknown>)[name];
    if (typeof text === 'string') texts.set(name, text);
  }
  const values = [...texts].map(([name, text]) => [name, parseSettingText(fields[name]!, text)]);
  const parsed = z.object(fields).safeParse(Object.fromEntries(values));
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const name = String(issue.path[0]);
    return describeProblem(fields[name]!, texts.get(name), issue);
  });
  throw new InvalidConfigurationError(problems.join('; '));
}

function describeProblem(field: z.ZodType, text: string | undefined, issue: z.core.$ZodIssue): string {
  if (text !== undefined && text !== '') {
    // A rule of our own has a message for people: the predicate of a sentence about the setting.
    return `${settingName(field)} ${issue.code === 'custom' ? issue.message : settingRequirement(field)}`;
  }
  const { flag, variable } = settingMetadata(field);
  const [name] = flag?.split(' ') ?? [variable];
  const remedy = flag === undefined || variable === undefined ? `set ${name}` : `give ${name}, or set ${variable}`;
  return `${name} is missing: ${remedy}`;
}
