import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parsePostgresUrl } from '../../src/lib/postgres-url.ts';
import { parseRedisUrl } from '../../src/queues/backends/redis-url.ts';

const compose = readFileSync(new URL('../../docker-compose.yml', import.meta.url), 'utf8');

/** The value of a variable of the services, with its placeholders for a password replaced. */
function urlIn(variable: string, password: string): string {
  const template = new RegExp(`^  ${variable}: (.+)$`, 'm').exec(compose)![1]!;
  return template.replace(/\$\{\w+_PASSWORD:-local-only\}/, () => password);
}

test('docker-compose.yml: a password of the characters that it permits is the same to the server and in the URL', () => {
  expect(compose.replaceAll('\n# ', ' ')).toContain('of letters, digits and - . _ ~ only');
  const password = 'azAZ09-._~';
  expect(parsePostgresUrl(urlIn('DATABASE_URL', password), 'the URL', {}).password).toBe(password);
  expect(parseRedisUrl(urlIn('QUEUE_URL', password)).access.password).toBe(password);
});

test('docker-compose.yml: a password that is percent-encoded would be another one to the server', () => {
  expect(parsePostgresUrl(urlIn('DATABASE_URL', 'p%40ss'), 'the URL', {}).password).not.toBe('p%40ss');
  expect(compose).not.toMatch(/so percent-encode/);
});
