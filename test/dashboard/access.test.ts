import { describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { InvalidConfigurationError } from '../../src/contracts/index.ts';
import { readCredentials } from '../../src/dashboard/credentials.ts';
import { isLoopback } from '../../src/dashboard/loopback.ts';
import { startDashboard } from '../../src/dashboard/server.ts';
import { useDatabase } from '../support/database.ts';
import { buildDashboard, serveDashboard } from './fixture.ts';

const CREDENTIALS = { username: 'operator', password: 'pass:word with a colon, ünd umlaut' };

function basic(username: string, password: string): { authorization: string } {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
}

const { url: databaseUrl } = useDatabase();
const stores = { databaseUrl, queueUrl: databaseUrl };

describe('with credentials', () => {
  it.each(['/', '/queues', '/queues/api/queues', '/queues/static/js/none.js', '/nothing-here'])(
    'asks for them at %s',
    async (url) => {
      const app = await buildDashboard({ ...stores, credentials: CREDENTIALS });
      const response = await app.inject(url);
      expect(response.statusCode).toBe(401);
      expect(response.headers['www-authenticate']).toContain('realm="lessor"');
    },
  );

  it('refuses wrong ones and takes the right ones', async () => {
    const app = await buildDashboard({ ...stores, credentials: CREDENTIALS });
    const statusWith = async (headers: { authorization: string }) =>
      (await app.inject({ url: '/queues/api/queues', headers })).statusCode;
    expect(await statusWith(basic(CREDENTIALS.username, 'wrong'))).toBe(401);
    expect(await statusWith(basic('wrong', CREDENTIALS.password))).toBe(401);
    expect(await statusWith(basic(CREDENTIALS.username, ''))).toBe(401);
    expect(await statusWith({ authorization: 'Bearer token' })).toBe(401);
    expect(await statusWith(basic(CREDENTIALS.username, CREDENTIALS.password))).toBe(200);
  });

  it.each(['/health/live', '/health/ready'])('lets anyone ask %s', async (url) => {
    const app = await buildDashboard({ ...stores, credentials: CREDENTIALS });
    expect((await app.inject({ url, headers: { host: 'lessor.internal' } })).statusCode).toBe(200);
  });
});

describe('without credentials', () => {
  it.each(['0.0.0.0', '::', '192.0.2.1', 'lessor.internal'])('refuses to listen on %s', async (host) => {
    const starting = startDashboard({ ...stores, host, port: 0, logger: pino({ level: 'silent' }) });
    await expect(starting).rejects.toThrow(InvalidConfigurationError);
    await expect(starting).rejects.toThrow(/DASHBOARD_USERNAME and DASHBOARD_PASSWORD/);
  });

  it('answers this machine only under its own names', async () => {
    const app = await buildDashboard(stores);
    const statusAs = async (host: string) => (await app.inject({ url: '/queues', headers: { host } })).statusCode;
    expect(await statusAs('localhost:3000')).toBe(200);
    expect(await statusAs('127.0.0.1:3000')).toBe(200);
    expect(await statusAs('[::1]:3000')).toBe(200);
    expect(await statusAs('rebound.example:3000')).toBe(403);
  });
});

it('lets no other site press its buttons', async () => {
  const app = await buildDashboard(stores);
  const pauseFrom = async (headers: Record<string, string>) =>
    (await app.inject({ method: 'PUT', url: '/queues/api/queues/run-started/pause', headers })).statusCode;
  expect(await pauseFrom({ 'sec-fetch-site': 'cross-site' })).toBe(403);
  expect(await pauseFrom({ 'sec-fetch-site': 'same-site' })).toBe(403);
  expect(await pauseFrom({ origin: 'http://elsewhere.example' })).toBe(403);
  expect(await pauseFrom({ origin: 'null' })).toBe(403);
  expect(await pauseFrom({ 'sec-fetch-site': 'same-origin', origin: 'http://localhost' })).toBe(200);
  expect(await pauseFrom({})).toBe(200);
});

it('says which setting is wrong when the port is taken', async () => {
  const { url } = await serveDashboard(stores);
  const port = Number(new URL(url).port);
  const second = startDashboard({ ...stores, host: '127.0.0.1', port, logger: pino({ level: 'silent' }) });
  await expect(second).rejects.toThrow(/DASHBOARD_PORT/);
});

it.each([
  ['queueUrl', 'mysql://127.0.0.1'],
  ['queueUrl', 'not a url'],
])('refuses %s %s at the start', async (setting, value) => {
  const starting = buildDashboard({ ...stores, [setting]: value });
  await expect(starting).rejects.toThrow(InvalidConfigurationError);
});

describe('credentials of the environment', () => {
  it('are none when neither is set', () => {
    expect(readCredentials({})).toBeUndefined();
  });

  it('are both settings', () => {
    expect(readCredentials({ DASHBOARD_USERNAME: 'a', DASHBOARD_PASSWORD: 'b' })).toEqual({
      username: 'a',
      password: 'b',
    });
  });

  it.each([
    { DASHBOARD_USERNAME: 'a' },
    { DASHBOARD_PASSWORD: 'b' },
    { DASHBOARD_USERNAME: '', DASHBOARD_PASSWORD: 'b' },
    { DASHBOARD_USERNAME: 'a', DASHBOARD_PASSWORD: '' },
    { DASHBOARD_USERNAME: 'a:b', DASHBOARD_PASSWORD: 'c' },
  ])('are refused when %o', (environment) => {
    expect(() => readCredentials(environment)).toThrow(InvalidConfigurationError);
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
])('knows whether only this machine reaches %s: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
