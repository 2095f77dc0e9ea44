import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TEMPORARY_PREFIX } from '../../src/execution/workspace/walk-workspace.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import type { Backend } from '../support/queues.ts';
import { describeOnSshd, openSshHost } from '../support/ssh-host.ts';
import { until } from '../../testing/until.ts';
import { spawnLessor } from './lessor.ts';
import { untilEnded } from './run-fixture.ts';
import { runOn, startSshWorker, workspaceOf } from './run-ssh-fixture.ts';

async function leaseOfRun({ database }: Backend, runId: string): Promise<string | undefined> {
  const [lease] = await database.sql<{ id: string }[]>`
    select id from lessor.environment_leases where heartbeat_run_id = ${runId} and status = 'active'`;
  return lease?.id;
}

describeOnSshd('on an SSH host', () => {
  describeOnEachBackend(
    '`lessor run --environment`, when something fails',
    (backend) => {
      test('forwards SIGTERM to the remote command, downloads its changes, and cancels the run', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const workspace = await workspaceOf({ a: 'one' });
        const script = `trap 'printf stopped > a; exit 9' TERM; echo ready; while :; do sleep 0.1; done`;
        const running = spawnLessor([...args, '--workspace-dir', workspace, '--', 'sh', '-c', script], { env });
        await until(() => running.stdout() === 'ready\n', { what: 'the command being ready' });
        running.child.kill('SIGTERM');

        const { exit, stderr } = await running.ended();
        expect(exit).toBe(9);
        expect(stderr).toContain('downloaded: 1 changed\n');
        expect(await untilEnded(backend.database.sql, id)).toMatchObject({ run: 'cancelled' });
        expect(await readFile(join(workspace, 'a'), 'utf8')).toBe('stopped');
      });

      test('ends after --timeout on a host whose SFTP never answers, and the run is over', async () => {
        const host = await openSshHost();
        await host.silenceSftp();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const running = spawnLessor([...args, '--timeout', '2s', '--', 'true'], { env });
        const { exit } = await running.ended();
        expect(exit).not.toBe(0);
        expect(await untilEnded(backend.database.sql, id)).toMatchObject({ run: 'timed_out' });
        await until(async () => (await host.leftByLeases()).length === 0, { what: 'the release of the lease' });
      });

      test('ends by a signal on a host whose SFTP never answers, and the run is cancelled', async () => {
        const host = await openSshHost();
        await host.silenceSftp();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const running = spawnLessor([...args, '--', 'true'], { env });
        await until(() => leaseOfRun(backend, id), { what: 'the lease' });
        running.child.kill('SIGTERM');
        expect((await running.ended()).exit).toBe(143);
        expect(await untilEnded(backend.database.sql, id)).toMatchObject({ run: 'cancelled' });
        await until(async () => (await host.leftByLeases()).length === 0, { what: 'the release of the lease' });
      });

      test('keeps both versions of a file that changed on both sides, and lists their paths', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const workspace = await workspaceOf({ 'a\u001b[31m': 'one', b: 'one' });
        const script = 'echo ready; read line; for file in a*; do printf there > "$file"; done; rm b';
        const command = ['--workspace-dir', workspace, '--', 'sh', '-c', script];
        const running = spawnLessor([...args, ...command], { env, stdin: 'pipe' });
        await until(() => running.stdout() === 'ready\n', { what: 'the command being ready' });
        for (const name of ['a\u001b[31m', 'b']) await writeFile(join(workspace, name), 'here');
        running.child.stdin!.write('go on\n');

        const { exit, stderr } = await running.ended();
        const { leaseId, run } = await untilEnded(backend.database.sql, id);
        expect({ exit, run }).toEqual({ exit: 0, run: 'succeeded' });
        const keptAs = `.lessor/conflicts/${leaseId}/a`;
        expect(stderr.split('\n')).toEqual([
          `conflict: a\\u{1b}[31m changed on both sides; the remote version is ${keptAs}\\u{1b}[31m`,
          'conflict: b was deleted remotely and changed locally; the local file is kept',
          '',
        ]);
        expect(await readFile(join(workspace, `${keptAs}\u001b[31m`), 'utf8')).toBe('there');
        expect(await readFile(join(workspace, 'a\u001b[31m'), 'utf8')).toBe('here');
      });

      test('exits with 125 when changes cannot be downloaded, prints their path, and fails the run', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const workspace = await workspaceOf({ a: 'one' });
        const command = ['--workspace-dir', workspace, '--', 'sh', '-c', 'cd ..; mv workspace moved'];
        const { exit, stdout, stderr } = await spawnLessor([...args, ...command], { env }).ended();

        const { leaseId, run, reason } = await untilEnded(backend.database.sql, id);
        expect({ exit, stdout, run }).toEqual({ exit: 125, stdout: '', run: 'failed' });
        const remoteWorkspace = join(host.workspacePath, '.lessor', leaseId, 'workspace');
        expect(stderr).toMatch(/^error: the command exited with code 0, but what it changed could not all [^\n]*\n$/);
        for (const said of [stderr, reason])
          expect(said).toContain(`@127.0.0.1:${host.server.port}:${remoteWorkspace}`);
        expect(await readFile(join(workspace, 'a'), 'utf8')).toBe('one');
      });

      test('continues the download after the first interrupt, and aborts it at the second', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const workspace = await workspaceOf({ a: 'one' });
        const script = 'dd if=/dev/zero of=large bs=1 count=0 seek=200000000 2>/dev/null; echo done';
        const running = spawnLessor([...args, '--workspace-dir', workspace, '--', 'sh', '-c', script], { env });
        const isDownloading = async () => (await readdir(workspace)).some((name) => name.startsWith(TEMPORARY_PREFIX));
        await until(isDownloading, { what: 'the file being downloaded' });
        running.child.kill('SIGINT');
        await until(() => running.stderr().includes('another signal aborts that'), {
          what: 'the response to the signal',
        });
        running.child.kill('SIGINT');

        const { exit, stderr } = await running.ended();
        expect(exit).toBe(125);
        expect(stderr).toContain('SIGINT was received twice');
        expect(await readdir(workspace)).toEqual(['a']);
        expect(await untilEnded(backend.database.sql, id)).toMatchObject({ run: 'failed' });
      });

      test('exits with 125 when the connection is lost, since the end of the command is unknown', async () => {
        const host = await openSshHost();
        await startSshWorker(backend);
        const { id, args, env } = await runOn(backend, host);
        const running = spawnLessor([...args, '--', 'sh', '-c', 'echo ready; exec sleep 60'], { env });
        await until(() => running.stdout() === 'ready\n', { what: 'the command being ready' });
        await host.server.stop();
        const { exit, stderr } = await running.ended();
        await host.server.start();

        expect(exit).toBe(125);
        expect(stderr).toMatch(/^error: how the command ended is not known, and it may run on: [^\n]+\n$/);
        expect(await untilEnded(backend.database.sql, id)).toMatchObject({ run: 'failed' });
        await until(async () => (await host.leftByLeases()).length === 0, { what: 'the host being cleaned up' });
      });
    },
    { audited: true },
  );
});
