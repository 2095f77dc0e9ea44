import { RejectedError } from '../../contracts/index.ts';
import { fingerprintOf, parseKnownHosts } from '../../ssh/known-hosts.ts';
import { assertAllOk } from './connection-row.ts';
import type { Lab } from './lab.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

/** A host that shows another key than the known one is refused, until the new one is made known. */
export const hostKeyRow: LabRow = {
  name: 'host key refused',
  async run(lab, signal) {
    const known = fingerprintIn(lab.server.knownHosts);
    await lab.server.changeHostKey();
    const offered = fingerprintIn(lab.server.knownHosts);
    try {
      const { checks } = await lab.probe(signal);
      const probed = checks.find(({ ok }) => !ok);
      expected(probed?.name === 'host key', `a probe did not refuse the new key ${offered}`);
      assertNamed(probed.detail, [known, offered]);

      const rejection = await rejectionOfRun(lab, signal);
      expected(
        rejection.code === 'host_key_rejected',
        `a run was refused with ${rejection.code}: ${rejection.message}`,
      );
      assertNamed(rejection.message, [known, offered]);
    } finally {
      await lab.trustHostKey();
    }
    assertAllOk(await lab.probe(signal));
    return `probe and run were refused: ${offered} was offered, ${known} is known; then the new key was made known`;
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
