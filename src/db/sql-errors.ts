/** What an error from Postgres means for the operation that met it. */
export type SqlErrorKind =
  /** The store cannot be used now, whatever the operation: it is down, failing over, or lacks tables or rights. */
  | 'unreachable'
  /** The operation lost to a concurrent one or to a timeout: retried, it can succeed. */
  | 'transient'
  /** Postgres rejected the operation, and would again. */
  | 'rejected';

/** SQLSTATEs that are not a rejection, by code or by class (the first two characters). */
const KIND_BY_SQLSTATE: Readonly<Record<string, SqlErrorKind>> = {
  '08': 'unreachable', // connection exception
  '0A': 'unreachable', // a plan from before a migration: another connection prepares it again
  '26': 'unreachable', // a prepared statement that is gone, as behind a pooler that does not keep sessions
  '28': 'unreachable', // invalid authorization
  '3D': 'unreachable', // no such database
  '3F': 'unreachable', // no such schema
  '42': 'unreachable', // missing tables or rights: statements are constants, so no operation can be at fault
  '53': 'unreachable', // insufficient resources: disk full, out of memory, too many connections
  '57P01': 'unreachable', // admin shutdown
  '57P02': 'unreachable', // crash shutdown
  '57P03': 'unreachable', // cannot connect now
  '57P05': 'unreachable', // idle session timeout
  '58': 'unreachable', // system error, such as an I/O error
  '25P03': 'unreachable', // idle-in-transaction timeout: the session is gone, as the process was stopped meanwhile
  '25P04': 'unreachable', // transaction timeout: likewise
  '25006': 'unreachable', // read-only transaction: a replica, before or after a failover
  '40': 'transient', // serialization failure, deadlock
  '55P03': 'transient', // lock not available
  '57014': 'transient', // query canceled: statement or lock timeout
  XX: 'transient', // internal error
};

/** Codes of Node and of postgres.js for a connection that could not be made or was lost. */
const UNREACHABLE_CODES = new Set([
  'CONNECTION_CLOSED',
  'CONNECTION_DESTROYED',
  'CONNECTION_ENDED',
  'CONNECT_TIMEOUT',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
]);

/** What node-postgres says, without a code, of a connection that could not be made or was lost. */
const UNREACHABLE_MESSAGE =
  /^(Connection terminated|Client (has encountered a connection error|was closed)|Cannot use a pool after calling end|timeout exceeded when trying to connect|Query read timeout)/;

/** What Postgres, or the connection to it, said. */
export interface SqlError {
  code: string;
  message: string;
}

/** The error that Postgres or the network gave: drizzle wraps it, and its own message carries parameter values. */
export function sqlErrorOf(error: unknown): SqlError | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string') return { code: cause.code, message: cause.message };
    if (UNREACHABLE_MESSAGE.test(cause.message)) return { code: 'CONNECTION_CLOSED', message: cause.message };
  }
  return undefined;
}

/** Decides by code; undefined for an error that did not come from Postgres, such as a fault of our own. */
export function kindOfSqlError(error: unknown): SqlErrorKind | undefined {
  const code = sqlErrorOf(error)?.code;
  if (code === undefined) return undefined;
  if (UNREACHABLE_CODES.has(code)) return 'unreachable';
  if (!isFromPostgres(error)) return undefined;
  return KIND_BY_SQLSTATE[code] ?? KIND_BY_SQLSTATE[code.slice(0, 2)] ?? 'rejected';
}

/** Postgres' own errors carry a severity; codes of Node, such as EPERM, can have the length of a SQLSTATE. */
function isFromPostgres(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('severity' in cause) return true;
  }
  return false;
}
