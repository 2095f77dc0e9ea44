import { Command } from 'commander';
import { RejectedError } from '../../contracts/index.ts';
import type { ControlDriver, ProbeReport } from '../../environments/drivers/driver.ts';
import type { Environment } from '../../environments/service/input.ts';
import { printableJson } from '../../lib/printable.ts';
import { parseId } from '../arguments.ts';
import { createControlDrivers } from '../control-drivers.ts';
import { addSettings, databaseSettings, readSettings, secretKeySetting } from '../options.ts';
import { renderRows, terminalOf } from '../table.ts';
import { withDatabase } from '../with-database.ts';
import { findEnvironment } from './manage.ts';

/** For connecting, logging in and all checks; each has a shorter limit of its own. */
const PROBE_TIMEOUT_MS = 60_000;

const SETTINGS = { ...databaseSettings, secretKey: secretKeySetting };

const SECRETS_HELP = `
The private key of the environment is read as a worker reads it: from a variable or a file of this machine, or sealed.`;

/** `lessor environments probe` */
export function probeEnvironmentCommand(): Command {
  const command = new Command('probe')
    .description('check from this machine all that a lease needs of an environment: exit 1 if a check fails')
    .argument('<environment>', 'id of the environment', parseId);
  return addSettings(command, SETTINGS)
    .option('--json', 'print one JSON object instead of a table', false)
    .addHelpText('after', SECRETS_HELP)
    .action(probeEnvironment);
}

async function probeEnvironment(id: string, options: { json: boolean }): Promise<void> {
  const { databaseUrl, secretKey } = readSettings(SETTINGS, options);
  const drivers = createControlDrivers(secretKey);
  const environment = await withDatabase(databaseUrl, (db) => findEnvironment(db, id));
  const { checks, latencyMs } = await probe(environment, drivers);
  const ok = checks.every((check) => check.ok);
  const report = { environmentId: id, ok, checks, latencyMs };
  process.stdout.write(options.json ? `${printableJson(report)}\n` : describe({ checks, latencyMs }));
  if (!ok) process.exitCode = 1;
}

async function probe(environment: Environment, drivers: readonly ControlDriver[]): Promise<ProbeReport> {
  const { id, companyId, driver: kind } = environment;
  const driver = drivers.find(({ name }) => name === kind);
  if (driver === undefined) {
    const known = drivers.map(({ name }) => name).join(', ');
    const reason = `environment ${id} is of the kind ${kind}; only ${known} can be probed here`;
    throw new RejectedError({ code: 'driver_unavailable', reason });
  }
  const config = driver.configSchema.safeParse(environment.config);
  if (!config.success) {
    const detail = config.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
    return { checks: [{ name: 'config', ok: false, detail }], latencyMs: null };
  }
  try {
    return await driver.probe(
      { id, companyId, config: config.data },
      { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) },
    );
  } finally {
    await driver.close?.();
  }
}

function describe({ checks, latencyMs }: ProbeReport): string {
  const table = renderRows(
    checks,
    [
      { heading: 'check', show: (check) => check.name },
      { heading: 'result', show: (check) => (check.ok ? 'ok' : 'failed') },
      { heading: 'detail', show: (check) => check.detail, wraps: true },
    ],
    { json: false, terminal: terminalOf(process.stdout) },
  );
  return latencyMs === null ? table : `${table}One round trip takes ${latencyMs.toFixed(1)} ms.\n`;
}
