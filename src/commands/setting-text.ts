/** Settings as text, which is how they are given on the command line and in the environment. */
import ms from 'ms';
import type { StringValue } from 'ms';
import { z } from 'zod';
import { settingMetadata, settingType } from '../lib/settings.ts';

const MS_PER_UNIT = { milliseconds: 1, seconds: 1_000 } as const;

/** The flag and the variable of a setting, for messages. */
export function settingName(field: z.ZodType): string {
  const { flag, variable } = settingMetadata(field);
  const name = flag?.split(' ')[0];
  if (name === undefined || variable === undefined) return name ?? variable!;
  return `${name} (${variable})`;
}

/**
 * The value of a setting that a text stands for. A text that is not a value of its type is returned unchanged: the schema
 * rejects it, and nothing is replaced by a default.
 */
export function parseSettingText(field: z.ZodType, text: string): unknown {
  const type = settingType(field);
  if (type instanceof z.ZodBoolean) return text === 'true' || (text === 'false' ? false : text);
  if (!(type instanceof z.ZodNumber)) return text;
  const { unit } = settingMetadata(field);
  if (unit === undefined) return /^\d+$/.test(text) ? Number(text) : text;
  const milliseconds = parseDurationMs(text);
  if (milliseconds === undefined) return text;
  return unit === 'seconds' ? milliseconds / 1_000 : Math.round(milliseconds);
}

/** The default of a setting as text; undefined when it has none, or when it is computed. */
export function defaultText(field: z.ZodType): string | undefined {
  const { unit, computedDefault } = settingMetadata(field);
  if (computedDefault !== undefined || !(field instanceof z.ZodDefault)) return undefined;
  const value: unknown = field.def.defaultValue;
  if (typeof value === 'number' && unit !== undefined) return formatDuration(value * MS_PER_UNIT[unit]);
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** The words that a setting may be; undefined for one of any other type. */
export function settingChoices(field: z.ZodType): string[] | undefined {
  const type = settingType(field);
  return type instanceof z.ZodEnum ? type.options.map(String) : undefined;
}

/** What a setting must be, as the end of a sentence about it. */
export function settingRequirement(field: z.ZodType): string {
  const type = settingType(field);
  const { example } = settingMetadata(field);
  const choices = settingChoices(field);
  if (type instanceof z.ZodBoolean) return 'must be true or false';
  if (choices !== undefined) return `must be one of ${choices.join(', ')}`;
  const requirement = type instanceof z.ZodNumber ? numberRequirement(field, type) : 'must not be empty';
  return example === undefined ? requirement : `${requirement}, such as ${example}`;
}

function numberRequirement(field: z.ZodType, { minValue, maxValue }: z.ZodNumber): string {
  const { unit } = settingMetadata(field);
  const show = (limit: number) => (unit === undefined ? String(limit) : formatDuration(limit * MS_PER_UNIT[unit]));
  const what = { none: 'a whole number', seconds: 'a duration in whole seconds', milliseconds: 'a duration' };
  const most = maxValue === null || maxValue === Number.MAX_SAFE_INTEGER ? '' : ` and at most ${show(maxValue)}`;
  return `must be ${what[unit ?? 'none']} of at least ${show(minValue ?? 0)}${most}`;
}

/** Milliseconds of a duration such as `500ms`, `90s`, `5m`, `1h` or `90d`; a bare number is seconds. */
export function parseDurationMs(text: string): number | undefined {
  if (/^\d+$/.test(text)) return Number(text) * 1_000;
  const isMeasurable = text !== '' && text.length <= 100;
  return isMeasurable ? ms(text as StringValue) : undefined;
}

const DURATION_UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const;

function formatDuration(milliseconds: number): string {
  const [suffix, length] = DURATION_UNITS.find((unit) => milliseconds % unit[1] === 0) ?? ['ms', 1];
  return `${milliseconds / length}${suffix}`;
}
