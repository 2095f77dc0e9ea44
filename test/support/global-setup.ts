import type { TestProject } from 'vitest/node';
import { Closers } from './closers.ts';
import { whyNoContainers } from './containers.ts';
import { findPostgres } from './find-postgres.ts';
import { findRedis } from './find-redis.ts';
import { createTemplateDatabase, dropDatabase } from './template-database.ts';

/** Finds the real stores that the tests run against, once a run, and hands them to every test file. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const closers = new Closers();
  try {
    const needsNone = Boolean(process.env['TEST_DATABASE_URL'] && process.env['TEST_REDIS_URL']);
    const noContainers = needsNone ? 'no container is needed' : await whyNoContainers();
    const [postgres, redis] = await allOrFirstError([
      findPostgres(closers, noContainers),
      findRedis(closers, noContainers),
    ]);
    const templateDatabase = await createTemplateDatabase(postgres.url);
    closers.push(() => dropDatabase(postgres.url, templateDatabase));
    project.provide('stores', { postgres: { ...postgres, templateDatabase }, redis });
  } catch (error) {
    await closers.close();
    throw error;
  }
  return () => closers.close();
}

/** As `Promise.all`, but rejects only once none is under way any more, so that all that was started can be closed. */
async function allOrFirstError<A, B>(promises: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
