import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EnvironmentFailedError, InvalidConfigurationError } from '../../src/contracts/index.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { sealSecret } from '../../src/secrets/sealing.ts';

const newKey = () => randomBytes(32).toString('base64');

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lessor-secrets-'));
});
afterAll(() => rm(directory, { recursive: true }));

const resolverOf = (env: Record<string, string | undefined>, secretKey?: string) =>
  createSecretResolver({ env, secretKey });

/** How a reference that gives no secret fails. */
async function failureOf(resolved: Promise<string>): Promise<EnvironmentFailedError> {
  const error: unknown = await resolved.then(
    () => new Error('it was resolved'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EnvironmentFailedError);
  expect(error).toMatchObject({ code: 'secret_unavailable' });
  return error as EnvironmentFailedError;
}

describe('a variable', () => {
  test('resolves to its value unchanged', async () => {
    expect(await resolverOf({ KEY: ' line\nline\n' }).resolve('env:KEY')).toBe(' line\nline\n');
  });

  test.each([
    ['not set', {}],
    ['empty', { KEY: '' }],
  ])('that is %s is named', async (state, env) => {
    const { message } = await failureOf(resolverOf(env).resolve('env:KEY'));
    expect(message).toContain('environment variable KEY');
    expect(message).toContain(state);
  });

  test('is never a property that every object has', async () => {
    for (const name of ['constructor', '__proto__']) {
      expect((await failureOf(resolverOf({}).resolve(`env:${name}`))).message).toContain(`${name} does not give`);
    }
  });
});

describe('a file', () => {
  test('resolves to its content', async () => {
    const path = join(directory, 'a key');
    await writeFile(path, 'the key\n');
    expect(await resolverOf({}).resolve(`file:${path}`)).toBe('the key\n');
  });

  test.each([
    ['that is not there', 'absent', 'no such file'],
    ['that is empty', 'empty', 'it is empty'],
    ['that is a directory', 'directory', 'not a regular file'],
    ['that is far too large', 'large', 'too many'],
  ])('%s is named, with what is wrong', async (_case, name, wrong) => {
    const path = join(directory, name);
    if (name === 'directory') await mkdir(path);
    if (name === 'empty') await writeFile(path, '\n');
    if (name === 'large') await writeFile(path, 'planted'.repeat(20_000));
    const { message } = await failureOf(resolverOf({}).resolve(`file:${path}`));
    expect(message).toContain(path);
    expect(message).toContain(wrong);
    expect(message).not.toContain('planted');
  });
});

describe('a sealed secret', () => {
  test('is unsealed by the key it was sealed under, in every encoding of the key', async () => {
    const bytes = randomBytes(32);
    const clear = '-----BEGIN KEY-----\nünïcode\n';
    for (const sealingKey of [bytes.toString('base64'), bytes.toString('base64url'), bytes.toString('hex')]) {
      const sealed = sealSecret(clear, sealingKey);
      expect(sealed).not.toContain('BEGIN');
      expect(await resolverOf({}, `${bytes.toString('hex').toUpperCase()}\n`).resolve(sealed)).toBe(clear);
    }
  });

  test('is never sealed the same way twice', () => {
    const key = newKey();
    expect(sealSecret('same', key)).not.toBe(sealSecret('same', key));
  });

  test('that was changed in any byte is not unsealed', async () => {
    const key = newKey();
    const secret = randomUUID();
    const prefix = 'sealed:v1:';
    const sealed = Buffer.from(sealSecret(secret, key).slice(prefix.length), 'base64url');
    const changes = fc.tuple(fc.nat({ max: sealed.length - 1 }), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(changes, async ([at, by]) => {
        const changed = Buffer.from(sealed);
        changed[at]! ^= by;
        const { message } = await failureOf(resolverOf({}, key).resolve(prefix + changed.toString('base64url')));
        expect(message).not.toContain(secret);
      }),
    );
  });

  test('that was truncated or extended is not unsealed', async () => {
    const key = newKey();
    const sealed = sealSecret('secret', key);
    for (const changed of [sealed.slice(0, -1), sealed.slice(0, 30), 'sealed:v1:A', `${sealed}AAAA`, `${sealed}A`]) {
      expect((await failureOf(resolverOf({}, key).resolve(changed))).message).not.toContain('secret"');
    }
  });

  test('reports whether it was sealed under another key or changed', async () => {
    const key = newKey();
    const sealed = sealSecret('secret', key);
    const underAnother = await failureOf(resolverOf({}, newKey()).resolve(sealed));
    expect(underAnother.message).toContain('sealed under another LESSOR_SECRET_KEY');
    const changed = sealed.endsWith('A') ? `${sealed.slice(0, -2)}BA` : `${sealed.slice(0, -2)}AQ`;
    const altered = await failureOf(resolverOf({}, key).resolve(changed));
    expect(altered.message).not.toContain('another LESSOR_SECRET_KEY');
  });

  test('names LESSOR_SECRET_KEY when it is missing', async () => {
    const { message } = await failureOf(resolverOf({}).resolve(sealSecret('secret', newKey())));
    expect(message).toContain('LESSOR_SECRET_KEY is not set');
  });
});

test.each(['planted', randomBytes(16).toString('base64'), randomBytes(33).toString('base64'), 'z'.repeat(64)])(
  'a LESSOR_SECRET_KEY that is not 32 bytes is rejected without repeating it',
  (wrong) => {
    for (const use of [() => resolverOf({}, wrong), () => sealSecret('secret', wrong)]) {
      let error: unknown;
      try {
        use();
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(InvalidConfigurationError);
      expect((error as Error).message).toContain('LESSOR_SECRET_KEY');
      expect((error as Error).message).not.toContain(wrong);
    }
  },
);

test('an invalid reference is not repeated in the error', async () => {
  const { message } = await failureOf(resolverOf({}).resolve('planted'));
  expect(message).not.toContain('planted');
});
