import { Command } from 'commander';
import { workerSettingsSchema } from '../consumers/worker-settings.ts';
import { InvalidTransitionError, LessorError, QueueUnreachableError, UnknownLeaseError } from '../contracts/index.ts';
import type { LeaseRelease } from '../contracts/index.ts';
import { environmentService } from '../environments/service/index.ts';
import type { EnvironmentLease } from '../environments/service/input.ts';
import { messageOf } from '../lib/errors.ts';
import { printableJson } from '../lib/printable.ts';
import { jobIds } from '../queues/job-options.ts';
import { openQueues } from '../queues/queues.ts';
import { ReleaseJobs } from '../queues/release-jobs.ts';
import { parseId } from './arguments.ts';
import { addSettings, databaseSettings, queueSettings, readSettings } from './options.ts';
import { withDatabase } from './with-database.ts';

const SETTINGS = {
  ...databaseSettings,
  ...queueSettings,
  releaseAttempts: workerSettingsSchema.shape.releaseAttempts,
};

/** `lessor leases retry-release`: for a release that failed permanently, once its cause is fixed. */
export function retryReleaseCommand(): Command {
  const command = new Command('retry-release')
    .description('release a lease now: its attempts are used up, the next one is not due yet, or its job is lost')
    .argument('<lease>', 'id of the lease', parseId);
  return addSettings(command, SETTINGS)
    .option('--json', 'print {"leaseId": …, "jobId": …, "retried": …} instead of a sentence', false)
    .action(retryRelease);
}

async function retryRelease(leaseId: string, options: { json: boolean }): Promise<void> {
  const { databaseUrl, ...queue } = readSettings(SETTINGS, options);
  const lease = await withDatabase(databaseUrl, (db) => environmentService(db).getLeaseById(leaseId));
  if (lease === null) throw new UnknownLeaseError(leaseId);
  assertRetryable(lease);
  const release: LeaseRelease = { version: 1, companyId: lease.companyId, leaseId };
  const retried = await retryJob(release, queue);
  const jobId = jobIds.leaseRelease(release);
  const sentence = retried
    ? `job ${jobId} retries the release of lease ${leaseId}`
    : `job ${jobId} is releasing lease ${leaseId} already, or about to`;
  process.stdout.write(options.json ? `${printableJson({ leaseId, jobId, retried })}\n` : `${sentence}\n`);
}

/** @throws {InvalidTransitionError} when the lease has nothing to release, or not yet */
function assertRetryable({ id, status, cleanupStatus, endingStatus }: EnvironmentLease): void {
  if (status === 'pending_cleanup') return;
  if (status === 'failed' && cleanupStatus === 'failed' && endingStatus !== null) return;
  const cleanup = cleanupStatus === null ? '' : `, its cleanup ${cleanupStatus}`;
  throw new InvalidTransitionError(
    id,
    `is ${status}${cleanup}: a release can be retried while a lease is pending_cleanup, or once its cleanup has failed`,
  );
}

async function retryJob(
  release: LeaseRelease,
  { queueUrl, prefix, releaseAttempts }: { queueUrl: string; prefix: string; releaseAttempts: number },
): Promise<boolean> {
  // The command that uses the connection reports what is wrong with it.
  const queues = openQueues(queueUrl, { role: 'producer', prefix, onError: () => undefined });
  const jobs = new ReleaseJobs(queues, { attempts: releaseAttempts });
  try {
    return await jobs.retry(release);
  } catch (error) {
    if (error instanceof LessorError) throw error;
    throw new QueueUnreachableError(messageOf(error), { cause: error });
  } finally {
    await jobs.close();
    await queues.close();
  }
}
