import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkSshd, findSshd } from '../../../src/embedded/ssh-server/sshd-program.ts';
import { makeDirectory } from './ssh-server-fixture.ts';

const sshd = await findSshd(process.env['PATH'] ?? '');

test.skipIf(sshd === undefined)('what sshd has against its configuration is told in its words', async () => {
  const directory = await makeDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  const path = join(directory, 'sshd_config');
  await writeFile(path, 'NoSuchOption yes\n');
  const refused = checkSshd(sshd!, path);
  await expect(refused).rejects.toMatchObject({ name: 'SshServerError', code: 'sshd_failed' });
  await expect(refused).rejects.toThrow(/Bad configuration option: NoSuchOption/);
});

test('a program of that name is found on PATH, by its absolute path, only when it can be run', async () => {
  const directory = await makeDirectory();
  onTestFinished(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'sshd'), '', { mode: 0o644 });
  expect(await findSshd(`.:${directory}`)).toBe(sshd);
  await rm(join(directory, 'sshd'));
  await writeFile(join(directory, 'sshd'), '', { mode: 0o755 });
  expect(await findSshd(`.:${directory}`)).toBe(join(directory, 'sshd'));
});
