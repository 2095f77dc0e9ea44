import { lstat, mkdir, readFile, readdir, rm, symlink, utimes } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EnvironmentFailedError } from '../../../src/contracts/index.ts';
import { RemoteFileSkippedError } from '../../../src/execution/workspace/restore-workspace.ts';
import { TEMPORARY_PREFIX } from '../../../src/execution/workspace/walk-workspace.ts';
import type { WorkspaceEntry, WorkspaceTree } from '../../../src/execution/workspace/walk-workspace.ts';
import type { Content } from '../directories.ts';
import { makeDirectory } from '../directories.ts';
import { LEASE_ID, TwoSides } from './two-sides.ts';

const nothing = { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
const aside = (path: string) => `.lessor/conflicts/${LEASE_ID}/${path}`;

describe('a restore downloads', () => {
  test('nothing when nothing changed remotely, and local changes stay', async () => {
    const sides = await TwoSides.with({ a: 'one', b: 'one', 'dir/c': 'one', link: { symlink: 'a' } });
    await sides.changeHere({ a: 'two', b: undefined, new: 'here' });
    expect(await sides.restore()).toEqual(nothing);
    expect(await sides.contentsHere()).toEqual({ a: 'two', dir: null, 'dir/c': 'one', link: 'a', new: 'here' });
  });

  test('changed, new and deleted files, symlinks and directories, empty ones too', async () => {
    const sides = await TwoSides.with({
      a: 'one',
      b: 'one',
      'old/deep/c': 'one',
      link: { symlink: 'a' },
      gone: { symlink: 'a' },
      empty: null,
    });
    await sides.changeThere({
      a: 'two',
      b: undefined,
      old: undefined,
      link: { symlink: 'b' },
      gone: undefined,
      empty: undefined,
      'new/deep/d': 'new',
      'new link': { symlink: '../outside' },
      hollow: null,
    });
    expect(await sides.restore()).toEqual({
      ...nothing,
      changed: ['a', 'link'],
      created: ['hollow', 'new', 'new link', 'new/deep', 'new/deep/d'],
      deleted: ['b', 'empty', 'gone', 'old', 'old/deep', 'old/deep/c'],
    });
    expect(await sides.contentsHere()).toEqual({
      a: 'two',
      hollow: null,
      link: 'b',
      new: null,
      'new link': '../outside',
      'new/deep': null,
      'new/deep/d': 'new',
    });
  });

  test('a file with its mode and mtime', async () => {
    const sides = await TwoSides.with({ 'a.sh': 'one' });
    await sides.changeThere({ 'a.sh': { file: 'two', mode: 0o700 }, 'b.sh': { file: '', mode: 0o755 } });
    await utimes(join(sides.there, 'a.sh'), 5_000, 5_000);
    await sides.restore();
    expect(await modeOf(sides, 'a.sh')).toBe(0o700);
    expect(await modeOf(sides, 'b.sh')).toBe(0o755);
    expect((await lstat(join(sides.here, 'a.sh'))).mtimeMs).toBe(5_000_000);
  });

  test('a mode alone, of a file and of a directory, while the content changed locally', async () => {
    const sides = await TwoSides.with({ 'a.sh': 'one', dir: null });
    await sides.changeThere({ 'a.sh': 0o755, dir: 0o700 });
    await sides.changeHere({ 'a.sh': 'two' });
    expect(await sides.restore()).toEqual({ ...nothing, changed: ['a.sh', 'dir'] });
    expect([await modeOf(sides, 'a.sh'), await modeOf(sides, 'dir')]).toEqual([0o755, 0o700]);
    expect(await readFile(join(sides.here, 'a.sh'), 'utf8')).toBe('two');
  });

  test('a content alone, while the mode changed locally', async () => {
    const sides = await TwoSides.with({ 'a.sh': 'one' });
    await sides.changeThere({ 'a.sh': 'two' });
    await sides.changeHere({ 'a.sh': 0o755 });
    expect(await sides.restore()).toEqual({ ...nothing, changed: ['a.sh'] });
    expect(await modeOf(sides, 'a.sh')).toBe(0o755);
  });

  test('into a directory that has become read-only', async () => {
    const sides = await TwoSides.with({ 'dir/a': 'one' });
    await sides.changeThere({ 'dir/a': 'two', 'dir/b': 'new' });
    await sides.changeThere({ dir: 0o555 });
    expect(await sides.restore()).toMatchObject({ changed: ['dir', 'dir/a'], created: ['dir/b'] });
    expect(await modeOf(sides, 'dir')).toBe(0o555);
  });

  test('a file of the same size and mtime that may have changed within the second of the upload', async () => {
    const sides = await TwoSides.with({ a: 'one', b: 'one' });
    await sides.changeThere({ a: 'two' });
    for (const name of ['a', 'b']) await utimes(join(sides.there, name), 2_000, 2_000);
    for (const entry of sides.manifest.entries.values()) if (entry.kind === 'file') entry.remoteMtime = 2_000;
    expect(await sides.restore()).toEqual({ ...nothing, changed: ['a'] });
  });

  test('no file that was only touched', async () => {
    const sides = await TwoSides.with({ a: 'one' });
    await utimes(join(sides.there, 'a'), 9_000, 9_000);
    const before = await lstat(join(sides.here, 'a'));
    expect(await sides.restore()).toEqual(nothing);
    expect((await lstat(join(sides.here, 'a'))).ino).toBe(before.ino);
  });

  const kinds: Record<string, { was: Content; is: Content; inside?: string }> = {
    'a file became a directory': { was: 'one', is: null },
    'a file became a symlink': { was: 'one', is: { symlink: 'x' } },
    'a directory became a file': { was: null, is: 'two', inside: 'a' },
    'a directory became a symlink': { was: null, is: { symlink: 'x' }, inside: 'a' },
    'a symlink became a file': { was: { symlink: 'x' }, is: 'two' },
    'a symlink became a directory': { was: { symlink: 'x' }, is: null },
  };
  test.for(Object.entries(kinds))('an entry that replaces one of another kind: %s', async ([, { was, is, inside }]) => {
    const sides = await TwoSides.with({ path: was, ...(inside === undefined ? {} : { [`path/${inside}`]: 'one' }) });
    await sides.changeThere({ path: is });
    if (is === null) await sides.changeThere({ 'path/new': 'new' });
    expect(await sides.restore()).toMatchObject({ changed: ['path'], conflicts: [] });
    const expected =
      typeof is === 'string' ? { path: is } : is === null ? { path: null, 'path/new': 'new' } : { path: 'x' };
    expect(await sides.contentsHere()).toEqual(expected);
  });

  test('without leaving temporary files', async () => {
    const sides = await TwoSides.with({ a: 'one', 'dir/b': 'one' });
    await sides.changeThere({ a: 'two', 'dir/b': 'two' });
    await sides.changeHere({ a: 'three' });
    await sides.restore();
    const all = await readdir(sides.here, { recursive: true });
    expect(all.filter((path) => path.includes(TEMPORARY_PREFIX))).toEqual([]);
  });
});

describe('what the .gitignore of the environment excludes by then', () => {
  test('is not downloaded', async () => {
    const sides = await TwoSides.with({ '.gitignore': '*.log\n', a: 'one' });
    await sides.changeThere({
      'x.log': 'new',
      '.gitignore': '*.log\nbuild/\n',
      'build/x': 'new',
      'dir/.gitignore': 'y',
      'dir/y': 'new',
    });
    expect(await sides.restore()).toEqual({ ...nothing, changed: ['.gitignore'], created: ['dir', 'dir/.gitignore'] });
  });

  test('does not count as deleted, with everything below it', async () => {
    const sides = await TwoSides.with({ 'cache/a': 'one', 'b.txt': 'one' });
    await sides.changeThere({ '.gitignore': 'cache/\nb.txt', 'cache/a': undefined, 'b.txt': 'two' });
    expect(await sides.restore()).toEqual({ ...nothing, created: ['.gitignore'] });
    expect(await sides.contentsHere()).toMatchObject({ 'cache/a': 'one', 'b.txt': 'one' });
  });

  test('stays unchanged locally, in a directory that was deleted remotely', async () => {
    const sides = await TwoSides.with({ '.gitignore': '*.log', 'dir/a': 'one' });
    await sides.changeHere({ 'dir/x.log': 'log' });
    await sides.changeThere({ dir: undefined });
    expect(await sides.restore()).toEqual({
      ...nothing,
      deleted: ['dir/a'],
      skipped: [{ path: 'dir', reason: 'it was deleted on the environment, but is not empty locally' }],
    });
    expect(await sides.contentsHere()).toMatchObject({ 'dir/x.log': 'log' });
  });
});

describe('a restore writes nothing outside of the workspace', () => {
  test('through a symlink that replaced a local directory', async () => {
    const outside = await makeDirectory({ a: 'outside' });
    const sides = await TwoSides.with({ 'dir/a': 'one', 'dir/b': 'one' });
    await sides.changeThere({ 'dir/a': 'there', 'dir/b': undefined, 'dir/new': 'there' });
    await sides.changeHere({ dir: { symlink: outside } });
    expect((await sides.restore()).conflicts).toEqual([
      { path: 'dir/a', keptAs: aside('dir/a') },
      { path: 'dir/b', keptAs: null },
      { path: 'dir/new', keptAs: aside('dir/new') },
    ]);
    expect(await readdir(outside)).toEqual(['a']);
    expect(await readFile(join(outside, 'a'), 'utf8')).toBe('outside');
  });

  test('through a downloaded symlink, when a host lists files behind it', async () => {
    const outside = await makeDirectory();
    const sides = await TwoSides.with({ other: '' });
    const lying = treeOf({
      '': [
        { kind: 'symlink', path: 'dir', target: outside },
        { kind: 'directory', path: 'dir', mode: 0o755 },
      ],
      dir: [{ kind: 'file', path: 'dir/a', size: 1, mode: 0o644, mtime: 9_000 }],
    });
    const { skipped } = await sides.restore({
      tree: lying,
      download: () => Promise.resolve('a hash'),
    });
    expect(skipped).toContainEqual({ path: 'dir', reason: 'the host lists it twice' });
    expect(await readdir(outside)).toEqual([]);
  });

  test('through a symlink with the name of a conflict copy', async () => {
    const outside = await makeDirectory();
    const sides = await TwoSides.with({ a: 'one' });
    await symlink(outside, join(sides.here, '.lessor'));
    await sides.changeHere({ a: 'here' });
    await sides.changeThere({ a: 'there' });
    await expect(sides.restore()).rejects.toThrow(EnvironmentFailedError);
    expect(await readdir(outside)).toEqual([]);
  });
});

describe('an incomplete restore', () => {
  test('reports a file that cannot be downloaded, keeps the local one, and continues', async () => {
    const sides = await TwoSides.with({ a: 'one', b: 'one' });
    await sides.changeThere({ a: 'two', b: 'two' });
    const skipped = [{ path: 'a', reason: 'Permission denied' }];
    expect(await sides.restore({ download: downloadAllButA })).toEqual({ ...nothing, changed: ['b'], skipped });
    expect(await sides.contentsHere()).toEqual({ a: 'one', b: 'two' });
  });

  test('deletes nothing when the remote workspace is gone', async () => {
    const sides = await TwoSides.with({ a: 'one' });
    await rm(sides.there, { recursive: true });
    await mkdir(sides.there);
    const gone: WorkspaceTree = {
      list: () => Promise.reject(new Error('no such directory')),
      readBeginning: () => Promise.reject(new Error('no')),
    };
    await expect(sides.restore({ tree: gone })).rejects.toThrow('no such directory');
    expect(await sides.contentsHere()).toEqual({ a: 'one' });
  });

  test('deletes nothing of a directory that cannot be listed', async () => {
    const sides = await TwoSides.with({ 'dir/a': 'one' });
    const unlisted = treeOf({
      '': [{ kind: 'directory', path: 'dir', mode: 0o755 }],
      dir: [{ kind: 'skipped', path: 'dir', reason: 'Permission denied' }],
    });
    const skipped = [{ path: 'dir', reason: 'Permission denied' }];
    expect(await sides.restore({ tree: unlisted })).toEqual({ ...nothing, skipped });
    expect(await sides.contentsHere()).toEqual({ dir: null, 'dir/a': 'one' });
  });

  test('names the file that cannot be changed locally', async () => {
    const sides = await TwoSides.with({ a: 'one' });
    const name = 'x'.repeat(255);
    await sides.changeThere({ [name]: 'there' });
    // The name it has until it is finished is longer than a name can be.
    const deep = Array.from({ length: 15 }, () => name).join('/');
    const tree = treeOf({ '': [{ kind: 'file', path: `${deep}/${name}`, size: 1, mode: 0o644, mtime: 9_000 }] });
    await expect(sides.restore({ tree })).rejects.toMatchObject({
      code: 'workspace_unusable',
      // A message is cut where it could not be stored.
      message: expect.stringMatching(/^x{255}\//) as unknown,
      cause: { code: 'ENAMETOOLONG' },
    });
  });
});

async function downloadAllButA(path: string, into: FileHandle): Promise<string> {
  if (path === 'a') throw new RemoteFileSkippedError('Permission denied');
  await into.appendFile('two');
  return 'a hash of it';
}

type Listing = Awaited<ReturnType<WorkspaceTree['list']>>;

/** A tree that tells what it is told to. */
function treeOf(listings: Record<string, (WorkspaceEntry | Listing[number])[]>): WorkspaceTree {
  return {
    list: (directory) => Promise.resolve(listings[directory] ?? []),
    readBeginning: () => Promise.resolve(Buffer.alloc(0)),
  };
}

async function modeOf(sides: TwoSides, path: string): Promise<number> {
  return (await lstat(join(sides.here, path))).mode & 0o777;
}
