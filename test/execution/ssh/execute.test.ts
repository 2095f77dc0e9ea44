import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { array, assert, asyncProperty, constantFrom, dictionary, oneof, string, stringMatching } from 'fast-check';
import { expect, test } from 'vitest';
import type { Command } from '../../../src/execution/driver.ts';
import { makeDirectory } from '../directories.ts';
import { describeOnSshExecution, open, run } from './execution-fixture.ts';

/** Prints what it was given. */
const REFLECT = 'process.stdout.write(JSON.stringify([process.argv.slice(1), process.env]))';

/** Whatever shells, terminals and protocols take for something else. */
const hostile = oneof(
  constantFrom(
    '',
    ' ',
    "'",
    '"',
    '`id`',
    '$(id)',
    '$HOME',
    '\\',
    '\n',
    '\r\n',
    '\t',
    '*',
    '~',
    '-rf',
    '--',
    '!!',
    '{a,b}',
    '#',
    '%s',
    '\u0007',
    '🦊 ünïcödé',
    "'\\''",
    '\u001b[31m',
  ),
  string({ unit: 'grapheme' }),
  string({ unit: 'binary' }),
).filter((text) => !text.includes('\0') && text.isWellFormed());

describeOnSshExecution('a command over SSH', (host) => {
  test('gets its arguments and variables unchanged, whatever they hold', async () => {
    const execution = await host.shared();
    const names = stringMatching(/^T_[A-Za-z0-9_]{1,8}$/);
    await assert(
      asyncProperty(
        array(hostile, { maxLength: 40 }),
        dictionary(names, hostile, { maxKeys: 30 }),
        async (args, env) => {
          const { code, stdout } = await run(execution, [process.execPath, '-e', REFLECT, '--', ...args], { env });
          const [received, variables] = JSON.parse(stdout.toString('utf8')) as [string[], Record<string, string>];
          const named = Object.fromEntries(Object.entries(variables).filter(([name]) => name.startsWith('T_')));
          expect({ code, received, named }).toEqual({ code: 0, received: args, named: { ...env } });
        },
      ),
      { numRuns: 6 },
    );
  });

  test('gets arguments and variables as long as the system allows', async () => {
    const execution = await host.shared();
    const [long, many] = ['x'.repeat(100_000), Array.from({ length: 20_000 }, (_, index) => `argument ${index}`)];
    const { stdout } = await run(execution, [process.execPath, '-e', REFLECT, '--', long, ...many], {
      env: { LONG: long },
    });
    const [received, { LONG }] = JSON.parse(stdout.toString('utf8')) as [string[], Record<string, string>];
    expect(received.length).toBe(1 + many.length);
    expect([received[0] === long, LONG === long, received.at(-1)]).toEqual([true, true, 'argument 19999']);
  });

  test('gets no variables of this process but its own', async () => {
    process.env['LESSOR_TEST_PLANTED'] = 'a secret of the worker';
    const lease = await host.lease();
    const { stdout } = await run(await open(lease), ['env'], { env: { NAMED: 'yes' } });
    delete process.env['LESSOR_TEST_PLANTED'];
    expect(stdout.toString()).toContain('NAMED=yes\n');
    expect(stdout.toString()).toContain(`LESSOR_LEASE_DIRECTORY=${lease.providerLeaseId}\n`);
    expect(stdout.toString()).not.toContain('LESSOR_TEST_PLANTED');
  });

  test('gets variables that shells use themselves', async () => {
    const env = {
      UID: 'me',
      IFS: 'x',
      OPTIND: 'none',
      PPID: '0',
      RANDOM: 'chosen',
      SECONDS: 'past',
      BASH_ENV: '/nowhere',
      PS4: '$(id)',
      PATH: `/nowhere:${process.env['PATH']}`,
    };
    const { stdout } = await run(await host.shared(), [process.execPath, '-e', REFLECT], { env });
    expect((JSON.parse(stdout.toString()) as [unknown, object])[1]).toMatchObject(env);
  });

  test('works in the workspace of its own lease', async () => {
    const lease = await host.lease();
    const execution = await open(lease);
    expect((await run(execution, ['pwd'])).stdout.toString()).toBe(`${execution.workspacePath}\n`);
    expect(execution.workspacePath).toBe(join(lease.providerLeaseId, 'workspace'));
    expect(execution.location).toContain(`@127.0.0.1:${host.server.port}:${lease.providerLeaseId}`);
  });

  test('works in the existing checkout with workspaceMode in_place', async () => {
    const checkout = await makeDirectory({ 'a b': 'text' });
    const lease = await host.lease();
    const leaseDirectory = `${checkout}/.lessor/${lease.id}`;
    const config = { ...lease.config, remoteWorkspacePath: checkout, workspaceMode: 'in_place' };
    await mkdir(leaseDirectory, { recursive: true });
    const here = await makeDirectory({ 'not sent': '' });
    const execution = await open({ ...lease, config, providerLeaseId: leaseDirectory }, { workspaceDirectory: here });
    const reason = `the environment works in place, on the checkout in ${checkout}`;
    expect(await execution.prepareWorkspace()).toEqual({ files: 0, bytes: 0, skipped: [{ path: '.', reason }] });
    expect((await run(execution, ['cat', 'a b'])).stdout.toString()).toBe('text');
    expect(await execution.restoreWorkspace()).toMatchObject({ created: [], deleted: [] });
    expect(await readdir(here)).toEqual(['not sent']);
  });

  test('leaves no script with its variables on the host', async () => {
    const lease = await host.lease();
    await run(await open(lease), ['true'], { env: { TOKEN: 'secret' } });
    const left = await readdir(join(lease.providerLeaseId, 'commands'));
    expect(left.filter((name) => !name.endsWith('.pid'))).toEqual([]);
  });

  test('reads its stdin and writes both outputs unchanged', async () => {
    const execution = await host.shared();
    const bytes = randomBytes(3_000_000);
    const { code, stdout, stderr } = await run(execution, ['sh', '-c', 'tee copy; cat copy >&2; rm copy'], {
      stdin: Readable.from([bytes]),
    });
    expect(code).toBe(0);
    expect([sha256(stdout), sha256(stderr)]).toEqual([sha256(bytes), sha256(bytes)]);
  });

  test('has an empty stdin by default, and need not read the one it has', async () => {
    const execution = await host.shared();
    expect(await run(execution, ['cat'])).toMatchObject({ code: 0, stdout: Buffer.alloc(0) });
    const endless = new PassThrough();
    endless.write('unread');
    expect(await run(execution, ['true'], { stdin: endless })).toMatchObject({ code: 0 });
    expect(endless.listenerCount('data'), 'it is not read any further').toBe(0);
  });

  test('is slowed down by a slow reader', async () => {
    const execution = await host.shared();
    const slow = new PassThrough({ highWaterMark: 1_000 });
    const script = 'i=0; while [ $i -lt 400 ]; do head -c 65536 /dev/zero; i=$((i+1)); echo $i >&2; done';
    const stderr = new PassThrough();
    let written = 0;
    stderr.on('data', (chunk: Buffer) => (written = Number(chunk.toString().trim().split('\n').at(-1))));
    const ended = execution.execute({ argv: ['sh', '-c', script], env: {}, stdout: slow, stderr, killAfterMs: 1_000 });
    await once(stderr, 'data');
    await expect.poll(() => written, { timeout: 10_000 }).toBeGreaterThan(1);
    const before = await untilStill(() => written);
    expect(before, 'of 25 MiB, what fits into windows and pipes').toBeLessThan(150);
    slow.resume();
    expect(await ended).toEqual({ code: 0, signal: null });
    expect(written).toBe(400);
  });

  test('is ended by SIGPIPE when its reader is gone', async () => {
    const execution = await host.shared();
    const stdout = new PassThrough();
    stdout.once('data', () => stdout.destroy());
    expect(await run(execution, ['yes'], { stdout })).toMatchObject({ code: null, signal: 'SIGPIPE' });
  });

  test('ends with its own exit code or signal, concurrently with others on the connection', async () => {
    const execution = await host.shared();
    const ends = [
      ...[0, 1, 77, 125, 255].map((code) => ({ script: `exit ${code}`, end: { code, signal: null } })),
      ...(['SIGTERM', 'SIGKILL', 'SIGSEGV', 'SIGABRT', 'SIGINT'] as const).map((signal) => ({
        script: `ulimit -c 0; kill -${constants.signals[signal]} $$`,
        end: { code: null, signal },
      })),
    ];
    const outcomes = await Promise.all(
      ends.map(({ script }) => run(execution, ['sh', '-c', `echo ${script.length}; ${script}`])),
    );
    expect(outcomes.map(({ code, signal }) => ({ code, signal }))).toEqual(ends.map(({ end }) => end));
    expect(outcomes.map(({ stdout }) => stdout.toString())).toEqual(ends.map(({ script }) => `${script.length}\n`));
  });

  test('exits with 127 when it does not exist, and with 126 when it is not executable', async () => {
    const execution = await host.shared();
    const commands = ['lessor-no-such-command', '-lessor-no-such-command', '/'] as const;
    const outcomes = await Promise.all(commands.map((command) => run(execution, [command])));
    expect(outcomes.map(({ code }) => code)).toEqual([127, 127, 126]);
  });

  test('has ended on its exit, also when a child holds its output open', async () => {
    const execution = await host.shared();
    const started = performance.now();
    expect(await run(execution, ['sh', '-c', 'echo begun; sleep 20 & exit 3'])).toMatchObject({
      code: 3,
      stdout: Buffer.from('begun\n'),
    });
    expect(performance.now() - started).toBeLessThan(15_000);
  });

  test('fails with the reason when its workspace is gone', async () => {
    const lease = await host.lease();
    const execution = await open(lease);
    await rm(execution.workspacePath, { recursive: true });
    await expect(run(execution, ['true'])).rejects.toMatchObject({
      code: 'workspace_unusable',
      message: expect.stringContaining(execution.location) as unknown,
    });
    await expect(execution.prepareWorkspace()).rejects.toMatchObject({ code: 'workspace_unusable' });
  });

  test('that no process can be given is rejected with the reason, and nothing is started', async () => {
    const lease = await host.lease();
    const execution = await open(lease);
    for (const { what, argv = ['true'] as const, env = {}, message } of REJECTED) {
      const error: unknown = await run(execution, argv, { env }).catch((reason: unknown) => reason);
      expect({ what, error }).toMatchObject({
        what,
        error: { code: 'invalid_configuration', message: expect.stringContaining(message) as unknown },
      });
      expect(String(error)).not.toContain('secret');
    }
    expect(await readdir(join(lease.providerLeaseId, 'commands'))).toEqual([]);
  });
});

const REJECTED: { what: string; argv?: Command['argv']; env?: Record<string, string>; message: string }[] = [
  { what: 'NUL in an argument', argv: ['a', 'b\0c'], message: 'argument 1 of the command holds a NUL character' },
  { what: 'NUL in the command', argv: ['\0'], message: 'the command holds a NUL character' },
  { what: 'NUL in a value', env: { A: 'secret\0' }, message: 'the value of A holds a NUL character' },
  { what: 'half a character', argv: ['a', '\ud83e'], message: 'argument 1 of the command is not valid Unicode' },
  { what: 'a name with a dash', env: { 'A-B': '' }, message: '"A-B" is no name of a variable' },
  { what: 'a name with a newline', env: { 'A\nB': '' }, message: '"A\\nB" is no name of a variable' },
  { what: 'a name with an assignment', env: { 'A=$(id)': '' }, message: '"A=$(id)" is no name of a variable' },
  { what: 'an empty name', env: { '': '' }, message: '"" is no name of a variable' },
  {
    what: 'the leaseDirectory of the lease',
    env: { LESSOR_LEASE_DIRECTORY: '/' },
    message: 'LESSOR_LEASE_DIRECTORY is set by Lessor',
  },
];

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Waits until a number has not grown for half a second. */
async function untilStill(read: () => number): Promise<number> {
  let last: number;
  do {
    last = read();
    await new Promise((resolve) => setTimeout(resolve, 500));
  } while (read() !== last);
  return last;
}
