import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createSshDriver } from '../../src/environments/drivers/ssh-driver.ts';
import { createSecretResolver } from '../../src/secrets/resolver.ts';
import { startWorker } from '../consumers/fixture.ts';
import { insertCompany, insertEnvironment } from '../support/factories.ts';
import { readLease } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { SSH_SERVER_KINDS, openSshHost } from '../support/ssh-host.ts';
import type { SshHost } from '../support/ssh-host.ts';
import { until } from '../support/until.ts';
import { spawnLessor } from './lessor.ts';
import { newRun, untilEnded } from './run-fixture.ts';

/** A worker that leases SSH environments. */
const startSshWorker = (backend: Backend) =>
  startWorker(backend, {
    enableEnvironments: true,
    drivers: [createSshDriver({ secrets: createSecretResolver({ env: {}, secretKey: undefined }) })],
  });

/** A run of a company with an environment on the host. */
async function runOn(backend: Backend, { config }: SshHost) {
  const { sql } = backend.database;
  const run = newRun(backend);
  await insertCompany(sql, { id: run.companyId });
  const row = { companyId: run.companyId, driver: 'ssh', name: 'Builder', config } as const;
  const environmentId = await insertEnvironment(sql, row);
  return { ...run, args: [...run.args, '--environment', environmentId], environmentId };
}

async function workspaceOf(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-workspace-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), content);
  }
  return directory;
}

describeOnEachBackend(
  '`lessor run --environment`',
  (backend) => {
    // Each kind of server once: what happens on a host does not depend on the queue.
    const kind = backend.kind === 'redis' ? SSH_SERVER_KINDS[0]! : SSH_SERVER_KINDS.at(-1)!;

    const untilReleased = (leaseId: string) =>
      until(async () => (await readLease(backend.database.sql, leaseId)).status === 'released', {
        what: 'the lease being released',
      });

    test('brings the workspace there, executes, brings back what changed, and leaves nothing', async () => {
      const host = await openSshHost(kind);
      await startSshWorker(backend);
      const { id, args, env, environmentId } = await runOn(backend, host);
      const workspace = await workspaceOf({
        '.gitignore': '*.log\n',
        'src/input.txt': 'one',
        'remove me': 'x',
        'noise.log': 'not sent',
      });
      const script = `
        pwd; ls -A; printf %s "$PAPERCLIP_ENVIRONMENT"; printf '\\n%s\\n' "$GIVEN $1"
        cat > 'from stdin'; printf two > src/input.txt; rm 'remove me'; exit 3`;
      const command = ['sh', '-c', script, 'sh', "it's $HOME"];
      const flags = ['--workspace-dir', workspace, '--env', 'GIVEN=a  b'];
      const running = spawnLessor([...args, ...flags, '--', ...command], { env, stdin: 'pipe' });
      running.child.stdin!.end('piped');
      const { exit, stdout, stderr } = await running.ended();
      expect({ exit, stderr }).toMatchObject({ exit: 3 });

      const { run, reason, leaseId } = await untilEnded(backend.database.sql, id);
      expect({ run, reason }).toEqual({ run: 'failed', reason: 'exited with code 3' });
      const workspacePath = join(host.workspacePath, '.lessor', leaseId, 'workspace');
      const [cwd, ...rest] = stdout.split('\n');
      expect(cwd).toBe(workspacePath);
      expect(rest.slice(0, 3).toSorted()).toEqual(['.gitignore', 'remove me', 'src']);
      expect(JSON.parse(rest[3]!)).toEqual({
        id: environmentId,
        name: 'Builder',
        driver: 'ssh',
        leaseId,
        workspacePath,
      });
      expect(rest[4]).toBe("a  b it's $HOME");
      expect(await readFile(join(workspace, 'src/input.txt'), 'utf8')).toBe('two');
      expect(await readFile(join(workspace, 'from stdin'), 'utf8')).toBe('piped');
      await expect(readFile(join(workspace, 'remove me'))).rejects.toMatchObject({ code: 'ENOENT' });
      expect(await readFile(join(workspace, 'noise.log'), 'utf8')).toBe('not sent');

      await until(async () => (await readLease(backend.database.sql, leaseId)).status === 'failed', {
        what: 'the lease of the failed run',
      });
      expect(await host.left()).toEqual([]);
    });

    test('ends what the command left running, once the run is over', async () => {
      const host = await openSshHost(kind);
      await startSshWorker(backend);
      const { id, args, env } = await runOn(backend, host);
      const daemon = `(setsid sleep 600 || sleep 600) </dev/null >/dev/null 2>&1 &`;
      const { exit } = await spawnLessor([...args, '--', 'sh', '-c', daemon], { env }).ended();
      expect(exit).toBe(0);
      const { leaseId } = await untilEnded(backend.database.sql, id);
      await untilReleased(leaseId);
      expect(await host.left()).toEqual([]);
    });

    test('executes in the checkout that is there, in place', async () => {
      const host = await openSshHost(kind);
      await startSshWorker(backend);
      const inPlace = { ...host, config: { ...host.config, workspaceMode: 'in_place' } };
      const { id, args, env } = await runOn(backend, inPlace);
      await writeFile(join(host.workspacePath, 'checked out'), 'here');
      const { exit, stdout } = await spawnLessor([...args, '--', 'sh', '-c', 'pwd; cat *; touch kept'], {
        env,
      }).ended();
      expect({ exit, stdout }).toEqual({ exit: 0, stdout: `${host.workspacePath}\nhere` });
      const { leaseId } = await untilEnded(backend.database.sql, id);
      await untilReleased(leaseId);
      expect(await readFile(join(host.workspacePath, 'kept'), 'utf8')).toBe('');
      expect(await host.left()).toEqual([]);
    });

    test('is denied with both fingerprints when the host is not the one of before', async () => {
      const host = await openSshHost(kind);
      await startSshWorker(backend);
      await host.server.changeHostKey();
      const { args, env } = await runOn(backend, host);
      const { exit, stderr } = await spawnLessor([...args, '--', 'true'], { env }).ended();
      expect(exit).toBe(125);
      expect(stderr).toContain('offers the host key');
      expect(stderr.match(/SHA256:[\w+/]{43}/g)).toHaveLength(2);
    });
  },
  { audited: true },
);
