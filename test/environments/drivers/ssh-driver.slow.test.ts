import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SshDriverOptions } from '../../../src/environments/drivers/ssh-driver.ts';
import { quote } from '../../../src/ssh/script.ts';
import { until } from '../../../testing/until.ts';
import { failureOf } from '../../ssh/failures.ts';
import { describeOnSshd, useSshHost } from '../../support/ssh-host.ts';
import type { ConfigPart } from '../../support/ssh-host.ts';
import { programsOnPath } from '../../support/requirements.ts';
import { startSleeper } from '../../ssh/sleepers.ts';
import { openEnvironment } from './ssh-fixture.ts';

const git = programsOnPath('git');

describeOnSshd('on sshd', () => {
  const host = useSshHost();
  const open = (part: ConfigPart = {}, options: Partial<SshDriverOptions> = {}) =>
    openEnvironment(host(), part, options);

  describe('acquiring', () => {
    test('creates a lease directory that only its user can read, and repeating it changes nothing', async () => {
      const { root, acquire } = await open();
      const leaseId = randomUUID();
      const { providerLeaseId: directory } = await acquire(leaseId);
      expect(directory).toBe(`${root}/.lessor/${leaseId}`);
      expect((await readdir(directory)).toSorted()).toEqual(['.gitignore', 'commands', 'workspace']);
      expect((await stat(directory)).mode & 0o777).toBe(0o700);
      await writeFile(join(directory, 'workspace', 'file'), 'kept');
      expect(await acquire(leaseId)).toEqual({ providerLeaseId: directory });
      expect(await readFile(join(directory, 'workspace', 'file'), 'utf8')).toBe('kept');
    });

    test('in place creates no workspace in the lease directory', async () => {
      const { newLease } = await open({ workspaceMode: 'in_place' });
      const { directory } = await newLease();
      expect((await readdir(directory)).toSorted()).toEqual(['.gitignore', 'commands']);
    });

    test.runIf(git.isMet)(`in place is not listed by git in the checkout${git.note}`, async () => {
      const { root, newLease } = await open({ workspaceMode: 'in_place' });
      execFileSync('git', ['init', '--quiet', root]);
      const { directory } = await newLease();
      await writeFile(join(directory, 'commands', '1.sh'), '');
      expect(execFileSync('git', ['-C', root, 'status', '--porcelain'], { encoding: 'utf8' })).toBe('');
    });

    test.each([
      ['is not there', (root: string) => rm(root, { recursive: true }), 'is no directory there; create it'],
      ['is a file', (root: string) => rm(root, { recursive: true }).then(() => writeFile(root, '')), 'is no directory'],
      ['leads elsewhere', (root: string) => symlink('/tmp', join(root, '.lessor')), 'symbolic link'],
      ['is taken', (root: string) => writeFile(join(root, '.lessor'), ''), 'cannot be created'],
    ])('rejects a workspace that %s', async (_case, spoil, said) => {
      const { root, newLease } = await open();
      await spoil(root);
      const { message } = await failureOf(newLease(), 'workspace_unusable');
      expect(message).toContain(`on 127.0.0.1:${host().server.port}, ${root}`);
      expect(message).toContain(said);
    });

    test('rejects a path that is no lease directory of the environment, and changes nothing', async () => {
      const { root, acquire } = await open();
      for (const directory of [root, `${root}/.lessor`, '/tmp', `/tmp/.lessor/${randomUUID()}`]) {
        await failureOf(acquire(randomUUID(), directory), 'workspace_unusable');
      }
      expect(await readdir(root)).toEqual([]);
    });
  });

  describe('reusing a lease directory', () => {
    test('keeps its files and ends what the earlier run left running', async () => {
      const { newLease, acquire } = await open();
      const { directory } = await newLease();
      const neighbour = await newLease();
      await writeFile(join(directory, 'workspace', 'file'), 'kept');
      const left = await startSleeper({ leaseDirectory: directory, script: (command) => `(${command} &)` });
      const other = await startSleeper({ leaseDirectory: neighbour.directory });
      expect(await acquire(randomUUID(), directory)).toEqual({ providerLeaseId: directory });
      expect(left.isAlive).toBe(false);
      expect(other.isAlive).toBe(true);
      expect(await readFile(join(directory, 'workspace', 'file'), 'utf8')).toBe('kept');
    });

    test('creates it again when it is gone', async () => {
      const { newLease, acquire } = await open();
      const { directory } = await newLease();
      await rm(directory, { recursive: true });
      await acquire(randomUUID(), directory);
      expect((await readdir(directory)).toSorted()).toEqual(['.gitignore', 'commands', 'workspace']);
    });

    test('does not create it again when it is released meanwhile', async () => {
      const { root, newLease, acquire } = await open({}, { graceSeconds: 20 });
      const { directory } = await newLease();
      const heard = join(root, 'heard');
      await startSleeper({
        leaseDirectory: directory,
        script: (command) =>
          `heard=${quote(heard)}; trap ': >"$heard"' TERM; ${command} & while [ -d "$LESSOR_LEASE_DIRECTORY" ]; do sleep 0.1; done`,
      });
      const taking = failureOf(acquire(randomUUID(), directory), 'workspace_unusable');
      await until(() => existsSync(heard));
      await rm(directory, { recursive: true });
      expect((await taking).message).toContain('was removed while');
      expect(existsSync(directory)).toBe(false);
    });

    test('follows no link that the earlier run left in it', async () => {
      const { root, newLease, acquire } = await open();
      const { directory } = await newLease();
      const target = join(root, 'target');
      await mkdir(target);
      await writeFile(join(target, 'file'), 'untouched');
      for (const [name, leadsTo] of [
        ['workspace', target],
        ['commands', target],
        ['.gitignore', join(target, 'file')],
      ] as const) {
        await rm(join(directory, name), { recursive: true });
        await symlink(leadsTo, join(directory, name));
      }
      await acquire(randomUUID(), directory);
      expect((await lstat(join(directory, 'workspace'))).isDirectory()).toBe(true);
      expect((await lstat(join(directory, '.gitignore'))).isFile()).toBe(true);
      await rm(directory, { recursive: true });
      await symlink(target, directory);
      await acquire(randomUUID(), directory);
      expect((await lstat(directory)).isDirectory()).toBe(true);
      expect(await readdir(target)).toEqual(['file']);
      expect(await readFile(join(target, 'file'), 'utf8')).toBe('untouched');
    });
  });

  describe('releasing', () => {
    test('ends the daemons of the lease directory and no other process, removes the directory and can be repeated', async () => {
      const { root, newLease, release } = await open();
      const [ended, neighbour] = [await newLease(), await newLease()];
      const { directory } = ended;
      await writeFile(join(neighbour.directory, 'workspace', 'file'), 'untouched');
      const daemons = await Promise.all([
        startSleeper({ leaseDirectory: directory, cwd: join(directory, 'workspace') }),
        startSleeper({
          leaseDirectory: directory,
          cwd: '/',
          script: (command) => `(${command} </dev/null >/dev/null 2>&1 &)`,
        }),
        startSleeper({ leaseDirectory: directory, script: (command) => `trap '' TERM HUP; exec ${command}` }),
      ]);
      const others = [await startSleeper({ leaseDirectory: neighbour.directory }), await startSleeper()];
      await release(ended.leaseId, directory);
      expect(daemons.some(({ isAlive }) => isAlive)).toBe(false);
      expect(others.every(({ isAlive }) => isAlive)).toBe(true);
      expect(await readdir(join(root, '.lessor'))).toEqual([neighbour.leaseId]);
      expect(await readFile(join(neighbour.directory, 'workspace', 'file'), 'utf8')).toBe('untouched');
      await release(ended.leaseId, directory);
      await release(ended.leaseId, null);
      await release(neighbour.leaseId, neighbour.directory);
      expect(await readdir(root)).toEqual([]);
      expect(others.map(({ isAlive }) => isAlive)).toEqual([false, true]);
    });

    test('finds the lease directory by the lease id when the acquisition was never recorded', async () => {
      const { root, newLease, release } = await open();
      const { leaseId, directory } = await newLease();
      const left = await startSleeper({ leaseDirectory: directory });
      await release(leaseId, null);
      expect(left.isAlive).toBe(false);
      expect(await readdir(root)).toEqual([]);
    });

    test('ends what runs after the run removed the lease directory or the whole workspace', async () => {
      const { root, newLease, release } = await open();
      const [one, two] = [await newLease(), await newLease()];
      const left = [
        await startSleeper({ leaseDirectory: one.directory }),
        await startSleeper({ leaseDirectory: two.directory }),
      ];
      await rm(one.directory, { recursive: true });
      await release(one.leaseId, one.directory);
      await rm(root, { recursive: true });
      await release(two.leaseId, two.directory);
      expect(left.some(({ isAlive }) => isAlive)).toBe(false);
    });

    test('in place never removes the workspace', async () => {
      const { root, newLease, release } = await open({ workspaceMode: 'in_place' });
      const { leaseId, directory } = await newLease();
      await writeFile(join(root, 'file'), 'kept');
      await mkdir(join(root, 'workspace'));
      await release(leaseId, directory);
      expect((await readdir(root)).toSorted()).toEqual(['file', 'workspace']);
      for (const other of [root, `${root}/`, `${root}/.lessor/..`]) {
        await failureOf(release(leaseId, other), 'workspace_unusable');
      }
      expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept');
    });

    test('removes read-only files and odd names, and follows no link', async () => {
      const { root, newLease, release } = await open();
      const { leaseId, directory } = await newLease();
      const workspace = join(directory, 'workspace');
      const target = join(root, 'target');
      await mkdir(target);
      await writeFile(join(target, 'file'), 'untouched');
      await mkdir(join(workspace, 'closed', 'deep', 'deeper'), { recursive: true });
      for (const name of ['-rf', '--', ' ', '*', '$HOME', "it's", '`x`', 'new\nline', 'ünïcode', '\\', '"']) {
        await mkdir(join(workspace, name));
        await writeFile(join(workspace, name, name), '');
      }
      await symlink(target, join(workspace, 'link'));
      await symlink('/', join(workspace, 'closed', 'root'));
      await symlink('nowhere', join(workspace, 'broken'));
      await writeFile(join(workspace, 'closed', 'deep', 'file'), '', { mode: 0o400 });
      await chmod(join(workspace, 'closed', 'deep', 'deeper'), 0o000);
      await chmod(join(workspace, 'closed', 'deep'), 0o500);
      await chmod(join(workspace, 'closed'), 0o400);
      await chmod(directory, 0o500);
      await release(leaseId, directory);
      expect(await readdir(root)).toEqual(['target']);
      expect(await readFile(join(target, 'file'), 'utf8')).toBe('untouched');
    });

    test('removes a link in place of the lease directory, never its target', async () => {
      const { root, newLease, release } = await open();
      const { leaseId, directory } = await newLease();
      await rm(directory, { recursive: true });
      await mkdir(join(root, 'target'));
      await symlink(join(root, 'target'), directory);
      await release(leaseId, directory);
      expect(await readdir(root)).toEqual(['target']);
    });

    test('follows no link in place of .lessor', async () => {
      const { root, newLease, release } = await open();
      const { leaseId, directory } = await newLease();
      const moved = join(root, 'moved');
      await mkdir(join(moved, leaseId), { recursive: true });
      await rm(join(root, '.lessor'), { recursive: true });
      await symlink(moved, join(root, '.lessor'));
      const { message } = await failureOf(release(leaseId, directory), 'workspace_unusable');
      expect(message).toContain('symbolic link');
      expect(await readdir(moved)).toEqual([leaseId]);
    });

    test('fails while the host is down, and succeeds once it is up again', async () => {
      const { root, newLease, release } = await open();
      const { leaseId, directory } = await newLease();
      await host().server.stop();
      onTestFinished(() => host().server.start());
      await failureOf(release(leaseId, directory), 'environment_unreachable');
      expect(await readdir(root)).toEqual(['.lessor']);
      await host().server.start();
      await release(leaseId, directory);
      expect(await readdir(root)).toEqual([]);
    });
  });

  test('lease directories are created and removed concurrently', async () => {
    const { root, newLease, release } = await open();
    await Promise.all(
      Array.from({ length: 8 }, async (_none, index) => {
        const { leaseId, directory } = await newLease();
        expect((await readdir(directory)).length).toBe(3);
        await release(leaseId, index % 2 === 0 ? directory : null);
      }),
    );
    expect(await readdir(root)).toEqual([]);
  });

  test('an aborted call rejects immediately with the reason', async () => {
    const { newLease, acquire, release } = await open();
    const { leaseId, directory } = await newLease();
    await startSleeper({ leaseDirectory: directory, script: (command) => `trap '' TERM; exec ${command}` });
    const reason = new Error('the worker stops');
    await expect(acquire(randomUUID(), null, AbortSignal.abort(reason))).rejects.toBe(reason);
    const aborting = new AbortController();
    const before = performance.now();
    const releasing = release(leaseId, directory, aborting.signal);
    setTimeout(() => aborting.abort(reason), 50);
    await expect(releasing).rejects.toBe(reason);
    expect(performance.now() - before).toBeLessThan(1_000);
    await release(leaseId, directory);
  });
});
