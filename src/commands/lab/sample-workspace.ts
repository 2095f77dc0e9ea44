import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const PLAIN_FILES = 300;
const LARGE_FILE_BYTES = 1_000_000;

/** Names with a meaning to a shell, a terminal or .gitignore. */
const ODD_NAMES: readonly string[] = [
  'two words.txt',
  "it's.txt",
  '"quoted".txt',
  'line\nbreak.txt',
  '$(touch pwned).txt',
  '`id`; rm -rf *.txt',
  '-rf',
  '*',
  '#comment',
  '!important',
  ' leading and trailing ',
  'ünïcödé 漢字 🚀.txt',
  '.hidden',
];

const IGNORED_FILES: readonly string[] = ['debug.log', 'deep/er/trace.log', 'node_modules/left/index.js'];

const GITIGNORE = '# of the lab\n*.log\n!kept.log\n/node_modules/\n';

/** A workspace of some hundred files. */
export interface SampleWorkspace {
  /** Files with such names. */
  oddNames: number;
  /** Files that .gitignore excludes. */
  ignored: readonly string[];
}

/** Fills an empty directory. */
export async function writeSampleWorkspace(directory: string): Promise<SampleWorkspace> {
  const put = async (path: string, content: string | Buffer) => {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), content);
  };
  await put('.gitignore', GITIGNORE);
  await put('kept.log', 'kept\n');
  await put('empty', '');
  await put('large.bin', Buffer.alloc(LARGE_FILE_BYTES, 'lessor'));
  await put('run.sh', '#!/bin/sh\necho run\n');
  await chmod(join(directory, 'run.sh'), 0o755);
  await mkdir(join(directory, 'empty directory'));
  await symlink('run.sh', join(directory, 'link to run.sh'));
  for (let number = 0; number < PLAIN_FILES; number += 1)
    await put(`plain/${number % 20}/${number}.txt`, `${number}\n`);
  for (const name of ODD_NAMES) await put(`odd/${name}`, `${name}\n`);
  for (const path of IGNORED_FILES) await put(path, 'ignored\n');
  return { oddNames: ODD_NAMES.length, ignored: IGNORED_FILES };
}

/** What a directory holds: each path with its kind and a digest of its content. */
export async function describeTree(directory: string): Promise<Map<string, string>> {
  const paths = await readdir(directory, { recursive: true });
  return new Map(
    await Promise.all(paths.map(async (path) => [path, await describeEntry(join(directory, path))] as const)),
  );
}

async function describeEntry(path: string): Promise<string> {
  const stats = await lstat(path);
  if (stats.isSymbolicLink()) return `link to ${await readlink(path)}`;
  if (stats.isDirectory()) return 'directory';
  const isExecutable = (stats.mode & 0o100) !== 0;
  const digest = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  return `${isExecutable ? 'executable' : 'file'} ${digest}`;
}
