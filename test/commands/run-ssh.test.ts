import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readLease } from '../support/operations.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import { until } from '../../testing/until.ts';
import { spawnLessor } from './lessor.ts';
import { untilEnded } from './run-fixture.ts';
import { runOn, startSshWorker, workspaceOf } from './run-ssh-fixture.ts';

describeOnSshd('on an SSH host', () => {
  describeOnEachBackend(
    '`lessor run --environment`',
    (backend) => {
      const untilReleased = (leaseId: string) =>
        until(async () => (await readLease(backend.database.sql, leaseId)).status === 'released', {
          what: 'the lease being released',
        });

      test('uploads the workspace, executes, downloads the changes, and leaves nothing on the host', async () => {
        const host = await openSshHost();
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
        expect(await host.leftByLeases()).toEqual([]);
      });

      test('ends processes that the command left running, once the run has ended', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const daemon = `(setsid sleep 600 || sleep 600) </dev/null >/dev/null 2>&1 &`;
        const { exit } = await spawnLessor([...args, '--', 'sh', '-c', daemon], { env }).ended();
        expect(exit).toBe(0);
        const { leaseId } = await untilEnded(backend.database.sql, id);
        await untilReleased(leaseId);
        expect(await host.leftByLeases()).toEqual([]);
      });

      test('executes in the existing checkout with workspaceMode in_place', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const inPlace = { config: { ...host.config, workspaceMode: 'in_place' } };
        const { id, args, env } = await runOn(backend, inPlace);
        await writeFile(join(host.workspacePath, 'checked out'), 'here');
        const { exit, stdout } = await spawnLessor([...args, '--', 'sh', '-c', 'pwd; cat *; touch kept'], {
          env,
        }).ended();
        expect({ exit, stdout }).toEqual({ exit: 0, stdout: `${host.workspacePath}\nhere` });
        const { leaseId } = await untilEnded(backend.database.sql, id);
        await untilReleased(leaseId);
        expect(await readFile(join(host.workspacePath, 'kept'), 'utf8')).toBe('');
        expect(await host.leftByLeases()).toEqual([]);
      });

      test('is rejected with both fingerprints when the host key has changed', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { config } = host;
        await host.server.changeHostKey();
        const { args, env } = await runOn(backend, { config });
        const { exit, stderr } = await spawnLessor([...args, '--', 'true'], { env }).ended();
        expect(exit).toBe(125);
        expect(stderr).toContain('offers the host key');
        expect(stderr.match(/SHA256:[\w+/]{43}/g)).toHaveLength(2);
      });
    },
    { audited: true },
  );
});
