import { pMapIterable } from 'p-map';
import { IgnoreRules } from './ignore-rules.ts';

/** What a workspace holds at a path. Paths are relative to the workspace and separated by `/` on every system. */
export type WorkspaceEntry = FileEntry | DirectoryEntry | SymlinkEntry;

export interface FileEntry {
  kind: 'file';
  path: string;
  size: number;
  /** The permissions, without setuid and its like. */
  mode: number;
  /** Whole seconds since 1970, as in SFTP. */
  mtime: number;
}

export interface DirectoryEntry {
  kind: 'directory';
  path: string;
  mode: number;
}

export interface SymlinkEntry {
  kind: 'symlink';
  path: string;
  target: string;
}

/** An entry that cannot be synced, and why. */
export interface SkippedEntry {
  kind: 'skipped';
  path: string;
  reason: string;
}

/** An entry that the .gitignore files exclude, with everything below it. */
interface IgnoredEntry {
  kind: 'ignored';
  path: string;
}

/** What a walk yields: an entry to sync, or one that it leaves out. */
export type WalkedEntry = WorkspaceEntry | SkippedEntry | IgnoredEntry;

/** The files of one side: local or on the environment. */
export interface WorkspaceTree {
  /** The entries of a directory, symlinks not followed. The workspace itself is the directory `''`. */
  list(directory: string): Promise<(WorkspaceEntry | SkippedEntry)[]>;
  /** The beginning of a file, symlinks not followed. */
  readBeginning(path: string, maximumBytes: number): Promise<Buffer>;
}

/** The permissions that are kept: setuid, setgid and the sticky bit are never synced. */
export const PERMISSIONS = 0o777;

/** The directory in which Lessor keeps its own files in a workspace. It is never synced. */
export const OWN_DIRECTORY = '.lessor';

/** Prefix of the name of a file while it is downloaded, until it replaces the old one. */
export const TEMPORARY_PREFIX = '.lessor-tmp-';

/** Joins a directory of a workspace and a name in it. */
export function pathIn(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`;
}

/** The directory of a path; `''` for the entries of the workspace itself. */
export function directoryOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

/** The depth of a path: 1 for the entries of the workspace itself. */
export function depthOf(path: string): number {
  return path.split('/').length;
}

/** Every directory above a path, outermost first, without the workspace itself. */
export function directoriesAbove(path: string): string[] {
  const names = path.split('/').slice(0, -1);
  return names.map((_, index) => names.slice(0, index + 1).join('/'));
}

/** The rules in a directory, from those of its parent and from its entries. */
export type RulesWithin = (
  directory: string,
  parentRules: IgnoreRules,
  entries: readonly (WorkspaceEntry | SkippedEntry)[],
) => IgnoreRules | Promise<IgnoreRules>;

const CONCURRENT_LISTINGS = 16;

/** PATH_MAX of the systems in use. Only a broken or hostile host lists longer paths. */
const MAXIMUM_PATH_BYTES = 4_096;

/** Limit of a .gitignore that is read: a hostile host must not keep this process busy for minutes. */
const MAXIMUM_GITIGNORE_BYTES = 256 * 1024;

interface Visit {
  directory: string;
  parentRules: IgnoreRules;
}

/**
 * Walks all entries of a workspace that are synced: each directory before its entries, symlinks not followed. `.git` is
 * synced whatever the .gitignore files say, as they do not apply to it in git either.
 */
export async function* walkWorkspace(
  tree: WorkspaceTree,
  rulesWithin: RulesWithin,
  signal: AbortSignal,
): AsyncGenerator<WalkedEntry> {
  let visits: Visit[] = [{ directory: '', parentRules: IgnoreRules.none }];
  while (visits.length > 0) {
    const deeper: Visit[] = [];
    const list = (visit: Visit) => {
      signal.throwIfAborted();
      return listDirectory(tree, rulesWithin, visit);
    };
    for await (const { rules, entries } of pMapIterable(visits, list, { concurrency: CONCURRENT_LISTINGS })) {
      for (const listed of entries) {
        const entry = applyRules(listed, rules);
        if (entry === undefined) continue;
        if (entry.kind === 'directory') deeper.push({ directory: entry.path, parentRules: rules });
        yield entry;
      }
    }
    visits = deeper;
  }
}

/** The rules of the .gitignore files of a tree, as they are now. */
export function rulesOfTree(tree: WorkspaceTree): RulesWithin {
  return async (directory, parentRules, entries) => {
    const path = pathIn(directory, '.gitignore');
    // Git does not follow a .gitignore that is a symlink either.
    const exists = entries.some((entry) => entry.kind === 'file' && entry.path === path);
    return parentRules.within(directory, exists ? await readRules(tree, path) : undefined);
  };
}

async function listDirectory(tree: WorkspaceTree, rulesWithin: RulesWithin, { directory, parentRules }: Visit) {
  const entries = await tree.list(directory);
  const rules = isInGit(directory) ? IgnoreRules.none : await rulesWithin(directory, parentRules, entries);
  return { rules, entries };
}

/** Undefined for what is Lessor's own. */
function applyRules(entry: WorkspaceEntry | SkippedEntry, rules: IgnoreRules): WalkedEntry | undefined {
  const { path } = entry;
  if (path === OWN_DIRECTORY || nameOf(path).startsWith(TEMPORARY_PREFIX)) return undefined;
  if (Buffer.byteLength(path) > MAXIMUM_PATH_BYTES) return { kind: 'skipped', path, reason: 'its path is too long' };
  if (!isInGit(path) && rules.ignores(path, entry.kind === 'directory')) return { kind: 'ignored', path };
  return entry;
}

async function readRules(tree: WorkspaceTree, path: string): Promise<string> {
  const text = (await tree.readBeginning(path, MAXIMUM_GITIGNORE_BYTES + 1)).toString('utf8');
  if (Buffer.byteLength(text) <= MAXIMUM_GITIGNORE_BYTES) return text;
  return text.slice(0, text.lastIndexOf('\n') + 1);
}

function isInGit(path: string): boolean {
  return path.split('/').includes('.git');
}

function nameOf(path: string): string {
  return path.slice(directoryOf(path).length).replace('/', '');
}
