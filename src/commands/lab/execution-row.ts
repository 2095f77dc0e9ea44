import { realpath } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Execution } from '../../execution/driver.ts';
import { commandOnHost } from './command-on-host.ts';
import { expected } from './row.ts';
import type { LabRow } from './row.ts';

/** Each is an argument and the value of a variable, and means something to some shell on the way. */
const HOSTILE_TEXTS: readonly string[] = [
  'two words',
  "it's",
  '"quoted" and `quoted`',
  'line\nbreak\r\n\tand tab',
  '$HOME ${PATH} $(id) $((1+1)) %PATH%',
  '; touch pwned; && || | > < &',
  '*?[a-z]~{a,b}!#',
  String.raw`\ \n \0 \\`,
  '-n',
  '--',
  '',
  ' ',
  'ünïcödé 漢字 🚀 \u202E',
  'x'.repeat(100_000),
];

/** Every byte, many times over. */
const STDIN = Buffer.alloc(
  256 * 1_024,
  Uint8Array.from({ length: 256 }, (_, byte) => byte),
);

const EXIT_CODE = 37;

/** Prints what it was given, as JSON. */
const ECHO = `
const chunks = [];
process.stdin.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
  const env = Object.entries(process.env).filter(([name]) => name.startsWith('LAB_'));
  const stdin = Buffer.concat(chunks).toString('base64');
  console.log(JSON.stringify({ argv: process.argv.slice(1), env: Object.fromEntries(env), stdin, cwd: process.cwd() }));
  process.exitCode = ${EXIT_CODE};
});`;

/** What a command is given arrives as it is, and how it ended is told. */
export const executionRow: LabRow = {
  name: 'hostile arguments',
  run: (lab, signal) =>
    lab.withLease(async (lease, leaseSignal) => {
      const execution = await lab.executionDriver.open(lease, { signal: leaseSignal });
      try {
        await execution.prepareWorkspace();
        await assertArrives(execution);
        await assertSignalIsTold(execution);
      } finally {
        await execution.close();
      }
      const texts = HOSTILE_TEXTS.length;
      return (
        `${texts} arguments and ${texts} variables with quotes, newlines, $ and unicode, and ${STDIN.length} bytes of ` +
        `stdin arrived as they were; exit code ${EXIT_CODE} and SIGTERM were told`
      );
    }, signal),
};

async function assertArrives(execution: Execution): Promise<void> {
  const env = Object.fromEntries(HOSTILE_TEXTS.map((text, index) => [`LAB_${index}`, text]));
  // The host is this machine, so it has this Node.
  const argv = [process.execPath, '-e', ECHO, '--', ...HOSTILE_TEXTS] as const;
  const { end, stdout, stderr } = await commandOnHost(execution, argv, { env, stdin: STDIN });
  const ended = end.signal ?? `code ${end.code}`;
  expected(end.code === EXIT_CODE, `the command ended with ${ended} instead of code ${EXIT_CODE}: ${stderr}`);
  const arrived = JSON.parse(stdout) as { argv: string[]; env: object; stdin: string; cwd: string };
  const argument = HOSTILE_TEXTS.find((text, index) => arrived.argv[index] !== text);
  expected(argument === undefined, `the argument ${JSON.stringify(argument)} did not arrive as it was`);
  expected(arrived.argv.length === HOSTILE_TEXTS.length, `${arrived.argv.length} arguments arrived`);
  expected(isDeepStrictEqual(arrived.env, env), 'variables did not arrive as they were');
  expected(arrived.stdin === STDIN.toString('base64'), 'stdin did not arrive as it was');
  const workspacePath = await realpath(execution.workspacePath);
  expected(arrived.cwd === workspacePath, `the command ran in ${arrived.cwd} instead of ${workspacePath}`);
}

async function assertSignalIsTold(execution: Execution): Promise<void> {
  const { end } = await commandOnHost(execution, ['sh', '-c', 'kill -s TERM "$$"']);
  expected(end.signal === 'SIGTERM', `a command that SIGTERM ended was told to end with code ${end.code}`);
}
