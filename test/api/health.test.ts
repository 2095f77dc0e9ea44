import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkReadiness } from '../../src/api/health.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { openServer } from './fixture.ts';
import { switchFor } from './store-switch.ts';
import type { StoreSwitch } from './store-switch.ts';
import { storesOf } from './stores.ts';

const READY = { status: 'ready', postgres: 'up', queue: 'up' };

describeOnEachBackend('readiness of the queue', (backend) => {
  const stores = storesOf(backend);
  let queueStore: StoreSwitch;
  beforeAll(async () => {
    queueStore = await switchFor(stores.queueUrl);
  });
  afterAll(() => queueStore.off());

  it('is unavailable while the queue is unreachable and ready afterwards, and liveness is unaffected', async () => {
    await queueStore.on();
    const app = await openServer({ ...stores, queueUrl: queueStore.url });
    const ready = await app.inject('/health/ready');
    expect([ready.statusCode, ready.json()]).toEqual([200, READY]);

    await queueStore.off();
    const unavailable = await app.inject('/health/ready');
    expect(unavailable.statusCode).toBe(503);
    expect(unavailable.json()).toEqual({
      status: 'unavailable',
      postgres: 'up',
      queue: 'down',
      reasons: { queue: expect.stringContaining('ECONNREFUSED') },
    });
    expect((await app.inject('/health/live')).statusCode).toBe(200);

    await queueStore.on();
    const recovered = await app.inject('/health/ready');
    expect([recovered.statusCode, recovered.json()]).toEqual([200, READY]);
  });

  it('is unavailable within the timeout when the queue accepts connections and never answers', async () => {
    await queueStore.hang();
    const started = performance.now();
    const readiness = await checkReadiness({ ...stores, queueUrl: queueStore.url, timeoutMs: 300 });
    expect(performance.now() - started).toBeLessThan(1_500);
    expect(readiness).toMatchObject({ queue: 'down', reasons: { queue: 'no answer within 300 ms' } });
  });
});

describeOnEachBackend('readiness of Postgres', (backend) => {
  const stores = storesOf(backend);

  it('is unavailable with a reason while Postgres is unreachable or never answers', async ({ onTestFinished }) => {
    const postgres = await switchFor(stores.databaseUrl);
    onTestFinished(() => postgres.off());
    await postgres.off();
    expect(await checkReadiness({ ...stores, databaseUrl: postgres.url })).toEqual({
      status: 'unavailable',
      postgres: 'down',
      queue: 'up',
      reasons: { postgres: expect.stringContaining('ECONNREFUSED') },
    });

    await postgres.hang();
    const started = performance.now();
    const readiness = await checkReadiness({ ...stores, databaseUrl: postgres.url, timeoutMs: 300 });
    expect(performance.now() - started).toBeLessThan(1_500);
    expect(readiness.reasons).toEqual({ postgres: 'no answer within 300 ms' });
  });

  it('shows no password in its reasons', async () => {
    const secret = 'hunter2-of-the-store';
    const withPassword = (url: string) => Object.assign(new URL(url), { username: 'nobody', password: secret }).href;
    const readiness = await checkReadiness({
      databaseUrl: withPassword(stores.databaseUrl).replace(/\/[^/]*$/, '/no_such_database'),
      queueUrl: withPassword(stores.queueUrl),
    });
    expect(readiness).toMatchObject({ status: 'unavailable', postgres: 'down', queue: 'down' });
    expect(JSON.stringify(readiness)).not.toContain(secret);
  });
});
