import { describeTree, writeSampleWorkspace } from './sample-workspace.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

/** A workspace arrives on the host as it is here, without what its .gitignore leaves out. */
export const uploadRow: LabRow = {
  name: 'upload',
  async run(lab, signal) {
    const directory = await lab.makeDirectory('upload');
    const { oddNames, ignored } = await writeSampleWorkspace(directory);
    return lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { workspaceDirectory: directory, signal: leaseSignal });
      try {
        const { files, bytes, skipped } = await execution.prepareWorkspace();
        expected(skipped.length === 0, `${skipped[0]?.path} was left out: ${skipped[0]?.reason}`);
        // The host is this machine.
        assertSame(await describeTree(directory), await describeTree(execution.workspacePath), ignored);
        const megabytes = (bytes / 1_000_000).toFixed(1);
        return `${files} files, ${megabytes} MB, ${oddNames} of odd names, arrived as they were; ${ignored.length} ignored ones stayed`;
      } finally {
        await execution.close();
      }
    }, signal);
  },
};

function assertSame(here: Map<string, string>, there: Map<string, string>, ignored: readonly string[]): void {
  const isIgnored = (path: string) => ignored.some((file) => file === path || file.startsWith(`${path}/`));
  // A directory that holds nothing but ignored files need not be there.
  const crossing = [...here].filter(([path]) => !isIgnored(path));
  for (const [path, entry] of crossing) {
    expected(there.get(path) === entry, `${JSON.stringify(path)} is ${there.get(path) ?? 'missing'}, not ${entry}`);
  }
  const unexpected = [...there].find(([path, entry]) => !here.has(path) || (isIgnored(path) && entry !== 'directory'));
  expected(unexpected === undefined, `${JSON.stringify(unexpected?.[0])} should not be there`);
}
