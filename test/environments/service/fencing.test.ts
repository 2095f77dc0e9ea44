import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { environmentService } from '../../../src/environments/service/index.ts';
import { backdateExpiry } from '../../support/factories.ts';
import { untilWaitingForLocks } from '../../support/locks.ts';
import { useEnvironmentService } from './service-fixture.ts';

const environments = useEnvironmentService();

describe('fenced: assertCurrent', () => {
  test('lets the holder pass', async () => {
    const { lease } = await environments.newLease();
    await expect(environments.service.assertCurrent(lease.id, lease.fencingToken)).resolves.toBeUndefined();
  });

  test('rejects another token than the lease has', async () => {
    const { lease } = await environments.newLease();
    await expect(environments.service.assertCurrent(lease.id, lease.fencingToken + 1)).rejects.toMatchObject({
      code: 'lease_stale',
      message: expect.stringContaining(`its fencing token is not ${lease.fencingToken + 1}`),
    });
  });

  test('rejects the holder of a lease that has ended', async () => {
    const { lease } = await environments.newLease();
    await environments.service.releaseLease(lease.id);
    await expect(environments.service.assertCurrent(lease.id, lease.fencingToken)).rejects.toMatchObject({
      code: 'lease_stale',
      message: expect.stringContaining('it is released'),
    });
  });

  test('rejects the holder of a lease that has expired, before any sweep has seen it', async () => {
    const { lease } = await environments.newLease();
    await backdateExpiry(environments.database.sql, lease.id);
    await expect(environments.service.assertCurrent(lease.id, lease.fencingToken)).rejects.toMatchObject({
      code: 'lease_stale',
      message: expect.stringContaining('has expired'),
    });
    await environments.service.releaseLease(lease.id, 'expired');
  });

  test('rejects a lease that does not exist, and a token that is none', async () => {
    await expect(environments.service.assertCurrent(randomUUID(), 1)).rejects.toMatchObject({ code: 'unknown_lease' });
    await expect(environments.service.assertCurrent(randomUUID(), -1)).rejects.toMatchObject({
      code: 'invalid_payload',
    });
  });

  test('in a transaction, keeps the lease from ending before what the holder writes is committed', async () => {
    const { database, service } = environments;
    const { lease } = await environments.newLease();
    let ending: Promise<unknown> | undefined;
    await database.db.transaction(async (tx) => {
      await environmentService(tx).assertCurrent(lease.id, lease.fencingToken);
      ending = service.releaseLease(lease.id);
      await untilWaitingForLocks(database, 1);
      expect((await service.getLeaseById(lease.id))?.status).toBe('active');
    });
    expect(await ending).toMatchObject({ status: 'released' });
  });
});
