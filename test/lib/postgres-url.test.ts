import { describe, expect, test } from 'vitest';
import { InvalidConfigurationError } from '../../src/contracts/index.ts';
import { parsePostgresUrl } from '../../src/lib/postgres-url.ts';
import type { PostgresSettings } from '../../src/lib/postgres-url.ts';

const SECRET = 'hunter2';

const parse = (url: string, environment: NodeJS.ProcessEnv = {}) => parsePostgresUrl(url, 'the URL', environment);

describe('a Postgres URL is read', () => {
  test.for<[what: string, url: string, expected: Partial<PostgresSettings>]>([
    [
      'with every part',
      'postgres://olga:secret@db.example:6432/lessor',
      { hosts: [{ host: 'db.example', port: 6432 }], user: 'olga', password: 'secret', database: 'lessor' },
    ],
    [
      'with defaults: port 5432, the database of the user, not encrypted, any session',
      'postgresql://olga@db',
      {
        hosts: [{ host: 'db', port: 5432 }],
        database: 'olga',
        password: undefined,
        tls: undefined,
        targetSession: 'any',
      },
    ],
    ['without a host', 'postgres://olga@/lessor', { hosts: [{ host: 'localhost', port: 5432 }] }],
    ['with an IPv6 address', 'postgres://olga@[::1]:5433/lessor', { hosts: [{ host: '::1', port: 5433 }] }],
    [
      'with a percent-encoded user, password and database',
      'postgres://o%3Al%40ga:p%2Fa%3Fs%23s%25@db/le%20ssor',
      { user: 'o:l@ga', password: 'p/a?s#s%', database: 'le ssor' },
    ],
    [
      'with an @ in the password',
      'postgres://olga:p@ss@db/lessor',
      { password: 'p@ss', hosts: [{ host: 'db', port: 5432 }] },
    ],
    [
      'with a socket directory as its host',
      'postgres://olga@%2Fvar%2Frun%2Fpostgresql:5433/lessor',
      { hosts: [{ host: '/var/run/postgresql', port: 5433 }] },
    ],
    [
      'with a socket directory as a parameter, which wins over the host',
      'postgres://olga@localhost/lessor?host=/cloudsql/a:b:c',
      { hosts: [{ host: '/cloudsql/a:b:c', port: 5432 }] },
    ],
    [
      'with everything in parameters',
      'postgres:///?host=db&port=5433&user=ol%26ga&password=p%3Da&dbname=lessor',
      { hosts: [{ host: 'db', port: 5433 }], user: 'ol&ga', password: 'p=a', database: 'lessor' },
    ],
    [
      'with several hosts',
      'postgres://olga@[::1]:5433,db2,db3:5434/lessor?target_session_attrs=read-write',
      {
        hosts: [
          { host: '::1', port: 5433 },
          { host: 'db2', port: 5432 },
          { host: 'db3', port: 5434 },
        ],
        targetSession: 'read-write',
      },
    ],
    [
      'with several hosts and one port for all',
      'postgres://olga@/lessor?host=db1,db2&port=5433',
      {
        hosts: [
          { host: 'db1', port: 5433 },
          { host: 'db2', port: 5433 },
        ],
      },
    ],
    [
      'with an application name and server settings',
      'postgres://olga@db/lessor?application_name=my%20app&options=-c%20search_path%3Da',
      { applicationName: 'my app', options: '-c search_path=a' },
    ],
  ])('%s', ([, url, expected]) => {
    expect(parse(url)).toMatchObject(expected);
  });

  test.for<[parameters: string, expected: PostgresSettings['tls']]>([
    ['sslmode=disable', undefined],
    ['sslmode=disable&sslrootcert=/ca', undefined],
    ['sslmode=no-verify', { check: 'none', rootCertificateFile: undefined, clientCertificate: undefined }],
    ['sslmode=require', { check: 'none', rootCertificateFile: undefined, clientCertificate: undefined }],
    [
      'sslmode=require&sslrootcert=/ca',
      { check: 'authority', rootCertificateFile: '/ca', clientCertificate: undefined },
    ],
    [
      'sslmode=verify-ca&sslrootcert=/ca',
      { check: 'authority', rootCertificateFile: '/ca', clientCertificate: undefined },
    ],
    ['sslmode=verify-full', { check: 'host', rootCertificateFile: undefined, clientCertificate: undefined }],
    [
      'sslmode=verify-full&sslrootcert=/ca',
      { check: 'host', rootCertificateFile: '/ca', clientCertificate: undefined },
    ],
    [
      'sslmode=verify-full&sslrootcert=system',
      { check: 'host', rootCertificateFile: undefined, clientCertificate: undefined },
    ],
    [
      'sslmode=require&sslcert=/cert&sslkey=/key',
      {
        check: 'none',
        rootCertificateFile: undefined,
        clientCertificate: { certificateFile: '/cert', keyFile: '/key' },
      },
    ],
  ])('with libpq’s meaning of %s', ([parameters, expected]) => {
    expect(parse(`postgres://olga@db/lessor?${parameters}`).tls).toEqual(expected);
  });

  test('on a Unix socket without encryption, whatever sslmode says', () => {
    expect(parse('postgres://olga@/lessor?host=/tmp&sslmode=verify-full').tls).toBeUndefined();
  });

  test('with libpq’s environment variables for what the URL does not say', () => {
    const environment = {
      PGHOST: 'other',
      PGPORT: '5433',
      PGUSER: 'other',
      PGPASSWORD: 'secret',
      PGDATABASE: 'lessor',
      PGSSLMODE: 'verify-full',
    };
    expect(parse('postgres://olga@db', environment)).toMatchObject({
      hosts: [{ host: 'db', port: 5433 }],
      user: 'olga',
      password: 'secret',
      database: 'lessor',
      tls: { check: 'host' },
    });
  });
});

describe('a Postgres URL is rejected, by the name of what is wrong and without a value', () => {
  test.for<[url: string, named: string]>([
    [`mysql://olga:${SECRET}@db/lessor`, 'postgres://user:password@host:port/database'],
    [`postgres://olga:${SECRET}@db/lessor#fragment`, 'postgres://user:password@host:port/database'],
    [`postgres://olga:${SECRET}@db/lessor?max=3`, 'max'],
    [`postgres://olga:${SECRET}@db/lessor?connect_timeout=3`, 'connect_timeout'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode`, 'sslmode'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=${SECRET}`, 'sslmode'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=prefer`, 'sslmode=prefer'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=allow`, 'sslmode=allow'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=verify-ca`, 'sslrootcert'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=require&sslrootcert=system`, 'sslrootcert=system'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=require&sslmode=disable`, 'sslmode twice'],
    [`postgres://olga:${SECRET}@db/lessor?sslmode=require&sslcert=/cert`, 'sslkey'],
    [`postgres://olga:${SECRET}@db/lessor?target_session_attrs=standby`, 'target_session_attrs'],
    [`postgres://olga:${SECRET}@db:0/lessor`, 'port'],
    [`postgres://olga:${SECRET}@db:${SECRET}/lessor`, 'port'],
    [`postgres://olga:${SECRET}@db1,db2/lessor?port=1,2,3`, 'ports'],
    [`postgres://olga:${SECRET}@::1/lessor`, '[address]:port'],
    [`postgres://olga:${SECRET}@/lessor?host=/tmp,db`, 'socket directory'],
    [`postgres://olga:%zz${SECRET}@db/lessor`, 'password'],
    [`postgres://olga:${SECRET}/more@db/lessor`, 'port'],
    [`postgres://olga:a?${SECRET}@db/lessor`, 'percent-encode'],
    [`postgres://olga:1?${SECRET}&more@db/lessor`, 'percent-encode'],
    [`postgres://olga@db/lessor?password=a&${SECRET}@db`, 'not a name'],
  ])('%s', ([url, named]) => {
    let error: unknown;
    try {
      parse(url);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(InvalidConfigurationError);
    const { message } = error as Error;
    expect(message).toMatch(/^the URL /);
    expect(message).toContain(named);
    expect(message).not.toContain(SECRET);
  });
});
