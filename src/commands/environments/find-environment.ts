import type { Db } from '../../db/connection.ts';
import type { Environment } from '../../environments/environment-register.ts';
import { denied } from '../../environments/service-errors.ts';
import { environmentService } from '../../environments/service.ts';

/** @throws {RejectedError} `unknown_environment` */
export async function findEnvironment(db: Db, id: string): Promise<Environment> {
  const environment = await environmentService(db).getById(id);
  if (environment === null) throw denied('unknown_environment', `there is no environment ${id}`);
  return environment;
}
