import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SshDriverOptions } from '../../../src/environments/drivers/ssh-driver.ts';
import { quote } from '../../../src/ssh/shell.ts';
import { until } from '../../../testing/until.ts';
import { failureOf } from '../../ssh/failures.ts';
import { hostKinds, useHost } from '../../ssh/hosts.ts';
import type { ConfigPart } from '../../ssh/hosts.ts';
import { isInstalled } from '../../ssh/programs.ts';
import { startSleeper } from '../../ssh/sleepers.ts';
import { openEnvironment } from './ssh-fixture.ts';

describe.each(hostKinds)('on %s', (kind) => {
  const host = useHost(kind);
  const open = (part: ConfigPart = {}, options: Partial<SshDriverOptions> = {}) =>
    openEnvironment(host(), part, options);

  describe('acquiring', () => {
    test('makes a place that is nobody else’s, and repeating it changes nothing', async () => {
      const { root, acquire } = await open();
      const leaseId = randomUUID();
      const { providerLeaseId: place } = await acquire(leaseId);
      expect(place).toBe(`${root}/.lessor/${leaseId}`);
      expect((await readdir(place)).toSorted()).toEqual(['.gitignore', 'commands', 'workspace']);
      expect((await stat(place)).mode & 0o777).toBe(0o700);
      await writeFile(join(place, 'workspace', 'file'), 'kept');
      expect(await acquire(leaseId)).toEqual({ providerLeaseId: place });
      expect(await readFile(join(place, 'workspace', 'file'), 'utf8')).toBe('kept');
    });

    test('in place makes room for bookkeeping only', async () => {
      const { newPlace } = await open({ workspaceMode: 'in_place' });
      const { place } = await newPlace();
      expect((await readdir(place)).toSorted()).toEqual(['.gitignore', 'commands']);
    });

    test.runIf(isInstalled('git'))('in place does not show in the checkout', async () => {
      const { root, newPlace } = await open({ workspaceMode: 'in_place' });
      execFileSync('git', ['init', '--quiet', root]);
      const { place } = await newPlace();
      await writeFile(join(place, 'commands', '1.sh'), '');
      expect(execFileSync('git', ['-C', root, 'status', '--porcelain'], { encoding: 'utf8' })).toBe('');
    });

    test.each([
      ['is not there', (root: string) => rm(root, { recursive: true }), 'is no directory there; create it'],
      ['is a file', (root: string) => rm(root, { recursive: true }).then(() => writeFile(root, '')), 'is no directory'],
      ['leads elsewhere', (root: string) => symlink('/tmp', join(root, '.lessor')), 'symbolic link'],
      ['is taken', (root: string) => writeFile(join(root, '.lessor'), ''), 'cannot be made'],
    ])('refuses a workspace that %s', async (_case, spoil, said) => {
      const { root, newPlace } = await open();
      await spoil(root);
      const { message } = await failureOf(newPlace(), 'workspace_unusable');
      expect(message).toContain(`on 127.0.0.1:${host().server.port}, ${root}`);
      expect(message).toContain(said);
    });

    test('refuses what is no place of the environment, and touches nothing', async () => {
      const { root, acquire } = await open();
      for (const place of [root, `${root}/.lessor`, '/tmp', `/tmp/.lessor/${randomUUID()}`]) {
        await failureOf(acquire(randomUUID(), place), 'workspace_unusable');
      }
      expect(await readdir(root)).toEqual([]);
    });
  });

  describe('taking a place over', () => {
    test('keeps its files and ends what the earlier run left running', async () => {
      const { newPlace, acquire } = await open();
      const { place } = await newPlace();
      const neighbour = await newPlace();
      await writeFile(join(place, 'workspace', 'file'), 'kept');
      const left = await startSleeper({ place, script: (command) => `(${command} &)` });
      const other = await startSleeper({ place: neighbour.place });
      expect(await acquire(randomUUID(), place)).toEqual({ providerLeaseId: place });
      expect(left.isAlive).toBe(false);
      expect(other.isAlive).toBe(true);
      expect(await readFile(join(place, 'workspace', 'file'), 'utf8')).toBe('kept');
    });

    test('makes it anew where it is gone', async () => {
      const { newPlace, acquire } = await open();
      const { place } = await newPlace();
      await rm(place, { recursive: true });
      await acquire(randomUUID(), place);
      expect((await readdir(place)).toSorted()).toEqual(['.gitignore', 'commands', 'workspace']);
    });

    test('does not make it again when it is released meanwhile', async () => {
      const { root, newPlace, acquire } = await open({}, { graceSeconds: 20 });
      const { place } = await newPlace();
      const heard = join(root, 'heard');
      await startSleeper({
        place,
        script: (command) =>
          `heard=${quote(heard)}; trap ': >"$heard"' TERM; ${command} & while [ -d "$LESSOR_LEASE_DIRECTORY" ]; do sleep 0.1; done`,
      });
      const taking = failureOf(acquire(randomUUID(), place), 'workspace_unusable');
      await until(() => existsSync(heard));
      await rm(place, { recursive: true });
      expect((await taking).message).toContain('was removed while');
      expect(existsSync(place)).toBe(false);
    });

    test('follows no link that the earlier run has put in its way', async () => {
      const { root, newPlace, acquire } = await open();
      const { place } = await newPlace();
      const target = join(root, 'target');
      await mkdir(target);
      await writeFile(join(target, 'file'), 'untouched');
      for (const [name, leadsTo] of [
        ['workspace', target],
        ['commands', target],
        ['.gitignore', join(target, 'file')],
      ] as const) {
        await rm(join(place, name), { recursive: true });
        await symlink(leadsTo, join(place, name));
      }
      await acquire(randomUUID(), place);
      expect((await lstat(join(place, 'workspace'))).isDirectory()).toBe(true);
      expect((await lstat(join(place, '.gitignore'))).isFile()).toBe(true);
      await rm(place, { recursive: true });
      await symlink(target, place);
      await acquire(randomUUID(), place);
      expect((await lstat(place)).isDirectory()).toBe(true);
      expect(await readdir(target)).toEqual(['file']);
      expect(await readFile(join(target, 'file'), 'utf8')).toBe('untouched');
    });
  });

  describe('releasing', () => {
    test('ends daemons of the place and nobody else, removes the place and is harmless to repeat', async () => {
      const { root, newPlace, release } = await open();
      const [ended, neighbour] = [await newPlace(), await newPlace()];
      const { place } = ended;
      await writeFile(join(neighbour.place, 'workspace', 'file'), 'untouched');
      const daemons = await Promise.all([
        startSleeper({ place, cwd: join(place, 'workspace') }),
        startSleeper({ place, cwd: '/', script: (command) => `(${command} </dev/null >/dev/null 2>&1 &)` }),
        startSleeper({ place, script: (command) => `trap '' TERM HUP; exec ${command}` }),
      ]);
      const others = [await startSleeper({ place: neighbour.place }), await startSleeper()];
      await release(ended.leaseId, place);
      expect(daemons.some(({ isAlive }) => isAlive)).toBe(false);
      expect(others.every(({ isAlive }) => isAlive)).toBe(true);
      expect(await readdir(join(root, '.lessor'))).toEqual([neighbour.leaseId]);
      expect(await readFile(join(neighbour.place, 'workspace', 'file'), 'utf8')).toBe('untouched');
      await release(ended.leaseId, place);
      await release(ended.leaseId, null);
      await release(neighbour.leaseId, neighbour.place);
      expect(await readdir(root)).toEqual([]);
      expect(others.map(({ isAlive }) => isAlive)).toEqual([false, true]);
    });

    test('finds the place by the lease alone, when its acquisition was never recorded', async () => {
      const { root, newPlace, release } = await open();
      const { leaseId, place } = await newPlace();
      const left = await startSleeper({ place });
      await release(leaseId, null);
      expect(left.isAlive).toBe(false);
      expect(await readdir(root)).toEqual([]);
    });

    test('ends what runs though its run has removed the place, or the whole workspace', async () => {
      const { root, newPlace, release } = await open();
      const [one, two] = [await newPlace(), await newPlace()];
      const left = [await startSleeper({ place: one.place }), await startSleeper({ place: two.place })];
      await rm(one.place, { recursive: true });
      await release(one.leaseId, one.place);
      await rm(root, { recursive: true });
      await release(two.leaseId, two.place);
      expect(left.some(({ isAlive }) => isAlive)).toBe(false);
    });

    test('in place never removes the workspace', async () => {
      const { root, newPlace, release } = await open({ workspaceMode: 'in_place' });
      const { leaseId, place } = await newPlace();
      await writeFile(join(root, 'file'), 'kept');
      await mkdir(join(root, 'workspace'));
      await release(leaseId, place);
      expect((await readdir(root)).toSorted()).toEqual(['file', 'workspace']);
      for (const notPlace of [root, `${root}/`, `${root}/.lessor/..`]) {
        await failureOf(release(leaseId, notPlace), 'workspace_unusable');
      }
      expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept');
    });

    test('removes what nobody may write to and what is oddly named, and follows no link', async () => {
      const { root, newPlace, release } = await open();
      const { leaseId, place } = await newPlace();
      const workspace = join(place, 'workspace');
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
      await chmod(place, 0o500);
      await release(leaseId, place);
      expect(await readdir(root)).toEqual(['target']);
      expect(await readFile(join(target, 'file'), 'utf8')).toBe('untouched');
    });

    test('removes a link in place of the place, never what it leads to', async () => {
      const { root, newPlace, release } = await open();
      const { leaseId, place } = await newPlace();
      await rm(place, { recursive: true });
      await mkdir(join(root, 'target'));
      await symlink(join(root, 'target'), place);
      await release(leaseId, place);
      expect(await readdir(root)).toEqual(['target']);
    });

    test('goes through no link in place of all places', async () => {
      const { root, newPlace, release } = await open();
      const { leaseId, place } = await newPlace();
      const moved = join(root, 'moved');
      await mkdir(join(moved, leaseId), { recursive: true });
      await rm(join(root, '.lessor'), { recursive: true });
      await symlink(moved, join(root, '.lessor'));
      const { message } = await failureOf(release(leaseId, place), 'workspace_unusable');
      expect(message).toContain('symbolic link');
      expect(await readdir(moved)).toEqual([leaseId]);
    });

    test('fails while the host is down, and succeeds once it is back', async () => {
      const { root, newPlace, release } = await open();
      const { leaseId, place } = await newPlace();
      await host().server.stop();
      onTestFinished(() => host().server.start());
      await failureOf(release(leaseId, place), 'environment_unreachable');
      expect(await readdir(root)).toEqual(['.lessor']);
      await host().server.start();
      await release(leaseId, place);
      expect(await readdir(root)).toEqual([]);
    });
  });

  test('places are made and removed beside one another at the same time', async () => {
    const { root, newPlace, release } = await open();
    await Promise.all(
      Array.from({ length: 8 }, async (_none, index) => {
        const { leaseId, place } = await newPlace();
        expect((await readdir(place)).length).toBe(3);
        await release(leaseId, index % 2 === 0 ? place : null);
      }),
    );
    expect(await readdir(root)).toEqual([]);
  });

  test('a call that is aborted ends at once with the reason', async () => {
    const { newPlace, acquire, release } = await open();
    const { leaseId, place } = await newPlace();
    await startSleeper({ place, script: (command) => `trap '' TERM; exec ${command}` });
    const reason = new Error('the worker stops');
    await expect(acquire(randomUUID(), null, AbortSignal.abort(reason))).rejects.toBe(reason);
    const aborting = new AbortController();
    const before = performance.now();
    const releasing = release(leaseId, place, aborting.signal);
    setTimeout(() => aborting.abort(reason), 50);
    await expect(releasing).rejects.toBe(reason);
    expect(performance.now() - before).toBeLessThan(1_000);
    await release(leaseId, place);
  });
});
