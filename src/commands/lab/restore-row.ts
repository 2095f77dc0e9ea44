import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { RestoreReport } from '../../execution/driver.ts';
import { commandOnHost } from './command-on-host.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

const BEFORE: readonly (readonly [path: string, content: string])[] = [
  ['changed there', 'before\n'],
  ['changed here', 'before\n'],
  ['changed on both sides', 'before\n'],
  ['deleted there', 'before\n'],
  ['untouched', 'before\n'],
];

const CHANGES_THERE = `
echo there > 'changed there'
echo there > 'changed on both sides'
rm 'deleted there'
mkdir 'made there'
echo there > 'made there/new file'`;

/** What changed on the host comes back, and overwrites nothing that changed here meanwhile. */
export const restoreRow: LabRow = {
  name: 'restore with a conflict',
  async run(lab, signal) {
    const directory = await lab.makeDirectory('restore');
    const put = (path: string, content: string) => writeFile(join(directory, path), content);
    for (const [path, content] of BEFORE) await put(path, content);
    const report = await lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { workspaceDirectory: directory, signal: leaseSignal });
      try {
        await execution.prepareWorkspace();
        const { end, stderr } = await commandOnHost(execution, ['sh', '-e', '-c', CHANGES_THERE]);
        expected(end.code === 0, `the command failed: ${stderr}`);
        await put('changed here', 'here\n');
        await put('changed on both sides', 'here\n');
        return await execution.restoreWorkspace();
      } finally {
        await execution.close();
      }
    }, signal);
    const keptAs = await assertRestored(directory, report);
    return `1 changed, 1 new, 1 deleted file brought back; what changed on both sides stayed, with theirs as ${keptAs}`;
  },
};

/** Resolves to where the host's version of the conflict is. */
async function assertRestored(directory: string, report: RestoreReport): Promise<string> {
  const [conflict, ...others] = report.conflicts;
  const isOneConflict = conflict?.path === 'changed on both sides' && others.length === 0;
  expected(isOneConflict && conflict.keptAs !== null, `these conflicts were told: ${JSON.stringify(report.conflicts)}`);
  const files: Record<string, string | null> = {
    'changed there': 'there\n',
    'changed here': 'here\n',
    'changed on both sides': 'here\n',
    [conflict.keptAs]: 'there\n',
    'deleted there': null,
    'made there/new file': 'there\n',
    untouched: 'before\n',
  };
  for (const [path, content] of Object.entries(files)) {
    const found = await contentOf(join(directory, path));
    expected(found === content, `${path} holds ${JSON.stringify(found)} instead of ${JSON.stringify(content)}`);
  }
  const { changed, deleted, created, skipped } = report;
  const told = { changed, deleted, skipped, created: created.filter((path) => path.includes('/')) };
  const expectedReport = {
    changed: ['changed there'],
    deleted: ['deleted there'],
    skipped: [],
    created: ['made there/new file'],
  };
  expected(isDeepStrictEqual(told, expectedReport), `it told of other changes: ${JSON.stringify(report)}`);
  return conflict.keptAs;
}

async function contentOf(path: string): Promise<string | null> {
  return existsSync(path) ? readFile(path, 'utf8') : null;
}
