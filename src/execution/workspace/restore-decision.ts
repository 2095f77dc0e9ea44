import type { ManifestEntry } from './manifest.ts';

/** What lies at a path, as far as it can be told from something else. */
export type Version =
  | { kind: 'absent' }
  | { kind: 'file'; sha256: string; mode: number }
  | { kind: 'directory'; mode: number }
  | { kind: 'symlink'; target: string }
  /** Nothing that crosses: a socket, say, or whatever lies behind a symlink. It differs from everything. */
  | { kind: 'other' };

/** What both sides had in common. */
export interface CommonVersion {
  local: Version;
  remote: Version;
}

/** What becomes of a path here. */
export interface Decision {
  /** `take` has the environment's version take the place of what is here, be it that nothing is left. */
  content: 'keep' | 'take' | 'conflict';
  /** The mode to give to what is here then; undefined where none is to be given. */
  mode: number | undefined;
  /** Both sides changed the mode, to different ones: the local one stays. */
  modeConflict: boolean;
}

/** What both sides had at a path; nothing when the manifest does not know it. */
export function commonVersion(entry: ManifestEntry | undefined): CommonVersion {
  if (entry === undefined) return { local: { kind: 'absent' }, remote: { kind: 'absent' } };
  if (entry.kind === 'symlink') return { local: entry, remote: entry };
  return { local: entry, remote: { ...entry, mode: entry.remoteMode } };
}

/** Decides about a path by what both sides had in common: a change of one side alone is followed. */
export function decide(common: CommonVersion, local: Version, remote: Version): Decision {
  const content = contentOf(common, local, remote);
  const before = content === 'take' && !isOfOneKind(local, remote) ? undefined : local;
  return { content, ...modeOf(common, before, remote, content) };
}

function contentOf(common: CommonVersion, local: Version, remote: Version): Decision['content'] {
  if (isSameContent(common.remote, remote)) return 'keep';
  if (isSameContent(common.local, local)) return 'take';
  return isSameContent(local, remote) ? 'keep' : 'conflict';
}

/** Modes are decided apart from contents: one side can make a file executable while the other one edits it. */
function modeOf(
  common: CommonVersion,
  local: Version | undefined,
  remote: Version,
  content: Decision['content'],
): Pick<Decision, 'mode' | 'modeConflict'> {
  const none = { mode: undefined, modeConflict: false };
  if (content === 'conflict' || !('mode' in remote)) return none;
  if (local === undefined) return { mode: remote.mode, modeConflict: false };
  if (!('mode' in local) || local.kind !== remote.kind) return none;

  const isChangedThere = 'mode' in common.remote && common.remote.mode !== remote.mode;
  const isChangedHere = 'mode' in common.local && common.local.mode !== local.mode;
  // What is written anew must be given its mode even when that is the one it had.
  const kept = content === 'take' ? local.mode : undefined;
  if (!isChangedThere || local.mode === remote.mode) return { mode: kept, modeConflict: false };
  return isChangedHere ? { mode: kept, modeConflict: true } : { mode: remote.mode, modeConflict: false };
}

/** Whether two versions are the same but for their modes. */
export function isSameContent(one: Version, other: Version): boolean {
  if (one.kind === 'file' && other.kind === 'file') return one.sha256 === other.sha256;
  if (one.kind === 'symlink' && other.kind === 'symlink') return one.target === other.target;
  return one.kind === other.kind && one.kind !== 'other';
}

function isOfOneKind(one: Version, other: Version): boolean {
  return one.kind === other.kind;
}
