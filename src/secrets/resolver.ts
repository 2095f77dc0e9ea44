import { readFile, stat } from 'node:fs/promises';
import { EnvironmentFailedError } from '../contracts/index.ts';
import { describeReference, parseReference } from './reference.ts';
import type { SecretReference } from './reference.ts';
import { parseSecretKey, unsealSecret } from './sealing.ts';

/** Reads the secrets that configs refer to. */
export interface SecretResolver {
  /**
   * Resolves to the secret itself.
   * @throws {EnvironmentFailedError} `secret_unavailable`, which names the variable or file, never its content
   */
  resolve(reference: SecretReference): Promise<string>;
}

/** Where secrets are read from. */
export interface SecretSources {
  /** The variables of `env:NAME`. */
  env: Readonly<Record<string, string | undefined>>;
  /** The key of sealed secrets: 32 bytes as base64 or as hexadecimal digits. */
  secretKey: string | undefined;
}

/** Limit of a secret's file, in bytes: a private key has a few thousand. */
const MAXIMUM_FILE_BYTES = 64 * 1024;

/**
 * Creates a resolver of secret references.
 * @throws {InvalidConfigurationError} when `secretKey` is set and is not a key
 */
export function createSecretResolver({ env, secretKey }: SecretSources): SecretResolver {
  const key = secretKey === undefined || secretKey === '' ? undefined : parseSecretKey(secretKey);

  return {
    async resolve(reference) {
      const parsed = parseReference(reference);
      if (parsed === null) {
        throw unavailable(reference, 'it is neither env:NAME, nor file:/absolute/path, nor sealed:v1:…');
      }
      if (parsed.kind === 'env') return readVariable(env, parsed.name);
      if (parsed.kind === 'file') return readSecretFile(parsed.path);
      if (key === undefined) throw unavailable(reference, 'LESSOR_SECRET_KEY is not set here');
      return unsealSecret(parsed.sealed, key);
    },
  };
}

function readVariable(env: SecretSources['env'], name: string): string {
  const value = Object.hasOwn(env, name) ? env[name] : undefined;
  if (value === undefined || value === '') {
    const detail = `it is ${value === '' ? 'empty' : 'not set'} here; every worker and every process that executes needs it`;
    throw unavailable(`env:${name}`, detail);
  }
  return value;
}

async function readSecretFile(path: string): Promise<string> {
  const reference = `file:${path}`;
  let content: string;
  try {
    const { size } = await regularFile(path);
    if (size > MAXIMUM_FILE_BYTES) throw unavailable(reference, `its ${size} bytes are too many for a secret`);
    content = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof EnvironmentFailedError) throw error;
    throw unavailable(reference, explain(error as NodeJS.ErrnoException), { cause: error });
  }
  if (content.trim() === '') throw unavailable(reference, 'it is empty');
  return content;
}

/** Reading anything but a regular file, such as a pipe, can block indefinitely. */
async function regularFile(path: string) {
  const stats = await stat(path);
  if (!stats.isFile()) throw unavailable(`file:${path}`, 'it is not a regular file');
  return stats;
}

function explain(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT')
    return 'there is no such file here; every worker and every process that executes needs it';
  if (error.code === 'EACCES') return 'this process may not read it';
  return `reading it fails with ${error.code ?? error.message}`;
}

function unavailable(reference: SecretReference, detail: string, options?: ErrorOptions): EnvironmentFailedError {
  const message = `${describeReference(reference)} does not give the secret that it stands for: ${detail}`;
  return new EnvironmentFailedError('secret_unavailable', message, options);
}
