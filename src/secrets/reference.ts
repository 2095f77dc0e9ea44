import { z } from 'zod';
import { isStorableText } from '../contracts/index.ts';

/** Where a secret is read from, as a config has it: `env:NAME`, `file:/absolute/path` or `sealed:v1:…`. */
export type SecretReference = string;

/** A parsed reference. */
export type ParsedReference =
  { kind: 'env'; name: string } | { kind: 'file'; path: string } | { kind: 'sealed'; sealed: string };

/** Limit of a reference, in UTF-16 code units: a sealed one carries the whole secret. */
const MAXIMUM_REFERENCE_LENGTH = 16_384;

// eslint-disable-next-line no-control-regex
const FILE = /^file:(\/[^\u0000-\u001f\u007f]+)$/;
const VARIABLE = /^env:([A-Za-z_][A-Za-z0-9_]*)$/;
const SEALED = /^(sealed:v1:[A-Za-z0-9_-]+)$/;

/**
 * A reference to a secret, never the secret itself. Its error does not repeat the input, which may be a pasted private
 * key.
 */
export const secretReferenceSchema = z
  .string({ error: 'must be a reference to a secret, in text' })
  .refine((text) => text.length <= MAXIMUM_REFERENCE_LENGTH && isStorableText(text) && parseReference(text) !== null, {
    error:
      'must be a reference to a secret, not the secret itself: env:NAME, file:/absolute/path, ' +
      'or sealed:v1:…, which is sealed under LESSOR_SECRET_KEY',
  })
  .describe('where the secret is read from: env:NAME, file:/absolute/path or sealed:v1:…');

/** Parses a reference; null when it is none. */
export function parseReference(reference: SecretReference): ParsedReference | null {
  const name = VARIABLE.exec(reference)?.[1];
  if (name !== undefined) return { kind: 'env', name };
  const path = FILE.exec(reference)?.[1];
  if (path !== undefined) return { kind: 'file', path };
  const sealed = SEALED.exec(reference)?.[1];
  return sealed === undefined ? null : { kind: 'sealed', sealed };
}

/** How messages name a reference: its kind, and its name or path. */
export function describeReference(reference: SecretReference): string {
  const parsed = parseReference(reference);
  if (parsed?.kind === 'env') return `the environment variable ${parsed.name}`;
  if (parsed?.kind === 'file') return `the file ${parsed.path}`;
  return parsed === null ? 'the reference to a secret' : 'the sealed secret';
}
