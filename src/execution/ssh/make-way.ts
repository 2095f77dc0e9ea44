import { rulesOfSurvey } from '../workspace/survey-workspace.ts';
import type { Survey } from '../workspace/survey-workspace.ts';
import { walkWorkspace } from '../workspace/walk-workspace.ts';
import { directoriesAbove } from '../workspace/workspace-entry.ts';
import type { WorkspaceEntry } from '../workspace/workspace-entry.ts';
import { RemoteTree } from './remote-tree.ts';
import { OWNER_ACCESS, removeTree } from './remote-removal.ts';
import { SftpRefusedError } from './sftp-files.ts';
import type { SftpFiles } from './sftp-files.ts';

/**
 * Removes from a workspace on a host, which an earlier run may have left, whatever the workspace of this machine does
 * not have. What its .gitignore files leave out stays: build caches are what a place is used again for.
 * @returns what is there then of the same kind
 */
export async function makeWay(
  files: SftpFiles,
  root: string,
  survey: Survey,
  signal: AbortSignal,
): Promise<Map<string, WorkspaceEntry>> {
  const there = new Map<string, WorkspaceEntry>();
  const inTheWay: string[] = [];
  const extraFiles: string[] = [];
  const extraDirectories: string[] = [];
  const occupied = new Set<string>();
  for await (const encounter of walkWorkspace(new RemoteTree(files, root), rulesOfSurvey(survey), signal)) {
    const { kind, path } = encounter;
    const wanted = survey.entries.get(path);
    // It is listed only after this.
    if (kind === 'directory' && (encounter.mode & OWNER_ACCESS) !== OWNER_ACCESS)
      await files.setstat(`${root}/${path}`, { mode: encounter.mode | OWNER_ACCESS });
    if (wanted !== undefined && isLike(wanted, encounter)) there.set(path, encounter as WorkspaceEntry);
    else if (wanted !== undefined) inTheWay.push(path);
    else if (kind === 'ignored' || kind === 'skipped') for (const above of directoriesAbove(path)) occupied.add(above);
    else (kind === 'directory' ? extraDirectories : extraFiles).push(path);
  }
  for (const path of extraFiles) await files.unlink(`${root}/${path}`);
  for (const path of extraDirectories.toReversed()) {
    if (!occupied.has(path)) await removeIfEmpty(files, `${root}/${path}`);
  }
  for (const path of inTheWay) await removeTree(files, `${root}/${path}`);
  return there;
}

function isLike(wanted: WorkspaceEntry, found: { kind: string; target?: string }): boolean {
  return wanted.kind === found.kind && (wanted.kind !== 'symlink' || wanted.target === found.target);
}

/** One that holds what is never told of, such as a file that was not finished, is in nobody's way. */
async function removeIfEmpty(files: SftpFiles, path: string): Promise<void> {
  try {
    await files.rmdir(path);
  } catch (error) {
    if (!(error instanceof SftpRefusedError)) throw error;
  }
}
