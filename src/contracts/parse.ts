import type { z } from 'zod';
import { InvalidPayloadError } from './errors.ts';

/**
 * Parses input of the contract.
 * @param what names the input in the error, for example `run-started payload`
 * @throws {InvalidPayloadError} naming each field that does not fit and why
 */
export function parse<Schema extends z.ZodType>(schema: Schema, input: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(input);
  if (!parsed.success) throw new InvalidPayloadError(what, parsed.error);
  return parsed.data;
}
