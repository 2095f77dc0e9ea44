import { execFileSync } from 'node:child_process';
import { appendFileSync, truncateSync } from 'node:fs';
import { chmod, readFile, readdir, readlink, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { constantFrom, oneof, sample, string } from 'fast-check';
import { expect, test } from 'vitest';
import type { TransferProgress } from '../../../src/execution/driver.ts';
import { fill, makeDirectory } from '../directories.ts';
import { describeOnSshExecution, open, run } from './execution-fixture.ts';

const nothing = { changed: [], created: [], deleted: [], conflicts: [], skipped: [] };

describeOnSshExecution('a workspace synced over SSH', (host) => {
  test('arrives with its modes, times, symlinks and empty directories, without what .gitignore excludes', async () => {
    const workspaceDirectory = await makeDirectory({
      '.git/HEAD': 'ref',
      '.gitignore': 'node_modules/\n*.log\n',
      '.lessor/conflicts/a': '',
      'node_modules/a': '',
      'x.log': '',
      'bin/run.sh': { file: '#!/bin/sh\n', mode: 0o750 },
      'secret/key': { file: 'text', mode: 0o400 },
      link: { symlink: 'bin/run.sh' },
      dangling: { symlink: '/nowhere at all' },
      'hollow/inner': null,
    });
    await utimes(join(workspaceDirectory, 'bin/run.sh'), 1_234_567_890, 1_234_567_890);
    await chmod(join(workspaceDirectory, 'secret'), 0o500);
    const execution = await open(await host.lease(), { workspaceDirectory });
    expect(await execution.prepareWorkspace()).toEqual({ files: 4, bytes: 37, skipped: [] });

    const there = execution.workspacePath;
    const paths = (await readdir(there, { recursive: true })).toSorted();
    expect(paths).toEqual([
      '.git',
      '.git/HEAD',
      '.gitignore',
      'bin',
      'bin/run.sh',
      'dangling',
      'hollow',
      'hollow/inner',
      'link',
      'secret',
      'secret/key',
    ]);
    const modes = await Promise.all(
      ['bin/run.sh', 'secret', 'secret/key'].map(async (path) => (await stat(join(there, path))).mode & 0o7777),
    );
    expect(modes).toEqual([0o750, 0o500, 0o400]);
    expect((await stat(join(there, 'bin/run.sh'))).mtimeMs).toBe(1_234_567_890_000);
    expect([await readlink(join(there, 'link')), await readlink(join(there, 'dangling'))]).toEqual([
      'bin/run.sh',
      '/nowhere at all',
    ]);
    await chmod(join(workspaceDirectory, 'secret'), 0o700);
    await chmod(join(there, 'secret'), 0o700);
  });

  test('keeps names of any characters and contents of any bytes in both directions', async () => {
    const names = oneof(
      constantFrom(
        ' ',
        "'",
        '"',
        '`id`',
        '$(id)',
        '$HOME',
        '\\',
        '\n',
        '-rf',
        '--',
        '*',
        '~',
        '#a',
        '!a',
        'a ',
        '🦊',
        'ünïcödé',
        'u\u0308',
        '\u001b[31m',
        '...',
        'x'.repeat(200),
      ),
      string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
      string({ unit: 'binary', minLength: 1, maxLength: 20 }),
    );
    const distinct = [...new Set(sample(names, 120))].filter(
      (name) =>
        !/[/\0]/.test(name) && name.isWellFormed() && !['.', '..'].includes(name) && Buffer.byteLength(name) < 200,
    );
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    const workspaceDirectory = await makeDirectory(
      Object.fromEntries(distinct.map((name) => [`${name}/${name}`, bytes])),
    );
    const execution = await open(await host.lease(), { workspaceDirectory });
    expect((await execution.prepareWorkspace()).files).toBe(distinct.length);
    const script = `
      const { readdirSync, renameSync, writeFileSync, readFileSync } = require('fs');
      for (const name of readdirSync('.')) {
        writeFileSync(name + '/' + name, Buffer.concat([readFileSync(name + '/' + name), Buffer.from(name)]));
        writeFileSync(name + '/new ' + name, '');
      }`;
    expect((await run(execution, [process.execPath, '-e', script])).code).toBe(0);
    const { changed, created, ...rest } = await execution.restoreWorkspace();
    expect(rest).toEqual({ deleted: [], conflicts: [], skipped: [] });
    expect(changed).toEqual(distinct.map((name) => `${name}/${name}`).toSorted());
    expect(created).toEqual(distinct.map((name) => `${name}/new ${name}`).toSorted());
    for (const name of distinct)
      expect(await readFile(join(workspaceDirectory, name, name))).toEqual(Buffer.concat([bytes, Buffer.from(name)]));
  });

  test('is downloaded with its changes, also after a command that failed', async () => {
    const workspaceDirectory = await makeDirectory({
      a: 'one',
      'b/c': 'one',
      d: 'one',
      'keep/e': 'one',
      '.gitignore': '*.log',
    });
    const execution = await open(await host.lease(), { workspaceDirectory });
    await execution.prepareWorkspace();
    const script =
      'printf two > a; rm -r b; chmod 700 d; mkdir -p new/deep; printf new > new/deep/f; ln -s a link; touch x.log; exit 1';
    expect((await run(execution, ['sh', '-c', script])).code).toBe(1);
    await writeFile(join(workspaceDirectory, 'd'), 'two here');
    expect(await execution.restoreWorkspace()).toEqual({
      ...nothing,
      changed: ['a', 'd'],
      created: ['link', 'new', 'new/deep', 'new/deep/f'],
      deleted: ['b', 'b/c'],
    });
    expect(await readFile(join(workspaceDirectory, 'd'), 'utf8')).toBe('two here');
    expect((await stat(join(workspaceDirectory, 'd'))).mode & 0o777).toBe(0o700);
  });

  test('keeps both versions of a file that changed on both sides', async () => {
    const workspaceDirectory = await makeDirectory({ 'a b/c': 'one', d: 'one' });
    const lease = await host.lease();
    const execution = await open(lease, { workspaceDirectory });
    await execution.prepareWorkspace();
    await run(execution, ['sh', '-c', 'printf there > "a b/c"; rm d']);
    await fill(workspaceDirectory, { 'a b/c': 'here', d: 'here' });
    const keptAs = `.lessor/conflicts/${lease.id}/a b/c`;
    expect((await execution.restoreWorkspace()).conflicts).toEqual([
      { path: 'a b/c', keptAs },
      { path: 'd', keptAs: null },
    ]);
    expect(await readFile(join(workspaceDirectory, keptAs), 'utf8')).toBe('there');
    expect(await readFile(join(workspaceDirectory, 'a b/c'), 'utf8')).toBe('here');
  });

  test('reports what cannot be synced, in both directions', async () => {
    const workspaceDirectory = await makeDirectory({ a: '' });
    execFileSync('mkfifo', [join(workspaceDirectory, 'pipe')]);
    const execution = await open(await host.lease(), { workspaceDirectory });
    const reason = 'it is neither a file, a directory nor a symlink';
    expect((await execution.prepareWorkspace()).skipped).toEqual([{ path: 'pipe', reason }]);
    await run(execution, ['sh', '-c', `mkfifo other; touch "$(printf 'caf\\351')"`]);
    const unnamed = { path: 'caf\uFFFD', reason: 'its name is not UTF-8' };
    expect((await execution.restoreWorkspace()).skipped).toEqual([unnamed, { path: 'other', reason }]);
  });

  test('holds what was sent of a file that changes meanwhile', async () => {
    const workspaceDirectory = await makeDirectory({
      growing: Buffer.alloc(400_000),
      shrinking: Buffer.alloc(400_000),
    });
    let isChanged = false;
    const onProgress = ({ bytes }: TransferProgress) => {
      if (isChanged || bytes === 0) return;
      isChanged = true;
      appendFileSync(join(workspaceDirectory, 'growing'), 'more');
      truncateSync(join(workspaceDirectory, 'shrinking'), 10);
    };
    const execution = await open(await host.lease(), { workspaceDirectory, onProgress });
    await execution.prepareWorkspace();
    expect(isChanged).toBe(true);
    expect(await execution.restoreWorkspace(), 'nothing changed there').toEqual(nothing);
  });

  test('is empty without a local directory, and nothing is downloaded', async () => {
    const execution = await open(await host.lease());
    expect(await execution.prepareWorkspace()).toEqual({ files: 0, bytes: 0, skipped: [] });
    await run(execution, ['touch', 'a']);
    expect(await execution.restoreWorkspace()).toEqual(nothing);
  });
});
