import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { insertRun, backdateExpiry } from '../../support/factories.ts';
import { useEnvironmentService } from './service-fixture.ts';

const fixture = useEnvironmentService();
const { database, newCompany, newLease } = fixture;

describe('acquireLease', () => {
  test('grants a lease with all that was asked for, registers the run, and tells it', async () => {
    const { companyId, local, told } = await newCompany();
    const request = {
      companyId,
      environmentId: local.id,
      heartbeatRunId: randomUUID(),
      executionWorkspaceId: randomUUID(),
      issueId: randomUUID(),
      leasePolicy: 'reuse_by_environment',
      provider: 'own',
      providerLeaseId: 'own-1',
      expiresAt: new Date(Date.now() + 90_000),
      metadata: { key: 'value' },
    } as const;
    const lease = await fixture.service.acquireLease(request);
    expect(lease).toMatchObject({ ...request, status: 'active', cleanupStatus: null, releasedAt: null });
    expect(lease.ttlSeconds).toBeGreaterThanOrEqual(89);
    expect(lease.ttlSeconds).toBeLessThanOrEqual(90);
    const [run] = await database.sql`select * from lessor.heartbeat_runs where id = ${request.heartbeatRunId}`;
    expect(run).toMatchObject({
      status: 'running',
      issue_id: request.issueId,
      context_snapshot: { paperclipEnvironment: { id: local.id, name: 'Local', driver: 'local', leaseId: lease.id } },
    });
    expect(await told()).toEqual(['lease_acquired']);
  });

  test('always-bounded: lasts five minutes where no end is asked for', async () => {
    const { lease } = await newLease();
    expect(lease.ttlSeconds).toBe(300);
    expect(lease.expiresAt.getTime() - lease.acquiredAt.getTime()).toBe(300_000);
  });

  test('one-lease: returns the live lease of the run, ten times at once too', async () => {
    const { lease, request, told } = await newLease();
    const again = await Promise.all(Array.from({ length: 10 }, () => fixture.service.acquireLease(request)));
    expect(again).toEqual(Array.from({ length: 10 }, () => lease));
    expect(await told()).toEqual(['lease_acquired']);
  });

  test('grants a new lease after the old one was released while the run goes on', async () => {
    const { lease, request } = await newLease();
    await fixture.service.releaseLease(lease.id);
    const next = await fixture.service.acquireLease(request);
    expect(next.id).not.toBe(lease.id);
    expect(next.fencingToken).toBeGreaterThan(lease.fencingToken);
  });

  test('grants leases without a run, each its own', async () => {
    const { companyId, local } = await newCompany();
    const request = { companyId, environmentId: local.id };
    const [one, two] = [
      await fixture.service.acquireLease(request),
      await fixture.service.acquireLease({ ...request, heartbeatRunId: null }),
    ];
    expect(one.id).not.toBe(two.id);
    expect(one.heartbeatRunId).toBeNull();
  });

  test('single-flight: ten racing for one workspace give one winner, and the others say who holds it', async () => {
    const { companyId, local, told } = await newCompany();
    const executionWorkspaceId = randomUUID();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, () =>
        fixture.service.acquireLease({
          companyId,
          environmentId: local.id,
          heartbeatRunId: randomUUID(),
          executionWorkspaceId,
        }),
      ),
    );
    const [winner, ...others] = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? outcome.value : []));
    expect(others).toEqual([]);
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue;
      expect(outcome.reason).toMatchObject({
        name: 'RejectedError',
        code: 'workspace_held',
        message: expect.stringContaining(winner!.heartbeatRunId!),
      });
    }
    expect(await told()).toEqual(['lease_acquired']);
  });

  test('single-flight: a expired holder is adopted', async () => {
    const { companyId, local, told } = await newCompany();
    const request = { companyId, environmentId: local.id, executionWorkspaceId: randomUUID() };
    const holder = await fixture.service.acquireLease(request);
    await backdateExpiry(database.sql, holder.id);
    await fixture.service.acquireLease(request);
    expect(await fixture.service.getLeaseById(holder.id)).toMatchObject({ status: 'expired' });
    expect(await told()).toEqual(['lease_acquired', 'lease_expired', 'lease_acquired']);
  });

  test.for([-1_000, 0, 86_401_000])('rejects an end %d ms from now', async (milliseconds) => {
    const { companyId, local, told } = await newCompany();
    const expiresAt = new Date(Date.now() + milliseconds);
    const attempt = fixture.service.acquireLease({ companyId, environmentId: local.id, expiresAt });
    await expect(attempt).rejects.toMatchObject({ code: 'invalid_payload' });
    expect(await told()).toEqual([]);
  });

  test("same-company: rejects another company's environment, whoever's run it is", async () => {
    const [own, other] = [await newCompany(), await newCompany()];
    const heartbeatRunId = await insertRun(database.sql, { companyId: own.companyId });
    const attempt = fixture.service.acquireLease({
      companyId: own.companyId,
      environmentId: other.local.id,
      heartbeatRunId,
    });
    await expect(attempt).rejects.toMatchObject({ code: 'foreign_environment' });
    expect(await fixture.service.listLeases(other.local.id)).toEqual([]);
  });

  test("same-company: rejects another company's run, and leaves nothing of it", async () => {
    const [own, other] = [await newCompany(), await newLease()];
    const attempt = fixture.service.acquireLease({
      ...other.request,
      companyId: own.companyId,
      environmentId: own.local.id,
    });
    await expect(attempt).rejects.toMatchObject({ code: 'foreign_run' });
    expect(await fixture.service.listLeases(own.local.id)).toEqual([]);
  });

  test('rejects what is not there, or not served any more', async () => {
    const { companyId, local } = await newCompany();
    const request = { companyId, environmentId: local.id };
    await expect(fixture.service.acquireLease({ ...request, environmentId: randomUUID() })).rejects.toMatchObject({
      code: 'unknown_environment',
    });
    const ended = await insertRun(database.sql, { companyId, status: 'failed' });
    await expect(fixture.service.acquireLease({ ...request, heartbeatRunId: ended })).rejects.toMatchObject({
      name: 'RunEndedError',
      code: 'run_ended',
    });
    await database.sql`update lessor.companies set status = 'archived' where id = ${companyId}`;
    await expect(fixture.service.acquireLease(request)).rejects.toMatchObject({ code: 'company_archived' });
  });
});
