import { execFile, execFileSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { array, assert, asyncProperty, constantFrom, dictionary, record, tuple } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LocalTree } from '../../../src/execution/workspace/local-tree.ts';
import { rulesOfTree, walkWorkspace } from '../../../src/execution/workspace/walk-workspace.ts';
import type { WalkedEntry } from '../../../src/execution/workspace/walk-workspace.ts';
import { programsOnPath } from '../../support/requirements.ts';
import { fill, makeDirectory } from '../directories.ts';
import type { Content } from '../directories.ts';

const installedGit = programsOnPath('git');

describe('a walk', () => {
  test('lists files, directories and symlinks, each directory before its entries', async () => {
    const directory = await makeDirectory({
      'a.txt': 'abc',
      'deep/er/b.sh': { file: '', mode: 0o755 },
      empty: null,
      'link to nowhere': { symlink: '../nowhere' },
    });
    const walked = await walk(directory);
    expect(walked.map(({ kind, path }) => [kind, path])).toEqual([
      ['file', 'a.txt'],
      ['directory', 'deep'],
      ['directory', 'empty'],
      ['symlink', 'link to nowhere'],
      ['directory', 'deep/er'],
      ['file', 'deep/er/b.sh'],
    ]);
    expect(walked[0]).toEqual({
      kind: 'file',
      path: 'a.txt',
      size: 3,
      mode: 0o644,
      mtime: expect.any(Number) as number,
    });
    expect(walked[3]).toEqual({ kind: 'symlink', path: 'link to nowhere', target: '../nowhere' });
    expect(walked[5]).toMatchObject({ mode: 0o755, size: 0 });
  });

  test('follows no symlink, even one to a parent directory', async () => {
    const outside = await makeDirectory({ 'secret.txt': 'secret' });
    const directory = await makeDirectory({ outside: { symlink: outside }, loop: { symlink: '.' } });
    expect(pathsOf(await walk(directory))).toEqual(['loop', 'outside']);
  });

  test('lists all of .git, whatever .gitignore says, and nothing of .lessor', async () => {
    const directory = await makeDirectory({
      '.gitignore': '*\n!.gitignore\n',
      '.git/HEAD': 'ref: refs/heads/main',
      '.git/hooks/.gitignore': 'x',
      '.git/hooks/x': '',
      '.lessor/conflicts/a': '',
      'sub/.lessor/a': '',
    });
    const synced = pathsOf(await walk(directory)).filter((path) => !path.startsWith('sub'));
    expect(synced).toEqual(['.git', '.gitignore', '.git/HEAD', '.git/hooks', '.git/hooks/.gitignore', '.git/hooks/x']);
  });

  test.runIf(process.platform === 'linux')('lists what cannot be synced as skipped, with the reason', async () => {
    const directory = await makeDirectory({ 'a.txt': '' });
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    await writeFile(Buffer.concat([Buffer.from(`${directory}/caf`), Buffer.from([0xe9])]), 'latin 1');
    expect((await walk(directory)).filter(({ kind }) => kind !== 'file')).toEqual([
      { kind: 'skipped', path: 'caf\uFFFD', reason: 'its name is not UTF-8' },
      { kind: 'skipped', path: 'pipe', reason: 'it is neither a file, a directory nor a symlink' },
    ]);
  });
});

describe('.gitignore files exclude what git excludes', () => {
  const cases: { what: string; tree: Record<string, Content>; left: string[] }[] = [
    {
      what: 'patterns with and without slashes',
      tree: {
        '.gitignore': '*.log\n/top\nmid/file\n',
        'a.log': '',
        'd/a.log': '',
        top: '',
        'd/top': '',
        'd/mid/file': '',
        'mid/file': '',
      },
      left: ['.gitignore', 'd/mid/file', 'd/top'],
    },
    {
      what: 'directories with everything below them, which a later pattern cannot include again',
      tree: { '.gitignore': 'build/\n!build/keep\n', 'build/keep': '', 'build/x': '', 'd/build': '' },
      left: ['.gitignore', 'd/build'],
    },
    {
      what: 'what a deeper file includes again, and what it excludes',
      tree: {
        '.gitignore': '*.log\n',
        'd/.gitignore': '!keep.log\n*.txt\n',
        'd/keep.log': '',
        'd/x.log': '',
        'd/a.txt': '',
        'a.txt': '',
      },
      left: ['.gitignore', 'a.txt', 'd/.gitignore', 'd/keep.log'],
    },
    {
      what: 'by the outer rules, in a directory that a deeper file includes again',
      tree: {
        '.gitignore': 'build/\n*.o\n',
        'd/.gitignore': '!build/\n',
        'd/build/a.c': '',
        'd/build/a.o': '',
        'd/build/deep/b.c': '',
        'build/a.c': '',
      },
      left: ['.gitignore', 'd/.gitignore', 'd/build/a.c', 'd/build/deep/b.c'],
    },
    {
      what: 'in a directory included again whose name is itself a pattern',
      tree: {
        '.gitignore': '\\[a\\]*/\n*.o\n',
        'd/.gitignore': '!\\[a\\]*/\n',
        'd/[a]* !/a.c': '',
        'd/[a]* !/a.o': '',
      },
      left: ['.gitignore', 'd/.gitignore', 'd/[a]* !/a.c'],
    },
    {
      what: 'comments, escapes, spaces, line ends and a BOM',
      tree: {
        '.gitignore': '\uFEFFbom\r\n#hash\n\\#hash\n\\!bang\ntrailing  \nkept\\ \n',
        bom: '',
        '#hash': '',
        '!bang': '',
        trailing: '',
        'kept ': '',
        kept: '',
      },
      left: ['.gitignore', 'kept'],
    },
    {
      what: 'case-sensitively',
      tree: { '.gitignore': 'readme\n', README: '', readme: '' },
      left: ['.gitignore', 'README'],
    },
  ];

  test.for(cases)('$what', async ({ tree, left }) => {
    const directory = await makeDirectory(tree);
    expect(filesOf(await walk(directory))).toEqual(left);
    expect(installedGit.isMet ? await filesOfGit(directory) : left, 'what git finds').toEqual(left);
  });

  test('not by a .gitignore that is a symlink', async () => {
    const directory = await makeDirectory({ '.gitignore': { symlink: 'rules' }, rules: 'a.txt', 'a.txt': '' });
    expect(filesOf(await walk(directory))).toEqual(['.gitignore', 'a.txt', 'rules']);
  });

  test.runIf(installedGit.isMet)(`exactly as git does, in random trees${installedGit.note}`, async () => {
    const name = constantFrom('a', 'b', 'c.o', 'd e', '[x]', 'A');
    const path = array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
    const pattern = tuple(
      constantFrom('', '', '!', '!', '/', '!/', '**/', '#', '\\!'),
      array(constantFrom('a', 'b', '*', '*.o', '?', '**', '[a-c]', '\\[x\\]', 'd e', 'a*'), {
        minLength: 1,
        maxLength: 3,
      }),
      constantFrom('', '', '/', '/*', '/**', ' ', '\\ '),
    ).map(([before, names, after]) => before + names.join('/') + after);
    const rules = array(pattern, { minLength: 1, maxLength: 5 }).map((lines) => `${lines.join('\n')}\n`);
    const tree = record({
      files: array(path, { minLength: 1, maxLength: 12 }),
      ignoring: dictionary(path, rules, { maxKeys: 3 }),
      root: rules,
    });
    await assert(
      asyncProperty(tree, async ({ files, ignoring, root }) => {
        const directory = await makeDirectory();
        try {
          await fillAsFarAsPossible(directory, { '.gitignore': root });
          for (const [at, text] of Object.entries(ignoring))
            await fillAsFarAsPossible(directory, { [`${at}/.gitignore`]: text });
          for (const file of files) await fillAsFarAsPossible(directory, { [file]: '' });
          expect(filesOf(await walk(directory))).toEqual(await filesOfGit(directory));
        } finally {
          await rm(directory, { recursive: true });
        }
      }),
      { numRuns: 30 },
    );
  });
});

async function walk(directory: string): Promise<WalkedEntry[]> {
  const tree = new LocalTree(directory);
  const walked: WalkedEntry[] = [];
  const { signal } = new AbortController();
  for await (const entry of walkWorkspace(tree, rulesOfTree(tree), signal)) walked.push(entry);
  return walked;
}

function pathsOf(walked: readonly WalkedEntry[]): string[] {
  return walked.map(({ path }) => path);
}

function filesOf(walked: readonly WalkedEntry[]): string[] {
  return pathsOf(walked.filter(({ kind }) => kind === 'file' || kind === 'symlink')).toSorted();
}

/** The files that git would add. */
async function filesOfGit(directory: string): Promise<string[]> {
  const git = promisify(execFile);
  const isolated = { env: { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' } };
  await git('git', ['init', '--quiet', '--separate-git-dir', `${directory}.git`, directory], isolated);
  const { stdout } = await git('git', ['-C', directory, 'ls-files', '-z', '--others', '--exclude-standard'], isolated);
  await rm(`${directory}.git`, { recursive: true });
  await rm(join(directory, '.git'));
  return stdout.split('\0').slice(0, -1).toSorted();
}

/** Leaves out what does not fit: a file where a directory is, say. */
async function fillAsFarAsPossible(directory: string, contents: Record<string, Content>): Promise<void> {
  await mkdir(directory, { recursive: true });
  await fill(directory, contents).catch((error: NodeJS.ErrnoException) => {
    if (!['EEXIST', 'EISDIR', 'ENOTDIR'].includes(error.code ?? '')) throw error;
  });
}
