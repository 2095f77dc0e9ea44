import { RejectedError } from '../../contracts/index.ts';
import type { Db } from '../../db/connection.ts';
import type { Environment } from '../../environments/service/input.ts';
import { environmentService } from '../../environments/service/index.ts';

/** @throws {RejectedError} `unknown_environment` */
export async function findEnvironment(db: Db, id: string): Promise<Environment> {
  const environment = await environmentService(db).getById(id);
  if (environment === null) {
    throw new RejectedError({ code: 'unknown_environment', reason: `there is no environment ${id}` });
  }
  return environment;
}
