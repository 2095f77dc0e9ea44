import { createHash } from 'node:crypto';
import { chmod, cp, lstat, mkdir, readFile, readdir, readlink, rm, utimes } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { RestoreReport } from '../../../src/execution/driver.ts';
import { LocalTree } from '../../../src/execution/workspace/local-tree.ts';
import { LocalWorkspace } from '../../../src/execution/workspace/local-workspace.ts';
import type { Manifest, ManifestEntry } from '../../../src/execution/workspace/manifest.ts';
import { restoreWorkspace } from '../../../src/execution/workspace/restore-workspace.ts';
import type { RestoreSource } from '../../../src/execution/workspace/restore-workspace.ts';
import { scanWorkspace } from '../../../src/execution/workspace/manifest.ts';
import { fill, makeDirectory } from '../directories.ts';
import type { Content } from '../directories.ts';

/** The lease of every restore here. */
export const LEASE_ID = '11111111-2222-4333-8444-555555555555';

/** What a path is changed to: undefined removes it, a number gives it that mode. */
export type Changes = Readonly<Record<string, Content | number | undefined>>;

/** A workspace here and its upload on an environment, which is another directory of this machine. */
export class TwoSides {
  readonly here: string;
  readonly there: string;
  readonly manifest: Manifest;

  private constructor(here: string, there: string, manifest: Manifest) {
    this.here = here;
    this.there = there;
    this.manifest = manifest;
  }

  static with(contents: Readonly<Record<string, Content>>): Promise<TwoSides> {
    return TwoSides.after((makeChanges) => makeChanges(contents));
  }

  /** What both sides begin with is what some changes make of nothing. */
  static async after(begin: (makeChanges: (changes: Changes) => Promise<void>) => Promise<void>): Promise<TwoSides> {
    const here = await makeDirectory();
    await begin((changes) => change(here, changes));
    const there = await makeDirectory();
    await cp(here, there, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
    return new TwoSides(here, there, await manifestOf(there));
  }

  async changeHere(changes: Changes): Promise<void> {
    await change(this.here, changes);
  }

  async changeThere(changes: Changes): Promise<void> {
    await change(this.there, changes);
  }

  restore(source: Partial<RestoreSource> = {}): Promise<RestoreReport> {
    return restoreWorkspace({
      manifest: this.manifest,
      source: {
        tree: new LocalTree(this.there),
        download: (path, into) => copy(join(this.there, path), into),
        ...source,
      },
      workspace: new LocalWorkspace(this.here),
      leaseId: LEASE_ID,
      signal: new AbortController().signal,
    });
  }

  /** Everything here, without what is of Lessor: text for a file, its target for a symlink, null for a directory. */
  async contentsHere(): Promise<Record<string, string | null>> {
    const contents = await contentsOf(this.here);
    return Object.fromEntries(Object.entries(contents).filter(([path]) => !path.startsWith('.lessor')));
  }

  async contentsThere(): Promise<Record<string, string | null>> {
    return contentsOf(this.there);
  }

  /** What was kept aside, as paths in the workspace. */
  async conflictsHere(): Promise<Record<string, string | null>> {
    return contentsOf(join(this.here, '.lessor/conflicts', LEASE_ID));
  }
}

/** As after a transfer: all of it is older than the upload. */
async function manifestOf(directory: string): Promise<Manifest> {
  const { entries: found } = await scanWorkspace(new LocalTree(directory), new AbortController().signal);
  const entries = new Map<string, ManifestEntry>();
  for (const [path, entry] of found) {
    if (entry.kind === 'symlink') entries.set(path, entry);
    else if (entry.kind === 'directory') entries.set(path, { ...entry, remoteMode: entry.mode });
    else {
      await utimes(join(directory, path), 1_000, 1_000);
      const sha256 = createHash('sha256')
        .update(await readFile(join(directory, path)))
        .digest('hex');
      entries.set(path, { ...entry, sha256, remoteMode: entry.mode, remoteMtime: 1_000 });
    }
  }
  return { entries, uploadedAt: 2_000, staleDirectories: new Set() };
}

async function change(directory: string, changes: Changes): Promise<void> {
  for (const [path, content] of Object.entries(changes)) {
    const at = join(directory, path);
    if (typeof content === 'number') {
      await chmod(at, content);
      continue;
    }
    await rm(at, { recursive: true, force: true });
    if (content !== undefined) await fill(directory, { [path]: content });
  }
}

async function copy(path: string, into: FileHandle): Promise<string> {
  const content = await readFile(path);
  await into.appendFile(content);
  return createHash('sha256').update(content).digest('hex');
}

async function contentsOf(directory: string): Promise<Record<string, string | null>> {
  await mkdir(directory, { recursive: true });
  const paths = await readdir(directory, { recursive: true });
  const contents = await Promise.all(
    paths.toSorted().map(async (path) => {
      const at = join(directory, path);
      const stats = await lstat(at);
      if (stats.isDirectory()) return [path, null] as const;
      return [path, stats.isSymbolicLink() ? await readlink(at) : await readFile(at, 'utf8')] as const;
    }),
  );
  return Object.fromEntries(contents);
}
