import { readFile } from 'node:fs/promises';
import { InvalidConfigurationError } from '../../contracts/index.ts';
import type { Metadata } from '../../contracts/index.ts';

/**
 * Reads the JSON object that a flag gives, or the file that it names after an `@`.
 * @throws {InvalidConfigurationError} which repeats nothing of what was given: somebody may have pasted a secret
 */
export async function readObject(flag: string, given: string): Promise<Metadata> {
  const text = given.startsWith('@') ? await readText(flag, given.slice(1)) : given;
  const value = parseJson(flag, text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Metadata;
  throw new InvalidConfigurationError(`${flag} is no JSON object: give one such as {"host": "build-1"}, or @FILE`);
}

async function readText(flag: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new InvalidConfigurationError(`${flag} cannot be read: ${(error as Error).message}`);
  }
}

function parseJson(flag: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The parser's message repeats part of the text.
    const where = / at position \d+/.exec((error as Error).message)?.[0] ?? '';
    throw new InvalidConfigurationError(`${flag} is not JSON${where}: give an object, or @FILE`);
  }
}
