import type { SkippedPath } from '../driver.ts';
import type { IgnoreRules } from './ignore-rules.ts';
import { directoriesAbove, rulesOfTree, walkWorkspace } from './walk-workspace.ts';
import type {
  DirectoryEntry,
  FileEntry,
  RulesWithin,
  SymlinkEntry,
  WorkspaceEntry,
  WorkspaceTree,
} from './walk-workspace.ts';

/** What both sides of a workspace held after its upload: the base of the three-way merge. */
export interface Manifest {
  entries: ReadonlyMap<string, ManifestEntry>;
  /**
   * The environment's own clock before the upload, in whole seconds since 1970: a file with a later mtime can have changed
   * again within the same second.
   */
  uploadedAt: number;
  /** Directories that only the environment had then, from an earlier run: they hold entries that .gitignore excludes. */
  staleDirectories: ReadonlySet<string>;
}

/** Modes and times are kept for both sides, since not every file system stores the ones it is given. */
export type ManifestEntry =
  | { kind: 'file'; size: number; sha256: string; mode: number; remoteMode: number; remoteMtime: number }
  | { kind: 'directory'; mode: number; remoteMode: number }
  | { kind: 'symlink'; target: string };

/** All entries of a workspace that are synced. */
export interface WorkspaceScan {
  /** By path, each directory before its entries. */
  entries: ReadonlyMap<string, WorkspaceEntry>;
  /** The rules in each directory, which also apply to walks of the other side. */
  rules: ReadonlyMap<string, IgnoreRules>;
  skipped: SkippedPath[];
}

/** Walks a whole workspace. */
export async function scanWorkspace(tree: WorkspaceTree, signal: AbortSignal): Promise<WorkspaceScan> {
  const entries = new Map<string, WorkspaceEntry>();
  const rules = new Map<string, IgnoreRules>();
  const skipped: SkippedPath[] = [];
  const rulesWithin = rulesOfTree(tree);
  const recorded: RulesWithin = async (directory, parentRules, listed) => {
    const within = await rulesWithin(directory, parentRules, listed);
    rules.set(directory, within);
    return within;
  };
  for await (const entry of walkWorkspace(tree, recorded, signal)) {
    if (entry.kind === 'skipped') skipped.push({ path: entry.path, reason: entry.reason });
    else if (entry.kind !== 'ignored') entries.set(entry.path, entry);
  }
  return { entries, rules, skipped };
}

/** The rules of a scan, for a walk of the other side. A directory that the scan does not have inherits its parent's. */
export function rulesOfScan({ rules }: Pick<WorkspaceScan, 'rules'>): RulesWithin {
  return (directory, parentRules) => rules.get(directory) ?? parentRules.within(directory, undefined);
}

/** The differences between the environment's files and the manifest. */
export interface Differences {
  /** New files, and files that may have changed. */
  files: FileEntry[];
  symlinks: SymlinkEntry[];
  directories: DirectoryEntry[];
  /** Paths of the manifest where nothing exists any more. */
  deleted: string[];
  skipped: SkippedPath[];
}

/**
 * Walks the environment's workspace and compares it with the manifest. What its .gitignore files exclude now counts neither
 * as changed nor as deleted.
 */
export async function compareWithManifest(
  tree: WorkspaceTree,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<Differences> {
  const differences: Differences = { files: [], symlinks: [], directories: [], deleted: [], skipped: [] };
  const seen = new Set<string>();
  const excluded = new Set<string>();
  for await (const entry of walkWorkspace(tree, rulesOfTree(tree), signal)) {
    const { path } = entry;
    if (entry.kind === 'ignored') excluded.add(path);
    else if (entry.kind === 'skipped') {
      excluded.add(path);
      differences.skipped.push({ path, reason: entry.reason });
    } else if (seen.has(path)) differences.skipped.push({ path, reason: 'the host lists it twice' });
    else {
      seen.add(path);
      if (differs(entry, manifest)) add(entry, differences);
    }
  }
  const isExcluded = (path: string) => [...directoriesAbove(path), path].some((above) => excluded.has(above));
  differences.deleted = [...manifest.entries.keys()].filter((path) => !seen.has(path) && !isExcluded(path));
  return differences;
}

/** Whether the content of a file can differ from what was uploaded, as far as its size and mtime tell. */
export function mayHaveChanged(
  known: Extract<ManifestEntry, { kind: 'file' }>,
  { size, mtime }: FileEntry,
  uploadedAt: number,
): boolean {
  return size !== known.size || mtime !== known.remoteMtime || mtime >= uploadedAt;
}

function differs(entry: WorkspaceEntry, { entries, uploadedAt, staleDirectories }: Manifest): boolean {
  const known = entries.get(entry.path);
  if (known === undefined) return entry.kind !== 'directory' || !staleDirectories.has(entry.path);
  if (entry.kind === 'file' && known.kind === 'file')
    return mayHaveChanged(known, entry, uploadedAt) || known.remoteMode !== entry.mode;
  if (entry.kind === 'directory' && known.kind === 'directory') return known.remoteMode !== entry.mode;
  return entry.kind !== 'symlink' || known.kind !== 'symlink' || known.target !== entry.target;
}

function add(entry: WorkspaceEntry, { files, symlinks, directories }: Differences): void {
  if (entry.kind === 'file') files.push(entry);
  else if (entry.kind === 'symlink') symlinks.push(entry);
  else directories.push(entry);
}
