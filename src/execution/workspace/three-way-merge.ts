import type { ManifestEntry } from './manifest.ts';

/** What exists at a path, as far as it can be told from something else. */
export type Version =
  | { kind: 'absent' }
  | { kind: 'file'; sha256: string; mode: number }
  | { kind: 'directory'; mode: number }
  | { kind: 'symlink'; target: string }
  /** Nothing that is synced: a socket, or whatever is behind a symlink. It differs from everything. */
  | { kind: 'other' };

/** What both sides had in common after the upload. */
export interface BaseVersion {
  local: Version;
  remote: Version;
}

/** What happens to a local path. */
export interface MergeDecision {
  /** `take` replaces the local version by the environment's, which can be none. */
  content: 'keep' | 'take' | 'conflict';
  /** The mode that the local path then gets; undefined for none. */
  mode: number | undefined;
  /** Both sides changed the mode to different ones: the local one stays. */
  modeConflict: boolean;
}

/** The base version of a path; absent when the manifest does not have it. */
export function baseVersionOf(entry: ManifestEntry | undefined): BaseVersion {
  if (entry === undefined) return { local: { kind: 'absent' }, remote: { kind: 'absent' } };
  if (entry.kind === 'symlink') return { local: entry, remote: entry };
  return { local: entry, remote: { ...entry, mode: entry.remoteMode } };
}

/** Merges a path: a change of one side alone wins, different changes of both are a conflict. */
export function mergeVersions(base: BaseVersion, local: Version, remote: Version): MergeDecision {
  const content = mergeContents(base, local, remote);
  const replaced = content === 'take' && local.kind !== remote.kind;
  return { content, ...mergeModes(base, replaced ? undefined : local, remote, content) };
}

function mergeContents(base: BaseVersion, local: Version, remote: Version): MergeDecision['content'] {
  if (isSameContent(base.remote, remote)) return 'keep';
  if (isSameContent(base.local, local)) return 'take';
  return isSameContent(local, remote) ? 'keep' : 'conflict';
}

/** Modes are merged apart from contents: one side can make a file executable while the other one edits it. */
function mergeModes(
  base: BaseVersion,
  local: Version | undefined,
  remote: Version,
  content: MergeDecision['content'],
): Pick<MergeDecision, 'mode' | 'modeConflict'> {
  const none = { mode: undefined, modeConflict: false };
  if (content === 'conflict' || !('mode' in remote)) return none;
  if (local === undefined) return { mode: remote.mode, modeConflict: false };
  if (!('mode' in local) || local.kind !== remote.kind) return none;

  const isChangedRemotely = 'mode' in base.remote && base.remote.mode !== remote.mode;
  const isChangedLocally = 'mode' in base.local && base.local.mode !== local.mode;
  // A rewritten file needs its mode set even when that is the one it had.
  const kept = content === 'take' ? local.mode : undefined;
  if (!isChangedRemotely || local.mode === remote.mode) return { mode: kept, modeConflict: false };
  return isChangedLocally ? { mode: kept, modeConflict: true } : { mode: remote.mode, modeConflict: false };
}

/** Whether two versions are equal apart from their modes. */
export function isSameContent(one: Version, other: Version): boolean {
  if (one.kind === 'file' && other.kind === 'file') return one.sha256 === other.sha256;
  if (one.kind === 'symlink' && other.kind === 'symlink') return one.target === other.target;
  return one.kind === other.kind && one.kind !== 'other';
}
