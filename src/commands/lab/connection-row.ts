import type { ProbeReport } from '../../environments/drivers/driver.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

/** Its checks are those of `lessor environments probe`. */
export const connectionRow: LabRow = {
  name: 'connection',
  async run(lab, signal) {
    const report = await lab.probe(signal);
    assertAllOk(report);
    const names = report.checks.map(({ name }) => name).join(', ');
    return `${names}: all ok; one round trip takes ${report.latencyMs?.toFixed(1)} ms`;
  },
};

/** @throws {Error} with what the first check says that failed */
export function assertAllOk({ checks }: ProbeReport): void {
  const failed = checks.find(({ ok }) => !ok);
  expected(failed === undefined, `${failed?.name}: ${failed?.detail}`);
}
