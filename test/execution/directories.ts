import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';

/** What is to lie in a directory: text is a file, null a directory, and the rest says it. */
export type Content = string | Buffer | null | { symlink: string } | { file: string; mode?: number };

/** Makes a directory with these paths in it, and removes it after the test. */
export async function makeDirectory(contents: Readonly<Record<string, Content>> = {}): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  onTestFinished(() => removeTree(directory));
  await fill(directory, contents);
  return directory;
}

/** Removes a directory, also what is in directories that a test has made read-only, which `rm` leaves to root. */
export async function removeTree(directory: string): Promise<void> {
  await makeWritable(directory);
  await rm(directory, { recursive: true, force: true });
}

async function makeWritable(directory: string): Promise<void> {
  if (!existsSync(directory)) return;
  await chmod(directory, 0o700);
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries) if (entry.isDirectory()) await makeWritable(join(directory, entry.name));
}

/** Puts these paths into a directory. */
export async function fill(directory: string, contents: Readonly<Record<string, Content>>): Promise<void> {
  for (const [path, content] of Object.entries(contents)) await put(join(directory, path), content);
}

async function put(path: string, content: Content): Promise<void> {
  await mkdir(content === null ? path : dirname(path), { recursive: true });
  if (content === null) return;
  if (typeof content === 'string' || Buffer.isBuffer(content)) await writeFile(path, content);
  else if ('symlink' in content) await symlink(content.symlink, path);
  else await writeFile(path, content.file, { mode: content.mode ?? 0o644 });
}
