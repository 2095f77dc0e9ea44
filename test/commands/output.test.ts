import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { LESSOR_ARGS } from './lessor.ts';

/** Starts `lessor` with a stdout that cannot be written, and waits for its end. */
async function lessorWithStdout(args: readonly string[], stdout: 'closed pipe' | number) {
  const child = spawn(process.execPath, [...LESSOR_ARGS, ...args], {
    stdio: ['ignore', stdout === 'closed pipe' ? 'pipe' : stdout, 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  child.stdout?.destroy();
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { exit: code, stderr };
}

test.for(['schema', '--help', 'run --help'])(
  '`lessor %s` ends without a word when the reader of its output has gone',
  async (command) => {
    expect(await lessorWithStdout(command.split(' '), 'closed pipe')).toEqual({ exit: 0, stderr: '' });
  },
);

test.runIf(existsSync('/dev/full'))('a full disk under stdout is one line on stderr and exit code 1', async () => {
  const { exit, stderr } = await lessorWithStdout(['schema'], openSync('/dev/full', 'w'));
  expect(exit).toBe(1);
  expect(stderr).toMatch(/^error: stdout cannot be written: ENOSPC[^\n]*\n$/);
});
