import { lstat, readFile, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { hasCode } from '../lib/errors.ts';

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
      // Another process that starts a server was quicker.
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
