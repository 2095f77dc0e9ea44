import { lstat, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Content } from '../directories.ts';
import { LEASE_ID, TwoSides } from './two-sides.ts';
import type { Changes } from './two-sides.ts';

const nothing = { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };
const aside = (path: string) => `.lessor/conflicts/${LEASE_ID}/${path}`;

describe('a change on both sides', () => {
  const same: Record<string, Changes> = {
    'the same content': { path: 'two' },
    'the same new file': { 'new/file': 'new' },
    'both deleted it': { path: undefined },
    'the same symlink': { path: { symlink: 'x' } },
    'the same directory': { path: null },
  };
  test.for(Object.entries(same))('that is the same is no conflict: %s', async ([, changes]) => {
    const sides = await TwoSides.with({ path: 'one' });
    await sides.changeHere(changes);
    await sides.changeThere(changes);
    expect(await sides.restore()).toEqual(nothing);
    expect(await sides.conflictsHere()).toEqual({});
  });

  const conflicts: {
    what: string;
    was: Content | undefined;
    here: Content | undefined;
    there: Content | undefined;
    kept: Record<string, string | null> | null;
  }[] = [
    { what: 'two contents', was: 'one', here: 'here', there: 'there', kept: { path: 'there' } },
    { what: 'two new files', was: undefined, here: 'here', there: 'there', kept: { path: 'there' } },
    { what: 'changed there, deleted here', was: 'one', here: undefined, there: 'there', kept: { path: 'there' } },
    { what: 'deleted there, changed here', was: 'one', here: 'here', there: undefined, kept: null },
    {
      what: 'two targets',
      was: { symlink: 'x' },
      here: { symlink: 'y' },
      there: { symlink: 'z' },
      kept: { path: 'z' },
    },
    { what: 'a file here, a symlink there', was: 'one', here: 'here', there: { symlink: 'z' }, kept: { path: 'z' } },
    {
      what: 'a symlink here, a file there',
      was: 'one',
      here: { symlink: 'z' },
      there: 'there',
      kept: { path: 'there' },
    },
    { what: 'a directory here, a file there', was: 'one', here: null, there: 'there', kept: { path: 'there' } },
    { what: 'a file here, a directory there', was: 'one', here: 'here', there: null, kept: { path: null } },
  ];
  test.for(conflicts)(
    'that differs keeps the local version, and a copy of the environment’s: $what',
    async ({ was, here, there, kept }) => {
      const sides = await TwoSides.with({ other: '', ...(was === undefined ? {} : { path: was }) });
      await sides.changeHere({ path: here });
      await sides.changeThere({ path: there });
      const before = await sides.contentsHere();
      const expected = { ...nothing, conflicts: [{ path: 'path', keptAs: kept === null ? null : aside('path') }] };
      expect(await sides.restore()).toEqual(expected);
      expect(await sides.contentsHere()).toEqual(before);
      expect(await sides.conflictsHere()).toEqual(kept ?? {});
    },
  );

  test('copies a whole remote directory that replaced a locally changed file', async () => {
    const sides = await TwoSides.with({ path: 'one' });
    await sides.changeHere({ path: 'here' });
    await sides.changeThere({ path: null });
    await sides.changeThere({ 'path/deep/a': 'there' });
    expect((await sides.restore()).conflicts.map(({ path }) => path)).toEqual(['path', 'path/deep', 'path/deep/a']);
    expect(await sides.conflictsHere()).toEqual({ path: null, 'path/deep': null, 'path/deep/a': 'there' });
    expect(await sides.contentsHere()).toEqual({ path: 'here' });
  });

  test('keeps a directory with a new local file when it was replaced by a file remotely', async () => {
    const sides = await TwoSides.with({ 'path/a': 'one' });
    await sides.changeHere({ 'path/new': 'here' });
    await sides.changeThere({ path: 'a file now' });
    expect(await sides.restore()).toEqual({
      ...nothing,
      deleted: ['path/a'],
      conflicts: [{ path: 'path', keptAs: aside('path') }],
    });
    expect(await sides.contentsHere()).toEqual({ path: null, 'path/new': 'here' });
    expect(await sides.conflictsHere()).toEqual({ path: 'a file now' });
  });

  test('is not reported again by a second restore', async () => {
    const sides = await TwoSides.with({ 'b/a': 'one' });
    await sides.changeThere({ b: 'a file now' });
    await sides.restore();
    expect(await sides.restore()).toEqual(nothing);
  });

  test('copies a new remote file below what is a file locally', async () => {
    const sides = await TwoSides.with({ dir: null });
    await sides.changeHere({ dir: 'a file now' });
    await sides.changeThere({ 'dir/new': 'there' });
    expect(await sides.restore()).toEqual({
      ...nothing,
      conflicts: [{ path: 'dir/new', keptAs: aside('dir/new') }],
    });
    expect(await sides.contentsHere()).toEqual({ dir: 'a file now' });
    expect(await sides.conflictsHere()).toEqual({ dir: null, 'dir/new': 'there' });
  });

  test('of modes is reported', async () => {
    const sides = await TwoSides.with({ a: 'one', b: 'one' });
    await sides.changeHere({ a: 0o600, b: 0o700 });
    await sides.changeThere({ a: 0o755, b: 0o700 });
    const reason = 'its mode changed on both sides: it is 755 on the environment';
    expect(await sides.restore()).toEqual({ ...nothing, skipped: [{ path: 'a', reason }] });
    expect(await modeOf(sides, 'a')).toBe(0o600);
  });

  test('during the download is not overwritten either', async () => {
    const sides = await TwoSides.with({ a: 'one' });
    await sides.changeThere({ a: 'there' });
    const download = async (_path: string, into: { appendFile(text: string): Promise<void> }) => {
      await writeFile(join(sides.here, 'a'), 'here');
      await into.appendFile('there');
      return 'a hash of it';
    };
    expect(await sides.restore({ download })).toEqual({ ...nothing, conflicts: [{ path: 'a', keptAs: aside('a') }] });
    expect(await sides.contentsHere()).toEqual({ a: 'here' });
    expect(await sides.conflictsHere()).toEqual({ a: 'there' });
  });

  test('is copied once by repeated restores, and ignored by git', async () => {
    const sides = await TwoSides.with({ a: 'one', b: 'one' });
    await sides.changeHere({ a: 'here', b: 'here' });
    await sides.changeThere({ a: 'there', b: 'there' });
    await sides.restore();
    await sides.changeThere({ a: 'one' });
    await utimes(join(sides.there, 'a'), 1_000, 1_000);
    expect((await sides.restore()).conflicts).toEqual([{ path: 'b', keptAs: aside('b') }]);
    expect(await sides.conflictsHere()).toEqual({ b: 'there' });
    expect(await readFile(join(sides.here, '.lessor/.gitignore'), 'utf8')).toBe('*\n');
  });
});

async function modeOf(sides: TwoSides, path: string): Promise<number> {
  return (await lstat(join(sides.here, path))).mode & 0o777;
}
