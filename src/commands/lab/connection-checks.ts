import { RejectedError } from '../../contracts/index.ts';
import type { ProbeReport } from '../../environments/drivers/driver.ts';
import { fingerprintOf, parseKnownHosts } from '../../ssh/known-hosts.ts';
import { expected } from './check.ts';
import type { LabCheck } from './check.ts';
import type { Lab } from './lab.ts';

/** The checks of `lessor environments probe`. */
export const connectionCheck: LabCheck = {
  name: 'connection',
  async run(lab, signal) {
    const report = await lab.probe(signal);
    assertAllOk(report);
    const names = report.checks.map(({ name }) => name).join(', ');
    return `${names}: all ok; one round trip takes ${report.latencyMs?.toFixed(1)} ms`;
  },
};

/** @throws {Error} with what the first check says that failed */
function assertAllOk({ checks }: ProbeReport): void {
  const failed = checks.find(({ ok }) => !ok);
  expected(failed === undefined, `${failed?.name}: ${failed?.detail}`);
}

/** A host that shows another key than the known one is rejected, until the new one is known. */
export const hostKeyCheck: LabCheck = {
  name: 'host key rejected',
  async run(lab, signal) {
    const known = fingerprintIn(lab.server.knownHosts);
    await lab.server.changeHostKey();
    const offered = fingerprintIn(lab.server.knownHosts);
    try {
      const { checks } = await lab.probe(signal);
      const probed = checks.find(({ ok }) => !ok);
      expected(probed?.name === 'host key', `a probe did not reject the new key ${offered}`);
      assertNamed(probed.detail, [known, offered]);

      const rejection = await rejectionOfRun(lab, signal);
      expected(
        rejection.code === 'host_key_rejected',
        `a run was rejected with ${rejection.code}: ${rejection.message}`,
      );
      assertNamed(rejection.message, [known, offered]);
    } finally {
      await lab.trustHostKey();
    }
    assertAllOk(await lab.probe(signal));
    return `probe and run were rejected: ${offered} was offered, ${known} is known; then the new key became known`;
  },
};

function fingerprintIn(knownHosts: string): string {
  return parseKnownHosts(knownHosts)
    .map(({ key }) => fingerprintOf(key.blob))
    .join(' ');
}

async function rejectionOfRun(lab: Lab, signal: AbortSignal): Promise<RejectedError> {
  try {
    await lab.withLease(async () => undefined, signal);
  } catch (error) {
    if (error instanceof RejectedError) return error;
    throw error;
  }
  throw new Error('a run was granted a lease on a host whose key is not the known one');
}

function assertNamed(message: string, fingerprints: readonly string[]): void {
  const missing = fingerprints.filter((fingerprint) => !message.includes(fingerprint));
  expected(missing.length === 0, `a rejection does not name ${missing.join(' and ')}: ${message}`);
}
