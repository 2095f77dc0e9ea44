import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { executeInEnvironment } from '../../src/execution/execute-in-environment.ts';
import { withLease } from '../../src/producers/with-lease.ts';
import { companyWithDirectories, withDirectories } from '../consumers/driver-fixture.ts';
import { openProducer, startWorker } from '../consumers/fixture.ts';
import { directoryExecutionDriver } from '../support/directory-execution-driver.ts';
import { describeOnEachBackend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';

describeOnEachBackend('with both halves of the example in docs/drivers.md', (backend) => {
  test('a run executes in the directory that it is leased, which is gone after it', async () => {
    await startWorker(backend, withDirectories());
    const company = await companyWithDirectories(backend);
    const printed: string[] = [];
    const stdout = new Writable({
      write(chunk: Buffer, _encoding, done) {
        printed.push(chunk.toString());
        done();
      },
    });
    const command = ['sh', '-c', 'echo "$GREETING"; pwd; touch made-there'] as const;
    const { exit, place } = await withLease(openProducer(backend), company.run(), async (lease, signal) => {
      const drivers = [directoryExecutionDriver];
      const env = { GREETING: 'hello from there' };
      const result = await executeInEnvironment(lease, { drivers, command, env, stdout, signal });
      return { ...result, place: lease.providerLeaseId! };
    });
    expect(exit).toEqual({ code: 0, signal: null });
    expect(printed.join('')).toBe(`hello from there\n${place}\n`);
    await until(async () => (await company.directories()).length === 0, { what: 'the directory being gone' });
  });
});
