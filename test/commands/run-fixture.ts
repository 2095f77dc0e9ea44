import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Sql } from 'postgres';
import { onTestFinished } from 'vitest';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { LESSOR_ARGS, spawnWatched } from './lessor.ts';

/** Whether terminals can be had: from the `script` of util-linux, as others take other arguments. */
export const hasScript =
  spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') ?? false;

/** Starts `lessor` on a terminal of its own, set up first, and tells its process id. */
export async function atTerminal(args: readonly string[], { env }: { env: Record<string, string> }, first: string) {
  const words = [process.execPath, ...LESSOR_ARGS, ...args].map(quote).join(' ');
  const line = `${first} echo "pid $$."; exec ${words}`;
  const running = spawnWatched('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
    env,
    stdin: 'pipe',
  });
  const pid = Number(await until(() => /pid (\d+)\./.exec(running.stdout())?.[1], { what: 'the terminal' }));
  onTestFinished(() => {
    // It does not end with the terminal.
    if (running.child.exitCode === null) process.kill(pid, 'SIGKILL');
  });
  return { running, pid };
}

/** A run that is not started: what `lessor` is given for it. */
export function newRun({ queueUrl, prefix }: Backend) {
  const [id, companyId] = [randomUUID(), randomUUID()];
  const args = ['run', '--company', companyId, '--run', id];
  return { id, companyId, args, env: { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } };
}

/** Waits until a run has ended, and tells how it and its only lease did. */
export async function untilEnded(sql: Sql, runId: string) {
  return until(
    async () => {
      const rows = await sql<
        {
          run: string;
          lease: string;
          reason: string | null;
          leaseId: string;
          environmentId: string;
          fencingToken: string;
        }[]
      >`
        select run.status as run, lease.status as lease, run.failure_reason as reason, lease.id as "leaseId",
          environment_id as "environmentId", fencing_token::text as "fencingToken"
        from lessor.heartbeat_runs run join lessor.environment_leases lease on heartbeat_run_id = run.id
        where run.id = ${runId} and run.finished_at is not null`;
      return rows.length === 1 ? rows[0] : undefined;
    },
    { what: `the end of run ${runId}` },
  );
}

/** A word as a shell takes it for one. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
