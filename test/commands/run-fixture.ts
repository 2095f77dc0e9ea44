import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Sql } from 'postgres';
import { onTestFinished } from 'vitest';
import type { Backend } from '../support/queues.ts';
import { until } from '../../testing/until.ts';
import { LESSOR_ARGS, spawnWatched } from './lessor.ts';

/** Whether tests can open a terminal: the `script` of util-linux does; others have other arguments. */
export const hasScript =
  spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') ?? false;

/** Starts `lessor` on a new terminal after the commands of `first`, and returns its process id. */
export async function atTerminal(args: readonly string[], { env }: { env: Record<string, string> }, first: string) {
  const words = [process.execPath, ...LESSOR_ARGS, ...args].map(quote).join(' ');
  const line = `${first} echo "pid $$."; exec ${words}`;
  const running = spawnWatched('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
    env,
    stdin: 'pipe',
  });
  const pid = Number(await until(() => /pid (\d+)\./.exec(running.stdout())?.[1], { what: 'the terminal' }));
  onTestFinished(() => {
    // The process survives its terminal.
    if (running.child.exitCode === null) process.kill(pid, 'SIGKILL');
  });
  return { running, pid };
}

/** The arguments and variables of a `lessor run` that is not started. */
export function newRun({ queueUrl, prefix }: Backend) {
  const [id, companyId] = [randomUUID(), randomUUID()];
  const args = ['run', '--company', companyId, '--run', id];
  return { id, companyId, args, env: { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } };
}

/** Waits until a run has ended, and returns how it and its only lease did. */
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

/** Quotes a word for a shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
