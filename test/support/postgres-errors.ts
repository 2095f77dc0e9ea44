import postgres from 'postgres';

/** The error that Postgres rejects a statement with. Throws when there is none. */
export async function postgresErrorOf(attempt: PromiseLike<unknown>): Promise<postgres.PostgresError> {
  const error: unknown = await Promise.resolve(attempt).then(
    () => new Error('Postgres did not reject the statement'),
    (reason: unknown) => reason,
  );
  if (error instanceof postgres.PostgresError) return error;
  throw error;
}
