import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { RunStarted } from '../../src/contracts/index.ts';
import { useDatabase } from '../support/database.ts';
import { lapse, runFinished, runHeartbeat, runStarted } from '../support/factories.ts';
import { operationsOn, readLease, renew, toldOf } from '../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

const granted = async (overrides: Partial<RunStarted> = {}) => {
  const payload = runStarted({ ttlSeconds: 60, ...overrides });
  const lease = await operations.granted(payload);
  return { payload, lease, id: lease.id };
};

const expiryOf = async (id: string) => (await readLease(database.sql, id)).expires_at.getTime();

describe('a heartbeat', () => {
  test('extends the lease by its own ttl, or by the one that the lease was given', async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    const outcome = await operations.renew(runHeartbeat(payload));
    const byItsTtl = await expiryOf(id);
    expect(byItsTtl).toBeGreaterThan(before);
    expect(byItsTtl - before).toBeLessThan(30_000);
    expect(outcome).toMatchObject({ result: { leases: [{ id, status: 'active' }] } });
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect((await expiryOf(id)) - before).toBeGreaterThanOrEqual(540_000);
    expect(await toldOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired']);
  });

  test('never shortens the lease', async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 1 }));
    expect(await expiryOf(id)).toBe(before);
  });

  test.for(['succeeded', 'failed'] as const)('never revives the lease of a run that %s', async (status) => {
    const { payload, id } = await granted();
    await operations.finish(runFinished(payload, { status }));
    const before = await readLease(database.sql, id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect(await readLease(database.sql, id)).toEqual(before);
  });

  test('never extends a lease that is retained after its run', async () => {
    const { payload, id } = await granted({ leasePolicy: 'retain_on_failure' });
    await operations.finish(runFinished(payload, { status: 'failed' }));
    const before = await readLease(database.sql, id);
    await operations.renew(runHeartbeat(payload, { ttlSeconds: 600 }));
    expect(await readLease(database.sql, id)).toEqual(before);
  });

  test('saves a lease that has lapsed and was not swept yet, and tells it', async () => {
    const { payload, id } = await granted({ agentId: randomUUID() });
    await lapse(database.sql, id);
    await operations.renew(runHeartbeat(payload));
    expect(await expiryOf(id)).toBeGreaterThan(Date.now() + 30_000);
    await operations.renew(runHeartbeat(payload));
    expect(await toldOf(database.sql, payload.companyId)).toEqual(['created', 'lease_acquired', 'lease_renewed']);
  });

  test("same-company: of another company's run is refused, and renews nothing", async () => {
    const { payload, id } = await granted();
    const before = await expiryOf(id);
    const foreign = runHeartbeat({ ...payload, companyId: randomUUID() }, { ttlSeconds: 600 });
    expect(await operations.renew(foreign)).toMatchObject({ kind: 'refused', refusal: { code: 'foreign_run' } });
    expect(await expiryOf(id)).toBe(before);
  });

  test('in one batch with others of its run is carried out as often as it was sent', async () => {
    const { payload, id } = await granted();
    const outcomes = await operations.apply([
      renew(runHeartbeat(payload)),
      renew(runHeartbeat(payload, { ttlSeconds: 600 })),
      renew(runHeartbeat(payload, { ttlSeconds: 1 })),
    ]);
    expect(outcomes.map((outcome) => outcome.kind)).toEqual(['done', 'done', 'done']);
    expect(await expiryOf(id)).toBeGreaterThan(Date.now() + 500_000);
  });
});
