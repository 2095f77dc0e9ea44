import type { SkippedPath } from '../driver.ts';
import type { IgnoreRules } from './ignore-rules.ts';
import { rulesOf, walkWorkspace } from './walk-workspace.ts';
import type { RulesWithin } from './walk-workspace.ts';
import type { WorkspaceEntry, WorkspaceTree } from './workspace-entry.ts';

/** All of a workspace that is to cross. */
export interface Survey {
  /** By path, each directory before what is in it. */
  entries: ReadonlyMap<string, WorkspaceEntry>;
  /** The rules within each directory, also for the other side's walks. */
  rules: ReadonlyMap<string, IgnoreRules>;
  skipped: SkippedPath[];
}

/** Walks a workspace to its end. */
export async function surveyWorkspace(tree: WorkspaceTree, signal: AbortSignal): Promise<Survey> {
  const entries = new Map<string, WorkspaceEntry>();
  const rules = new Map<string, IgnoreRules>();
  const skipped: SkippedPath[] = [];
  const rulesWithin = rulesOf(tree);
  const recorded: RulesWithin = async (directory, around, listed) => {
    const within = await rulesWithin(directory, around, listed);
    rules.set(directory, within);
    return within;
  };
  for await (const encounter of walkWorkspace(tree, recorded, signal)) {
    if (encounter.kind === 'skipped') skipped.push({ path: encounter.path, reason: encounter.reason });
    else if (encounter.kind !== 'ignored') entries.set(encounter.path, encounter);
  }
  return { entries, rules, skipped };
}

/** The rules of a survey, for walking the other side by them: what this side does not have has those around it. */
export function rulesOfSurvey({ rules }: Pick<Survey, 'rules'>): RulesWithin {
  return (directory, around) => rules.get(directory) ?? around.within(directory, undefined);
}
