import type { Manifest, ManifestEntry } from './manifest.ts';
import { rulesOf, walkWorkspace } from './walk-workspace.ts';
import { directoriesAbove } from './workspace-entry.ts';
import type { DirectoryEntry, FileEntry, SymlinkEntry, WorkspaceTree } from './workspace-entry.ts';

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
  { entries, broughtAt, leftOver }: Manifest,
): Promise<Differences> {
  const differences: Differences = { files: [], symlinks: [], directories: [], gone: [], skipped: [] };
  const seen = new Set<string>();
  const passedOver = new Set<string>();
  for await (const encounter of walkWorkspace(tree, rulesOf(tree))) {
    const { kind, path } = encounter;
    const known = entries.get(path);
    if (kind === 'ignored') passedOver.add(path);
    else if (kind === 'skipped') {
      passedOver.add(path);
      differences.skipped.push({ path, reason: encounter.reason });
    } else if (seen.has(path)) differences.skipped.push({ path, reason: 'the host lists it twice' });
    else {
      seen.add(path);
      if (kind === 'file') {
        if (known?.kind !== kind || mayHaveChanged(known, encounter, broughtAt) || known.remoteMode !== encounter.mode)
          differences.files.push(encounter);
      } else if (kind === 'symlink') {
        if (known?.kind !== kind || known.target !== encounter.target) differences.symlinks.push(encounter);
      } else if (!leftOver.has(path) && (known?.kind !== kind || known.remoteMode !== encounter.mode))
        differences.directories.push(encounter);
    }
  }
  const isPassedOver = (path: string) => [...directoriesAbove(path), path].some((above) => passedOver.has(above));
  differences.gone = [...entries.keys()].filter((path) => !seen.has(path) && !isPassedOver(path));
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
