import { Command } from 'commander';
import { workerSettingsSchema } from '../consumers/worker-settings.ts';
import { createWorker } from '../consumers/worker.ts';
import { createControlDrivers } from './control-drivers.ts';
import { addSettings, logLevelSetting, readSettings, secretKeySetting } from './options.ts';
import { createLogger, firstShutdownSignal } from './service-process.ts';

const SETTINGS = { ...workerSettingsSchema.shape, logLevel: logLevelSetting, secretKey: secretKeySetting };

/** `lessor worker`: processes the queues until it receives a signal. */
export function workerCommand(): Command {
  const command = new Command('worker').description('process the queues; run as many replicas as the load needs');
  return addSettings(command, SETTINGS).action(runWorker);
}

async function runWorker(options: object): Promise<void> {
  const { logLevel, secretKey, ...settings } = readSettings(SETTINGS, options);
  const logger = createLogger(logLevel);
  const stopping = firstShutdownSignal();
  const worker = createWorker({ ...settings, drivers: createControlDrivers(secretKey), logger });
  const signal = (await Promise.race([worker.start(), stopping])) ?? (await stopping);
  logger.info({ event: 'worker_stopping', signal }, 'worker stopping');
  await worker.close();
}
