import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { lessor, spawnLessor } from './lessor.ts';

const SECRET = 'hunter2-of-the-queue';
const COMPANY = randomUUID();
const QUEUE = ['--queue-url', 'redis://127.0.0.1:1'];
const DATABASE = ['--database-url', 'postgres://127.0.0.1:1/nothing'];

const ENVIRONMENT_SETTINGS = [
  'ENABLE_ENVIRONMENTS',
  'LESSOR_SECRET_KEY',
  'DRIVER_CONCURRENCY',
  'ENVIRONMENT_CONCURRENCY',
  'RELEASE_ATTEMPTS',
];

/** One line, which ends the output. */
const ONE_LINE = /^error: [^\n]+\n$/;

describe('wrong usage of lessor is one line on stderr and exit code 2', () => {
  test('as a process', async () => {
    const end = await spawnLessor(['run', '--company', 'acme', '--', 'true']).ended();
    expect(end).toEqual({ exit: 2, stdout: '', stderr: expect.stringMatching(ONE_LINE) as unknown });
    expect(end.stderr).toContain('--company');
  });

  test.for<[what: string, args: string[], expected: string[]]>([
    ['an unknown command', ['frobnicate'], ['unknown command', 'frobnicate']],
    ['a misspelt command', ['leasses'], ['unknown command', 'leases']],
    ['an unknown flag', ['leases', '--frobnicate'], ['unknown option', '--frobnicate']],
    ['a misspelt flag', ['leases', '--compny', COMPANY], ['unknown option', '--company']],
    ['a flag without its value', ['leases', '--company'], ['--company']],
    ['an argument too many', ['leases', 'of-acme'], ['too many arguments']],
    ['a required flag left out', ['run', ...QUEUE, '--', 'true'], ['--company']],
    ['a run without a command', ['run', ...QUEUE, '--company', COMPANY], ['command']],
    ['an id that is not a UUID', ['leases', '--run', '42'], ['--run', 'UUID']],
    ['an unknown status', ['leases', '--status', 'lost'], ['--status', 'active', 'pending_cleanup']],
    ['a limit of nothing', ['leases', '--limit', '0'], ['--limit', 'at least 1']],
    ['a port out of range', ['dashboard', '--port', '65536'], ['--port', '65535']],
    [
      'an invalid duration',
      ['run', '--company', COMPANY, '--timeout', 'soon', 'true'],
      ['--timeout', 'duration', '1h'],
    ],
    ['a ttl out of range', ['run', '--company', COMPANY, '--ttl', '25h', 'true'], ['--ttl', 'at most 1d']],
    ['a ttl of half a second', ['worker', '--default-ttl', '500ms'], ['--default-ttl', 'whole seconds']],
    [
      'a concurrency out of range',
      ['worker', ...DATABASE, ...QUEUE, '--concurrency', '10001'],
      ['--concurrency (CONCURRENCY)', 'at most 10000'],
    ],
    ['a driver concurrency of zero', ['worker', '--driver-concurrency', '0'], ['--driver-concurrency', 'at least 1']],
    ['neither true nor false', ['worker', '--enable-environments', 'yes'], ['--enable-environments', 'true or false']],
    ['a lease id that is not a UUID', ['leases', 'retry-release', '42'], ['UUID']],
    ['a variable that is not set here', ['run', '--company', COMPANY, '--env', 'NO_SUCH', 'true'], ['NO_SUCH']],
    [
      'an invalid variable name',
      ['run', '--company', COMPANY, '--env', `A-B=${SECRET}`, 'true'],
      ['"A-B"', 'underscores'],
    ],
    [
      'a workspace that does not exist',
      ['run', '--company', COMPANY, '--workspace-dir', '/no/such', 'true'],
      ['/no/such', 'ENOENT'],
    ],
    ['no database URL', ['leases'], ['--database-url', 'DATABASE_URL']],
    ['no queue URL', ['run', '--company', COMPANY, '--', 'true'], ['--queue-url', 'QUEUE_URL']],
    ['no queue URL to publish to', ['publish', 'run-heartbeat', '--run-id', COMPANY], ['--queue-url', 'QUEUE_URL']],
    ['no queue URL for a worker', ['worker', ...DATABASE], ['--queue-url', 'QUEUE_URL']],
  ])('%s', async ([, args, expected]) => {
    const { exit, stdout, stderr } = await lessor(args);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    for (const word of expected) expect(stderr).toContain(word);
    expect(stderr).not.toContain(SECRET);
  });

  test.for<[flag: string, command: string, others: string[]]>([
    ['--database-url', 'leases', []],
    ['--database-url', 'worker', QUEUE],
    ['--queue-url', 'run', ['--company', COMPANY, '--', 'true']],
    ['--queue-url', 'publish run-started', ['--run-id', COMPANY]],
  ])('a %s of the wrong scheme for %s, without showing its password', async ([flag, command, others]) => {
    const url = `mysql://lessor:${SECRET}@127.0.0.1/lessor`;
    const { exit, stdout, stderr } = await lessor([...command.split(' '), flag, url, ...others]);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain(flag);
    expect(stderr).toContain('postgres://');
    expect(stderr).not.toContain(SECRET);
  });

  test.for([
    ['leases', '--database-url', `postgres://lessor:${SECRET}%zz@127.0.0.1:1/lessor`],
    ['leases', '--database-url', `postgres://lessor:${SECRET}@%zz:1/lessor`],
    ['leases', '--database-url', `postgres://lessor:${SECRET}@127.0.0.1:1/lessor?options=%`],
    ['publish', '--queue-url', `redis://:${SECRET}%zz@127.0.0.1:1`],
    ['publish', '--queue-url', `redis://:${SECRET}@%zz:1`],
    ['publish', '--queue-url', `redis://:${SECRET}@127.0.0.1:1?node=%zz:1`],
    ['publish', '--queue-url', `postgres://lessor:${SECRET}%@127.0.0.1:1/lessor`],
  ] as const)('a malformed %% in the URL of %s %s', async ([command, flag, url]) => {
    const message = ['run-heartbeat', '--run-id', COMPANY, '--company-id', COMPANY];
    const { exit, stdout, stderr } = await lessor([command, ...(command === 'publish' ? message : []), flag, url]);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain('percent-encoded');
    expect(stderr).not.toContain(SECRET);
  });

  test.for(['DATABASE_URL', 'QUEUE_URL'])(
    'a %s from the environment that is not a URL, without showing it',
    async (variable) => {
      const urls = { DATABASE_URL: DATABASE[1]!, QUEUE_URL: QUEUE[1]!, [variable]: `lessor:${SECRET}` };
      const { exit, stdout, stderr } = await lessor(['worker'], { env: urls });

      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
      expect(stderr).toMatch(ONE_LINE);
      expect(stderr).toContain(variable);
      expect(stderr).not.toContain(SECRET);
    },
  );

  test('a LESSOR_SECRET_KEY that is not a key, without showing it', async () => {
    const env = { DATABASE_URL: DATABASE[1]!, QUEUE_URL: QUEUE[1]!, LESSOR_SECRET_KEY: SECRET };
    const { exit, stdout, stderr } = await lessor(['worker'], { env });

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain('LESSOR_SECRET_KEY must be 32 random bytes');
    expect(stderr).not.toContain(SECRET);
  });

  test('several invalid settings, each by name', async () => {
    const { exit, stdout, stderr } = await lessor(['worker', '--sweep-interval', 'soon'], {
      env: { CONCURRENCY: 'x' },
    });

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    for (const name of ['DATABASE_URL', 'QUEUE_URL', '--concurrency (CONCURRENCY)', '--sweep-interval']) {
      expect(stderr).toContain(name);
    }
  });

  test.for(['--timeout', '--kill-after'])('a %s longer than a timer can hold', async (flag) => {
    const { exit, stdout, stderr } = await lessor(['run', ...QUEUE, '--company', COMPANY, flag, '30d', '--', 'true']);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain(flag);
  });
});

describe('the help of lessor', () => {
  test.for<[command: string, variables: string[]]>([
    ['run', ['QUEUE_URL', 'QUEUE_PREFIX']],
    ['publish run-started', ['QUEUE_URL', 'QUEUE_PREFIX']],
    ['publish run-finished', ['QUEUE_URL', 'QUEUE_PREFIX']],
    ['publish run-heartbeat', ['QUEUE_URL', 'QUEUE_PREFIX']],
    [
      'worker',
      [
        'DATABASE_URL',
        'QUEUE_URL',
        'QUEUE_PREFIX',
        'CONCURRENCY',
        'REPLICA',
        'COMPANY_REGISTRATION',
        'DEFAULT_TTL',
        'LEASE_WAIT',
        'SWEEP_INTERVAL',
        'LOCK_DURATION',
        'SHUTDOWN_TIMEOUT',
        'LOG_LEVEL',
        ...ENVIRONMENT_SETTINGS,
      ],
    ],
    ['migrate', ['DATABASE_URL', 'QUEUE_URL']],
    ['dev', ['QUEUE_URL', 'LOG_LEVEL', ...ENVIRONMENT_SETTINGS]],
    [
      'dashboard',
      [
        'DATABASE_URL',
        'QUEUE_URL',
        'QUEUE_PREFIX',
        'DASHBOARD_HOST',
        'DASHBOARD_PORT',
        'DASHBOARD_USERNAME',
        'DASHBOARD_PASSWORD',
        'LOG_LEVEL',
      ],
    ],
    ['leases', ['DATABASE_URL']],
    ['leases retry-release', ['DATABASE_URL', 'QUEUE_URL', 'QUEUE_PREFIX', 'RELEASE_ATTEMPTS']],
    ['environments', ['DATABASE_URL']],
    ['environments create', ['DATABASE_URL', 'LESSOR_SECRET_KEY']],
    ['environments update', ['DATABASE_URL', 'LESSOR_SECRET_KEY']],
    ['environments archive', ['DATABASE_URL']],
    ['environments probe', ['DATABASE_URL', 'LESSOR_SECRET_KEY']],
    ['environments lab', []],
    ['activity', ['DATABASE_URL']],
    ['schema', []],
    ['health', ['DATABASE_URL', 'QUEUE_URL']],
  ])('`lessor %s --help` exits with 0 and lists its environment variables', async ([command, variables]) => {
    const { exit, stdout, stderr } = await lessor([...command.split(' '), '--help']);

    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(stdout).toContain(`Usage: lessor ${command}`);
    for (const variable of variables) expect(stdout).toContain(variable);
  });

  test('`lessor --help` lists every command', async () => {
    const { exit, stdout, stderr } = await lessor(['--help']);

    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    const listed = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1]);
    expect(listed).toEqual([
      'run',
      'publish',
      'worker',
      'migrate',
      'dev',
      'dashboard',
      'leases',
      'environments',
      'activity',
      'schema',
      'health',
    ]);
  });

  test('without a command goes to stderr, and exits with 2', async () => {
    const { exit, stdout, stderr } = await lessor([]);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toContain('Usage: lessor');
  });

  test('`lessor --version` prints the version of the package alone', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };

    expect(await lessor(['--version'])).toEqual({ exit: 0, stdout: `${version}\n`, stderr: '' });
  });
});
