import { Command } from 'commander';
import { InvalidTransitionError, LessorError, QueueUnreachableError, UnknownLeaseError } from '../contracts/index.ts';
import type { LeaseRelease } from '../contracts/index.ts';
import { environmentService } from '../environments/service/index.ts';
import type { EnvironmentLease } from '../environments/service/input.ts';
import { jobIds } from '../queues/names.ts';
import { openQueues } from '../queues/queues.ts';
import { ReleaseJobs } from '../queues/release-jobs.ts';
import { releaseAttemptsOption } from './environment-options.ts';
import { checkedQueueUrl, databaseUrlOption, parseId, queuePrefixOption, queueUrlOption } from './settings.ts';
import { withDatabase } from './with-database.ts';
import { messageOf } from '../lib/errors.ts';

interface RetryReleaseFlags {
  databaseUrl?: string;
  queueUrl?: string;
  queuePrefix: string;
  releaseAttempts: number;
  json: boolean;
}

/** `lessor leases retry-release`: for releases that were given up once what stood in their way is gone. */
export function retryReleaseCommand(): Command {
  return new Command('retry-release')
    .description('try the release of a lease now whose attempts are spent or still to come, or whose job is lost')
    .argument('<lease>', 'id of the lease', parseId)
    .addOption(databaseUrlOption())
    .addOption(queueUrlOption())
    .addOption(queuePrefixOption())
    .addOption(releaseAttemptsOption())
    .option('--json', 'print {"leaseId": …, "jobId": …, "retried": …} instead of a sentence', false)
    .action(retryRelease);
}

async function retryRelease(leaseId: string, flags: RetryReleaseFlags): Promise<void> {
  const queueUrl = checkedQueueUrl(flags.queueUrl);
  const lease = await withDatabase(flags.databaseUrl, (db) => environmentService(db).getLeaseById(leaseId));
  if (lease === null) throw new UnknownLeaseError(leaseId);
  assertRetryable(lease);
  const release: LeaseRelease = { version: 1, companyId: lease.companyId, leaseId };
  const retried = await retryJob(queueUrl, release, flags);
  const jobId = jobIds.leaseRelease(release);
  const said = retried
    ? `the release of lease ${leaseId} is tried anew, by job ${jobId}`
    : `the release of lease ${leaseId} is on its way already: job ${jobId} is at work, or about to be`;
  process.stdout.write(flags.json ? `${JSON.stringify({ leaseId, jobId, retried })}\n` : `${said}\n`);
}

/** @throws {InvalidTransitionError} when nothing of the lease is left to be released, or not yet */
function assertRetryable({ id, status, cleanupStatus, endingStatus }: EnvironmentLease): void {
  if (status === 'pending_cleanup') return;
  if (status === 'failed' && cleanupStatus === 'failed' && endingStatus !== null) return;
  const cleanup = cleanupStatus === null ? '' : `, its cleanup ${cleanupStatus}`;
  throw new InvalidTransitionError(
    id,
    `is ${status}${cleanup}: a release is retried while a lease is pending_cleanup, or once its cleanup has failed`,
  );
}

async function retryJob(
  queueUrl: string,
  release: LeaseRelease,
  { queuePrefix, releaseAttempts }: RetryReleaseFlags,
): Promise<boolean> {
  // What goes wrong with a connection is told by what is asked of it.
  const queues = openQueues(queueUrl, { role: 'producer', prefix: queuePrefix, onError: () => undefined });
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
