import { Command } from 'commander';
import { RejectedError } from '../../contracts/index.ts';
import type { ControlDriver, ProbeReport } from '../../environments/drivers/driver.ts';
import type { Environment } from '../../environments/service/input.ts';
import { createControlDrivers } from '../control-drivers.ts';
import { databaseUrlOption, parseId } from '../settings.ts';
import { renderRows } from '../table.ts';
import { withDatabase } from '../with-database.ts';
import { findEnvironment } from './find-environment.ts';

/** For connecting, logging in and looking around; each has a shorter limit of its own. */
const PROBE_LIMIT_MS = 60_000;

const SECRETS_HELP = `
The environment's private key is read as a worker does it: from a variable or a file of this machine, or opened under
LESSOR_SECRET_KEY.`;

/** `lessor environments probe` */
export function probeEnvironmentCommand(): Command {
  return new Command('probe')
    .description('look at all that a lease needs of an environment, from this machine: exit 1 when a check fails')
    .argument('<environment>', 'id of the environment', parseId)
    .addOption(databaseUrlOption())
    .option('--json', 'print one JSON object instead of a table', false)
    .addHelpText('after', SECRETS_HELP)
    .action(probeEnvironment);
}

async function probeEnvironment(id: string, { databaseUrl, json }: { databaseUrl?: string; json: boolean }) {
  const drivers = createControlDrivers(process.env);
  const environment = await withDatabase(databaseUrl, (db) => findEnvironment(db, id));
  const { checks, latencyMs } = await probe(environment, drivers);
  const ok = checks.every((check) => check.ok);
  process.stdout.write(
    json ? `${JSON.stringify({ environmentId: id, ok, checks, latencyMs })}\n` : describe({ checks, latencyMs }),
  );
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
    return await driver.probe({ id, companyId, config: config.data }, { signal: AbortSignal.timeout(PROBE_LIMIT_MS) });
  } finally {
    await driver.close?.();
  }
}

function describe({ checks, latencyMs }: ProbeReport): string {
  const { isTTY, columns } = process.stdout;
  const table = renderRows(
    checks,
    [
      { heading: 'check', show: (check) => check.name },
      { heading: 'result', show: (check) => (check.ok ? 'ok' : 'failed') },
      { heading: 'detail', show: (check) => check.detail, wraps: true },
    ],
    { json: false, terminal: { isTTY, columns } },
  );
  return latencyMs === null ? table : `${table}One round trip takes ${latencyMs.toFixed(1)} ms.\n`;
}
