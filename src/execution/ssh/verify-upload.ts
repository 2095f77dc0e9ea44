import { EnvironmentFailedError } from '../../contracts/index.ts';
import type { Manifest, ManifestEntry } from '../workspace/manifest.ts';
import { rulesOfSurvey } from '../workspace/survey-workspace.ts';
import type { Survey } from '../workspace/survey-workspace.ts';
import { walkWorkspace } from '../workspace/walk-workspace.ts';
import type { WorkspaceEntry, WorkspaceTree } from '../workspace/workspace-entry.ts';

/**
 * Compares what the host has with what it was sent, and takes over the modes and times that its file system made of it.
 * @throws {EnvironmentFailedError} workspace_unusable, when something lacks
 */
export async function verifyUpload(
  tree: WorkspaceTree,
  survey: Pick<Survey, 'rules'>,
  brought: ReadonlyMap<string, ManifestEntry>,
  { location, signal }: { location: string; signal: AbortSignal },
): Promise<Pick<Manifest, 'entries' | 'leftOver'>> {
  const verified = new Map<string, ManifestEntry>();
  const leftOver = new Set<string>();
  for await (const found of walkWorkspace(tree, rulesOfSurvey(survey), signal)) {
    if (found.kind === 'ignored' || found.kind === 'skipped') continue;
    const sent = brought.get(found.path);
    const entry = sent && asFound(sent, found);
    if (entry !== undefined) verified.set(found.path, entry);
    else if (found.kind === 'directory') leftOver.add(found.path);
  }
  const lacking = [...brought.keys()].find((path) => !verified.has(path));
  if (lacking === undefined) return { entries: verified, leftOver };
  throw new EnvironmentFailedError(
    'workspace_unusable',
    `${location}/${lacking} is not what it was sent as; is something else at work there, or does the file system of ` +
      'the host take two names for one, as those do that heed neither case nor Unicode forms?',
  );
}

/** Undefined when it is not what was sent. */
function asFound(sent: ManifestEntry, found: WorkspaceEntry): ManifestEntry | undefined {
  if (sent.kind === 'file' && found.kind === 'file' && sent.size === found.size)
    return { ...sent, remoteMode: found.mode, remoteMtime: found.mtime };
  if (sent.kind === 'directory' && found.kind === 'directory') return { ...sent, remoteMode: found.mode };
  if (sent.kind === 'symlink' && found.kind === 'symlink' && sent.target === found.target) return sent;
  return undefined;
}
