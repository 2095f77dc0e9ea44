import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { END_PROCESSES, RECORD_PROCESS } from '../../../src/ssh/lease-directory.ts';
import { readShellPrograms } from '../../../src/ssh/script.ts';
import { isInstalled } from '../../ssh/programs.ts';
import { programsOnPath } from '../../support/requirements.ts';

const PROGRAM = new URL('../../../src/environments/drivers/ssh-lease-directory.sh', import.meta.url);

/** Beyond coreutils, what POSIX has every host offer. */
const tools = programsOnPath('awk', 'sed');
const shells = [
  ['sh'],
  ['dash'],
  ['bash', '--posix'],
  ['busybox', 'ash'],
  ['mksh'],
  ['ksh'],
  ['zsh', '--emulate', 'sh'],
]
  .filter(([program]) => isInstalled(program!))
  .map(([program, ...args]) => ({ name: [program, ...args].join(' '), program: program!, args }));

/** An empty workspace, whose path needs quoting in shells. */
async function newWorkspace(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-lease-directory-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const root = join(directory, "it's a * $workspace ünïcode");
  await mkdir(root);
  return root;
}

describe.runIf(tools.isMet).each(shells)(`the lease directory program in $name${tools.note}`, ({ program, args }) => {
  /** Resolves to the exit code and what was printed. */
  async function run(...words: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const script = await readShellPrograms(RECORD_PROCESS, END_PROCESSES, PROGRAM);
    return new Promise((resolve) => {
      const child = execFile(program, [...args, '-s', '--', ...words], (_error, stdout, stderr) =>
        resolve({ code: child.exitCode, stdout, stderr }),
      );
      child.stdin!.end(script);
    });
  }

  const succeeded = { code: 0, stdout: '', stderr: '' };

  test('probes a workspace, and creates, reuses and removes a lease directory in it', async () => {
    const root = await newWorkspace();
    const directory = join(root, '.lessor', randomUUID());
    expect(await run('probe', root, '.lessor-probe')).toEqual(succeeded);
    expect(await run('create', root, directory, 'staged', '1')).toEqual(succeeded);
    expect((await readdir(directory)).toSorted()).toEqual(['.gitignore', 'commands', 'workspace']);
    await chmod(join(directory, 'workspace'), 0o500);
    expect(await run('reuse', root, directory, 'staged', '1')).toEqual(succeeded);
    expect(await run('remove', root, directory, 'staged', '1')).toEqual(succeeded);
    expect(await readdir(root)).toEqual([]);
  });

  test('exits with 10 and the reason when the workspace cannot be used', async () => {
    const root = join(await newWorkspace(), 'absent');
    const { code, stderr } = await run('create', root, join(root, '.lessor', randomUUID()), 'staged', '1');
    expect(code).toBe(10);
    expect(stderr).toContain(`${root} is no directory there`);
    expect(existsSync(root)).toBe(false);
  });
});
