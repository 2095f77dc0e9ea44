import { watchQueries } from './watched-queries.ts';

/** Preload of a worker: kills its process at any query about the run `CRASH_ON_RUN`. */
const runId = process.env['CRASH_ON_RUN'];
if (runId === undefined || runId === '') throw new Error('CRASH_ON_RUN must be the id of a run');

watchQueries((query) => {
  if (query.isAbout(runId)) process.kill(process.pid, 'SIGKILL');
  return undefined;
});
