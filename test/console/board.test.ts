import { beforeAll, expect, it } from 'vitest';
import { QUEUE_NAMES } from '../../src/queues/job-options.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { openServer, FAILED_REASON, runTwoJobs } from '../api/fixture.ts';
import { switchFor } from '../api/store-switch.ts';
import { storesOf } from '../api/stores.ts';

interface BoardQueue {
  name: string;
  counts: Record<string, number>;
  jobs: { id: string; data: unknown; failedReason?: string; returnValue?: unknown }[];
}

type Server = Awaited<ReturnType<typeof openServer>>;

async function readBoard(app: Server, status: string): Promise<BoardQueue[]> {
  const response = await app.inject(`/queues/api/queues?activeQueue=run-started&status=${status}`);
  expect(response.statusCode).toBe(200);
  return response.json<{ queues: BoardQueue[] }>().queues;
}

describeOnEachBackend('the console', (backend) => {
  const stores = storesOf(backend);
  beforeAll(() => runTwoJobs(stores));

  it('lists every queue', async () => {
    const queues = await readBoard(await openServer(stores), 'latest');
    expect(queues.map(({ name }) => name)).toEqual([...QUEUE_NAMES]);
  });

  it('shows a completed job with its data and result', async () => {
    const [queue] = await readBoard(await openServer(stores), 'completed');
    expect(queue?.counts['completed']).toBe(1);
    expect(queue?.jobs).toMatchObject([
      { id: 'completes', data: { runId: 'run-that-completes' }, returnValue: { status: 'active' } },
    ]);
  });

  it('shows a failed job with its data and reason', async () => {
    const [queue] = await readBoard(await openServer(stores), 'failed');
    expect(queue?.counts['failed']).toBe(1);
    expect(queue?.jobs).toMatchObject([
      { id: 'fails', data: { runId: 'run-that-fails' }, failedReason: FAILED_REASON },
    ]);
  });

  it('redirects / to the board', async () => {
    const app = await openServer(stores);
    const response = await app.inject('/');
    expect(response.statusCode).toBe(302);
    expect(response.headers.location).toBe('/queues');
    expect((await app.inject('/queues')).body).toContain('Lessor');
  });

  it('starts while the queues are unreachable, and shows them once they are reachable', async ({ onTestFinished }) => {
    const store = await switchFor(stores.queueUrl);
    onTestFinished(() => store.off());
    await store.off();
    const app = await openServer({ ...stores, queueUrl: store.url });

    const response = await app.inject('/queues/api/queues');
    expect(response.statusCode).toBe(503);
    expect(response.json()).toMatchObject({ message: expect.stringContaining('ECONNREFUSED') });

    await store.on();
    expect(await readBoard(app, 'latest')).toHaveLength(QUEUE_NAMES.length);
  });

  it('shows the queues again after an outage', async ({ onTestFinished }) => {
    const store = await switchFor(stores.queueUrl);
    onTestFinished(() => store.off());
    const app = await openServer({ ...stores, queueUrl: store.url });
    await readBoard(app, 'latest');

    await store.off();
    const during = await app.inject('/queues/api/queues');
    expect(during.statusCode).toBeGreaterThanOrEqual(500);

    await store.on();
    await expect
      .poll(async () => (await app.inject('/queues/api/queues')).statusCode, { timeout: 10_000, interval: 250 })
      .toBe(200);
  }, 20_000);
});
