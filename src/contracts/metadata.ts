import { z } from 'zod';
import { MAXIMUM_METADATA_BYTES, MAXIMUM_METADATA_DEPTH } from './limits.ts';
import { isStorableText } from './text.ts';

/** A JSON object of the caller's own, kept on the lease. */
export type Metadata = Record<string, unknown>;

/**
 * A JSON object of at most 16 KiB whose every string can be stored.
 * The walk is iterative: a hostile payload nested thousands deep is refused, not a stack overflow.
 */
export const metadataSchema = z
  .record(z.string(), z.unknown())
  .superRefine((metadata, context) => {
    const problem = problemOf(metadata);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem.message, path: problem.path });
  })
  .describe(`at most ${MAXIMUM_METADATA_BYTES} bytes of JSON, nested at most ${MAXIMUM_METADATA_DEPTH} deep`);

interface Problem {
  message: string;
  path: string[];
}

function problemOf(metadata: Metadata): Problem | undefined {
  const pending: { value: unknown; path: string[] }[] = [{ value: metadata, path: [] }];
  for (let entry = pending.pop(); entry !== undefined; entry = pending.pop()) {
    const { value, path } = entry;
    if (path.length > MAXIMUM_METADATA_DEPTH) {
      return { path, message: `is nested more than ${MAXIMUM_METADATA_DEPTH} deep` };
    }
    if (isContainer(value)) {
      for (const [key, child] of Object.entries(value)) {
        if (!isStorableText(key)) return { path, message: 'has a key with a NUL character or a lone surrogate' };
        pending.push({ value: child, path: [...path, key] });
      }
      continue;
    }
    const message = problemOfScalar(value);
    if (message !== undefined) return { path, message };
  }
  const bytes = Buffer.byteLength(JSON.stringify(metadata));
  if (bytes <= MAXIMUM_METADATA_BYTES) return undefined;
  return { path: [], message: `is ${bytes} bytes of JSON, more than the ${MAXIMUM_METADATA_BYTES} allowed` };
}

function isContainer(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
}

function problemOfScalar(value: unknown): string | undefined {
  if (value === null || typeof value === 'boolean') return undefined;
  if (typeof value === 'string') {
    return isStorableText(value) ? undefined : 'contains a NUL character or a lone surrogate, which cannot be stored';
  }
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : 'is not a finite number';
  return 'is not a JSON value';
}
