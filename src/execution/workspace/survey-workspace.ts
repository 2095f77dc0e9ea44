import type { SkippedPath } from '../driver.ts';
import type { IgnoreRules } from './ignore-rules.ts';
import { rulesOf, walkWorkspace } from './walk-workspace.ts';
import type { WorkspaceEntry, WorkspaceTree } from './workspace-entry.ts';

/** All of a workspace that is to cross. */
export interface Survey {
  /** By path, each directory before what is in it. */
  entries: ReadonlyMap<string, WorkspaceEntry>;
  /** The rules within each directory. */
  rules: ReadonlyMap<string, IgnoreRules>;
  skipped: SkippedPath[];
}

/** Walks a workspace to its end. */
export async function surveyWorkspace(tree: WorkspaceTree): Promise<Survey> {
  const entries = new Map<string, WorkspaceEntry>();
  const rules = new Map<string, IgnoreRules>();
  const skipped: SkippedPath[] = [];
  const rulesWithin = rulesOf(tree);
  const walk = walkWorkspace(tree, async (directory, around, listed) => {
    const within = await rulesWithin(directory, around, listed);
    rules.set(directory, within);
    return within;
  });
  for await (const encounter of walk) {
    if (encounter.kind === 'skipped') skipped.push({ path: encounter.path, reason: encounter.reason });
    else if (encounter.kind !== 'ignored') entries.set(encounter.path, encounter);
  }
  return { entries, rules, skipped };
}
