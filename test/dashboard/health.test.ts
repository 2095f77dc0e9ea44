import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkReadiness } from '../../src/dashboard/readiness.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { buildDashboard } from './fixture.ts';
import { switchFor } from './store-switch.ts';
import type { StoreSwitch } from './store-switch.ts';
import { storesOf } from './stores.ts';

const READY = { status: 'ready', postgres: 'up', queue: 'up' };

describeOnEachBackend('health', (backend) => {
  const stores = storesOf(backend);
  let queueStore: StoreSwitch;
  beforeAll(async () => {
    queueStore = await switchFor(stores.queueUrl);
  });
  afterAll(() => queueStore.off());

  it('is ready while both stores answer, again once the queue has recovered, and live all along', async () => {
    await queueStore.on();
    const app = await buildDashboard({ ...stores, queueUrl: queueStore.url });
    const ready = await app.inject('/health/ready');
    expect([ready.statusCode, ready.json()]).toEqual([200, READY]);

    await queueStore.off();
    const away = await app.inject('/health/ready');
    expect(away.statusCode).toBe(503);
    expect(away.json()).toEqual({
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

  it('does not wait for a queue that accepts connections and says nothing', async () => {
    await queueStore.hang();
    const started = performance.now();
    const readiness = await checkReadiness({ ...stores, queueUrl: queueStore.url, timeoutMs: 300 });
    expect(performance.now() - started).toBeLessThan(1_500);
    expect(readiness).toMatchObject({ queue: 'down', reasons: { queue: 'no answer within 300 ms' } });
  });
});

describeOnEachBackend('readiness of Postgres', (backend) => {
  const stores = storesOf(backend);

  it('says that Postgres is away, and why', async ({ onTestFinished }) => {
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

  it('keeps passwords to itself', async () => {
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
