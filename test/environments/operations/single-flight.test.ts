import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished, runStarted } from '../../support/factories.ts';
import { untilWaitingForLocks } from '../../support/locks.ts';
import { leaseOf, operationsOn, readLease, start, eventsOf } from '../../support/operations.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);

const onWorkspace = (companyId: string, executionWorkspaceId: string) =>
  runStarted({ companyId, executionWorkspaceId });

describe('single-flight', () => {
  test('keeps a second run waiting, and says for whom, until the first one ends', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const [first, second] = [onWorkspace(companyId, workspace), onWorkspace(companyId, workspace)];
    const held = await operations.granted(first);
    expect(await operations.start(second)).toEqual({
      kind: 'waiting',
      heldBy: { executionWorkspaceId: workspace, as: 'holder', runId: first.runId, since: held.acquiredAt },
      since: expect.any(String),
    });
    expect(await eventsOf(database.sql, companyId)).toEqual(['created', 'lease_acquired']);
    await operations.finish(runFinished(first));
    expect((await operations.granted(second)).fencingToken).toBeGreaterThan(held.fencingToken);
  });

  test('holds within one batch: the first given wins', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const payloads = [1, 2, 3].map(() => onWorkspace(companyId, workspace));
    const outcomes = await operations.apply(payloads.map((payload) => start(payload)));
    expect(outcomes.map((outcome) => outcome.kind)).toEqual(['done', 'waiting', 'waiting']);
    expect(outcomes[1]).toMatchObject({ heldBy: { runId: payloads[0]!.runId } });
  });

  test('holds with ten runs racing: one wins, the others wait', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, () => operations.start(onWorkspace(companyId, workspace))),
    );
    expect(outcomes.filter((outcome) => outcome.kind === 'done')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome.kind === 'waiting')).toHaveLength(9);
  });

  test('adopts the workspace of a expired holder, whose lease is expired', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const holder = await operations.granted(onWorkspace(companyId, workspace));
    await backdateExpiry(database.sql, holder.id);
    const adopted = await operations.granted(onWorkspace(companyId, workspace));
    expect(adopted.fencingToken).toBeGreaterThan(holder.fencingToken);
    expect(await readLease(database.sql, holder.id)).toMatchObject({
      status: 'expired',
      cleanup_status: 'success',
      failure_reason: expect.stringMatching(/^not renewed before \d{4}-\d\d-\d\dT/),
    });
    expect(await eventsOf(database.sql, companyId)).toEqual([
      'created',
      'lease_acquired',
      'lease_expired',
      'lease_acquired',
    ]);
  });

  test('adopts the workspace of a holder whose run has ended, as its end says', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const payload = onWorkspace(companyId, workspace);
    const holder = await operations.granted(payload);
    // As a control plane leaves it that writes the run's end itself.
    await database.sql`
      update lessor.heartbeat_runs set status = 'failed', failure_reason = 'crashed', finished_at = now()
      where id = ${payload.runId}`;
    await operations.granted(onWorkspace(companyId, workspace));
    expect(await readLease(database.sql, holder.id)).toMatchObject({ status: 'failed', failure_reason: 'crashed' });
  });

  test('adopts a expired holder whose row someone else has locked for a moment', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    const holder = await operations.granted(onWorkspace(companyId, workspace));
    await backdateExpiry(database.sql, holder.id);
    let adopting: ReturnType<typeof operations.start> | undefined;
    await database.sql.begin(async (sql) => {
      // As updateLeaseMetadata does, and a sweep that then fails: neither takes the company's lock.
      await sql`update lessor.environment_leases set metadata = '{"note": 1}' where id = ${holder.id}`;
      adopting = operations.start(onWorkspace(companyId, workspace));
      adopting.catch(() => undefined);
      await Promise.race([adopting.catch(() => undefined), untilWaitingForLocks(database, 1)]);
    });
    expect(leaseOf(await adopting!).status).toBe('active');
    expect(await readLease(database.sql, holder.id)).toMatchObject({ status: 'expired' });
  });

  test('leaves other policies, workspaces and environments alone', async () => {
    const [companyId, workspace] = [randomUUID(), randomUUID()];
    await operations.granted(onWorkspace(companyId, workspace));
    for (const leasePolicy of ['reuse_by_environment', 'reuse_by_execution_workspace', 'retain_on_failure'] as const) {
      await operations.granted({ ...onWorkspace(companyId, workspace), leasePolicy });
    }
    await operations.granted(onWorkspace(companyId, randomUUID()));
    await operations.granted(onWorkspace(randomUUID(), workspace));
    expect(await operations.start(onWorkspace(companyId, workspace))).toMatchObject({ kind: 'waiting' });
  });
});
