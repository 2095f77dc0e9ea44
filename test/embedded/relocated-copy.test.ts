import { chmod, lstat, mkdir, mkdtemp, readFile, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { findMissingLinks, makeLinks } from '../../src/embedded/relocated-copy.ts';
import { isReachable } from '../../src/embedded/programs.ts';
import { relocatePackage } from '../../src/embedded/relocated-copy.ts';
import { findObstacle, pickUnprivilegedAccount } from '../../src/embedded/server-account.ts';

const STRANGER = { name: 'stranger', uid: 54_321, gid: 54_321 };

test('as root, the embedded Postgres runs as postgres, else as nobody, else the start is rejected with the remedy', () => {
  const nobody = 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n';
  expect(pickUnprivilegedAccount(nobody)).toEqual({ name: 'nobody', uid: 65_534, gid: 65_534 });
  expect(pickUnprivilegedAccount(`${nobody}postgres:x:101:104::/:/bin/bash`)).toMatchObject({ uid: 101, gid: 104 });
  expect(() => pickUnprivilegedAccount('root:x:0:0::/root:/bin/sh')).toThrow('DATABASE_URL');
});

test('a directory without execute permission on the path is the obstacle, for the accounts that lack it', async () => {
  const { root, closed } = await makePackage();
  expect(await findObstacle(root, STRANGER)).toBe(closed);
  expect(await isReachable(root, STRANGER)).toBe(false);
  expect(await isReachable(root, undefined)).toBe(true);
  const { uid, gid } = await lstat(closed);
  expect(await findObstacle(closed, { name: 'parent', uid, gid })).toBeUndefined();
  await chmod(closed, 0o755);
  expect(await isReachable(root, STRANGER)).toBe(true);
});

test('library links that a blocked install script did not create are created', async () => {
  const { root } = await makePackage();
  const missing = await findMissingLinks(root);
  expect(missing).toEqual([{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }]);
  await makeLinks(root, missing);
  expect(await readlink(join(root, 'native/lib/libpq.so.5'))).toBe('libpq.so.5.18');
  expect(await findMissingLinks(root)).toEqual([]);
  await makeLinks(root, missing);
});

test('a relocated copy of Postgres is complete, executable by all users and writable by its own only', async () => {
  const { root, cacheParent } = await makePackage();
  const copy = await relocate(root, cacheParent);
  expect(await isReachable(copy, STRANGER)).toBe(true);
  expect(await findMissingLinks(copy)).toEqual([]);
  expect((await lstat(join(copy, 'native/bin/postgres'))).mode & 0o777).toBe(0o755);
  expect((await lstat(join(copy, 'native/lib/libpq.so.5.18'))).mode & 0o777).toBe(0o644);
  expect(await findMissingLinks(root)).toHaveLength(1);
});

test('processes that relocate Postgres concurrently leave one copy, and nothing else', async () => {
  const { root, cacheParent } = await makePackage();
  const copies = await Promise.all([1, 2, 3, 4].map(() => relocate(root, cacheParent)));
  expect(new Set(copies).size).toBe(1);
  expect(await readdir(cacheParent)).toHaveLength(1);
});

test('a relocated copy that lost a file to a temporary-directory cleaner is created again', async () => {
  const { root, cacheParent } = await makePackage();
  const copy = await relocate(root, cacheParent);
  await rm(join(copy, 'native/bin/initdb'));
  expect(await relocate(root, cacheParent)).toBe(copy);
  expect(await readFile(join(copy, 'native/bin/initdb'), 'utf8')).toBe('#!initdb');
  expect(await readdir(cacheParent)).toHaveLength(1);
});

test('a relocated copy that other users can write to is not trusted', async () => {
  const { root, cacheParent } = await makePackage();
  const copy = await relocate(root, cacheParent);
  await chmod(copy, 0o777);
  await expect(relocate(root, cacheParent)).rejects.toMatchObject({ code: 'cache_untrusted' });
  await rm(copy, { recursive: true });
  await symlink(root, copy);
  await expect(relocate(root, cacheParent)).rejects.toMatchObject({ code: 'cache_untrusted' });
});

function relocate(root: string, cacheParent: string): Promise<string> {
  return relocatePackage({ platform: 'test', version: '1.2.3', root }, cacheParent);
}

/** A platform package in miniature, without its links, below a directory that is closed to others. */
async function makePackage() {
  const parent = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  onTestFinished(() => rm(parent, { recursive: true }));
  const closed = join(parent, 'closed');
  const root = join(closed, 'package');
  const cacheParent = join(parent, 'cache');
  for (const folder of ['bin', 'lib', 'share']) await mkdir(join(root, 'native', folder), { recursive: true });
  await mkdir(cacheParent);
  const links = [{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }];
  await writeFile(join(root, 'native/pg-symlinks.json'), JSON.stringify(links));
  await writeFile(join(root, 'native/lib/libpq.so.5.18'), 'library', { mode: 0o600 });
  await writeFile(join(root, 'native/bin/initdb'), '#!initdb', { mode: 0o700 });
  await writeFile(join(root, 'native/bin/postgres'), '#!postgres', { mode: 0o700 });
  // The files inside stay as a strict umask made them; the directories above do not, except the closed one.
  await chmod(parent, 0o755);
  await chmod(closed, 0o700);
  for (const program of ['initdb', 'postgres']) await chmod(join(root, 'native/bin', program), 0o755);
  return { root, closed, cacheParent };
}
