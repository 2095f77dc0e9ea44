import type { Manifest, ManifestEntry } from './manifest.ts';
import { rulesOf, walkWorkspace } from './walk-workspace.ts';
import { directoriesAbove } from './workspace-entry.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry, WorkspaceEntry, WorkspaceTree } from './workspace-entry.ts';

/** How the environment's files differ from what was brought to it. */
export interface Differences {
  /** New ones, and such as may have changed. */
  files: FileEntry[];
  symlinks: SymlinkEntry[];
  directories: DirectoryEntry[];
  /** Paths where nothing is any more. */
  gone: string[];
  skipped: { path: string; reason: string }[];
}

/**
 * Walks the environment's workspace and finds what differs. What its .gitignore files leave out as they are now is
 * neither changed nor gone.
 */
export async function compareWithManifest(
  tree: WorkspaceTree,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<Differences> {
  const differences: Differences = { files: [], symlinks: [], directories: [], gone: [], skipped: [] };
  const seen = new Set<string>();
  const passedOver = new Set<string>();
  for await (const encounter of walkWorkspace(tree, rulesOf(tree), signal)) {
    const { path } = encounter;
    if (encounter.kind === 'ignored') passedOver.add(path);
    else if (encounter.kind === 'skipped') {
      passedOver.add(path);
      differences.skipped.push({ path, reason: encounter.reason });
    } else if (seen.has(path)) differences.skipped.push({ path, reason: 'the host lists it twice' });
    else {
      seen.add(path);
      if (differs(encounter, manifest)) add(encounter, differences);
    }
  }
  const isPassedOver = (path: string) => [...directoriesAbove(path), path].some((above) => passedOver.has(above));
  differences.gone = [...manifest.entries.keys()].filter((path) => !seen.has(path) && !isPassedOver(path));
  return differences;
}

/** Whether a file can hold something else than what was brought, as far as its size and mtime tell. */
export function mayHaveChanged(
  known: Extract<ManifestEntry, { kind: 'file' }>,
  { size, mtime }: FileEntry,
  broughtAt: number,
): boolean {
  return size !== known.size || mtime !== known.remoteMtime || mtime >= broughtAt;
}

function differs(entry: WorkspaceEntry, { entries, broughtAt, leftOver }: Manifest): boolean {
  const known = entries.get(entry.path);
  if (known === undefined) return entry.kind !== 'directory' || !leftOver.has(entry.path);
  if (entry.kind === 'file' && known.kind === 'file')
    return mayHaveChanged(known, entry, broughtAt) || known.remoteMode !== entry.mode;
  if (entry.kind === 'directory' && known.kind === 'directory') return known.remoteMode !== entry.mode;
  return entry.kind !== 'symlink' || known.kind !== 'symlink' || known.target !== entry.target;
}

function add(entry: WorkspaceEntry, { files, symlinks, directories }: Differences): void {
  if (entry.kind === 'file') files.push(entry);
  else if (entry.kind === 'symlink') symlinks.push(entry);
  else directories.push(entry);
}
