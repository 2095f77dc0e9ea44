import ssh2 from 'ssh2';
import { watchQueries } from './watched-queries.ts';

/**
 * Preload of a worker: kills its process at step number `CRASH_AT_STEP` of its work for the run `CRASH_ON_RUN`. Steps are
 * the commits of operations, and the starts and ends of scripts on a host. Each is written to stderr when it is reached.
 */
const runId = process.env['CRASH_ON_RUN'];
const crashAt = Number(process.env['CRASH_AT_STEP']);
if (runId === undefined || !Number.isInteger(crashAt)) throw new Error('CRASH_ON_RUN and CRASH_AT_STEP are missing');

let isArmed = false;
let steps = 0;

function reach(what: string): void {
  if (!isArmed) return;
  steps += 1;
  process.stderr.write(`step ${steps}: ${what}\n`);
  if (steps === crashAt) process.kill(process.pid, 'SIGKILL');
}

/** Connections in the transaction of an operation, which begins by locking companies. */
const inOperation = new WeakSet<object>();

watchQueries(({ client, texts, isAbout, isTransaction }) => {
  if (isAbout(runId)) isArmed = true;
  if (texts.some((text) => text.includes('from lessor.companies') && text.includes('for no key update'))) {
    inOperation.add(client);
  }
  const commits = isTransaction || texts.includes('commit');
  return commits && inOperation.delete(client) ? () => reach('committed') : undefined;
});

type Exec = (
  this: ssh2.Client,
  command: string,
  callback: (error: Error | undefined, channel: ssh2.ClientChannel) => void,
) => ssh2.Client;
const client = ssh2.Client.prototype as unknown as { exec: Exec };
const { exec } = client;

client.exec = function execAndCount(command, callback) {
  reach('script starts');
  return exec.call(this, command, (error, channel) => {
    channel?.once('close', () => reach('script ended'));
    callback(error, channel);
  });
};
