import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { insertCompany, insertEnvironment, insertLease, insertRun } from '../support/factories.ts';
import { lessor } from './lessor.ts';

const database = useDatabase();

/** Two companies: the first with a lease that is active and one that failed, on two environments. */
const seeded = { acme: '', other: '', local: '', ssh: '', run: '', active: '', failed: '', elsewhere: '' };

beforeAll(async () => {
  const { sql } = database;
  const acme = await insertCompany(sql);
  const other = await insertCompany(sql);
  const local = await insertEnvironment(sql, { companyId: acme });
  const ssh = await insertEnvironment(sql, { companyId: acme, driver: 'ssh', name: 'Builder', status: 'archived' });
  const run = await insertRun(sql, { companyId: acme });
  const ended = await insertRun(sql, { companyId: acme, status: 'failed' });
  const active = await insertLease(sql, { companyId: acme, environmentId: local, runId: run });
  const failed = await insertLease(sql, {
    companyId: acme,
    environmentId: ssh,
    runId: ended,
    status: 'failed',
    cleanupStatus: 'success',
    failureReason: 'the host went away',
  });
  const abroad = await insertEnvironment(sql, { companyId: other });
  const elsewhere = await insertLease(sql, {
    companyId: other,
    environmentId: abroad,
    runId: await insertRun(sql, { companyId: other }),
  });
  await sql`
    insert into lessor.activity_log (company_id, actor_id, action, entity_type, entity_id, run_id, details)
    values (${acme}, 'test', 'environment.lease_failed', 'environment_lease', ${failed}, ${ended},
      '{"failureReason": "the host went away"}')`;
  Object.assign(seeded, { acme, other, local, ssh, run, active, failed, elsewhere });
});

/** Runs a listing that must succeed, and returns its output. */
async function list(...args: string[]): Promise<string> {
  const { exit, stdout, stderr } = await lessor(args, { env: { DATABASE_URL: database.url } });
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
  return stdout;
}

async function listJson(...args: string[]): Promise<Record<string, unknown>[]> {
  const stdout = await list(...args, '--json');
  expect(stdout).toMatch(/^\[.*\]\n$/);
  return JSON.parse(stdout) as Record<string, unknown>[];
}

async function eventsWith(...filters: string[]): Promise<unknown[][]> {
  const events = await listJson('activity', ...filters);
  return events.map((event) => [event['action'], event['entityId']]);
}

const idsOf = (rows: Record<string, unknown>[]) => rows.map((row) => row['id']);

describe('`lessor leases`', () => {
  test('prints a table, newest first, without colours outside a terminal', async () => {
    const table = await list('leases', '--company', seeded.acme);
    const [head, newer, older, ...rest] = rowsOf(table);
    expect(head).toEqual(['lease', 'company', 'run', 'status', 'token', 'acquired', 'expires / ended', 'reason']);
    expect(newer).toEqual(expect.arrayContaining([seeded.failed, 'failed', 'the host went away']) as unknown);
    expect(older).toEqual(expect.arrayContaining([seeded.active, seeded.run, 'active']) as unknown);
    expect(rest).toEqual([]);
    expect(table).not.toContain('\u001b');
  });

  test('prints one JSON array with --json, with every column', async () => {
    const [lease, ...rest] = await listJson('leases', '--run', seeded.run);
    expect(rest).toEqual([]);
    expect(lease).toMatchObject({
      id: seeded.active,
      companyId: seeded.acme,
      environmentId: seeded.local,
      heartbeatRunId: seeded.run,
      status: 'active',
      fencingToken: expect.any(Number) as unknown,
      expiresAt: expect.stringMatching(/Z$/) as unknown,
    });
  });

  test('filters by company, environment, run and status, alone and combined', async () => {
    const { acme, ssh, run, active, failed, elsewhere } = seeded;
    expect(idsOf(await listJson('leases'))).toEqual([elsewhere, failed, active]);
    expect(idsOf(await listJson('leases', '--company', acme))).toEqual([failed, active]);
    expect(idsOf(await listJson('leases', '--environment', ssh.toUpperCase()))).toEqual([failed]);
    expect(idsOf(await listJson('leases', '--run', run))).toEqual([active]);
    expect(idsOf(await listJson('leases', '--status', 'active'))).toEqual([elsewhere, active]);
    expect(idsOf(await listJson('leases', '--status', 'active', '--company', acme))).toEqual([active]);
  });

  test('lists at most --limit rows', async () => {
    expect(idsOf(await listJson('leases', '--limit', '2'))).toEqual([seeded.elsewhere, seeded.failed]);
  });
});

describe('`lessor environments`', () => {
  test('prints a table', async () => {
    const [head, ...rows] = rowsOf(await list('environments', '--company', seeded.acme));
    expect(head).toEqual(['environment', 'company', 'name', 'driver', 'status', 'created']);
    expect(rows.map((row) => row.slice(0, 5))).toEqual([
      [seeded.local, seeded.acme, 'Local', 'local', 'active'],
      [seeded.ssh, seeded.acme, 'Builder', 'ssh', 'archived'],
    ]);
  });

  test('filters by company, driver and status, and lists at most --limit rows', async () => {
    const { acme, local, ssh } = seeded;
    expect(await listJson('environments')).toHaveLength(3);
    expect(idsOf(await listJson('environments', '--company', acme))).toEqual([local, ssh]);
    expect(idsOf(await listJson('environments', '--company', acme, '--driver', 'local'))).toEqual([local]);
    expect(idsOf(await listJson('environments', '--status', 'archived'))).toEqual([ssh]);
    expect(await listJson('environments', '--limit', '1')).toHaveLength(1);
  });
});

describe('`lessor activity`', () => {
  test('prints a table, newest first, with reasons', async () => {
    const [head, newest, ...older] = rowsOf(await list('activity', '--company', seeded.acme));
    expect(head).toEqual(['at', 'action', 'entity', 'run', 'actor', 'reason']);
    expect(newest).toEqual(
      expect.arrayContaining(['environment.lease_failed', seeded.failed, 'the host went away']) as unknown,
    );
    expect(older.map((row) => row[1])).toEqual(['environment.lease_acquired', 'environment.lease_acquired']);
  });

  test('filters by company, run, entity and action, and lists at most --limit rows', async () => {
    const { acme, run, active, failed } = seeded;
    const acquired = ['environment.lease_acquired', active];
    const wasFailed = ['environment.lease_failed', failed];
    expect(await eventsWith('--company', acme)).toEqual([wasFailed, ['environment.lease_acquired', failed], acquired]);
    expect(await eventsWith('--run', run)).toEqual([acquired]);
    expect(await eventsWith('--entity', active)).toEqual([acquired]);
    expect(await eventsWith('--action', 'environment.lease_failed')).toEqual([wasFailed]);
    expect(await eventsWith('--limit', '1')).toEqual([wasFailed]);
  });
});

describe.each(['leases', 'environments', 'activity'])('`lessor %s`', (command) => {
  test('prints a sentence when nothing is found, and an empty array with --json', async () => {
    const nobody = ['--company', randomUUID()];
    expect(await list(command, ...nobody)).toBe('Nothing found.\n');
    expect(await list(command, ...nobody, '--json')).toBe('[]\n');
  });

  test('prefers --database-url to DATABASE_URL', async () => {
    const env = { DATABASE_URL: 'postgres://127.0.0.1:1/nothing' };
    const { exit, stdout } = await lessor([command, '--database-url', database.url, '--json'], { env });
    expect(exit).toBe(0);
    expect(JSON.parse(stdout)).not.toEqual([]);
  });

  test('reports an unreachable database in one line, without the password', async () => {
    const url = 'postgres://lessor:hunter2@127.0.0.1:1/nothing';
    const { exit, stdout, stderr } = await lessor([command, '--json'], { env: { DATABASE_URL: url } });
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toMatch(/^error: [^\n]*ECONNREFUSED[^\n]*\n$/);
    expect(stderr).not.toContain('hunter2');
  });
});

/** The cells of a table as people see it, heading first. */
function rowsOf(table: string): string[][] {
  const rows = table.split('\n').filter((line) => line.startsWith('│'));
  return rows.map((row) =>
    row
      .split('│')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
