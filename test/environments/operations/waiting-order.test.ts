import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { RunStarted } from '../../../src/contracts/index.ts';
import { useDatabase } from '../../support/database.ts';
import { backdateExpiry, runFinished, runStarted } from '../../support/factories.ts';
import { operationsOn, start, eventsOf } from '../../support/operations.ts';
import { useEnvironmentServiceOn } from '../service/service-fixture.ts';

const database = useDatabase({ maximumConnections: 20, audited: true });
const operations = operationsOn(database);
const environments = useEnvironmentServiceOn(database);

/** A workspace that a run holds, and how further runs ask for it. */
async function heldWorkspace() {
  const shared = { companyId: randomUUID(), executionWorkspaceId: randomUUID() };
  const holder = runStarted(shared);
  const lease = await operations.granted(holder);
  return { shared, holder, lease, newRun: () => runStarted(shared) };
}

/** Lets time pass for the wait of a run, as if it had asked for the last time then. */
const age = (run: RunStarted, seconds: { waited: number; silent: number }) => database.sql`
  update lessor.workspace_waits set
    waiting_since = now() - make_interval(secs => ${seconds.waited}),
    last_asked_at = now() - make_interval(secs => ${seconds.silent})
  where run_id = ${run.runId}`;

const waitsOf = (run: RunStarted) => database.sql`
  select from lessor.workspace_waits where run_id = ${run.runId}`;

describe('single-flight: the longest waiter is next', () => {
  test('a free workspace is kept from a run that came later, and it is told for whom', async () => {
    const { shared, holder, newRun } = await heldWorkspace();
    const [first, second, third] = [newRun(), newRun(), newRun()];
    const waiting = await operations.start(first);
    await operations.start(second);
    await operations.finish(runFinished(holder));
    const since = waiting.kind === 'waiting' ? waiting.since : undefined;
    for (const later of [second, third]) {
      expect(await operations.start(later)).toMatchObject({
        kind: 'waiting',
        heldBy: { executionWorkspaceId: shared.executionWorkspaceId, as: 'waiter', runId: first.runId, since },
      });
    }
    await operations.granted(first);
    await operations.finish(runFinished(first));
    expect(await operations.start(third)).toMatchObject({ kind: 'waiting', heldBy: { runId: second.runId } });
    await operations.granted(second);
  });

  test('within one batch too, in whatever order they ask', async () => {
    const { holder, newRun } = await heldWorkspace();
    const waiters = [newRun(), newRun(), newRun()];
    for (const waiter of waiters) await operations.start(waiter);
    await operations.finish(runFinished(holder));
    const outcomes = await operations.apply(waiters.toReversed().map((waiter) => start(waiter)));
    expect(outcomes.map(({ kind }) => kind)).toEqual(['waiting', 'waiting', 'done']);
  });

  test('runs that began to wait in one batch keep the order of the batch', async () => {
    const { holder, newRun } = await heldWorkspace();
    const waiters = Array.from({ length: 5 }, newRun);
    await operations.apply(waiters.map((waiter) => start(waiter)));
    await operations.finish(runFinished(holder));
    for (const [place, waiter] of waiters.entries()) {
      const later = waiters.slice(place + 1).map((run) => start(run));
      const outcomes = await operations.apply([...later, start(waiter)]);
      expect(outcomes.map(({ kind }) => kind)).toEqual([...later.map(() => 'waiting'), 'done']);
      await operations.finish(runFinished(waiter));
    }
  });

  test('asking again does not cost a run its place', async () => {
    const { holder, newRun } = await heldWorkspace();
    const [first, second] = [newRun(), newRun()];
    await operations.start(first);
    await operations.start(second);
    await operations.start(first);
    await operations.finish(runFinished(holder));
    expect(await operations.start(second)).toMatchObject({ kind: 'waiting' });
    await operations.granted(first);
  });

  test('a expired holder is adopted by the longest waiter', async () => {
    const { lease, newRun } = await heldWorkspace();
    const [first, second] = [newRun(), newRun()];
    await operations.start(first);
    await backdateExpiry(database.sql, lease.id);
    expect(await operations.start(second)).toMatchObject({ kind: 'waiting', heldBy: { as: 'waiter' } });
    await operations.granted(first);
  });

  test('a run that has stopped asking is passed over', async () => {
    const { holder, newRun } = await heldWorkspace();
    const [silent, second] = [newRun(), newRun()];
    await operations.start(silent);
    await operations.finish(runFinished(holder));
    await age(silent, { waited: 60, silent: 31 });
    expect(await operations.start(second)).toMatchObject({ kind: 'done', result: { status: 'active' } });
  });

  test('a run that ended while it waited is passed over, is granted nothing, and waits no more', async () => {
    const { holder, newRun } = await heldWorkspace();
    const [ended, second] = [newRun(), newRun()];
    await operations.start(ended);
    await operations.finish(runFinished(holder));
    await operations.finish(runFinished(ended, { status: 'cancelled' }));
    await operations.granted(second);
    expect(await operations.start(ended)).toEqual({ kind: 'done', result: null });
    expect(await waitsOf(ended)).toHaveLength(0);
  });

  test('a run that is granted its lease waits no more', async () => {
    const { holder, newRun } = await heldWorkspace();
    const waiter = newRun();
    await operations.start(waiter);
    expect(await waitsOf(waiter)).toHaveLength(1);
    await operations.finish(runFinished(holder));
    await operations.granted(waiter);
    expect(await waitsOf(waiter)).toHaveLength(0);
  });

  test('a run that is granted another workspace than it waited for, or by a service, waits no more', async () => {
    const { lease, newRun, shared } = await heldWorkspace();
    const [first, second] = [newRun(), newRun()];
    for (const waiter of [first, second]) await operations.start(waiter);
    await operations.granted({ ...first, executionWorkspaceId: randomUUID() });
    const request = { companyId: shared.companyId, environmentId: lease.environment.id };
    await environments.service.acquireLease({ ...request, heartbeatRunId: second.runId });
    expect(await waitsOf(first)).toHaveLength(0);
    expect(await waitsOf(second)).toHaveLength(0);
  });

  test('waits for other workspaces and of other companies do not count', async () => {
    const { holder, newRun, shared } = await heldWorkspace();
    await operations.start(newRun());
    await operations.granted(runStarted({ companyId: shared.companyId, executionWorkspaceId: randomUUID() }));
    await operations.granted(runStarted({ executionWorkspaceId: shared.executionWorkspaceId }));
    await operations.finish(runFinished(holder));
    const elsewhere = runStarted({ companyId: shared.companyId, executionWorkspaceId: randomUUID() });
    expect(await operations.start(elsewhere)).toMatchObject({ kind: 'done', result: { status: 'active' } });
  });

  test('a service that does not wait is rejected a workspace that is kept for a waiter', async () => {
    const { holder, lease, newRun, shared } = await heldWorkspace();
    const waiter = newRun();
    await operations.start(waiter);
    await operations.finish(runFinished(holder));
    const request = { ...shared, environmentId: lease.environment.id, heartbeatRunId: randomUUID() };
    await expect(environments.service.acquireLease(request)).rejects.toMatchObject({
      code: 'workspace_held',
      message: expect.stringContaining(`is kept for run ${waiter.runId}, which waits for it since`),
    });
  });
});

describe('single-flight: the longest wait', () => {
  test('by the clock of Postgres, past it a run is rejected with who holds the workspace since when', async () => {
    const { holder, lease, newRun, shared } = await heldWorkspace();
    const waiter = newRun();
    await operations.start(waiter, { leaseWaitMs: 60_000 });
    await age(waiter, { waited: 59, silent: 0 });
    expect(await operations.start(waiter, { leaseWaitMs: 60_000 })).toMatchObject({ kind: 'waiting' });
    await age(waiter, { waited: 61, silent: 0 });
    const outcome = await operations.start(waiter, { leaseWaitMs: 60_000 });
    expect(outcome).toMatchObject({ kind: 'rejected', rejection: { code: 'workspace_held' } });
    const reason = outcome.kind === 'rejected' ? outcome.rejection.reason : '';
    expect(reason).toContain(`is held by run ${holder.runId} since ${lease.acquiredAt}`);
    expect(reason).toContain('and the run has waited since ');
    expect(await eventsOf(database.sql, shared.companyId)).toEqual(['created', 'lease_acquired', 'lease_denied']);
    expect(await waitsOf(waiter)).toHaveLength(0);
  });

  test('past it a run is still granted a workspace that has become free', async () => {
    const { holder, newRun } = await heldWorkspace();
    const waiter = newRun();
    await operations.start(waiter);
    await age(waiter, { waited: 3_600, silent: 0 });
    await operations.finish(runFinished(holder));
    expect(await operations.start(waiter)).toMatchObject({ kind: 'done', result: { status: 'active' } });
  });

  test("same-company: another company's message about a waiting run does not cost it its place", async () => {
    const { holder, lease, newRun } = await heldWorkspace();
    const [first, second] = [newRun(), newRun()];
    await operations.start(first);
    const foreign = { ...first, companyId: randomUUID(), environment: { issue: lease.environment.id } };
    expect(await operations.start(foreign)).toMatchObject({ kind: 'rejected', rejection: { code: 'foreign_run' } });
    await operations.finish(runFinished(holder));
    expect(await operations.start(second)).toMatchObject({ kind: 'waiting', heldBy: { runId: first.runId } });
  });
});
