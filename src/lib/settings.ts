import { z } from 'zod';

/** What is known of a setting besides its type. Flags, variables, `--help` and docs/configuration.md come from it. */
export interface SettingMetadata {
  /** What the setting decides, as a phrase. */
  description: string;
  /** The flag with a placeholder for its value, as `--help` shows it: `--concurrency <n>`. */
  flag?: string;
  /** The environment variable. A variable without a flag is for secrets: arguments show in `ps`. */
  variable?: string;
  /** The unit of the number in code. On the command line a setting with a unit is a duration such as `90s`. */
  unit?: 'milliseconds' | 'seconds';
  /** A valid value, as it is written on the command line. */
  example?: string;
  /** The default in words, where it is computed. */
  computedDefault?: string;
}

/** Settings by name. */
export type SettingFields = Readonly<Record<string, z.ZodType>>;

const registry = z.registry<SettingMetadata>();

/** A field of a settings schema, with its description, which it keeps when it is made optional or given a default. */
export function setting<Schema extends z.ZodType>(schema: Schema, metadata: SettingMetadata): Schema {
  // A copy: several settings have the same schema.
  const field = schema.clone();
  registry.add(field, metadata);
  return field;
}

/** The description of a field: its own, or that of the schema it wraps. */
export function settingMetadata(field: z.ZodType): SettingMetadata {
  const metadata = registry.get(field);
  if (metadata !== undefined) return metadata;
  const inner = unwrapped(field);
  if (inner === field) throw new TypeError('this schema is not a setting: describe it with setting()');
  return settingMetadata(inner);
}

/** The type of a field without its default, whether optional or not. */
export function settingType(field: z.ZodType): z.ZodType {
  const inner = unwrapped(field);
  return inner === field ? field : settingType(inner);
}

function unwrapped(field: z.ZodType): z.ZodType {
  const isWrapper =
    field instanceof z.ZodDefault || field instanceof z.ZodOptional || field instanceof z.ZodExactOptional;
  return isWrapper ? (field.unwrap() as z.ZodType) : field;
}

/** A duration that a timer can hold: Node fires one of more than 24.8 days immediately. */
export const timerMsSchema = z
  .int()
  .min(1)
  .max(24 * 86_400_000);
