import { lstat, mkdir, readFile, readdir, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fill, makeDirectory } from '../directories.ts';
import { describeOnSshExecution, open, run } from './execution-fixture.ts';

const nothing = { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };

describeOnSshExecution('a reused lease directory', (host) => {
  test('is made equal to the workspace, and only differences are uploaded', async () => {
    const workspaceDirectory = await makeDirectory({
      '.gitignore': 'cache/\n',
      same: 'one',
      changed: 'one',
      gone: 'one',
      'dir/deep/gone': '',
      link: { symlink: 'same' },
      'was a file': '',
      'was a dir/x': '',
    });
    for (const name of ['same', 'changed']) await utimes(join(workspaceDirectory, name), 1_000_000, 1_000_000);
    const lease = await host.lease();
    const first = await open(lease, { workspaceDirectory });
    await first.prepareWorkspace();
    const there = first.workspacePath;
    const inode = async (name: string) => (await lstat(join(there, name))).ino;
    const same = await inode('same');
    await run(first, [
      'sh',
      '-c',
      'mkdir -p cache "was a dir/cache" left/over/cache; touch cache/a "was a dir/cache/a" left/over/b left/over/cache/a; chmod 500 dir left/over; ln -s / rooted',
    ]);

    await rm(join(workspaceDirectory, 'gone'));
    await rm(join(workspaceDirectory, 'dir'), { recursive: true });
    for (const name of ['link', 'was a file']) await rm(join(workspaceDirectory, name));
    await rm(join(workspaceDirectory, 'was a dir'), { recursive: true });
    await fill(workspaceDirectory, {
      link: { symlink: 'changed' },
      changed: 'two',
      'was a file': null,
      'was a dir': 'a file',
    });
    // As long and as old as before, which is what a quick look goes by.
    await utimes(join(workspaceDirectory, 'changed'), 1_000_000, 1_000_000);
    const second = await open(lease, { workspaceDirectory });
    expect(await second.prepareWorkspace()).toMatchObject({ files: 4 });

    expect((await readdir(there, { recursive: true })).toSorted()).toEqual([
      '.gitignore',
      'cache',
      'cache/a',
      'changed',
      'left',
      'left/over',
      'left/over/cache',
      'left/over/cache/a',
      'link',
      'same',
      'was a dir',
      'was a file',
    ]);
    expect(await readFile(join(there, 'changed'), 'utf8')).toBe('two');
    expect(await readlink(join(there, 'link'))).toBe('changed');
    expect(await inode('same'), 'it was not sent again').toBe(same);
    await run(second, ['touch', 'left/over/new']);
    expect(await second.restoreWorkspace()).toEqual({ ...nothing, created: ['left/over/new'] });
  });

  test('gets every file again after an interrupted upload', async () => {
    const workspaceDirectory = await makeDirectory({ a: 'one', b: Buffer.alloc(20_000_000) });
    const lease = await host.lease();
    const controller = new AbortController();
    const first = await open(lease, {
      workspaceDirectory,
      signal: controller.signal,
      onProgress: ({ bytes }) => bytes > 0 && controller.abort(new Error('stopped')),
    });
    await expect(first.prepareWorkspace()).rejects.toThrow('stopped');
    const second = await open(lease, { workspaceDirectory });
    await second.prepareWorkspace();
    expect((await stat(join(second.workspacePath, 'b'))).size).toBe(20_000_000);
    expect(await readFile(join(second.workspacePath, 'a'), 'utf8')).toBe('one');
    expect(await second.restoreWorkspace()).toEqual(nothing);
  });

  test('gets the files again that an earlier run changed, and none of its symlinks is followed', async () => {
    const outside = await makeDirectory({ a: 'outside' });
    const workspaceDirectory = await makeDirectory({ a: 'one', 'dir/a': 'one', b: 'one' });
    for (const name of ['a', 'b']) await utimes(join(workspaceDirectory, name), 1_000_000, 1_000_000);
    const lease = await host.lease();
    const first = await open(lease, { workspaceDirectory });
    await first.prepareWorkspace();
    await rm(join(first.workspacePath, 'a'));
    await symlink(join(outside, 'a'), join(first.workspacePath, 'a'));
    await rm(join(first.workspacePath, 'dir'), { recursive: true });
    await symlink(outside, join(first.workspacePath, 'dir'));
    await writeFile(join(first.workspacePath, 'b'), 'two');
    const second = await open(lease, { workspaceDirectory });
    await second.prepareWorkspace();
    expect(await readFile(join(outside, 'a'), 'utf8')).toBe('outside');
    const contents = await Promise.all(
      ['a', 'dir/a', 'b'].map((path) => readFile(join(second.workspacePath, path), 'utf8')),
    );
    expect(contents).toEqual(['one', 'one', 'one']);
    expect((await lstat(join(second.workspacePath, 'dir'))).isDirectory()).toBe(true);
  });

  test('is rejected outside of .lessor', async () => {
    const lease = await host.lease();
    const elsewhere = await makeDirectory();
    await mkdir(join(elsewhere, 'workspace'));
    await expect(open({ ...lease, providerLeaseId: elsewhere })).rejects.toMatchObject({ code: 'workspace_unusable' });
    await expect(open({ ...lease, providerLeaseId: null })).rejects.toMatchObject({ code: 'driver_failed' });
    await expect(open({ ...lease, config: { ...lease.config, privateKey: 'a private key' } })).rejects.toMatchObject({
      code: 'driver_failed',
      message: expect.not.stringContaining('a private key') as unknown,
    });
  });
});
