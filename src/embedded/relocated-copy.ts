import { chmod, cp, lstat, mkdtemp, readFile, readdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { hasCode } from '../lib/errors.ts';
import { EmbeddedPostgresError } from './errors.ts';

/** The npm package with PostgreSQL's programs for this machine. */
export interface PlatformPackage {
  /** For example `linux-x64`. */
  readonly platform: string;
  readonly version: string;
  /** The real path of the folder that holds `native/`. */
  readonly root: string;
}

/**
 * Copies the package's native folder to where everybody can run it, once per version, and returns the copy's root.
 * The copy appears by one rename, so that processes racing for it are safe.
 */
export async function relocatePackage(source: PlatformPackage, cacheParent: string): Promise<string> {
  // One per user: a copy of another user is neither trusted nor replaceable.
  const user = process.getuid?.() ?? 'user';
  const cache = join(cacheParent, `lessor-programs-${source.platform}-${source.version}-${user}`);
  if (await isTrustedCopy(cache)) {
    if (await isComplete(source.root, cache)) return cache;
    await discard(cache);
  }
  await publishCopy(source.root, cache);
  return cache;
}

/** Rejects whatever another user could have put at that well-known name, or could still change. */
async function isTrustedCopy(cache: string): Promise<boolean> {
  const stats = await lstat(cache).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (!stats) return false;
  const ours = process.getuid === undefined || (stats.uid === process.getuid() && (stats.mode & 0o022) === 0);
  if (stats.isDirectory() && ours) return true;
  throw new EmbeddedPostgresError(
    'cache_untrusted',
    `Not running PostgreSQL from ${cache}: it must be a directory of the current user that nobody else may write to. ` +
      'Remove it, or set TMPDIR to another directory.',
  );
}

/** Cleaners of temporary directories take old files one by one, so a copy may have lost some. */
async function isComplete(sourceRoot: string, cache: string): Promise<boolean> {
  const [wanted, present] = await Promise.all([listFiles(sourceRoot), listFiles(cache)]);
  const missingLinks = await findMissingLinks(cache);
  return missingLinks.length === 0 && [...wanted].every((file) => present.has(file));
}

async function listFiles(root: string): Promise<Set<string>> {
  const entries = await listEntries(join(root, 'native'));
  return new Set(entries.filter((entry) => entry.isFile()).map((entry) => relative(root, pathOf(entry))));
}

async function discard(cache: string): Promise<void> {
  const aside = await mkdtemp(`${cache}-discarded-`);
  try {
    await rename(cache, aside);
  } catch (error) {
    // Another process that found it incomplete has already discarded it.
    if (!hasCode(error, 'ENOENT')) throw error;
  }
  await rm(aside, { recursive: true });
}

async function publishCopy(sourceRoot: string, cache: string): Promise<void> {
  const staging = await mkdtemp(`${cache}-copying-`);
  try {
    await cp(join(sourceRoot, 'native'), join(staging, 'native'), { recursive: true, verbatimSymlinks: true });
    await makeLinks(staging, await findMissingLinks(staging));
    await makeRunnableByAll(staging);
    await rename(staging, cache);
  } catch (error) {
    await rm(staging, { recursive: true });
    const lostTheRace = hasCode(error, 'ENOTEMPTY', 'EEXIST', 'EPERM') && (await isTrustedCopy(cache));
    if (!lostTheRace) throw error;
  }
}

/** The source may have been installed under a strict umask. */
async function makeRunnableByAll(root: string): Promise<void> {
  await chmod(root, 0o755);
  await chmod(join(root, 'native'), 0o755);
  for (const entry of await listEntries(join(root, 'native'))) {
    if (entry.isSymbolicLink()) continue;
    const path = pathOf(entry);
    const runnable = entry.isDirectory() || ((await lstat(path)).mode & 0o100) !== 0;
    await chmod(path, runnable ? 0o755 : 0o644);
  }
}

function listEntries(folder: string) {
  return readdir(folder, { recursive: true, withFileTypes: true });
}

function pathOf(entry: { parentPath: string; name: string }): string {
  return join(entry.parentPath, entry.name);
}

/** A symbolic link, `target` pointing to `source`; both relative to the root of the platform package. */
export interface LibraryLink {
  readonly source: string;
  readonly target: string;
}

const libraryLinksSchema = z.array(z.object({ source: z.string(), target: z.string() }));

/**
 * npm packages cannot hold symbolic links, so the platform package's postinstall makes those of its shared libraries.
 * Where install scripts are blocked they are missing, and initdb ends with 127.
 */
export async function findMissingLinks(packageRoot: string): Promise<LibraryLink[]> {
  const missing: LibraryLink[] = [];
  for (const link of await readLinks(packageRoot)) {
    if (!(await exists(join(packageRoot, link.target)))) missing.push(link);
  }
  return missing;
}

export async function makeLinks(packageRoot: string, links: readonly LibraryLink[]): Promise<void> {
  for (const { source, target } of links) {
    try {
      await symlink(relative(dirname(target), source), join(packageRoot, target));
    } catch (error) {
      // Another process that starts a server has already made it.
      if (!hasCode(error, 'EEXIST')) throw error;
    }
  }
}

async function readLinks(packageRoot: string): Promise<LibraryLink[]> {
  try {
    return libraryLinksSchema.parse(JSON.parse(await readFile(join(packageRoot, 'native/pg-symlinks.json'), 'utf8')));
  } catch (error) {
    // Packages of platforms without such links have no list.
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}
