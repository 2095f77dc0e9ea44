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

describe('called wrongly, lessor says so in one line on stderr and exits with 2', () => {
  test('as a process', async () => {
    const end = await spawnLessor(['run', '--company', 'acme', '--', 'true']).ended();
    expect(end).toEqual({ exit: 2, stdout: '', stderr: expect.stringMatching(ONE_LINE) as unknown });
    expect(end.stderr).toContain('--company');
  });

  test.for<[what: string, args: string[], said: string[]]>([
    ['an unknown command', ['frobnicate'], ['unknown command', 'frobnicate']],
    ['a misspelt command', ['leasses'], ['unknown command', 'leases']],
    ['an unknown flag', ['leases', '--frobnicate'], ['unknown option', '--frobnicate']],
    ['a misspelt flag', ['leases', '--compny', COMPANY], ['unknown option', '--company']],
    ['a flag without its value', ['leases', '--company'], ['--company']],
    ['an argument too many', ['leases', 'of-acme'], ['too many arguments']],
    ['a required flag left out', ['run', ...QUEUE, '--', 'true'], ['--company']],
    ['a run without a command', ['run', ...QUEUE, '--company', COMPANY], ['command']],
    ['an id that is no UUID', ['leases', '--run', '42'], ['--run', 'UUID']],
    ['a status that is none', ['leases', '--status', 'lost'], ['--status', 'active', 'pending_cleanup']],
    ['a limit of nothing', ['leases', '--limit', '0'], ['--limit', 'at least 1']],
    ['a port out of range', ['dashboard', '--port', '65536'], ['--port', '65535']],
    ['a length of time that is none', ['run', '--company', COMPANY, '--timeout', 'soon', 'true'], ['--timeout', '5m']],
    ['a ttl out of range', ['run', '--company', COMPANY, '--ttl', '25h', 'true'], ['--ttl', '86400']],
    ['a ttl of half a second', ['worker', '--default-ttl', '500ms'], ['--default-ttl', 'whole seconds']],
    [
      'more jobs at once than a worker takes',
      ['worker', ...DATABASE, ...QUEUE, '--concurrency', '10001'],
      ['concurrency'],
    ],
    ['no calls of drivers at once', ['worker', '--driver-concurrency', '0'], ['--driver-concurrency', 'at least 1']],
    ['neither true nor false', ['worker', '--enable-environments', 'yes'], ['--enable-environments', 'true or false']],
    ['a lease to release that is none', ['leases', 'retry-release', '42'], ['UUID']],
    ['a variable without a value here', ['run', '--company', COMPANY, '--env', 'NO_SUCH', 'true'], ['NO_SUCH']],
    [
      'a variable that is none',
      ['run', '--company', COMPANY, '--env', `A-B=${SECRET}`, 'true'],
      ['"A-B"', 'underscores'],
    ],
    ['no such workspace', ['run', '--company', COMPANY, '--workspace-dir', '/no/such', 'true'], ['/no/such', 'ENOENT']],
    ['no database URL', ['leases'], ['--database-url', 'DATABASE_URL']],
    ['no queue URL', ['run', '--company', COMPANY, '--', 'true'], ['--queue-url', 'QUEUE_URL']],
    ['no queue URL to publish to', ['publish', 'run-heartbeat', '--run-id', COMPANY], ['--queue-url', 'QUEUE_URL']],
    ['no queue URL for a worker', ['worker', ...DATABASE], ['--queue-url', 'QUEUE_URL']],
  ])('%s', async ([, args, said]) => {
    const { exit, stdout, stderr } = await lessor(args);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    for (const word of said) expect(stderr).toContain(word);
    expect(stderr).not.toContain(SECRET);
  });

  test.for<[flag: string, command: string, others: string[]]>([
    ['--database-url', 'leases', []],
    ['--database-url', 'worker', QUEUE],
    ['--queue-url', 'run', ['--company', COMPANY, '--', 'true']],
    ['--queue-url', 'publish run-started', ['--run-id', COMPANY]],
  ])('a %s of the wrong scheme for %s, without repeating its password', async ([flag, command, others]) => {
    const url = `mysql://lessor:${SECRET}@127.0.0.1/lessor`;
    const { exit, stdout, stderr } = await lessor([...command.split(' '), flag, url, ...others]);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain(flag);
    expect(stderr).toContain('postgres://');
    expect(stderr).not.toContain(SECRET);
  });

  test.for(['DATABASE_URL', 'QUEUE_URL'])(
    'a %s from the environment that is no URL, without repeating it',
    async (variable) => {
      const urls = { DATABASE_URL: DATABASE[1]!, QUEUE_URL: QUEUE[1]!, [variable]: `lessor:${SECRET}` };
      const { exit, stdout, stderr } = await lessor(['worker'], { env: urls });

      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
      expect(stderr).toMatch(ONE_LINE);
      expect(stderr).toContain(variable);
      expect(stderr).not.toContain(SECRET);
    },
  );

  test('a LESSOR_SECRET_KEY that is no key, without repeating it', async () => {
    const env = { DATABASE_URL: DATABASE[1]!, QUEUE_URL: QUEUE[1]!, LESSOR_SECRET_KEY: SECRET };
    const { exit, stdout, stderr } = await lessor(['worker'], { env });

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(ONE_LINE);
    expect(stderr).toContain('LESSOR_SECRET_KEY must be 32 random bytes');
    expect(stderr).not.toContain(SECRET);
  });

  test.for(['--timeout', '--kill-after'])(
    'a %s longer than a timer can hold, rather than cutting it short',
    async (flag) => {
      const { exit, stdout, stderr } = await lessor(['run', ...QUEUE, '--company', COMPANY, flag, '30d', '--', 'true']);

      expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
      expect(stderr).toMatch(ONE_LINE);
      expect(stderr).toContain(flag);
    },
  );
});

describe('lessor tells how it is called', () => {
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
  ])('`lessor %s --help` exits with 0 and names its environment variables', async ([command, variables]) => {
    const { exit, stdout, stderr } = await lessor([...command.split(' '), '--help']);

    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    expect(stdout).toContain(`Usage: lessor ${command}`);
    for (const variable of variables) expect(stdout).toContain(variable);
  });

  test('`lessor --help` names every command', async () => {
    const { exit, stdout, stderr } = await lessor(['--help']);

    expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
    const named = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map((match) => match[1]);
    expect(named).toEqual([
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

  test('without a command it shows its help on stderr and exits with 2', async () => {
    const { exit, stdout, stderr } = await lessor([]);

    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toContain('Usage: lessor');
  });

  test('`lessor --version` prints the version of the package alone', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };

    expect(await lessor(['--version'])).toEqual({ exit: 0, stdout: `${version}\n`, stderr: '' });
  });
});
