import { userInfo } from 'node:os';
import { InvalidConfigurationError } from '../contracts/index.ts';
import { parameterName } from './url-parameters.ts';

/** One server of a Postgres URL. A host that begins with `/` is the directory of a Unix socket. */
export interface PostgresHost {
  host: string;
  port: number;
}

/** What of the server's certificate is checked: nothing, that a trusted authority signed it, or also its host name. */
export type CertificateCheck = 'none' | 'authority' | 'host';

/** How a connection is encrypted. Files are named here and read when a connection is configured. */
export interface PostgresTls {
  check: CertificateCheck;
  /** Certificates of the trusted authorities; undefined for those that Node trusts. */
  rootCertificateFile: string | undefined;
  clientCertificate: { certificateFile: string; keyFile: string } | undefined;
}

/** `read-write` and `primary` skip the servers on which Lessor cannot write. */
export type TargetSession = 'any' | 'read-write' | 'primary';

/** Where a Postgres URL points to, in terms that are independent of the driver. */
export interface PostgresSettings {
  /** Tried in this order; at least one. */
  hosts: readonly PostgresHost[];
  user: string;
  password: string | undefined;
  database: string;
  /** Undefined when the connection is not encrypted. */
  tls: PostgresTls | undefined;
  targetSession: TargetSession;
  applicationName: string | undefined;
  /** Server settings in the form of the command line: `-c name=value`. */
  options: string | undefined;
}

/** The parameters that a URL may carry, named as in libpq, and libpq's variable for each that has one. */
const PARAMETERS = {
  host: 'PGHOST',
  port: 'PGPORT',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  dbname: 'PGDATABASE',
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
  options: 'PGOPTIONS',
  application_name: undefined,
} as const;
type Parameter = keyof typeof PARAMETERS;
type Parameters = Partial<Record<Parameter, string>>;

const DEFAULT_PORT = '5432';

/** The hosts are not matched as a host: a URL of several ports is none to WHATWG's parser. */
const POSTGRES_URL =
  /^postgres(?:ql)?:\/\/(?:(?<user>[^:/?#]*)(?::(?<password>[^/?#]*))?@)?(?<hosts>[^/?#@]*)(?:\/(?<database>[^/?#]*))?(?:\?(?<query>[^#]*))?$/;

/** A host, which is in brackets if it is an IPv6 address, and its port. */
const HOST_AND_PORT = /^(?:\[(?<address>[^\]]*)\]|(?<host>[^:[\]]*))(?::(?<port>[^:]*))?$/;

/** Whether the text is meant to be a Postgres URL. */
export function isPostgresUrl(url: string): boolean {
  return /^postgres(ql)?:\/\//.test(url);
}

/**
 * Reads a Postgres URL as libpq does: `postgres://user:password@host:port,host:port/database?parameter=value`. A
 * parameter of the same meaning wins over a part of the URL, and libpq's environment variables stand in for what the URL
 * does not say. Where libpq depends on the server or on files that it expects in the home directory, the URL must say
 * what it wants: without `sslmode` the connection is not encrypted, and `sslmode=prefer` is rejected.
 *
 * @param what how an error calls the URL, such as `the database URL`
 * @throws {InvalidConfigurationError} naming each part or parameter that is not understood, never a value
 */
export function parsePostgresUrl(
  url: string,
  what = 'the database URL',
  environment: NodeJS.ProcessEnv = process.env,
): PostgresSettings {
  try {
    return toSettings({ ...fromEnvironment(environment), ...fromUrl(url) });
  } catch (error) {
    throw error instanceof Rejected ? new InvalidConfigurationError(`${what} ${error.message}`) : error;
  }
}

/** What {@link parsePostgresUrl} rejects the URL for, as the predicate of a sentence; undefined when it is understood. */
export function findPostgresUrlProblem(url: string): string | undefined {
  try {
    parsePostgresUrl(url, '');
    return undefined;
  } catch (error) {
    if (error instanceof InvalidConfigurationError) return error.message.trim();
    throw error;
  }
}

/** What is wrong, as the predicate of a sentence about the URL. */
class Rejected extends Error {}

function fromEnvironment(environment: NodeJS.ProcessEnv): Parameters {
  const parameters: Parameters = {};
  for (const [parameter, variable] of Object.entries(PARAMETERS)) {
    const value = variable === undefined ? undefined : environment[variable];
    if (value) parameters[parameter as Parameter] = value;
  }
  return parameters;
}

function fromUrl(url: string): Parameters {
  const parts = POSTGRES_URL.exec(url)?.groups;
  if (parts === undefined) throw new Rejected('is not of the form postgres://user:password@host:port/database');
  if (parts['user'] === undefined && parts['query']?.includes('@'))
    throw new Rejected('has an @ after its ?: percent-encode the reserved characters of the password');
  const parameters: Parameters = {};
  const set = (parameter: Parameter, encoded: string | undefined) => {
    if (encoded) parameters[parameter] = decode(encoded, parameter);
  };
  set('user', parts['user']);
  set('password', parts['password']);
  set('dbname', parts['database']);
  if (parts['hosts']) {
    const hosts = parts['hosts'].split(',').map(splitHost);
    set('host', hosts.map(({ host }) => host).join(','));
    if (hosts.some(({ port }) => port !== '')) set('port', hosts.map(({ port }) => port || DEFAULT_PORT).join(','));
  }
  return { ...parameters, ...fromQuery(parts['query'] ?? '') };
}

function fromQuery(query: string): Parameters {
  const parameters: Parameters = {};
  for (const pair of query.split('&').filter((text) => text !== '')) {
    const separator = pair.indexOf('=');
    const name = separator === -1 ? pair : pair.slice(0, separator);
    if (!Object.hasOwn(PARAMETERS, name)) {
      const understood = Object.keys(PARAMETERS).join(', ');
      throw new Rejected(
        `has a parameter that is not understood: ${parameterName(name)}. Understood are ${understood}`,
      );
    }
    if (separator === -1) throw new Rejected(`gives no value to ${name}`);
    if (Object.hasOwn(parameters, name)) throw new Rejected(`gives ${name} twice`);
    parameters[name as Parameter] = decode(pair.slice(separator + 1), name);
  }
  return parameters;
}

function splitHost(text: string): { host: string; port: string } {
  const parts = HOST_AND_PORT.exec(text)?.groups;
  if (parts === undefined) throw new Rejected('has a host that is not of the form host:port or [address]:port');
  return { host: parts['address'] ?? parts['host']!, port: parts['port'] ?? '' };
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Rejected(`has a ${what} that is not percent-encoded`);
  }
}

function toSettings(parameters: Parameters): PostgresSettings {
  const hosts = toHosts(parameters);
  const user = parameters.user ?? systemUser();
  return {
    hosts,
    user,
    password: parameters.password,
    database: parameters.dbname ?? user,
    // libpq ignores sslmode on a Unix socket.
    tls: isSocket(hosts[0]!) ? undefined : toTls(parameters),
    targetSession: toTargetSession(parameters.target_session_attrs),
    applicationName: parameters.application_name,
    options: parameters.options,
  };
}

function systemUser(): string {
  try {
    return userInfo().username;
  } catch {
    throw new Rejected('names no user, and the process runs under a user id without a name');
  }
}

function toHosts(parameters: Parameters): PostgresHost[] {
  const names = (parameters.host ?? 'localhost').split(',');
  const ports = (parameters.port ?? DEFAULT_PORT).split(',').map(toPort);
  if (ports.length !== 1 && ports.length !== names.length)
    throw new Rejected('names as many ports neither as hosts nor one for all');
  const hosts = names.map((name, index) => ({ host: name || 'localhost', port: ports[index] ?? ports[0]! }));
  if (hosts.some((host) => isSocket(host) !== isSocket(hosts[0]!)))
    throw new Rejected('names both a socket directory and a host');
  return hosts;
}

function isSocket({ host }: PostgresHost): boolean {
  return host.startsWith('/');
}

function toPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new Rejected('has a port that is not a number from 1 to 65535');
}

function toTls(parameters: Parameters): PostgresTls | undefined {
  const { sslmode = 'disable', sslrootcert } = parameters;
  const check = toCertificateCheck(sslmode, sslrootcert);
  if (check === undefined) return undefined;
  return {
    check,
    rootCertificateFile: check === 'none' || sslrootcert === 'system' ? undefined : sslrootcert,
    clientCertificate: toClientCertificate(parameters),
  };
}

/** libpq's meaning of `sslmode`, and `no-verify`, which node-postgres has besides. Undefined: not encrypted. */
function toCertificateCheck(sslmode: string, sslrootcert: string | undefined): CertificateCheck | undefined {
  if (sslrootcert === 'system' && sslmode !== 'verify-full')
    throw new Rejected('gives sslrootcert=system, which needs sslmode=verify-full');
  switch (sslmode) {
    case 'disable':
      return undefined;
    case 'no-verify':
      return 'none';
    case 'require':
      return sslrootcert === undefined ? 'none' : 'authority';
    case 'verify-ca':
      // Anybody can have a certificate of an authority that Node trusts.
      if (sslrootcert === undefined) throw new Rejected('gives sslmode=verify-ca, which needs sslrootcert');
      return 'authority';
    case 'verify-full':
      return 'host';
    case 'allow':
    case 'prefer':
      throw new Rejected(
        `gives sslmode=${sslmode}, which leaves it to the network whether the connection is encrypted: use require or disable`,
      );
    default:
      throw new Rejected(
        'has an sslmode that is not understood: use disable, require, verify-ca, verify-full or no-verify',
      );
  }
}

function toClientCertificate({ sslcert, sslkey }: Parameters): PostgresTls['clientCertificate'] {
  if (sslcert === undefined && sslkey === undefined) return undefined;
  if (sslcert === undefined || sslkey === undefined) throw new Rejected('gives only one of sslcert and sslkey');
  return { certificateFile: sslcert, keyFile: sslkey };
}

function toTargetSession(text = 'any'): TargetSession {
  if (text === 'any' || text === 'read-write' || text === 'primary') return text;
  throw new Rejected('has a target_session_attrs that is not understood: use any, read-write or primary');
}
