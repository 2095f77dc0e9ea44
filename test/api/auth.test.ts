import { describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { InvalidConfigurationError } from '../../src/contracts/index.ts';
import { credentialsOf } from '../../src/api/auth.ts';
import { isLoopback } from '../../src/api/auth.ts';
import { startServer } from '../../src/api/server.ts';
import { useDatabase } from '../support/database.ts';
import { openServer, listenOnLoopback } from './fixture.ts';

const CREDENTIALS = { username: 'operator', password: 'pass:word with a colon, ünd umlaut' };

function basic(username: string, password: string): { authorization: string } {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
}

const { url: databaseUrl } = useDatabase();
const stores = { databaseUrl, queueUrl: databaseUrl };

describe('a server with credentials', () => {
  it.each(['/', '/queues', '/queues/api/queues', '/queues/static/js/none.js', '/nothing-here'])(
    'answers 401 without them at %s',
    async (url) => {
      const app = await openServer({ ...stores, credentials: CREDENTIALS });
      const response = await app.inject(url);
      expect(response.statusCode).toBe(401);
      expect(response.headers['www-authenticate']).toContain('realm="lessor"');
    },
  );

  it('rejects wrong credentials and accepts the right ones', async () => {
    const app = await openServer({ ...stores, credentials: CREDENTIALS });
    const statusWith = async (headers: { authorization: string }) =>
      (await app.inject({ url: '/queues/api/queues', headers })).statusCode;
    expect(await statusWith(basic(CREDENTIALS.username, 'wrong'))).toBe(401);
    expect(await statusWith(basic('wrong', CREDENTIALS.password))).toBe(401);
    expect(await statusWith(basic(CREDENTIALS.username, ''))).toBe(401);
    expect(await statusWith({ authorization: 'Bearer token' })).toBe(401);
    expect(await statusWith(basic(CREDENTIALS.username, CREDENTIALS.password))).toBe(200);
  });

  it.each(['/health/live', '/health/ready'])('answers %s without them', async (url) => {
    const app = await openServer({ ...stores, credentials: CREDENTIALS });
    expect((await app.inject({ url, headers: { host: 'lessor.internal' } })).statusCode).toBe(200);
  });
});

describe('a server without credentials', () => {
  it.each(['0.0.0.0', '::', '192.0.2.1', 'lessor.internal'])('does not listen on %s', async (host) => {
    const starting = startServer({ ...stores, host, port: 0, logger: pino({ level: 'silent' }) });
    await expect(starting).rejects.toThrow(InvalidConfigurationError);
    await expect(starting).rejects.toThrow(/DASHBOARD_USERNAME and DASHBOARD_PASSWORD/);
  });

  it('answers only under the names of this machine', async () => {
    const app = await openServer(stores);
    const statusAs = async (host: string) => (await app.inject({ url: '/queues', headers: { host } })).statusCode;
    expect(await statusAs('localhost:3000')).toBe(200);
    expect(await statusAs('127.0.0.1:3000')).toBe(200);
    expect(await statusAs('[::1]:3000')).toBe(200);
    expect(await statusAs('rebound.example:3000')).toBe(403);
  });
});

it('rejects changes from other origins', async () => {
  const app = await openServer(stores);
  const pauseFrom = async (headers: Record<string, string>) =>
    (await app.inject({ method: 'PUT', url: '/queues/api/queues/run-started/pause', headers })).statusCode;
  expect(await pauseFrom({ 'sec-fetch-site': 'cross-site' })).toBe(403);
  expect(await pauseFrom({ 'sec-fetch-site': 'same-site' })).toBe(403);
  expect(await pauseFrom({ origin: 'http://elsewhere.example' })).toBe(403);
  expect(await pauseFrom({ origin: 'null' })).toBe(403);
  expect(await pauseFrom({ 'sec-fetch-site': 'same-origin', origin: 'http://localhost' })).toBe(200);
  expect(await pauseFrom({})).toBe(200);
});

it('names the setting that is wrong when the port is in use', async () => {
  const { url } = await listenOnLoopback(stores);
  const port = Number(new URL(url).port);
  const second = startServer({ ...stores, host: '127.0.0.1', port, logger: pino({ level: 'silent' }) });
  await expect(second).rejects.toThrow(/DASHBOARD_PORT/);
});

it.each([
  ['queueUrl', 'mysql://127.0.0.1'],
  ['queueUrl', 'not a url'],
])('rejects %s %s before it listens', async (setting, value) => {
  const starting = openServer({ ...stores, [setting]: value });
  await expect(starting).rejects.toThrow(InvalidConfigurationError);
});

describe('credentials', () => {
  it('are undefined when neither setting is given', () => {
    expect(credentialsOf({})).toBeUndefined();
  });

  it('are both settings', () => {
    expect(credentialsOf({ username: 'a', password: 'b' })).toEqual({ username: 'a', password: 'b' });
  });

  it.each([
    { username: 'a' },
    { password: 'b' },
    { username: '', password: 'b' },
    { username: 'a', password: '' },
    { username: 'a:b', password: 'c' },
  ])('are rejected: %o', (settings) => {
    expect(() => credentialsOf(settings)).toThrow(InvalidConfigurationError);
  });
});

it.each([
  ['127.0.0.1', true],
  ['127.1.2.3', true],
  ['::1', true],
  ['[::1]', true],
  ['localhost', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.0.0.1', false],
  ['localhost.example', false],
  ['127.0.0.1.example', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
