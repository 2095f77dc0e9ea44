import type { SkippedEntry, WorkspaceEntry, WorkspaceTree } from './workspace-entry.ts';
import { IgnoreRules } from './ignore-rules.ts';
import { directoryOf, pathIn } from './workspace-entry.ts';

/** What a walk comes by: an entry, or what it passed over. */
export type Encounter = WorkspaceEntry | SkippedEntry | IgnoredEntry;

/** What the .gitignore files leave out, with all that is in it. */
interface IgnoredEntry {
  kind: 'ignored';
  path: string;
}

/** Tells the rules within a directory, from those around it and from what the directory holds. */
export type RulesWithin = (
  directory: string,
  around: IgnoreRules,
  entries: readonly (WorkspaceEntry | SkippedEntry)[],
) => IgnoreRules | Promise<IgnoreRules>;

/** Where Lessor keeps what is its own, in the workspace itself: it never crosses. */
export const OWN_DIRECTORY = '.lessor';

/** What a file is called while it is brought back, until it takes the place of the old one. */
export const UNFINISHED_PREFIX = '.lessor-unfinished-';

/** Directories that are listed at once. */
const CONCURRENT_LISTINGS = 16;

/** Longer paths cannot be opened on the systems in use, so only a broken or hostile host tells of them. */
const LONGEST_PATH_BYTES = 4_096;

interface Visit {
  directory: string;
  around: IgnoreRules;
}

/**
 * Walks all of a workspace that is to cross: each directory before what is in it, symlinks not followed. `.git` crosses
 * as it is, whatever the .gitignore files say, as they do for git.
 */
export async function* walkWorkspace(
  tree: WorkspaceTree,
  rulesWithin: RulesWithin,
  signal: AbortSignal,
): AsyncGenerator<Encounter> {
  let visits: Visit[] = [{ directory: '', around: IgnoreRules.none }];
  while (visits.length > 0) {
    const deeper: Visit[] = [];
    for (let start = 0; start < visits.length; start += CONCURRENT_LISTINGS) {
      signal.throwIfAborted();
      const listings = await Promise.all(
        visits.slice(start, start + CONCURRENT_LISTINGS).map((visit) => look(tree, rulesWithin, visit)),
      );
      for (const { rules, entries } of listings) {
        for (const entry of entries) {
          const encounter = encountered(entry, rules);
          if (encounter === undefined) continue;
          if (encounter.kind === 'directory') deeper.push({ directory: entry.path, around: rules });
          yield encounter;
        }
      }
    }
    visits = deeper;
  }
}

async function look(tree: WorkspaceTree, rulesWithin: RulesWithin, { directory, around }: Visit) {
  const entries = await tree.list(directory);
  const rules = isOfGit(directory) ? IgnoreRules.none : await rulesWithin(directory, around, entries);
  return { rules, entries };
}

function encountered(entry: WorkspaceEntry | SkippedEntry, rules: IgnoreRules): Encounter | undefined {
  const { path } = entry;
  if (path === OWN_DIRECTORY || nameOf(path).startsWith(UNFINISHED_PREFIX)) return undefined;
  if (Buffer.byteLength(path) > LONGEST_PATH_BYTES) return { kind: 'skipped', path, reason: 'its path is too long' };
  if (!isOfGit(path) && rules.ignores(path, entry.kind === 'directory')) return { kind: 'ignored', path };
  return entry;
}

/** Rules from the .gitignore files of a tree, as they are now. */
export function rulesOf(tree: WorkspaceTree): RulesWithin {
  return async (directory, around, entries) => {
    const path = pathIn(directory, '.gitignore');
    // Git does not follow a .gitignore that is a symlink either.
    const isThere = entries.some((entry) => entry.kind === 'file' && entry.path === path);
    return around.within(directory, isThere ? await readRules(tree, path) : undefined);
  };
}

/** Longer ones are only read up to here: what a host sends must not keep this process busy for minutes. */
const LONGEST_GITIGNORE_BYTES = 256 * 1024;

async function readRules(tree: WorkspaceTree, path: string): Promise<string> {
  const text = (await tree.readBeginning(path, LONGEST_GITIGNORE_BYTES + 1)).toString('utf8');
  if (Buffer.byteLength(text) <= LONGEST_GITIGNORE_BYTES) return text;
  return text.slice(0, text.lastIndexOf('\n') + 1);
}

function isOfGit(path: string): boolean {
  return path.split('/').includes('.git');
}

function nameOf(path: string): string {
  return path.slice(directoryOf(path).length).replace('/', '');
}
