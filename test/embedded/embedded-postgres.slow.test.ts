import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { startEmbeddedPostgres } from '../../src/embedded/index.ts';
import { findTraces, query, setting, start } from './server-fixture.ts';

vi.setConfig({ testTimeout: 60_000 });

describe('an ephemeral embedded Postgres', () => {
  test('serves queries in a database of its own, on 127.0.0.1 only', async () => {
    const { url } = await start();
    expect(url).toMatch(/^postgres:\/\/lessor:[\w-]{32}@127\.0\.0\.1:\d+\/lessor$/);
    const [row] = await query(url, 'select current_user as user, current_database() as database');
    expect(row).toEqual({ user: 'lessor', database: 'lessor' });
    expect(await setting(url, 'listen_addresses')).toBe('127.0.0.1');
    expect(await setting(url, 'unix_socket_directories')).toBe('');
  });

  test('rejects clients without the password', async () => {
    const { url } = await start();
    const wrong = new URL(url);
    wrong.password = 'wrong';
    await expect(query(wrong.href, 'select 1')).rejects.toThrow('password authentication failed');
  });

  test('takes settings, and trades durability for speed', async () => {
    const { url } = await start({ settings: { max_connections: 300 } });
    expect(await setting(url, 'max_connections')).toBe('300');
    expect(await setting(url, 'fsync')).toBe('off');
  });

  test('runs beside another on a different port', async () => {
    const [first, second] = await Promise.all([start(), start()]);
    expect(new URL(first.url).port).not.toBe(new URL(second.url).port);
    expect(await query(first.url, 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(await query(second.url, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('leaves neither directory nor process when stopped, however often', async () => {
    const server = await start();
    const traces = await findTraces(server.url);
    expect(traces.remaining()).not.toEqual([]);
    await Promise.all([server.stop(), server.stop()]);
    expect(traces.remaining()).toEqual([]);
  });

  test('reports that its server had ended on its own', async () => {
    const warn = vi.fn<(message: string) => void>();
    const server = await startEmbeddedPostgres({ logger: { info: () => undefined, warn } });
    const traces = await findTraces(server.url);
    process.kill(traces.postmaster, 'SIGKILL');
    await expect(server.stop()).rejects.toMatchObject({ code: 'server_failed' });
    expect(warn).toHaveBeenCalledOnce();
    expect(existsSync(traces.directory)).toBe(false);
  });

  test('rejects a port that is taken, with the reason', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    onTestFinished(() => void squatter.close());
    const address = squatter.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    await expect(start({ port })).rejects.toMatchObject({ name: 'EmbeddedPostgresError', code: 'port_in_use' });
  });

  test('quotes the server when a setting is wrong', async () => {
    await expect(start({ settings: { no_such_setting: 1 } })).rejects.toThrow(
      /unrecognized configuration parameter "no_such_setting"/,
    );
  });
});
