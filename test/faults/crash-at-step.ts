import ssh2 from 'ssh2';
import { watchQueries } from './watched-queries.ts';

/**
 * Loaded before a worker: its process dies at a step of what it does for the run `CRASH_ON_RUN`, the one that
 * `CRASH_AT_STEP` counts to. Steps are the commits of operations, and the beginnings and ends of scripts on a host.
 * Each is announced on stderr before it is taken.
 */
const runId = process.env['CRASH_ON_RUN'];
const crashAt = Number(process.env['CRASH_AT_STEP']);
if (runId === undefined || !Number.isInteger(crashAt)) throw new Error('CRASH_ON_RUN and CRASH_AT_STEP are missing');

let isArmed = false;
let steps = 0;

function step(what: string): void {
  if (!isArmed) return;
  steps += 1;
  process.stderr.write(`step ${steps}: ${what}\n`);
  if (steps === crashAt) process.kill(process.pid, 'SIGKILL');
}

/** Connections that are in the transaction of an operation: each begins with the locks of companies. */
const inOperation = new WeakSet<object>();

watchQueries(({ client, texts, isAbout, isTransaction }) => {
  if (isAbout(runId)) isArmed = true;
  if (texts.some((text) => text.includes('from lessor.companies') && text.includes('for no key update'))) {
    inOperation.add(client);
  }
  const commits = isTransaction || texts.includes('commit');
  return commits && inOperation.delete(client) ? () => step('committed') : undefined;
});

type Exec = (
  this: ssh2.Client,
  command: string,
  callback: (error: Error | undefined, channel: ssh2.ClientChannel) => void,
) => ssh2.Client;
const client = ssh2.Client.prototype as unknown as { exec: Exec };
const { exec } = client;

client.exec = function execAndCount(command, callback) {
  step('script begins');
  return exec.call(this, command, (error, channel) => {
    channel?.once('close', () => step('script ended'));
    callback(error, channel);
  });
};
