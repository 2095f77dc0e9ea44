import { execFile } from 'node:child_process';
import { open as openFile, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { TransferProgress } from '../../../src/execution/driver.ts';
import { makeDirectory } from '../directories.ts';
import { describeOnSshExecution, open, run } from './execution-fixture.ts';

const MEGABYTE = 1024 * 1024;

/** What this process may hold more of memory meanwhile, a server in it included. */
const FLAT_BYTES = 120 * MEGABYTE;

const FIVE_THOUSAND_FILES = `
for directory in 0 1 2 3 4 5 6 7 8 9; do
  mkdir -p "$directory a" "$directory b" "$directory c" "$directory d" "$directory e"
  file=0
  while [ "$file" -lt 100 ]; do
    for name in a b c d e; do echo "$directory $file $name" > "$directory $name/file $file"; done
    file=$((file + 1))
  done
done
find . -type f -exec touch -t 200001010000 {} +`;

describeOnSshExecution('a large workspace', (host) => {
  test('of a single file of 200 MB is synced both ways in constant memory', async () => {
    const workspaceDirectory = await makeDirectory();
    const path = join(workspaceDirectory, 'large');
    await sparse(path, 200 * MEGABYTE);
    const execution = await open(await host.lease(), { workspaceDirectory });
    const memory = watchMemory();
    expect(await execution.prepareWorkspace()).toMatchObject({ files: 1, bytes: 200 * MEGABYTE });
    await run(execution, ['sh', '-c', 'printf changed | dd of=large bs=1 seek=100000000 conv=notrunc 2>/dev/null']);
    expect((await execution.restoreWorkspace()).changed).toEqual(['large']);
    const grown = memory.grown();

    const file = await openFile(path);
    const { buffer } = await file.read(Buffer.alloc(7), 0, 7, 100_000_000);
    await file.close();
    expect([buffer.toString(), (await stat(path)).size]).toEqual(['changed', 200 * MEGABYTE]);
    expect(grown).toBeLessThan(FLAT_BYTES);
  }, 120_000);

  test('of 5,000 files is synced both ways, and reports its progress', async () => {
    const workspaceDirectory = await makeDirectory();
    await promisify(execFile)('sh', ['-c', FIVE_THOUSAND_FILES], { cwd: workspaceDirectory });
    const told: TransferProgress[] = [];
    const execution = await open(await host.lease(), {
      workspaceDirectory,
      onProgress: (progress) => told.push(progress),
    });
    const memory = watchMemory();
    expect(await execution.prepareWorkspace()).toMatchObject({ files: 5_000, skipped: [] });
    expect(told.length).toBeGreaterThan(2);
    expect(told.every(({ direction, totalFiles }) => direction === 'upload' && totalFiles === 5_000)).toBe(true);
    expect(told.at(-1)).toMatchObject({ files: 5_000, bytes: told[0]!.totalBytes });

    await run(execution, ['sh', '-c', 'for d in *; do echo new > "$d/new"; rm "$d/file 7"; done']);
    const { created, deleted } = await execution.restoreWorkspace();
    expect([created.length, deleted.length]).toEqual([50, 50]);
    expect(told.at(-1)).toMatchObject({ direction: 'download' });
    expect(memory.grown()).toBeLessThan(FLAT_BYTES);
  }, 120_000);
});

/** A file of zeros that takes no room, and is old enough for a quick look to be believed. */
async function sparse(path: string, size: number): Promise<void> {
  const file = await openFile(path, 'w');
  await file.truncate(size);
  await file.close();
  await utimes(path, 1_000_000, 1_000_000);
}

/** By how many bytes this process has grown at most, since now. */
function watchMemory() {
  const before = process.memoryUsage.rss();
  let most = before;
  const timer = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20);
  return {
    grown() {
      clearInterval(timer);
      return most - before;
    },
  };
}
