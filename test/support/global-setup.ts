import type { TestProject } from 'vitest/node';
import { Closers } from '../../src/lib/closers.ts';
import { createTemplateDatabase, dropDatabase } from '../../testing/stores/databases.ts';
import { findPostgres, findRedis, whyNoContainers } from '../../testing/stores/find-stores.ts';

/** Finds the stores that the tests run against, once a run, and provides them to every test file. */
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
    closers.add(() => dropDatabase(postgres.url, templateDatabase));
    project.provide('stores', { postgres: { ...postgres, templateDatabase }, redis });
  } catch (error) {
    await closers.close();
    throw error;
  }
  return () => closers.close();
}

/** As `Promise.all`, but waits until all have settled before it rejects, so that whatever was started can be closed. */
async function allOrFirstError<A, B>(promises: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
