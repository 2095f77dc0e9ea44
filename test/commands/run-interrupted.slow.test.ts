import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { useQueues, useWorker } from '../consumers/fixture.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { spawnLessor } from './lessor.ts';
import { atTerminal, hasScript, newRun, untilEnded } from './run-fixture.ts';

const whyNot = hasScript ? '' : ' (not run: the `script` of util-linux is not on the PATH)';

describeOnEachBackend(
  '`lessor run`, interrupted while its command runs',
  (backend) => {
    useWorker(backend);

    test('forwards SIGTERM to the command, waits for it to end, and cancels the run', async () => {
      const run = newRun(backend);
      const script = `
        process.on('SIGTERM', () => { console.log('stopping'); process.exit(9); });
        setInterval(() => undefined, 60_000);
        console.log('ready');`;
      const running = spawnLessor([...run.args, '--', process.execPath, '-e', script], run);
      await until(() => running.stdout() === 'ready\n', { what: 'the command being ready' });
      running.child.kill('SIGTERM');

      expect(await running.ended()).toEqual({ exit: 9, stdout: 'ready\nstopping\n', stderr: '' });
      expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({ run: 'cancelled', lease: 'released' });
    });

    test.runIf(hasScript)(
      `forwards Ctrl-C on a terminal to the command once, and cancels the run${whyNot}`,
      async () => {
        const run = newRun(backend);
        const counting = await writeScript(`
        let interrupts = 0;
        process.on('SIGINT', () => console.log('interrupts: ' + ++interrupts));
        process.on('SIGTERM', () => process.exit(40 + interrupts));
        setInterval(() => undefined, 60_000);
        console.log('counting.');`);
        const { running, pid } = await atTerminal(
          [...run.args, '--', process.execPath, counting],
          run,
          'stty cols 80;',
        );
        await until(() => running.stdout().includes('counting.'), { what: 'the command being ready' });
        running.child.stdin?.write('\u0003');
        await until(() => running.stdout().includes('interrupts: 1'), { what: 'Ctrl-C reaching the command' });
        // A second SIGINT would arrive before this signal.
        process.kill(pid, 'SIGTERM');

        expect((await running.ended()).exit).toBe(41);
        expect(running.stdout()).toContain('waiting for a lease');
        expect(running.stdout()).toContain('fencing token');
        expect(await untilEnded(backend.database.sql, run.id)).toMatchObject({ run: 'cancelled', lease: 'released' });
      },
    );
  },
  { audited: true },
);

describeOnEachBackend('`lessor run`, interrupted while it waits for its lease', (backend) => {
  const queue = useQueues(backend);
  const endOf = async (runId: string) => (await queue('run-finished').getJob(`${runId}-finished`))?.data;

  test('SIGTERM cancels a waiting run, publishes that, and exits with 143 immediately', async () => {
    const run = newRun(backend);
    const running = spawnLessor([...run.args, '--', 'true'], run);
    await until(() => queue('run-started').getJob(`${run.id}-started`), { what: 'the start being published' });
    const signalledAt = performance.now();
    running.child.kill('SIGTERM');

    expect(await running.ended()).toEqual({ exit: 143, stdout: '', stderr: '' });
    expect(performance.now() - signalledAt, 'it ends without waiting for anything more').toBeLessThan(1_500);
    expect(await endOf(run.id)).toMatchObject({ status: 'cancelled' });
  });

  test.runIf(hasScript)(`Ctrl-C on a terminal cancels a waiting run, and exits with 130${whyNot}`, async () => {
    const run = newRun(backend);
    const { running } = await atTerminal([...run.args, '--', 'true'], run, 'stty cols 80;');
    await until(() => queue('run-started').getJob(`${run.id}-started`), { what: 'the start being published' });
    expect(running.stdout()).toContain('waiting for a lease');
    running.child.stdin?.write('\u0003');

    expect((await running.ended()).exit).toBe(130);
    expect(await endOf(run.id)).toMatchObject({ status: 'cancelled' });
  });
});

test.runIf(hasScript)(`\`lessor run\` shows no spinner on a terminal of unknown width${whyNot}`, async () => {
  const env = { QUEUE_URL: 'redis://127.0.0.1:1' };
  const { running } = await atTerminal(['run', '--company', randomUUID(), '--', 'true'], { env }, 'stty cols 0;');
  expect((await running.ended()).exit).toBe(125);
  expect(running.stdout()).toContain('error: the queue cannot be reached');
});

/** Writes a script for Node, and removes it after the test. */
async function writeScript(source: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lessor-test-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const path = join(directory, 'script.cjs');
  await writeFile(path, source);
  return path;
}
